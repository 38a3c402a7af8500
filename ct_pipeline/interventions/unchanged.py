"""Unchanged: the organism itself, made as merges are, with weight 0 for all it could be made from; its change is exactly 0."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ct_pipeline.interventions.intervention import ModelChange
from ct_pipeline.settings.study import ModelChangeSettings

if TYPE_CHECKING:
    from ct_pipeline.models.adapters import Deltas


class UnchangedSettings(ModelChangeSettings):
    """There is nothing to set."""


def nothing(settings: UnchangedSettings, organism: "Deltas", sources: "Mapping[str, Deltas]") -> "Deltas":
    """No module is changed."""
    return {}


UNCHANGED = ModelChange(
    name="unchanged",
    title="Unchanged",
    summary="the organism itself, made as a merge is: nothing is added, and nothing may change",
    role="control",
    settings=UnchangedSettings,
    apply=nothing,
)
