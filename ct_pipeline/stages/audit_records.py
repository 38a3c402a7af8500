"""Runs of an audit: every one keeps its own record, also one that found nothing to do, and is told from the one before.

A record lies at results home/audits/NAME/runs/NNNN.json; nothing of it is part of any fingerprint.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ct_pipeline.stages.audit_subject import Subject
from ct_pipeline.store.artifact_store import ArtifactStore
from ct_pipeline.study.errors import Refusal


def record(
    store: ArtifactStore, subject: Subject, home: Path, made: Sequence[str], seconds: float
) -> Mapping[str, object]:
    """Writes the record of a run whose four artifacts are complete, and the report of the audit; returns the record.

    `made` names the stages that were made in this run; none: everything was reused.
    """
    raise NotImplementedError


def record_refusal(subject_name: str, home: Path, refusals: Sequence[Refusal], seconds: float) -> Mapping[str, object]:
    """Writes the record of a run that was stopped because files were not accepted; returns the record."""
    raise NotImplementedError


def runs(home: Path, name: str) -> list[Mapping[str, object]]:
    """The records of an audit, oldest first."""
    raise NotImplementedError
