"""MLP consistency training (MLPCT): post-activation MLP states under a cue as without it (arXiv 2606.05817)."""

from ct_pipeline.interventions.act import InternalTargetSettings
from ct_pipeline.interventions.bct import reference_answer
from ct_pipeline.interventions.method import Method
from ct_pipeline.interventions.selection import first, no_score, no_scorer


class MlpctSettings(InternalTargetSettings):
    """Cosine distances have no scale to choose."""


MLPCT = Method(
    name="mlpct",
    title="MLPCT",
    summary="trains the MLPs' inner states under a biasing cue towards the frozen organism's without it",
    role="regularizer",
    settings=MlpctSettings,
    draws=reference_answer,
    scorer=no_scorer,
    score=no_score,
    select=first,
    objective="mlp",
)
