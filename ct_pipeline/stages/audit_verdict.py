"""Audit 4: the verdict on every probe, the release gate, and the audit card that says it all.

It depends on the content of the other three and on the thresholds alone. What is told from the run before (drift) belongs
to the run and stands in its record, not here: `audit_records`.
"""

from ct_pipeline.stages import audit_evaluation, audit_prediction, audit_shift
from ct_pipeline.stages.audit_subject import Subject
from ct_pipeline.stages.node import Node
from ct_pipeline.store.artifact_store import Artifact, ArtifactStore

STAGE = "audit_verdict"
VERSION = 1


def node(subject: Subject) -> Node:
    """The verdict of one audit."""
    settings = {
        "thresholds": subject.audit.thresholds,
        "confidence": subject.audit.confidence,
        "seed": subject.audit.seed,
    }
    inputs = {
        "audit_evaluation": audit_evaluation.node(subject),
        "audit_shift": audit_shift.node(subject),
        "audit_prediction": audit_prediction.node(subject),
    }
    return Node(STAGE, VERSION, subject.audit.name, "-", settings, inputs)


def make(store: ArtifactStore, subject: Subject) -> Artifact:
    """`verdict.json`: a verdict per probe and the gate; `card.json` and `card.md`: the audit card."""
    raise NotImplementedError
