"""What MLflow is told of audits: a parent run per subject with its trend, under it a run per run of the audit."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from ct_pipeline.records.audit_runs import Record, sentence
from ct_pipeline.resources.tracking import Tracking
from ct_pipeline.steps.tracked_run import TrackedRun

EXPERIMENT = "audits"
NUMBERS = ("value", "low", "high")


def track(tracking: Tracking, runs: Sequence[Record], dagster_run: str) -> str:
    """Puts down the finished runs of one audit that are not there yet; returns the address of the last.

    Args:
        tracking: the experiment of audits.
        runs: the audit's records, oldest first, one finished at least.
        dagster_run: in which the last of them is shown.
    """
    done = [run for run in runs if run["status"] == "done"]
    above = _parent(done[0])
    parent = tracking.record(above)
    for run in done:
        tracked = _run(run, above)
        if not tracking.knows(tracked):
            tracking.add(parent, tracked.metrics, run["number"], tracked.finished)
        last = tracking.record(tracked, dagster_run if run is done[-1] else None)
    return tracking.url(last)


def _parent(first: Record) -> TrackedRun:
    name, time = first["audit"], datetime.fromisoformat(first["time"])
    description = first["settings"].get("description") or ""
    return TrackedRun(name, f"audit {name}", {"audit": name}, {"note": description}, {}, time, time)


def _run(run: Record, above: TrackedRun) -> TrackedRun:
    finished = datetime.fromisoformat(run["time"])
    tags = {
        "verdict": run["overall"] or "nothing trained yet",
        "gate": run["gate"] or "not applicable",
        "drift": "raised" if run["drift"]["raised"] else "no",
        "made": ", ".join(run["made"]) or "nothing: all was reused",
        "note": "\n\n".join([sentence(run), *run["changed"], *run["drift"]["sentences"]]),
    }
    return TrackedRun(
        name=f"{run['audit']} {run['number']}",
        fingerprint=f"audit {run['audit']} {run['number']} {run['time']}",
        under=above.fingerprint,
        parent=lambda: above,
        parameters=_parameters(run),
        tags=tags,
        metrics=_metrics(run),
        started=finished - timedelta(seconds=run["seconds"]),
        finished=finished,
    )


def _parameters(run: Record) -> Mapping[str, object]:
    settings = run["settings"]
    flat = {name: settings[name] for name in ("seed", "confidence")}
    for group in ("decoding", "thresholds"):
        flat |= {f"{group}.{name}": value for name, value in settings[group].items()}
    return flat | {role: f"{each['name']} {each['digest'][:16]}" for role, each in run["inputs"].items()}


def _metrics(run: Record) -> dict[str, float | None]:
    """Risks and changes by probe, those predicted, what the gate and the drift alarm said; a missing one is None."""
    metrics: dict[str, float | None] = {"seconds": run["seconds"], "drift": float(run["drift"]["raised"])}
    if run["gate"] is not None:
        metrics["gate_passed"] = float(run["gate"] == "PASS")
    for probe, short in run["probes"].items():
        for side, rate in short["risk"].items():
            metrics |= _bounds(f"risk_{side}", probe, rate)
        if short["change"] is not None:
            metrics |= _bounds("change", probe, short["change"])
    for each in run["predictions"]:
        metrics |= _bounds(f"predicted_from_{each['source']}", each["group"], each)
    return metrics


def _bounds(name: str, probe: str, found: Mapping[str, float | None]) -> dict[str, float | None]:
    known = NUMBERS if found["value"] is not None else ()
    return {f"{name}{'' if which == 'value' else '_' + which}_{probe}": found[which] for which in known}
