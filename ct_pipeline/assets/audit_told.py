"""A run of an audit that was made elsewhere, as Dagster is told of it: the same pages and checks as the assets give.

One step without a pool, so that it waits for nobody. Not Dagster's runless events: its database takes the evaluation of a
partitioned check without a run once only (a unique index over asset, check, run and partition).
"""

from collections.abc import Iterator

import dagster as dg

from ct_pipeline.assets import audit_evaluation, audit_prediction, audit_shift, audit_verdict
from ct_pipeline.assets.auditing import Audited
from ct_pipeline.partitions import audit_subject
from ct_pipeline.records.audit_runs import Record, artifact_of
from ct_pipeline.resources.tracking import TrackingResource
from ct_pipeline.settings.audit import Audit
from ct_pipeline.steps.audit_catalog import STAGES
from ct_pipeline.steps.resolved_audit import ResolvedAudit
from ct_pipeline.store.artifact_store import ArtifactStore

ASSETS = (
    audit_evaluation.audit_evaluation,
    audit_prediction.audit_prediction,
    audit_shift.audit_shift,
    audit_verdict.audit_verdict,
)


def told_of(store: ArtifactStore, audit: Audit, run: Record) -> dg.AssetsDefinition:
    """The four assets of an audit as one step that shows a finished run and makes nothing."""

    @dg.multi_asset(
        name="show",
        specs=[spec for asset in ASSETS for spec in asset.specs],
        check_specs=[spec for asset in ASSETS for spec in asset.check_specs],
        partitions_def=audit_subject,
    )
    def show(context: dg.AssetExecutionContext, tracking: TrackingResource) -> Iterator[dg.MaterializeResult]:
        subject = ResolvedAudit(audit)
        evaluated, predicted, shifted, judged = (
            Audited(
                store,
                subject,
                artifact_of(store, run, stage.name),
                stage.name not in run["made"],
                run["took"][stage.name],
            )
            for stage in STAGES
        )
        yield audit_evaluation.shown(evaluated)
        yield audit_prediction.shown(predicted)
        yield audit_shift.shown(shifted)
        yield audit_verdict.shown(judged, run, tracking, context.run_id)

    return show
