"""The study spec: what is compared, on what, with which settings; `studies/*.yaml` in frozen form."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import (
    Field,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from ct_pipeline.settings.blocks import (
    CandidateSettings,
    EvaluationSettings,
    InductionSettings,
    ModelSettings,
    RetrainingSettings,
    Settings,
    Slug,
    TinyWorldModel,
    Whole,
)
from ct_pipeline.settings.capability import CapabilitySettings
from ct_pipeline.settings.data import KIND_NAME, DataSettings, GeneratedData
from ct_pipeline.settings.judge import JudgedBy
from ct_pipeline.settings.keys import Cell, Organism
from ct_pipeline.settings.world import PretrainingSettings, WorldSettings


class MethodSettings(Settings):
    """What every method can be told; a method's own file adds its own fields."""

    method: str | None = None
    """The method that an entry of another name runs: a variant, such as a k = 1 arm."""
    training: RetrainingSettings | None = None
    """Phase 3 of this method alone, in place of the study's `retraining`."""

    @property
    def made_from(self) -> tuple[str, ...]:
        """Entries of the study, above this one, whose models it is made from."""
        return ()


class ModelChangeSettings(MethodSettings):
    """What every model that is made without training can be told; its own file says what it is made from."""

    training: None = None
    """Nothing is trained."""


class PairSides(Settings):
    """Which side of the pairs a method trains towards which."""

    reference: Literal["clean", "wrapped"] = "clean"
    """Whose answers, or inner states, are the target."""
    trained: Literal["clean", "wrapped"] = "wrapped"
    """The side on which the model is trained."""

    def of(self, pair: object) -> tuple:
        """Reference and trained side of a pair."""
        return getattr(pair, self.reference), getattr(pair, self.trained)

    @model_validator(mode="after")
    def _two_sides(self) -> "PairSides":
        if self.reference == self.trained:
            raise ValueError("two sides: {reference: clean, trained: wrapped} or the other way round")
        return self


