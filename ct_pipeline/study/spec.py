"""The study spec: what is compared, on what, with which settings; `studies/*.yaml` in frozen form."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from ct_pipeline.study.keys import Cell, Organism
from ct_pipeline.study.settings import (
    CandidateSettings,
    EvaluationSettings,
    InductionSettings,
    ModelSettings,
    RetrainingSettings,
    Settings,
    Slug,
    Whole,
)
from ct_pipeline.study.world_settings import PretrainingSettings, WorldSettings


class MethodSettings(Settings):
    """What every method can be told; a method's own file adds its own fields."""

    method: str | None = None
    """The method that an entry of another name runs: a variant, such as a k = 1 arm."""
    training: RetrainingSettings | None = None
    """Phase 3 of this method alone, in place of the study's `retraining`."""


PlantedSign = Literal["amplifies", "suppresses", "none"]


class PlantedEffect(Settings):
    """What a world was made to do under one method; what is left out is not claimed."""

    change: PlantedSign | None = None
    """Of the risk, from organism to retrained model."""
    selection: PlantedSign | None = None
    """Of the labels' risk, by selection among the method's candidates."""


class Study(Settings):
    """One study: models x misalignments x seeds are its organisms; organisms x methods are its cells."""

    name: Slug
    description: Annotated[str, Field(min_length=1)]
    seed: Annotated[Whole, Field(ge=0, lt=2**31)]
    models: Annotated[Mapping[Slug, ModelSettings], Field(min_length=1)]
    misalignments: Annotated[tuple[str, ...], Field(min_length=1)]
    seeds: Annotated[tuple[Annotated[Whole, Field(ge=0, lt=2**31)], ...], Field(min_length=1)]
    world: WorldSettings
    pretraining: PretrainingSettings
    induction: InductionSettings
    candidates: CandidateSettings
    retraining: RetrainingSettings
    evaluation: EvaluationSettings
    methods: Annotated[Mapping[str, SerializeAsAny[MethodSettings]], Field(min_length=1)]
    planted: Mapping[str, PlantedEffect] = Field(default_factory=dict)
    """The answer that is known beforehand, by method: a study with it calibrates the whole chain."""

    @field_validator("misalignments", "seeds")
    @classmethod
    def _distinct(cls, values: tuple) -> tuple:
        repeated = sorted({str(value) for value in values if values.count(value) > 1})
        if repeated:
            raise ValueError(f"listed twice: {', '.join(repeated)}")
        return values

    @model_validator(mode="after")
    def _planted_methods(self) -> "Study":
        strangers = sorted(set(self.planted) - set(self.methods))
        if strangers:
            raise ValueError(f"planted names {', '.join(strangers)}, which `methods` does not list")
        return self

    @property
    def organisms(self) -> tuple[Organism, ...]:
        """Every organism, models outermost, seeds innermost, in the order of the file."""
        return tuple(
            Organism(model, kind, seed) for model in self.models for kind in self.misalignments for seed in self.seeds
        )

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Every organism under every method."""
        return tuple(Cell(organism, method) for organism in self.organisms for method in self.methods)

    def training_of(self, method: str) -> RetrainingSettings:
        """Phase 3 settings of one method."""
        return self.methods[method].training or self.retraining
