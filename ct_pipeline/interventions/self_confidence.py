"""Self-confidence (SC): of k samples, keep the one whose tokens the model finds most probable (arXiv 2606.03810)."""

from ct_pipeline.interventions.best_of_k import BestOfKSettings, draws, select
from ct_pipeline.interventions.intervention import LabelMethod
from ct_pipeline.interventions.selection import mean_token_logprob, no_scorer


class SelfConfidenceSettings(BestOfKSettings):
    """Best of k by mean token log-probability."""


SELF_CONFIDENCE = LabelMethod(
    name="self_confidence",
    title="Self-confidence",
    summary="keeps the sample with the highest mean token log-probability",
    role="method",
    settings=SelfConfidenceSettings,
    draws=draws,
    scorer=no_scorer,
    score=mean_token_logprob,
    select=select,
    selection="best_of_k",
)
