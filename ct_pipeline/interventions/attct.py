"""Attention consistency training (AttCT): per-head attention under a cue as without it (arXiv 2606.05817)."""

from ct_pipeline.interventions.act import InternalTargetSettings
from ct_pipeline.interventions.bct import reference_answer
from ct_pipeline.interventions.intervention import ConsistencyLoss


class AttctSettings(InternalTargetSettings):
    """Divergences of attention rows have no scale to choose."""


ATTCT = ConsistencyLoss(
    name="attct",
    title="AttCT",
    summary="trains each head's attention under a biasing cue towards the frozen organism's without it",
    role="regularizer",
    settings=AttctSettings,
    draws=reference_answer,
    objective="attention",
)
