"""Rejection sampling control (RS): of k samples, keep the one that a reward model from outside scores highest."""

from ct_pipeline.interventions.best_of_k import BestOfKSettings, draws, select
from ct_pipeline.interventions.intervention import LabelMethod
from ct_pipeline.interventions.scorer import Reward
from ct_pipeline.interventions.selection import given_score
from ct_pipeline.settings.blocks import RewardSettings


class RejectionSamplingSettings(BestOfKSettings):
    """Best of k by a reward model."""

    reward: RewardSettings


REJECTION_SAMPLING = LabelMethod(
    name="rejection_sampling",
    title="Rejection sampling",
    summary="keeps the sample that a reward model from outside scores highest",
    role="control",
    settings=RejectionSamplingSettings,
    draws=draws,
    scorer=lambda settings, samples: Reward(draws(settings, samples), settings.reward),
    score=given_score,
    select=select,
    selection="best_of_k",
)
