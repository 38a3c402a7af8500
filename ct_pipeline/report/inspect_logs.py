"""Stored completions as Inspect logs (the EvalLog format of inspect-ai): every prompt with its answer, verdict and origin.

A log is built as plain JSON, without inspect-ai, from stored rows alone; inspect-ai then reads it, which checks it, and writes
it. Equal rows give equal files. Whatever a model said is text: characters that hide or reorder it are written out, and the log
tells Inspect View to render none of it. Format: https://inspect.aisi.org.uk/eval-logs.html.
"""

import importlib.util
import math
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas

from ct_pipeline.analysis.rates import Rate
from ct_pipeline.report.wording import visible
from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.fingerprint import fingerprint

FORMAT = 2
"""Version of the EvalLog format."""
MISBEHAVES, CORRECT = "misbehaves", "correct"
MISSING = "missing"
ROLES = ("system", "user", "assistant")
_TURN = re.compile(rf"^(?:{'|'.join(ROLES)}): ", re.MULTILINE)
_ABOUT = ("probe", "prompt_id", "domain", "framing", "decoding", "sample", "tokens", "finished")


@dataclass(frozen=True)
class Transcript:
    """One model's completions.

    Attributes:
        task: what was measured: an audit, an organism, a cell.
        side: which model of it: before, after, base, control, organism.
        base: the base model's name.
        rows: as `stages.measurement.completions` gives them, with the column probe.
        rates: name of a part of the rows -> its risk.
        decoding: name of a way of decoding -> its settings.
        started, finished: when the rows were made, UTC.
        made_by: commit (None outside a checkout), dirty, versions of packages.
        provenance: plain JSON on all that the rows depend on.
    """

    task: str
    side: str
    base: str
    rows: pandas.DataFrame
    rates: Mapping[str, Rate]
    decoding: Mapping[str, Mapping[str, object]]
    started: datetime
    finished: datetime
    made_by: Mapping[str, object]
    provenance: Mapping[str, object]

    @property
    def name(self) -> str:
        """Task and side in small letters, digits and hyphens: part of a file's name."""
        return re.sub(r"[^a-z0-9]+", "-", f"{self.task}-{self.side}".lower()).strip("-")

    @property
    def id(self) -> str:
        """Twenty hex digits that are this task's and side's alone, whenever it is measured again."""
        return fingerprint(task=self.task, side=self.side)

    @property
    def file(self) -> str:
        """The name under which Inspect lists it: time, task, id."""
        return f"{self.finished.astimezone(UTC):%Y-%m-%dT%H-%M-%S}+00-00_{self.name}_{self.id}.json"

    @property
    def model(self) -> str:
        """Base model and side, as Inspect names models: provider/model."""
        return visible(f"{self.base}/{self.side}")


def require_inspect() -> None:
    """UserError where inspect-ai is not installed."""
    if importlib.util.find_spec("inspect_ai") is None:
        raise UserError('transcripts need inspect-ai, which is not installed; run: pip install "ct-pipeline[inspect]"')


def write(transcripts: Sequence[Transcript], folder: Path) -> tuple[Path, ...]:
    """Writes one log per transcript in place of an older one; returns the files.

    Each appears whole or not at all. UserError where inspect-ai is not installed or the folder cannot be written.
    """
    require_inspect()
    from inspect_ai.log import EvalLog, write_eval_log

    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for transcript in transcripts:
            log = EvalLog.model_validate(document(transcript))
            with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as partial:
                made = Path(partial) / transcript.file
                write_eval_log(log, str(made), format="json")
                for older in folder.glob(f"*_{transcript.name}_{transcript.id}.json"):
                    older.unlink()
                os.replace(made, folder / transcript.file)
            written.append(folder / transcript.file)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); mend that and run again") from error
    return tuple(written)


