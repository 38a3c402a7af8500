"""What worker processes do at each stage, of a study or of an audit: look whether a key is made, and make it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ct_pipeline.settings.audit import Audit
from ct_pipeline.steps import audit_catalog as audit_pipeline
from ct_pipeline.steps import catalog
from ct_pipeline.steps.audit_catalog import AuditStage
from ct_pipeline.steps.catalog import Key, Progress
from ct_pipeline.steps.resolved_audit import read
from ct_pipeline.store.artifact_store import ArtifactStore


class Job(Protocol):
    """The work of one stage; `context` is what its keys belong to.

    Attributes:
        all_cores: whether one key keeps every core busy, so that keys are made one after another.
    """

    all_cores: bool

    def find(self, store: ArtifactStore, context: object, key: Key) -> object | None:
        """What is complete of a key, or None."""

    def make(self, store: ArtifactStore, context: object, key: Key, threads: int, progress: Progress) -> object:
        """Makes what is missing of a key."""


@dataclass(frozen=True)
class AuditJob:
    """Implements Job for a stage of audits: a key is a subject, the context the audits by subject.

    One audit's models fill a machine. Whoever asks has looked already whether the artifact is there.
    """

    stage: AuditStage
    all_cores: bool = True

    def find(self, store: ArtifactStore, context: Mapping[str, Audit], key: str) -> None:
        return None

    def make(
        self, store: ArtifactStore, context: Mapping[str, Audit], key: str, threads: int, progress: Progress
    ) -> object:
        return self.stage.make(store, read(context[key]))


def job_named(name: str) -> Job:
    """The work of a stage of a name; KeyError where there is none."""
    audits = {stage.name: AuditJob(stage) for stage in audit_pipeline.STAGES}
    return audits[name] if name in audits else catalog.stage_named(name)
