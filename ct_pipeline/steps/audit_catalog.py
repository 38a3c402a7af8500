"""The stages of an audit in their order; `ct-pipeline audit run` and the Dagster assets call the same functions.

subject = audit_subject.read(audit)          # reads and hashes its files; Refused
for stage in STAGES:
    stage.find(store, subject) or stage.make(store, subject)
audit_records.record(...)                    # one run: numbers, verdicts, drift
"""

from collections.abc import Callable
from dataclasses import dataclass

from ct_pipeline.settings.errors import UserError
from ct_pipeline.steps import audit_evaluation, audit_prediction, audit_shift, audit_verdict
from ct_pipeline.steps.resolved_audit import ResolvedAudit
from ct_pipeline.store.artifact_store import Artifact, ArtifactStore
from ct_pipeline.store.node import Node, find


@dataclass(frozen=True)
class AuditStage:
    """One stage of an audit.

    Attributes:
        name: also the name of its Dagster asset.
        title: what a progress display calls it.
        version: of its code's meaning.
        node: subject -> its artifact's place.
        make: (store, subject) -> makes the artifact, whatever is there.
    """

    name: str
    title: str
    version: int
    node: Callable[[ResolvedAudit], Node]
    make: Callable[[ArtifactStore, ResolvedAudit], Artifact]

    def find(self, store: ArtifactStore, subject: ResolvedAudit) -> Artifact | None:
        """The complete artifact, or None."""
        return find(store, self.node(subject))


def _told(
    stage: str, make: Callable[[ArtifactStore, ResolvedAudit], Artifact]
) -> Callable[[ArtifactStore, ResolvedAudit], Artifact]:
    """The same, with what an engine or a model says of wrong inputs told as a sentence."""

    def told(store: ArtifactStore, subject: ResolvedAudit) -> Artifact:
        try:
            return make(store, subject)
        except UserError:
            raise
        except ValueError as error:
            raise UserError(f"audit {subject.audit.name}, {stage}: {error}") from error

    return told


STAGES: tuple[AuditStage, ...] = tuple(
    AuditStage(module.STAGE, title, module.VERSION, module.node, _told(module.STAGE, module.make))
    for module, title in (
        (audit_evaluation, "answers before and after"),
        (audit_prediction, "prediction from the labels"),
        (audit_shift, "change and shift"),
        (audit_verdict, "verdict and gate"),
    )
)
