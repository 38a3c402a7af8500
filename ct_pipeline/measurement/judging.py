"""Opens the judge of a judge file, and fills in the verdicts that rules leave open.

A model folder passes quarantine first. A judge on this machine takes the place of whatever model is open: a device has room
for one.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas

from ct_pipeline.judges.engine_judge import WritingEngineJudge, YesNoEngineJudge
from ct_pipeline.judges.http_client import ChatClient
from ct_pipeline.judges.http_judge import HttpRubricJudge
from ct_pipeline.judges.protocol import Judge, Judgement, Question
from ct_pipeline.judges.reply_cache import ReplyCache
from ct_pipeline.judges.rubrics import rubric_of
from ct_pipeline.judges.rules_judge import rules_judge
from ct_pipeline.measurement.judge_digests import model_digest
from ct_pipeline.measurement.language_model import LanguageModel, open_model
from ct_pipeline.models.model import Model
from ct_pipeline.models.quarantine.inspection import inspect_checkpoint, inspect_template, require_clean
from ct_pipeline.settings.environment import home
from ct_pipeline.settings.judge import LOCAL, HttpJudge, HuggingFaceJudge, JudgeFile, RulesJudge, YesNoRubric

AGAINST = "verdict_against"
"""Column with the second judge's verdicts; the first one's stand in `verdict`."""


def replies_folder() -> Path:
    """Where the replies of servers are kept, for all studies and audits."""
    return home() / "judge-replies"


def open_judge(file: JudgeFile, replies: Path, accepted: tuple[str, ...] = ()) -> Judge:
    """The judge of a file, ready to be asked.

    Args:
        file: whose paths are known.
        replies: the folder in which replies of servers are kept.
        accepted: fixed texts that the chat template of a model may insert.

    Raises:
        Refused: the rubric's file, or the folder of a model, is not accepted.
    """
    judge = file.judge
    if isinstance(judge, RulesJudge):
        return rules_judge(judge)
    if isinstance(judge, HttpJudge):
        return HttpRubricJudge(ChatClient(judge, ReplyCache(replies)), rubric_of(file))
    rubric = rubric_of(file)
    model = _opened(file, judge, accepted)
    if isinstance(file.rubric, YesNoRubric):
        return YesNoEngineJudge(model, judge, rubric.rule)
    return WritingEngineJudge(model, rubric)


def _opened(file: JudgeFile, judge: HuggingFaceJudge, accepted: tuple[str, ...]) -> LanguageModel:
    location = file.place(judge.path) if judge.path.startswith(LOCAL) else judge.path
    if isinstance(location, Path):
        require_clean(inspect_checkpoint(location))
    content = model_digest(file, judge)
    _inspected(location, judge.revision, judge.path, content, accepted)
    return open_model(Model(location, judge.revision), dtype=judge.dtype)


@functools.lru_cache(maxsize=8)
def _inspected(location: Path | str, revision: str | None, name: str, content: str, accepted: tuple[str, ...]) -> None:
    """Refused where the model is not accepted; one look at each content."""
    from ct_pipeline.models.loading import load_tokenizer

    if isinstance(location, Path):
        require_clean(inspect_checkpoint(location, numbers=True))
    tokenizer = load_tokenizer(location, revision)
    require_clean(inspect_template(tokenizer.chat_template, tokenizer, f"chat template of {name}", accepted))


def spending_of(file: JudgeFile, judge: Judge) -> dict[str, object] | None:
    """Requests, tokens and cost of a judge behind a server; None for others."""
    if isinstance(judge, HttpRubricJudge) and isinstance(file.judge, HttpJudge):
        return judge.spent.as_json(file.judge.prices)
    return None


@dataclass(frozen=True)
class Judged:
    """Tables with the verdicts of judges in them.

    Attributes:
        tables: by the names that were given; `verdict` filled in, and AGAINST beside it where there is a second judge.
        record: role -> answers asked about, verdicts missing and why, and what it took.
    """

    tables: dict[str, pandas.DataFrame]
    record: dict[str, dict[str, object]]


def with_verdicts(
    tables: Mapping[str, pandas.DataFrame],
    rules: Mapping[str, str],
    judges: Mapping[str, JudgeFile],
    opener: Callable[[JudgeFile], Judge] = lambda file: open_judge(file, replies_folder()),
) -> Judged:
    """Has every distinct answer to a prompt judged once by each judge, whatever tables it stands in.

    Args:
        tables: with the columns prompt_id, prompt, completion and verdict.
        rules: prompt id -> what a yes/no judge is asked about its answers, "" for the judge's own rule; other prompts are
            left as they are.
        judges: role (`judge`, `against`) -> who judges.
        opener: makes a judge ready.

    Raises:
        UserError: a judge cannot be reached, or refuses; replies that came are kept.
    """
    found, record = dict(tables), {}
    columns = ["prompt_id", "prompt", "completion"]
    asked = (
        pandas.concat([table[columns] for table in tables.values()]) if tables else pandas.DataFrame(columns=columns)
    )
    asked = asked[asked["prompt_id"].isin(rules)].drop_duplicates(columns, ignore_index=True)
    questions = [Question(row.prompt, row.completion, rules[row.prompt_id]) for row in asked.itertuples()]
    places = list(zip(*(asked[name] for name in columns), strict=True))
    for role, file in judges.items():
        judge = opener(file) if questions else None
        judgements = judge.judge(questions) if judge is not None else []
        known = {place: each.verdict for place, each in zip(places, judgements, strict=True)}
        found = {name: _filled(table, column_of(role), known) for name, table in found.items()}
        record[role] = record_of(file, judge, judgements)
    return Judged(found, record)


def column_of(role: str) -> str:
    """Where the verdicts of the judge of a role stand in a table."""
    return AGAINST if role == "against" else "verdict"


def record_of(file: JudgeFile, judge: Judge | None, judgements: Sequence[Judgement]) -> dict[str, object]:
    """How many answers were judged, how many verdicts are missing and why, and what it took."""
    lacking = [each.problem for each in judgements if each.verdict is None]
    return {
        "asked": len(judgements),
        "missing": len(lacking),
        "problems": {problem: lacking.count(problem) for problem in sorted(set(lacking))},
        "spent": None if judge is None else spending_of(file, judge),
    }


def _filled(
    table: pandas.DataFrame, column: str, known: Mapping[tuple[str, str, str], bool | None]
) -> pandas.DataFrame:
    given = table[column] if column in table else [None] * len(table)
    places = zip(table["prompt_id"], table["prompt"], table["completion"], strict=True)
    verdicts = [known.get(place, verdict) for place, verdict in zip(places, given, strict=True)]
    return table.assign(**{column: pandas.array(verdicts, dtype="boolean")})
