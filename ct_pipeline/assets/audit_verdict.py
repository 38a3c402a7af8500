"""The verdict of an audit: amplifies, suppresses or neutral per probe, the release gate, drift, and the run's record."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import dagster as dg

from ct_pipeline.assets.audit_evaluation import audit_evaluation
from ct_pipeline.assets.audit_inputs import GROUP
from ct_pipeline.assets.audit_prediction import audit_prediction
from ct_pipeline.assets.audit_shift import audit_shift
from ct_pipeline.assets.audit_tracked import EXPERIMENT, track
from ct_pipeline.assets.auditing import (
    ONE_AUDIT_PER_RUN,
    WITH_THE_REST,
    Audited,
    make_stage,
    moved,
    of_this_run,
    plotted,
    stage_called,
)
from ct_pipeline.assets.materialization import ON_DEVICE, OWNERS, picture_of, table_of
from ct_pipeline.measurement.condition import MAIN_VIEW
from ct_pipeline.partitions import audit_subject
from ct_pipeline.records import audit_runs as audit_records
from ct_pipeline.records.audit_runs import Record
from ct_pipeline.report.audit_card import sentences
from ct_pipeline.report.audit_trend import trend_plot
from ct_pipeline.report.markdown import plain
from ct_pipeline.resources.accelerator import AcceleratorResource, ArtifactStoreResource
from ct_pipeline.resources.tracking import TrackingResource
from ct_pipeline.settings.environment import home
from ct_pipeline.settings.errors import UserError

STAGE = stage_called("audit_verdict")
GATE, DRIFT, MISSING_VERDICTS = "release_gate", "drift", "missing_verdicts"
MOST_MISSING = 0.05
"""Share of answers without a verdict above which rates are to be read with care."""
MOST_DRAWN = 6


def _check(name: str, description: str, blocking: bool = False) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(
        name, asset="audit_verdict", partitions_def=audit_subject, description=description, blocking=blocking
    )


@dg.asset(
    partitions_def=audit_subject,
    deps=[audit_evaluation, audit_prediction, audit_shift],
    group_name=GROUP,
    kinds={"scipy", "html", "mlflow"},
    owners=OWNERS,
    **ON_DEVICE,
    code_version=str(STAGE.version),
    backfill_policy=ONE_AUDIT_PER_RUN,
    automation_condition=WITH_THE_REST,
    # Of the asset as a whole, which is all that Dagster knows: the last verdict of any audit is at most a week old.
    freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(days=8), warn_window=timedelta(days=7)),
    check_specs=[
        _check(
            GATE, "The upper confidence bounds of every probe's risk and rise are within the limits.", blocking=True
        ),
        _check(DRIFT, "No probe's risk or outcome moved against the run before."),
        _check(
            MISSING_VERDICTS, f"At most {MOST_MISSING:.0%} of any probe's answers, sampled in domain, have no verdict."
        ),
    ],
)
def audit_verdict(
    context: dg.AssetExecutionContext,
    artifacts: ArtifactStoreResource,
    accelerator: AcceleratorResource,
    tracking: TrackingResource,
) -> dg.MaterializeResult:
    """Verdict per probe, release gate and audit card; each run keeps a record and is told from the run before it."""
    made = make_stage(context, STAGE, artifacts, accelerator)
    stages, took = of_this_run(context, STAGE.name, made.metadata)
    try:
        run = audit_records.record(made.store, made.subject, home(), stages, took)
    except UserError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from None
    return shown(made, run, tracking, context.run_id)


def shown(made: Audited, run: Record, tracking: TrackingResource, dagster_run: str) -> dg.MaterializeResult:
    """What the asset's page shows of a run, its checks, and a link to the run in MLflow, where it is put down here."""
    address = track(tracking.open(EXPERIMENT), audit_records.runs(home(), run["audit"]), dagster_run)
    audit_records.mark_told(home(), run)
    return dg.MaterializeResult(
        asset_key=STAGE.name,
        metadata={**made.metadata, **_describe(made, run), "mlflow": dg.MetadataValue.url(address)},
        check_results=[_gate(made), _drift(run), _missing(made)],
    )


