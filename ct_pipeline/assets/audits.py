"""The assets of audits, derived from their steps: one partition per subject, automation, and a record of every run."""

import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import dagster as dg

from ct_pipeline.assets.audit_inputs import GROUP, audit_inputs
from ct_pipeline.assets.audit_tracked import EXPERIMENT, track
from ct_pipeline.assets.from_steps import ON_DEVICE, OWNERS, check_specs, severity
from ct_pipeline.assets.metadata import as_metadata
from ct_pipeline.partitions import audit_subject
from ct_pipeline.records import audit_runs
from ct_pipeline.records.audit_runs import Record
from ct_pipeline.report.as_markdown import plain
from ct_pipeline.report.audit_trend import trend_plot
from ct_pipeline.resources.accelerator import AcceleratorResource, ArtifactStoreResource
from ct_pipeline.resources.audit_files import AuditFiles
from ct_pipeline.resources.tracking import TrackingResource
from ct_pipeline.runner.audit_run import resolved
from ct_pipeline.runner.workers import WorkerLost
from ct_pipeline.settings.environment import home
from ct_pipeline.settings.errors import Refused, UserError
from ct_pipeline.steps import audit_verdict
from ct_pipeline.steps.catalog import AUDIT_STEPS
from ct_pipeline.steps.resolved_audit import ResolvedAudit
from ct_pipeline.steps.shown import File, Picture, in_points, listed, numbers, rows
from ct_pipeline.steps.step import Check, Context, Outcome, Step

REUSED, SECONDS = "reused", "seconds"
MOST_DRAWN = 6
LAST = audit_verdict.STEP
"""Where a run of an audit ends: its record is written there."""

# A run is one audit: what fails of it, a gate for instance, is not the failure of others.
ONE_AUDIT_PER_RUN = dg.BackfillPolicy.multi_run(max_partitions_per_run=1)

# Without since_last_handled and in_progress: a change that is noticed while a run is on its way, or in the tick that sees
# its end, would be taken for handled and never be audited. A run too many costs seconds.
CHANGED_INPUTS = (
    dg.AutomationCondition.newly_missing()
    | dg.AutomationCondition.any_deps_match(dg.AutomationCondition.data_version_changed())
).with_label("inputs of the audit changed")
WITH_THE_REST = (
    dg.AutomationCondition.newly_missing()
    | dg.AutomationCondition.any_deps_match(dg.AutomationCondition.will_be_requested())
).with_label("an earlier step is made")
# Of the asset as a whole, which is all that Dagster knows: the last verdict of any audit is at most a week old.
FRESH = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=8), warn_window=timedelta(days=7))
DRIFT = Check("drift", "No probe's risk or outcome moved against the run before.", lambda *_: Outcome(True), warns=True)
"""Judged on the run's record, not on the artifact alone."""


class RefusedInput(dg.Failure):
    """Files of an audit are not accepted: every refusal in words and as a table, and no traceback."""

    def __init__(self, error: Refused) -> None:
        super().__init__(
            description=f"refused:\n{error}",
            metadata=as_metadata({"refusals": rows(each.as_json() for each in error.refusals)}),
            allow_retries=False,
        )


