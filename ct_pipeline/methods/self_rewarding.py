"""Self-rewarding (SW): of k samples, keep the one that the model itself grades highest by a rubric (arXiv 2606.03810)."""

from typing import Annotated

import pandas
from pydantic import Field, field_validator

from ct_pipeline.methods.method import Draw, Method, Rubric
from ct_pipeline.methods.selection import best_of
from ct_pipeline.study.settings import Count
from ct_pipeline.study.spec import MethodSettings


class SelfRewardingSettings(MethodSettings):
    """Best of k by the model's own greedy grade."""

    k: Count
    temperature: Annotated[float, Field(gt=0, le=5)]
    top_p: Annotated[float, Field(gt=0, le=1)]
    rubric: str
    grades: Annotated[tuple[str, ...], Field(min_length=2)]

    @field_validator("rubric")
    @classmethod
    def _holds_both(cls, rubric: str) -> str:
        if rubric.count("{request}") != 1 or rubric.count("{response}") != 1:
            raise ValueError("a text that holds {request} once and {response} once")
        return rubric


def draw(settings: SelfRewardingSettings, samples: int) -> Draw:
    """The samples that are graded."""
    return Draw("consistency", settings.temperature, settings.top_p, max(samples, settings.k))


def own_grade(candidates: pandas.DataFrame) -> pandas.Series:
    """The grade's place among the rubric's grades, worst = 1; missing where the reply was none of them."""
    return candidates["grade"].astype(float)


SELF_REWARDING = Method(
    name="self_rewarding",
    title="Self-rewarding",
    summary="keeps the sample that the model itself grades highest",
    role="method",
    settings=SelfRewardingSettings,
    draw=draw,
    rubric=lambda settings, samples: Rubric(draw(settings, samples), settings.rubric, settings.grades),
    score=own_grade,
    select=lambda candidates, settings, seed: best_of(candidates, settings.k),
)