def _describe(made: Audited, run: Record) -> Mapping[str, Any]:
    card, numbers = made.artifact.json("card"), {}
    for probe, short in run["probes"].items():
        numbers |= {f"risk {side}: {probe}": rate["value"] for side, rate in short["risk"].items()}
        if short["change"] is not None:
            numbers[f"change: {probe}"] = short["change"]["value"]
    page = audit_records.report_folder(home(), run["audit"]) / "index.html"
    verdicts = [
        {
            "probe": probe,
            "verdict": short["verdict"] or "nothing trained yet",
            "points": moved(short["change"]),
        }
        for probe, short in run["probes"].items()
    ]
    return plotted(numbers) | {
        "run": run["number"],
        "verdict": run["overall"] or "nothing trained yet",
        "gate": run["gate"] or "not applicable",
        "verdicts": table_of(verdicts),
        "in words": dg.MetadataValue.md("\n".join(f"- {plain(each)}" for each in sentences(card))),
        "against the run before": dg.MetadataValue.md(
            "\n".join(f"- {plain(each)}" for each in (*run["changed"], *run["drift"]["sentences"]))
        ),
        "report": dg.MetadataValue.path(str(page)),
        **_trends(made, run["audit"]),
    }


def _trends(made: Audited, name: str) -> Mapping[str, Any]:
    """Small pictures of the first probes' risks over runs; the page holds them all."""
    past = audit_records.runs(home(), name)[-20:]
    limit = None if made.audit.labels_only else made.audit.thresholds.risk
    probes = list(made.audit.probes)[:MOST_DRAWN]
    return {
        f"trend: {probe}": picture_of(trend_plot(probe, past, limit), f"Risk of {probe} over runs") for probe in probes
    }


def _gate(made: Audited) -> dg.AssetCheckResult:
    gate = made.artifact.json("verdict")["gate"]
    if gate is None:
        return dg.AssetCheckResult(
            asset_key=STAGE.name,
            check_name=GATE,
            passed=True,
            description="Not applicable: nothing was trained yet.",
            metadata={},
        )
    tests = "\n".join(f"- {plain(test['sentence'])}" for test in gate["tests"])
    bounds = plotted(
        {f"upper bound of {test['quantity']}: {test['probe']}": test["bound"]["upper"] for test in gate["tests"]}
    )
    return dg.AssetCheckResult(
        asset_key=STAGE.name,
        check_name=GATE,
        passed=gate["passed"],
        description=gate["sentence"],
        metadata={"tests": dg.MetadataValue.md(tests), "delta": dg.MetadataValue.text(f"{gate['delta']:g}"), **bounds},
    )


def _drift(run: Record) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=STAGE.name,
        check_name=DRIFT,
        passed=not run["drift"]["raised"],
        severity=dg.AssetCheckSeverity.WARN,
        description=" ".join(run["drift"]["sentences"]),
        metadata={} if run["drift"]["compared"] is None else {"compared with run": run["drift"]["compared"]},
    )


def _missing(made: Audited) -> dg.AssetCheckResult:
    rates = {
        f"share without verdict {side}: {probe}": risk[MAIN_VIEW.name]["missing"] / risk[MAIN_VIEW.name]["rows"]
        for probe, result in made.artifact.json("verdict")["probes"].items()
        for side, risk in result["risk"].items()
        if risk[MAIN_VIEW.name]["rows"]
    }
    return dg.AssetCheckResult(
        asset_key=STAGE.name,
        check_name=MISSING_VERDICTS,
        passed=max(rates.values(), default=0.0) <= MOST_MISSING,
        severity=dg.AssetCheckSeverity.WARN,
        metadata=plotted(rates),
    )