class PairSettings(MethodSettings):
    """What every method on pairs can be told."""

    pairs: PairSides = Field(default=PairSides(), exclude_if=lambda sides: sides == PairSides())
    """Left out of fingerprints where it is clean and wrapped."""


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
    data: Mapping[Annotated[str, Field(pattern=f"^{KIND_NAME}$")], DataSettings] = Field(default_factory=dict)
    """Misalignments whose rows come from files; those without an entry take the rows of the tiny world."""
    judges: Mapping[Annotated[str, Field(pattern=f"^{KIND_NAME}$")], JudgedBy] = Field(default_factory=dict)
    """Who judges the answers of a misalignment whose data leave verdicts to a judge; without an entry they are missing."""
    world: WorldSettings | None = None
    """Of tiny-world models and rows; null where there are neither."""
    pretraining: PretrainingSettings | None = None
    """Of tiny-world models; null where there are none."""
    induction: InductionSettings
    candidates: CandidateSettings
    retraining: RetrainingSettings
    evaluation: EvaluationSettings
    methods: Annotated[Mapping[str, SerializeAsAny[MethodSettings]], Field(min_length=1)]
    planted: Mapping[str, PlantedEffect] = Field(default_factory=dict)
    """The answer that is known beforehand, by method: a study with it calibrates the whole chain."""
    capability: CapabilitySettings | None = None
    """What is measured beside alignment; null: nothing."""

    @model_serializer(mode="wrap")
    def _without_what_is_not_asked_for(self, serialize: SerializerFunctionWrapHandler) -> dict[str, object]:
        # Fingerprints of studies without these blocks stay what they were before there were any.
        optional = ("capability", "judges")
        return {name: value for name, value in serialize(self).items() if value or name not in optional}

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

    @model_validator(mode="after")
    def _made_from_entries_above(self) -> "Study":
        above: list[str] = []
        for name, settings in self.methods.items():
            for source in settings.made_from:
                if source not in above:
                    listed = ", ".join(above) or "none"
                    text = f"found {source!r}, which it is to be made from; allowed: entries above it: {listed}"
                    raise misfit(f"methods.{name}", text)
            above.append(name)
        return self

    @model_validator(mode="after")
    def _world_where_needed(self) -> "Study":
        tiny = next((name for name, model in self.models.items() if isinstance(model, TinyWorldModel)), None)
        worldly = next((kind for kind in self.misalignments if kind not in self.data), None)
        of_model = f"model {tiny} is of the tiny world"
        of_rows = f"{worldly} has no entry in `data` and takes the tiny world's rows"
        if self.world is None and (tiny or worldly):
            raise misfit("world", f"found nothing; this field is required: {of_model if tiny else of_rows}")
        if self.pretraining is None and tiny:
            raise misfit("pretraining", f"found nothing; this field is required: {of_model}")
        if self.induction.misaligned_share is None and worldly:
            raise misfit("induction.misaligned_share", f"found nothing; this field is required: {of_rows}")
        if worldly and (fields := self._all_of()):
            raise misfit(fields[0], f"found 'all'; allowed: a number, because {of_rows}")
        return self

    @model_validator(mode="after")
    def _judges_of_data(self) -> "Study":
        for kind, judged in self.judges.items():
            if kind not in self.data:
                raise misfit(
                    f"judges.{kind}", "found a judge where rules decide; allowed: kinds with an entry in `data`"
                )
            own = {getattr(model, "path", None) for model in self.models.values()}
            for role, file in judged.files.items():
                if any(name in own for name in file.own_models()):
                    raise misfit(f"judges.{kind}.{role}", "found a studied model; allowed: another model as the judge")
        return self

    @model_validator(mode="after")
    def _data_of_what_is_listed(self) -> "Study":
        for kind, data in self.data.items():
            if kind not in self.misalignments:
                raise misfit(
                    f"data.{kind}", "found data of what is not listed; allowed: kinds that `misalignments` lists"
                )
            if isinstance(data, GeneratedData) and kind != "sycophancy":
                raise misfit(f"data.{kind}.source", "found 'generated'; allowed: files, but for sycophancy")
        return self

    def _all_of(self) -> list[str]:
        sizes = {
            "induction": ("rows",),
            "candidates": ("consistency_prompts", "probe_prompts", "pairs"),
            "evaluation": ("in_domain", "out_of_domain", "direct_questions"),
        }
        return [
            f"{group}.{field}"
            for group, fields in sizes.items()
            for field in fields
            if getattr(getattr(self, group), field) == "all"
        ]

    def seeds_of(self, model: str) -> tuple[int, ...]:
        """The seeds of one model's organisms: its own, else the study's."""
        return own_seeds(self.models[model]) or self.seeds

    @property
    def organisms(self) -> tuple[Organism, ...]:
        """Every organism, models outermost, seeds innermost, in the order of the file."""
        return tuple(
            Organism(model, kind, seed)
            for model in self.models
            for kind in self.misalignments
            for seed in self.seeds_of(model)
        )

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Every organism under every method."""
        return tuple(Cell(organism, method) for organism in self.organisms for method in self.methods)

    def sides_of(self, method: str) -> PairSides:
        """Which side of the pairs a method on pairs trains towards which."""
        return getattr(self.methods[method], "pairs", PairSides())

    def training_of(self, method: str) -> RetrainingSettings:
        """Phase 3 settings of one method."""
        return self.methods[method].training or self.retraining


def misfit(field: str, text: str) -> PydanticCustomError:
    """A mistake of one field, dotted, that shows only beside others; `study.load` puts it at that field's line."""
    return PydanticCustomError("misfit", "{text}", {"field": field, "text": text})


def own_devices(model: ModelSettings) -> int:
    """How many devices a model takes."""
    return getattr(model, "devices", 1)


def own_seeds(model: ModelSettings) -> tuple[int, ...] | None:
    """The seeds that a model lists for itself."""
    return getattr(model, "seeds", None)
