"""Self-rewarding (SW): of k samples, keep the one that the model itself grades highest (arXiv 2606.03810)."""

from typing import Annotated

import pandas
from pydantic import Field, field_validator

from ct_pipeline.methods.method import Draw, Method, Rubric
from ct_pipeline.methods.selection import best_of
from ct_pipeline.study.settings import Candidates, Real
from ct_pipeline.study.spec import MethodSettings


class SelfRewardingSettings(MethodSettings):
    """Best of k by the model's own greedy grade."""

    k: Candidates
    temperature: Annotated[Real, Field(gt=0, le=5)]
    top_p: Annotated[Real, Field(gt=0, le=1)]
    rubric: str
    grades: Annotated[tuple[str, ...], Field(min_length=2)]

    @field_validator("rubric")
    @classmethod
    def _holds_both(cls, rubric: str) -> str:
        before, _, rest = rubric.partition("{request}")
        if "{response}" in before or rest.count("{response}") != 1 or "{request}" in rest:
            raise ValueError("a text that holds {request} once and, after it, {response} once")
        return rubric

    @field_validator("grades")
    @classmethod
    def _can_be_told_apart(cls, grades: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(grades)) < len(grades) or any(len(grade.split()) != 1 for grade in grades):
            raise ValueError("different single words, the worst first")
        return grades


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
