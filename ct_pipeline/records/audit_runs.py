"""Runs of an audit: every one keeps its own record, also one that found nothing to do, and is compared with the one before.

A record lies at results home/audits/NAME/runs/NNNN.json; nothing of it is part of any fingerprint. With it the audit's report
is written to results home/reports/audits/NAME/: index.html with the trend over runs, card.md, card.json.
"""

import contextlib
import dataclasses
import json
import os
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from ct_pipeline.analysis.drift import Drift, drift
from ct_pipeline.measurement.condition import MAIN_VIEW
from ct_pipeline.report.audit_page import write_audit_report
from ct_pipeline.settings.errors import Refusal, UserError, printable, shown
from ct_pipeline.steps import audit_evaluation, audit_verdict
from ct_pipeline.steps.audit_evaluation import tables_of
from ct_pipeline.steps.audit_verdict import main_rows
from ct_pipeline.steps.catalog import AUDIT_STEPS
from ct_pipeline.steps.resolved_audit import ResolvedAudit
from ct_pipeline.store.artifact_store import Address, Artifact, ArtifactStore
from ct_pipeline.store.disk import disk_errors

Record = Mapping[str, object]
FORMAT = 1
_FILE = re.compile(r"(\d{4,})\.json")


def record(
    store: ArtifactStore, subject: ResolvedAudit, home: Path, made: Sequence[str], took: Mapping[str, float]
) -> Record:
    """Writes the record of a run whose four artifacts are complete, and the audit's report; returns the record.

    Args:
        store: holds the artifacts.
        subject: what was audited.
        home: the results folder.
        made: names of the stages that this run made; none: everything was reused.
        took: stage -> seconds that the run spent on it.

    Raises:
        UserError: an artifact is missing.
        CannotWrite: the disk is full or read-only.
    """
    made_of = {step.name: step.find(store, None, subject) for step in AUDIT_STEPS}
    if lacking := [name for name, one in made_of.items() if one is None]:
        raise UserError(f"audit {subject.audit.name}: {', '.join(lacking)} not made yet: materialize it first")
    artifacts = {name: one[0] for name, one in made_of.items()}
    found = artifacts[audit_verdict.NAME].json("verdict")
    past = [run for run in runs(home, subject.audit.name) if run["status"] == "done"]
    last = past[-1] if past else None
    fields = {
        "status": "done",
        "seconds": round(sum(took.values()), 3),
        "took": {name: round(seconds, 3) for name, seconds in took.items()},
        "made": list(made),
        "reused": not made,
        "artifacts": {name: _named(artifact) for name, artifact in artifacts.items()},
        "inputs": {each.role: {"name": each.name, "digest": each.digest} for each in subject.inputs},
        "settings": subject.audit.model_dump(mode="json"),
        "labels_only": found["labels_only"],
        "overall": found["overall"],
        "gate": None if found["gate"] is None else found["gate"]["outcome"],
        "outcomes": _outcomes(found),
        "probes": {name: _short(result) for name, result in found["probes"].items()},
        "predictions": found["predictions"],
    }
    fields |= {"changed": changed_inputs(last, fields), "drift": _drift(store, subject, last, fields, artifacts)}
    written = _write(home, subject.audit.name, fields)
    _report(home, subject.audit.name, artifacts[audit_verdict.NAME], written)
    return written


def record_refusal(
    name: str, home: Path, refusals: Sequence[Refusal], quarantine: Sequence[Mapping[str, object]], seconds: float
) -> Record:
    """Writes the record of a run that was stopped because files were not accepted; returns the record."""
    fields = {
        "status": "refused",
        "seconds": round(seconds, 3),
        "refusals": [refusal.as_json() for refusal in refusals],
        "quarantine": list(quarantine),
    }
    return _write(home, name, fields)


def runs(home: Path, name: str) -> list[Record]:
    """The records of an audit, oldest first; one that cannot be read is left out."""
    found = []
    for path in sorted(_folder(home, name).glob("*.json")):
        if _FILE.fullmatch(path.name):
            with contextlib.suppress(ValueError, RecursionError):
                fields = json.loads(path.read_text(encoding="utf-8"))
                if _is_record(fields):
                    found.append(fields)
    return sorted(found, key=lambda run: run["number"])


def names(home: Path) -> list[str]:
    """The audits that have ever run, those of watched adapters included."""
    folder = home / "audits"
    return sorted(path.name for path in folder.iterdir() if (path / "runs").is_dir()) if folder.is_dir() else []


def artifact_of(store: ArtifactStore, run: Record, stage: str) -> Artifact | None:
    """The artifact that a run names, if it is still there."""
    place = run["artifacts"][stage]
    return store.read(Address(stage, place["subject"], place["variant"], place["fingerprint"]))


def changed_inputs(last: Record | None, now: Record) -> list[str]:
    """What differs of the inputs and settings between two runs, one line each; empty for the first run."""
    if last is None:
        return []
    roles = dict.fromkeys([*last["inputs"], *now["inputs"]])
    changed = []
    for role in roles:
        old, new = (run["inputs"].get(role) for run in (last, now))
        if old is None or new is None:
            changed.append(f"{role}: {'added' if old is None else 'removed'}")
        elif old["digest"] != new["digest"]:
            changed.append(f"{role}: other content ({old['digest'][:12]} before, {new['digest'][:12]} now)")
    fields = dict.fromkeys([*last["settings"], *now["settings"]])
    without = ("before", "after", "labels", "chat_template", "schedule", "watch", "base_model")
    for field in fields:
        if field not in without:
            changed += _changed_settings(field, last["settings"].get(field), now["settings"].get(field))
    return changed