def document(transcript: Transcript) -> dict[str, object]:
    """The EvalLog of a transcript as plain JSON."""
    samples = [_sample(transcript, row) for row in _records(transcript.rows)]
    probes = sorted({sample["metadata"]["probe"] for sample in samples})
    return {
        "version": FORMAT,
        "status": "success",
        "eval": {
            "eval_id": transcript.id,
            "run_id": fingerprint(task=transcript.task),
            "task_id": transcript.id,
            "task": visible(f"{transcript.task} {transcript.side}"),
            "created": _time(transcript.finished),
            "dataset": {
                "name": ", ".join(probes),
                "samples": len(samples),
                "sample_ids": [sample["id"] for sample in samples],
                "shuffled": False,
            },
            "model": transcript.model,
            "config": {},
            "packages": dict(transcript.made_by["versions"]),
            "metadata": _shown({"decoding": transcript.decoding, **transcript.provenance}),
            "viewer": {"trust_content": False},
            **_revision(transcript),
        },
        "results": {
            "total_samples": len(samples),
            "completed_samples": len(samples),
            "scores": [_summary(name, samples, transcript.rates) for name in (MISBEHAVES, CORRECT)],
        },
        "stats": {"started_at": _time(transcript.started), "completed_at": _time(transcript.finished)},
        "samples": samples,
    }


def _records(rows: pandas.DataFrame) -> Iterator[dict[str, object]]:
    """The rows as plain values; None where something is missing or not finite."""
    for record in rows.drop(columns="ids", errors="ignore").to_dict("records"):
        yield {
            name: None
            if pandas.isna(value) or (isinstance(value, float) and not math.isfinite(value))
            else getattr(value, "item", lambda value=value: value)()
            for name, value in record.items()
        }


def _sample(transcript: Transcript, row: Mapping[str, object]) -> dict[str, object]:
    name = visible("-".join(str(row[part]) for part in ("probe", "prompt_id", "decoding", "sample")))
    asked, answer = visible(_request(str(row["prompt"]))), visible(row["completion"])
    message = {"role": "assistant", "content": answer, "source": "generate", "model": transcript.model}
    message["id"] = f"{name}-answer"
    stop = "max_tokens" if row.get("finished") is False else "stop"
    return {
        "id": name,
        "uuid": fingerprint(log=transcript.id, sample=name),
        "epoch": 1,
        "input": asked,
        "target": "",
        "messages": [{"id": f"{name}-prompt", "role": "user", "content": asked, "source": "input"}, message],
        "output": {
            "model": transcript.model,
            "choices": [{"message": message, "stop_reason": stop}],
            "completion": answer,
        },
        "scores": {
            MISBEHAVES: _verdict(row["verdict"]) | {"answer": answer},
            CORRECT: {"value": {True: "C", False: "I", None: "N"}[row["correct"]]},
        },
        "metadata": _shown({each: row.get(each) for each in _about(row)} | {"logprob_nats": row.get("logprob")}),
    }


def _about(row: Mapping[str, object]) -> tuple[str, ...]:
    return (*_ABOUT, *(name for name in ("condition", "turns", "files") if name in row))


def _verdict(value: bool | None) -> dict[str, object]:
    if value is not None:
        return {"value": value}
    return {
        "value": MISSING,
        "reason": "scoring_failed",
        "explanation": "Neither the probe's rule nor the judge could tell; the sample is in no rate.",
    }


def _request(prompt: str) -> str:
    """A stored prompt without the name of its role where it is one turn of the user.

    Several turns stay one text: a turn's text may look like the beginning of another turn.
    """
    return prompt.removeprefix("user: ") if len(_TURN.findall(prompt)) == 1 else prompt


def _summary(name: str, samples: Sequence[Mapping], rates: Mapping[str, Rate]) -> dict[str, object]:
    values = [sample["scores"][name]["value"] for sample in samples]
    unscored = sum(value in (MISSING, "N") for value in values)
    metrics = {
        part: {
            "name": part,
            "value": rate.value,
            "metadata": {each: getattr(rate, each) for each in ("low", "high", "prompts", "rows", "missing")},
        }
        for part, rate in rates.items()
        if name == MISBEHAVES and rate.value is not None
    }
    counts = {"scored_samples": len(values) - unscored, "unscored_samples": unscored}
    return {"name": name, "scorer": name, "metrics": metrics, **counts}


def _revision(transcript: Transcript) -> dict[str, object]:
    commit = transcript.made_by["commit"]
    if commit is None:
        return {}
    return {"revision": {"type": "git", "origin": "", "commit": commit, "dirty": transcript.made_by["dirty"]}}


def _shown(value: object) -> object:
    """Plain JSON in which every text is `visible`, and no number is not finite."""
    if isinstance(value, Mapping):
        return {visible(name): _shown(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_shown(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return visible(value) if isinstance(value, str) else value


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")
