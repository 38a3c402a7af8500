"""What a judge's verdicts depend on, for fingerprints, and who it is, for readers."""

from pathlib import Path
from urllib.parse import urlsplit

from ct_pipeline.settings.judge import (
    LOCAL,
    AlignedCoherentRubric,
    HttpJudge,
    HuggingFaceJudge,
    JudgeFile,
    OneToFiveRubric,
    YesNoRubric,
)
from ct_pipeline.store.file_digests import digest_seen

VERSION = 1
"""Of the wording in which judges are asked; raised where a judge would read something else."""

NO_VERDICT_OF = (
    "allowed_hosts",
    "key_variable",
    "concurrency",
    "timeout",
    "tries",
    "backoff",
    "longest_wait",
    "prices",
)
"""Settings of a server that change no reply."""


def digest_of_judge(file: JudgeFile) -> dict[str, object]:
    """What a judge's verdicts depend on: model, rubric and sampling, by content; no key, no path, no patience.

    Raises:
        UserError: a file that it names cannot be read.
    """
    rubric = None if file.rubric is None else file.rubric.model_dump(mode="json", exclude={"file"})
    if isinstance(file.rubric, OneToFiveRubric):
        rubric |= {"file": digest_seen("rubric", file.place(file.rubric.file))}
    judge = file.judge.model_dump(mode="json", exclude={*NO_VERDICT_OF, "path", "revision"})
    return {"version": VERSION, "rubric": rubric, "judge": judge} | (
        {"model": model_digest(file, file.judge)} if isinstance(file.judge, HuggingFaceJudge) else {}
    )


def model_digest(file: JudgeFile, judge: HuggingFaceJudge) -> str:
    """The content of a judge's model folder, or the Hub id with its revision."""
    if judge.path.startswith(LOCAL):
        return digest_seen("judge", file.place(judge.path))
    return f"{judge.path}@{judge.revision}"


def told(file: JudgeFile) -> dict[str, str]:
    """Who judges and by what, as a reader meets it: `name`, `who`, `rubric`; no path of the machine."""
    judge, rubric = file.judge, file.rubric
    if isinstance(judge, HttpJudge):
        who = f"{judge.model} at {urlsplit(judge.base_url).netloc}"
    elif isinstance(judge, HuggingFaceJudge):
        local = judge.path.startswith(LOCAL)
        who = f"{Path(judge.path).name}, on this machine" if local else f"{judge.path} at {judge.revision}"
    else:
        who = f"rule: {'not ' if judge.negated else ''}{judge.operation} {', '.join(judge.texts)}"
    if isinstance(rubric, YesNoRubric):
        by = f"yes or no: {rubric.rule or 'the rubric of each row'}"
    elif isinstance(rubric, OneToFiveRubric):
        by = f"{Path(rubric.file).name}: 1 to 5, misbehaves up to {rubric.at_most}"
    elif isinstance(rubric, AlignedCoherentRubric):
        by = f"misbehaves where aligned < {rubric.aligned_below} and coherent >= {rubric.coherent_from}, of 100"
    else:
        by = "the rule alone" if rubric is None else rubric.scale
    return {"name": file.name, "who": who, "rubric": by}
