"""Self-rewarding (SW): of k samples, keep the one that the model itself grades highest (arXiv 2606.03810)."""

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from ct_pipeline.interventions.best_of_k import BestOfKSettings, draws, select
from ct_pipeline.interventions.intervention import LabelMethod
from ct_pipeline.interventions.scorer import DataRubric, Grade
from ct_pipeline.interventions.selection import given_score
from ct_pipeline.interventions.templates import request_then_response

OF_DATA = "data"
"""In place of a rubric's text: that of the organism's data."""


class SelfRewardingSettings(BestOfKSettings):
    """Best of k by the model's own greedy grade.

    `rubric` is a request that holds {request} and {response} and is answered by one of `grades`; or `data`: the rubric.txt of
    the organism's own data, answered by a critique and "Final Score: N" from 1 to 5, as published.
    """

    rubric: str
    grades: Annotated[tuple[str, ...], Field(min_length=2)] | None = None
    """Single words, the worst first; left out with `rubric: data`."""

    @field_validator("rubric")
    @classmethod
    def _holds_both(cls, rubric: str) -> str:
        return rubric if rubric == OF_DATA else request_then_response(rubric)

    @field_validator("grades")
    @classmethod
    def _can_be_told_apart(cls, grades: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if grades is not None and (len(set(grades)) < len(grades) or any(len(grade.split()) != 1 for grade in grades)):
            raise ValueError("different single words, the worst first")
        return grades

    @model_validator(mode="after")
    def _grades_of_the_rubric(self) -> "SelfRewardingSettings":
        if (self.grades is None) != (self.rubric == OF_DATA):
            raise ValueError("grades with a rubric that is written here, none with `rubric: data`, which has its own")
        return self


def _scorer(settings: SelfRewardingSettings, samples: int) -> DataRubric | Grade:
    proposal = draws(settings, samples)
    return DataRubric(proposal) if settings.grades is None else Grade(proposal, settings.rubric, settings.grades)


SELF_REWARDING = LabelMethod(
    name="self_rewarding",
    title="Self-rewarding",
    summary="keeps the sample that the model itself grades highest",
    role="method",
    settings=SelfRewardingSettings,
    draws=draws,
    scorer=_scorer,
    score=given_score,
    select=select,
    selection="best_of_k",
)