def _changed_settings(name: str, old: object, new: object) -> Iterator[str]:
    """A line for each setting that differs, those of groups by their full names."""
    if isinstance(old, dict) and isinstance(new, dict):
        for field in dict.fromkeys([*old, *new]):
            yield from _changed_settings(f"{name}.{field}", old.get(field), new.get(field))
    elif old != new:
        yield f"setting {name}: {shown(old)} before, {shown(new)} now"


def measured_side(run: Record) -> str:
    """Which model's risk a run's drift is about: the one after, or before any training the one before."""
    return "before" if run["labels_only"] else "after"


def report_folder(home: Path, name: str) -> Path:
    """Where the report of an audit lies."""
    return home / "reports" / "audits" / name


def _drift(
    store: ArtifactStore,
    subject: ResolvedAudit,
    last: Record | None,
    now: Record,
    artifacts: Mapping[str, Artifact],
) -> dict[str, object]:
    """What moved against the last run: nothing where the answers are the same ones."""
    side = measured_side(now)
    if last is None:
        return {"compared": None, "raised": False, "sentences": ["The first run: nothing to compare with."]}
    compared = {"compared": last["number"]}
    if measured_side(last) != side:
        return {**compared, "raised": False, "sentences": ["The run before measured another side: not compared."]}
    old = artifact_of(store, last, audit_evaluation.NAME)
    if old is None:
        return {**compared, "raised": False, "sentences": ["The answers of the run before are gone: not compared."]}
    same = last["artifacts"][audit_evaluation.NAME] == now["artifacts"][audit_evaluation.NAME]
    if same and last["outcomes"] == now["outcomes"]:
        return {**compared, "raised": False, "sentences": ["The same answers and outcomes as in the run before."]}
    found = _compared(subject, old, artifacts[audit_evaluation.NAME], last, now, side)
    sentences = list(found.reasons) or ["No probe's risk or outcome changed beyond chance."]
    return {**compared, "sentences": sentences, **dataclasses.asdict(found)}


def _compared(subject: ResolvedAudit, old: Artifact, new: Artifact, last: Record, now: Record, side: str) -> Drift:
    before = tables_of(old)[side]
    asked = list(dict.fromkeys(before["probe"])) if len(before) else []
    return drift(
        main_rows(before, asked),
        main_rows(tables_of(new)[side], list(subject.probes)),
        last["outcomes"],
        now["outcomes"],
        confidence=subject.audit.confidence,
    )


def _outcomes(found: Mapping[str, object]) -> dict[str, dict[str, str]]:
    """Probe -> its verdict and its gate's outcome; predictions stand beside as groups of their own."""
    gate = (found["gate"] or {}).get("outcomes", {})
    outcomes = {name: {"verdict": result["verdict"]} for name, result in found["probes"].items() if result["verdict"]}
    for name, outcome in gate.items():
        outcomes.setdefault(name, {})["gate"] = outcome
    for each in found["predictions"]:
        outcomes[f"prediction from {each['source']}: {each['group']}"] = {"sign": each["sign"]}
    return outcomes


def _short(result: Mapping[str, object]) -> dict[str, object]:
    """What a trend shows of a probe: its risks and change in domain, sampled."""
    change = result["changes"].get(MAIN_VIEW.name)
    kept = ("value", "low", "high", "before", "after", "prompts", "standard_error")
    return {
        "verdict": result["verdict"],
        "risk": {side: rates[MAIN_VIEW.name] for side, rates in result["risk"].items()},
        "change": None if change is None else {name: change[name] for name in kept},
    }


def _named(artifact: Artifact) -> dict[str, str]:
    fields = artifact.manifest
    return {
        "subject": fields.subject,
        "variant": fields.variant,
        "fingerprint": fields.fingerprint,
        "digest": artifact.digest,
        "made": fields.provenance["finished"],
    }


def _report(home: Path, name: str, verdict: Artifact, run: Record) -> None:
    card = verdict.json("card") | {"run": {"number": run["number"], "time": run["time"]}, "drift": run["drift"]}
    with disk_errors(home):
        write_audit_report(card, runs(home, name), report_folder(home, name))


def _folder(home: Path, name: str) -> Path:
    return home / "audits" / name / "runs"


def _is_record(fields: object) -> bool:
    return (
        isinstance(fields, dict)
        and fields.get("format") == FORMAT
        and type(fields.get("number")) is int
        and isinstance(fields.get("time"), str)
        and fields.get("status") in ("done", "refused")
    )


def _write(home: Path, name: str, fields: Mapping[str, object]) -> Record:
    """Gives the record the next number; two runs that end together get two numbers."""
    folder = _folder(home, name)
    with disk_errors(home):
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f".{os.getpid()}-{uuid.uuid4().hex}"
        try:
            while True:
                taken = [int(found[1]) for path in folder.iterdir() if (found := _FILE.fullmatch(path.name))]
                number = max(taken, default=0) + 1
                head = {"format": FORMAT, "audit": name, "number": number, "time": _now()}
                draft.write_text(
                    json.dumps(head | dict(fields), indent=1, sort_keys=True, ensure_ascii=False), encoding="utf-8"
                )
                with contextlib.suppress(FileExistsError):
                    os.link(draft, folder / f"{number:04d}.json")
                    return json.loads(draft.read_text(encoding="utf-8"))
        finally:
            draft.unlink(missing_ok=True)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def sentence(run: Record) -> str:
    """A run in a line, for lists."""
    if run["status"] == "refused":
        return f"refused: {printable(run['refusals'][0]['what'])}" if run["refusals"] else "refused"
    words = [run["overall"] or "no verdict", "labels only" if run["labels_only"] else f"gate {run['gate']}"]
    return ", ".join(words)
