"""Multi-view (MV): keep the plain greedy answer where the step-by-step or the JSON answer agrees (arXiv 2606.03810).

Prompts whose views disagree, or cannot be judged, get no label; how many is counted.
"""

import pandas
from pydantic import field_validator

from ct_pipeline.interventions.intervention import LabelMethod
from ct_pipeline.interventions.proposal import Draw, View
from ct_pipeline.interventions.scorer import Agreement
from ct_pipeline.interventions.selection import given_score
from ct_pipeline.interventions.templates import request_alone
from ct_pipeline.settings.blocks import JudgeSettings
from ct_pipeline.settings.study import MethodSettings


class MultiViewSettings(MethodSettings):
    """How the two other views are asked for, and who judges agreement; both requests hold {request}."""

    steps: str
    json_view: str
    judge: JudgeSettings

    _hold_the_request = field_validator("steps", "json_view")(request_alone)


def draws(settings: MultiViewSettings, samples: int) -> tuple[Draw, ...]:
    """The greedy answer in each view, the plain one first."""
    views = (None, View("steps", settings.steps), View("json", settings.json_view))
    return tuple(Draw("consistency", temperature=0.0, top_p=1.0, samples=1, view=view) for view in views)


def select(candidates: pandas.DataFrame, settings: MultiViewSettings) -> pandas.DataFrame:
    """The plain answers that agree with another view."""
    return candidates[(candidates["candidate"] == 0) & (candidates["score"] == 1)]


MULTI_VIEW = LabelMethod(
    name="multi_view",
    title="Multi-view",
    summary="keeps the plain greedy answer where a step-by-step or a JSON answer agrees with it",
    role="method",
    settings=MultiViewSettings,
    draws=draws,
    scorer=lambda settings, samples: Agreement(draws(settings, samples), settings.judge),
    score=given_score,
    select=select,
    selection="filter",
)
