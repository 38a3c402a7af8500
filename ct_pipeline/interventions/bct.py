"""Bias-augmented consistency training (BCT): answer the wrapped prompt as the organism answers the clean one.

Chua et al., arXiv 2403.05518; Irpan, Turner et al., arXiv 2510.27062. The label is y drawn from the organism on the
clean prompt; Phase 3 minimises, on y's tokens, the divergence of the wrapped side from the frozen clean side ("kl",
the Rao-Blackwellised token form) or the negative log-likelihood of y ("nll").
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ct_pipeline.interventions.intervention import ConsistencyLoss
from ct_pipeline.interventions.proposal import Draw
from ct_pipeline.settings.blocks import Real
from ct_pipeline.settings.study import PairSettings


def reference_answer(settings: PairSettings, samples: int) -> tuple[Draw, ...]:
    """One sample of the organism on the reference side of each pair; every regularizer is measured on it."""
    return (Draw(settings.pairs.reference, temperature=1.0, top_p=1.0, samples=1),)


class BctSettings(PairSettings):
    """Which form of the loss; `teacher: live` and `window: trailing` are those of the paper's released code."""

    form: Literal["kl", "nll"]
    teacher: Literal["frozen", "live"] = "frozen"
    window: Literal["response", "trailing"] = "response"
    temperature: Annotated[Real, Field(gt=0, le=100)] = 1.0

    @model_validator(mode="after")
    def _nll_has_no_teacher(self) -> "BctSettings":
        if self.form == "nll" and (self.teacher, self.window, self.temperature) != ("frozen", "response", 1.0):
            raise ValueError("teacher, window and temperature belong to form: kl")
        return self


BCT = ConsistencyLoss(
    name="bct",
    title="BCT",
    summary="trains the answer under a biasing cue towards the frozen organism's answer without it",
    role="regularizer",
    settings=BctSettings,
    draws=reference_answer,
    objective="answers",
)
