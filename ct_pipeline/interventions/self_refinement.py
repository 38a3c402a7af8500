"""Self-refinement (SR): the model rewrites its own greedy draft; no selection, all shift (arXiv 2606.03810)."""

from typing import Annotated

from pydantic import Field, field_validator

from ct_pipeline.interventions.intervention import LabelMethod
from ct_pipeline.interventions.proposal import Draw, View
from ct_pipeline.interventions.selection import first, no_score, no_scorer
from ct_pipeline.interventions.templates import request_then_response
from ct_pipeline.settings.blocks import Real
from ct_pipeline.settings.study import MethodSettings


class SelfRefinementSettings(MethodSettings):
    """How the refinement is asked for, and how it is sampled; `refine` holds {request} and {response}, the draft."""

    refine: str
    temperature: Annotated[Real, Field(ge=0, le=5)]
    top_p: Annotated[Real, Field(gt=0, le=1)]

    _holds_both = field_validator("refine")(request_then_response)


def draws(settings: SelfRefinementSettings, samples: int) -> tuple[Draw, ...]:
    """One refinement of the greedy draft."""
    draft = Draw("consistency", temperature=0.0, top_p=1.0, samples=1)
    view = View("refine", settings.refine)
    return (Draw("consistency", settings.temperature, settings.top_p, samples=1, view=view, draft=draft),)


SELF_REFINEMENT = LabelMethod(
    name="self_refinement",
    title="Self-refinement",
    summary="trains on the model's own rewriting of its greedy draft",
    role="method",
    settings=SelfRefinementSettings,
    draws=draws,
    scorer=no_scorer,
    score=no_score,
    select=first,
)
