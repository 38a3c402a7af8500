"""MLP consistency training (MLPCT): post-activation MLP states under a cue as without it (arXiv 2606.05817)."""

from ct_pipeline.interventions.act import InternalTargetSettings
from ct_pipeline.interventions.bct import reference_answer
from ct_pipeline.interventions.intervention import ConsistencyLoss


class MlpctSettings(InternalTargetSettings):
    """Cosine distances have no scale to choose."""


MLPCT = ConsistencyLoss(
    name="mlpct",
    title="MLPCT",
    summary="trains the MLPs' inner states under a biasing cue towards the frozen organism's without it",
    role="regularizer",
    settings=MlpctSettings,
    draws=reference_answer,
    objective="mlp",
)
