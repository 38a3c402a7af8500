"""Self-rewarding (SW): of k samples, keep the one that the model itself grades highest (arXiv 2606.03810)."""

from typing import Annotated

from pydantic import Field, field_validator

from ct_pipeline.methods.best_of_k import BestOfKSettings, draws, select
from ct_pipeline.methods.method import Method
from ct_pipeline.methods.scorer import Grade
from ct_pipeline.methods.selection import given_score
from ct_pipeline.methods.templates import request_then_response


class SelfRewardingSettings(BestOfKSettings):
    """Best of k by the model's own greedy grade."""

    rubric: str
    grades: Annotated[tuple[str, ...], Field(min_length=2)]

    _holds_both = field_validator("rubric")(request_then_response)

    @field_validator("grades")
    @classmethod
    def _can_be_told_apart(cls, grades: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(grades)) < len(grades) or any(len(grade.split()) != 1 for grade in grades):
            raise ValueError("different single words, the worst first")
        return grades


SELF_REWARDING = Method(
    name="self_rewarding",
    title="Self-rewarding",
    summary="keeps the sample that the model itself grades highest",
    role="method",
    settings=SelfRewardingSettings,
    draws=draws,
    scorer=lambda settings, samples: Grade(draws(settings, samples), settings.rubric, settings.grades),
    score=given_score,
    select=select,
    selection="best_of_k",
)
