"""Diverse decoding (DD): a greedy, a nucleus and a beam answer, reranked by a reward model (arXiv 2606.03810)."""

from typing import Annotated

import pandas
from pydantic import Field

from ct_pipeline.interventions.intervention import LabelMethod
from ct_pipeline.interventions.proposal import Draw
from ct_pipeline.interventions.scorer import Reward
from ct_pipeline.interventions.selection import best_of, given_score
from ct_pipeline.settings.blocks import Real, RewardSettings, Whole
from ct_pipeline.settings.study import MethodSettings


class DiverseDecodingSettings(MethodSettings):
    """The nucleus sample's temperature and top-p, the width of the beam search, the reranker."""

    temperature: Annotated[Real, Field(gt=0, le=5)]
    top_p: Annotated[Real, Field(gt=0, le=1)]
    beams: Annotated[Whole, Field(ge=2, le=64)]
    reward: RewardSettings


def draws(settings: DiverseDecodingSettings, samples: int) -> tuple[Draw, ...]:
    """One completion of each of three decodings."""
    return (
        Draw("consistency", temperature=0.0, top_p=1.0, samples=1),
        Draw("consistency", settings.temperature, settings.top_p, samples=1),
        Draw("consistency", temperature=0.0, top_p=1.0, samples=1, beams=settings.beams),
    )


def select(candidates: pandas.DataFrame, settings: DiverseDecodingSettings) -> pandas.DataFrame:
    """The highest score of the three; of equals, greedy before nucleus before beam."""
    return best_of(candidates, 3)


DIVERSE_DECODING = LabelMethod(
    name="diverse_decoding",
    title="Diverse decoding",
    summary="keeps the best of a greedy, a nucleus and a beam answer by a reward model",
    role="method",
    settings=DiverseDecodingSettings,
    draws=draws,
    scorer=lambda settings, samples: Reward(draws(settings, samples), settings.reward),
    score=given_score,
    select=select,
    selection="rerank",
)