def _asset(step: Step) -> dg.AssetsDefinition:
    specs = check_specs(step, audit_subject)
    if step is LAST:
        specs += [
            dg.AssetCheckSpec(DRIFT.name, asset=step.name, description=DRIFT.description, partitions_def=audit_subject)
        ]

    @dg.asset(
        name=step.name,
        description=step.description,
        partitions_def=audit_subject,
        deps=list(step.after) or [audit_inputs],
        group_name=GROUP,
        kinds=set(step.kinds),
        owners=OWNERS,
        code_version=str(step.version),
        backfill_policy=ONE_AUDIT_PER_RUN,
        automation_condition=WITH_THE_REST if step.after else CHANGED_INPUTS,
        freshness_policy=FRESH if step is LAST else None,
        check_specs=specs,
        **ON_DEVICE,
    )
    def made(
        context: dg.AssetExecutionContext,
        artifacts: ArtifactStoreResource,
        accelerator: AcceleratorResource,
        tracking: TrackingResource,
        audits: AuditFiles,
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        started = time.perf_counter()
        try:
            shared, subject, reused = _made(context, step, artifacts, accelerator, audits)
        except RefusedInput as failure:
            for check in step.checks if not step.after else ():
                yield dg.AssetCheckResult(check_name=check.name, passed=False, metadata=failure.metadata)
            raise
        found = step.find(shared.store, None, subject)
        if found is None:
            raise dg.Failure(
                description=f"{step.name} of {subject.key}: its files changed while it was made; run again"
            )
        about = {
            SECONDS: time.perf_counter() - started,
            REUSED: reused,
            "artifact": File(found[0].place),
            "fingerprint": found[0].manifest.fingerprint,
        }
        outcomes = {check: check.judge(shared, subject, found) for check in step.checks}
        shown: dict[str, Any] = {}
        if step is LAST:
            run = _recorded(context, shared, subject, about)
            address = track(tracking.open(EXPERIMENT), audit_runs.runs(home(), subject.key), context.run_id)
            shown = _of_run(subject, run) | {"mlflow": dg.MetadataValue.url(address)}
            outcomes[DRIFT] = _drift(run)
        yield dg.MaterializeResult(
            metadata=as_metadata(shown | step.show(shared, subject, found) | about),
            check_results=[
                dg.AssetCheckResult(
                    check_name=check.name,
                    passed=outcome.passed,
                    severity=severity(check),
                    description=outcome.text,
                    metadata=as_metadata(outcome.shown),
                )
                for check, outcome in outcomes.items()
            ],
        )

    return made


AUDIT_ASSETS = [_asset(step) for step in AUDIT_STEPS]


def _made(
    context: dg.AssetExecutionContext,
    step: Step,
    artifacts: ArtifactStoreResource,
    accelerator: AcceleratorResource,
    audits: AuditFiles,
) -> tuple[Context, ResolvedAudit, bool]:
    """Makes a step of the context's audit unless it is complete; no process is started for what is.

    Raises:
        RefusedInput: files of the audit are not accepted; the record of a refused run is kept.
        dagster.Failure: anything else that a person can mend, in words.
        dagster.RetryRequested: a worker process was killed; once.
    """
    try:
        shared = Context(artifacts.open())
        subject = resolved(shared.store, audits.audit_of(context.partition_key), home())
        reused = step.find(shared.store, None, subject) is not None
        if not reused:
            accelerator.open(shared.store.root).make(step.name, None, [subject])
    except Refused as error:
        raise RefusedInput(error) from None
    except UserError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from None
    except WorkerLost as error:
        raise dg.RetryRequested(max_retries=1) from error
    return shared, subject, reused


def _recorded(
    context: dg.AssetExecutionContext, shared: Context, subject: ResolvedAudit, about: Mapping[str, Any]
) -> Record:
    """The record of the context's run: which steps it made rather than found, and the seconds of each."""
    took = {LAST.name: (about[REUSED], about[SECONDS])}
    logged = context.instance.all_logs(context.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    for entry in logged:
        found = entry.asset_materialization
        if found is not None and found.partition == context.partition_key:
            took[found.asset_key.to_user_string()] = (found.metadata[REUSED].value, found.metadata[SECONDS].value)
    ordered = {step.name: took[step.name] for step in AUDIT_STEPS if step.name in took}
    made = [name for name, (reused, _) in ordered.items() if not reused]
    seconds = {name: spent for name, (_, spent) in ordered.items()}
    try:
        return audit_runs.record(shared.store, subject, home(), made, seconds)
    except UserError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from None


def _of_run(subject: ResolvedAudit, run: Record) -> dict[str, Any]:
    """What a run's record says, with small pictures of the first probes' risks over runs; the page holds them all."""
    values: dict[str, float | None] = {}
    for probe, short in run["probes"].items():
        values |= {f"risk {side}: {probe}": rate["value"] for side, rate in short["risk"].items()}
        if short["change"] is not None:
            values[f"change: {probe}"] = short["change"]["value"]
    past = audit_runs.runs(home(), run["audit"])[-20:]
    limit = None if subject.audit.labels_only else subject.audit.thresholds.risk
    return numbers(values) | {
        "run": run["number"],
        "verdict": run["overall"] or "nothing trained yet",
        "gate": run["gate"] or "not applicable",
        "verdicts": rows(
            {
                "probe": probe,
                "verdict": short["verdict"] or "nothing trained yet",
                "points": in_points(short["change"]),
            }
            for probe, short in run["probes"].items()
        ),
        "against the run before": listed(plain(each) for each in (*run["changed"], *run["drift"]["sentences"])),
        "report": File(audit_runs.report_folder(home(), run["audit"]) / "index.html"),
        **{
            f"trend: {probe}": Picture(trend_plot(probe, past, limit), f"Risk of {probe} over runs")
            for probe in list(subject.audit.probes)[:MOST_DRAWN]
        },
    }


def _drift(run: Record) -> Outcome:
    compared = run["drift"]["compared"]
    shown = {} if compared is None else {"compared with run": compared}
    return Outcome(not run["drift"]["raised"], " ".join(run["drift"]["sentences"]), shown)
