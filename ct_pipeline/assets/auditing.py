"""What every asset of an audit does: a partition key to an audit, one stage of it, metadata on the partition."""

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

from ct_pipeline.records import audit_runs as audit_records
from ct_pipeline.records.audit_watch import audit_of
from ct_pipeline.report.wording import points
from ct_pipeline.resources.accelerator import AcceleratorResource, ArtifactStoreResource
from ct_pipeline.runner.workers import WorkerLost
from ct_pipeline.settings.audit import Audit
from ct_pipeline.settings.environment import home
from ct_pipeline.settings.errors import Refused, UserError
from ct_pipeline.steps import audit_quarantine, base_model
from ct_pipeline.steps.audit_catalog import STAGES, AuditStage
from ct_pipeline.steps.resolved_audit import ResolvedAudit, read
from ct_pipeline.store.artifact_store import Artifact, ArtifactStore
from ct_pipeline.store.node import find

REUSED, SECONDS = "reused", "seconds"

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
).with_label("an earlier stage is made")


@dataclass(frozen=True)
class Audited:
    """One stage of one audit, made or found; `seconds` is what that took."""

    store: ArtifactStore
    subject: ResolvedAudit
    artifact: Artifact
    reused: bool
    seconds: float

    @property
    def audit(self) -> Audit:
        """The audit's settings."""
        return self.subject.audit

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What every stage shows."""
        return {
            SECONDS: self.seconds,
            REUSED: self.reused,
            "artifact": dg.MetadataValue.path(str(self.artifact.place)),
            "fingerprint": self.artifact.manifest.fingerprint,
        }


class RefusedInput(dg.Failure):
    """Files of an audit are not accepted: every refusal in words and as a table, and no traceback."""

    def __init__(self, error: Refused) -> None:
        rows = [dg.TableRecord(each.as_json()) for each in error.refusals]
        super().__init__(
            description=f"refused:\n{error}",
            metadata={"refusals": dg.MetadataValue.table(rows)},
            allow_retries=False,
        )


def stage_called(name: str) -> AuditStage:
    """The stage of an audit of a name; KeyError where there is none."""
    return {stage.name: stage for stage in STAGES}[name]


def make_stage(
    context: dg.AssetExecutionContext,
    stage: AuditStage,
    artifacts: ArtifactStoreResource,
    accelerator: AcceleratorResource,
) -> Audited:
    """Makes a stage of the context's audit unless it is complete; no process is started for what is.

    Raises:
        RefusedInput: files of the audit are not accepted; the record of a refused run is kept.
        dagster.Failure: anything else that a person can mend, in words.
        dagster.RetryRequested: a worker process was killed; once.
    """
    name, started = context.partition_key, time.perf_counter()
    subject: ResolvedAudit | None = None
    try:
        audit = audit_of(name)
        store = artifacts.open()
        subject = read(audit)
        artifact = stage.find(store, subject)
        reused = artifact is not None
        if not reused:
            _work(store, subject, stage, accelerator)
            artifact = stage.find(store, subject)
    except Refused as error:
        quarantine = [] if subject is None else _inspected(subject)
        audit_records.record_refusal(name, home(), error.refusals, quarantine, time.perf_counter() - started)
        raise RefusedInput(error) from None
    except UserError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from None
    except WorkerLost as error:
        raise dg.RetryRequested(max_retries=1) from error
    if artifact is None:
        raise dg.Failure(description=f"{stage.name} of {name}: its files changed while it was made; run again")
    return Audited(store, subject, artifact, reused, time.perf_counter() - started)


def of_this_run(
    context: dg.AssetExecutionContext, last: str, metadata: Mapping[str, Any]
) -> tuple[list[str], dict[str, float]]:
    """Names of the stages that the context's run made rather than found, and the seconds of each of its stages.

    `last` is the stage that the caller is in, with its metadata: its materialization is not in the log yet.
    """
    told = {last: (metadata[REUSED], metadata[SECONDS])}
    logged = context.instance.all_logs(context.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    for entry in logged:
        found = entry.asset_materialization
        if found is not None and found.partition == context.partition_key:
            told[found.asset_key.to_user_string()] = (found.metadata[REUSED].value, found.metadata[SECONDS].value)
    found = {stage.name: told[stage.name] for stage in STAGES if stage.name in told}
    made = [name for name, (reused, _) in found.items() if not reused]
    return made, {name: seconds for name, (_, seconds) in found.items()}


def plotted(values: Mapping[str, float | None]) -> dict[str, float]:
    """Numbers that Dagster plots over runs; a missing one is left out, not drawn as 0."""
    return {name: float(value) for name, value in values.items() if value is not None}


def moved(change: Mapping[str, float | None] | None) -> str:
    """A change in points with its interval, of anything that has value, low and high; "none" where it is missing."""
    if change is None or change["value"] is None:
        return "none"
    return f"{points(change['value'])} [{points(change['low'])}, {points(change['high'])}]"


def _work(store: ArtifactStore, subject: ResolvedAudit, stage: AuditStage, accelerator: AcceleratorResource) -> None:
    workers, audits = accelerator.open(store.root), {subject.audit.name: subject.audit}
    if subject.base_node is not None and find(store, subject.base_node) is None:
        workers.make(base_model.STAGE, subject.study, [subject.audit.base_model.model])
    workers.make(stage.name, audits, [subject.audit.name])


def _inspected(subject: ResolvedAudit) -> list[dict[str, object]]:
    """What the quarantine says of each file, also of those that are refused."""
    with contextlib.suppress(UserError):
        audit_quarantine.accepted(subject)
    return subject.quarantine or []
