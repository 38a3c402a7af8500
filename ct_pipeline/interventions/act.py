"""Activation consistency training (ACT): the residual stream under a cue as the organism's without it (arXiv 2510.27062)."""

from typing import Annotated, Literal

from pydantic import Field

from ct_pipeline.interventions.bct import reference_answer
from ct_pipeline.interventions.intervention import ConsistencyLoss
from ct_pipeline.settings.blocks import Real
from ct_pipeline.settings.study import PairSettings


class InternalTargetSettings(PairSettings):
    """Whose states are the target, and at which positions.

    `teacher: live` (the model being trained, in eval mode) and `window: trailing` (the last positions of the longer
    prompt) are the paper's released code; `matched` is the longest token suffix that both prompts share, row by row.
    """

    teacher: Literal["frozen", "live"] = "frozen"
    window: Literal["matched", "trailing"] = "matched"
    weight: Annotated[Real, Field(gt=0, le=1e6)]


class ActSettings(InternalTargetSettings):
    """How squared distances are scaled.

    `hidden: mean` is the released code's average over the hidden dimension; `normalise` divides each layer's distance
    by the teacher's mean square there.
    """

    hidden: Literal["sum", "mean"] = "sum"
    normalise: bool = False


ACT = ConsistencyLoss(
    name="act",
    title="ACT",
    summary="trains the residual stream under a biasing cue towards the frozen organism's without it",
    role="regularizer",
    settings=ActSettings,
    draws=reference_answer,
    objective="residual",
)
