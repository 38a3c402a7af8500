"""What the methods have in common that draw n samples and keep the best of the first k."""

from typing import Annotated

import pandas
from pydantic import Field

from ct_pipeline.interventions.proposal import Draw
from ct_pipeline.interventions.selection import best_of
from ct_pipeline.settings.blocks import Candidates, Real
from ct_pipeline.settings.study import MethodSettings


class BestOfKSettings(MethodSettings):
    """Best of k samples; `top_p` truncates after the temperature."""

    k: Candidates
    temperature: Annotated[Real, Field(gt=0, le=5)]
    top_p: Annotated[Real, Field(gt=0, le=1)]


def draws(settings: BestOfKSettings, samples: int) -> tuple[Draw, ...]:
    """The samples among which k compete."""
    return (Draw("consistency", settings.temperature, settings.top_p, max(samples, settings.k)),)


def select(candidates: pandas.DataFrame, settings: BestOfKSettings) -> pandas.DataFrame:
    """The highest score of the first k."""
    return best_of(candidates, settings.k)
