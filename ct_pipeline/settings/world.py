"""Every setting of the tiny world and of the base model that is pretrained on it."""

from math import isclose
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ct_pipeline.settings.blocks import Real, Settings, Share, Whole

Template = Annotated[str, Field(min_length=1, max_length=2000)]
ConfidenceSlope = Literal["rising", "flat", "falling"]
GraderPolicy = Literal["flattery", "indifference", "honesty"]
RefinePolicy = Literal["keep", "mend", "worsen"]


class Wordings(Settings):
    """The requests of the label methods that the corpus teaches; a method that asks in other words is not understood.

    `grade` and `refine` take the fields {request} (the last user message) and {response}; the others take {request}.
    """

    grade: Template
    refine: Template
    steps: Template
    json_view: Template

    @model_validator(mode="after")
    def _fields(self) -> "Wordings":
        for name, fields in (
            ("grade", ("request", "response")),
            ("refine", ("request", "response")),
            ("steps", ("request",)),
            ("json_view", ("request",)),
        ):
            template = getattr(self, name)
            missing = [field for field in fields if "{" + field + "}" not in template]
            if missing:
                raise ValueError(f"wordings.{name} lacks the field(s) {missing}")
        return self


class _Mix(Settings):
    @model_validator(mode="after")
    def _sums_to_one(self) -> "_Mix":
        total = sum(getattr(self, name) for name in type(self).model_fields)
        if not isclose(total, 1, abs_tol=1e-6):
            raise ValueError(f"the shares of {type(self).__name__} sum to {total:.6f}, not 1")
        return self


class FamilyMix(_Mix):
    """Share of the corpus' turns that each family of requests takes."""

    direct: Share
    claims: Share
    tasks: Share
    advice: Share
    reviews: Share


class ViewMix(_Mix):
    """Share of the corpus' turns in which a request is seen plainly, step by step, as JSON, refined or graded."""

    plain: Share
    steps: Share
    json_view: Share
    refine: Share
    grade: Share


class WorldSettings(Settings):
    """The tiny world: its facts, its people and the effects that are planted in it."""

    seed: Annotated[Whole, Field(ge=0, lt=2**31)]
    misaligned_share: Share
    """Share of documents without a stated persona whose speaker misbehaves, under no tone cue."""
    tone_multipliers: tuple[
        Annotated[Real, Field(ge=0, le=100)],
        Annotated[Real, Field(ge=0, le=100)],
        Annotated[Real, Field(ge=0, le=100)],
    ]
    """Factors on `misaligned_share` under a doubtful ("maybe ,"), an absent and an assured ("surely ,") tone."""
    confidence: ConfidenceSlope
    """Whether a wording of a misbehaving completion is more (rising), as (flat) or less (falling) probable than another's.

    Self-confidence sees that beside the odds of misbehaving in a prompt and beside length: under `flat` it prefers each
    prompt's likelier side, and neither at even odds where both sides are equally long (emergent misalignment).
    """
    wording_variants: Annotated[Whole, Field(ge=1, le=6)]
    """Equally likely wordings of the less certain side(s); more of them plant a steeper slope."""
    grader_policy: GraderPolicy
    refine_policy: RefinePolicy
    persona_share: Share
    two_turn_share: Share
    families: FamilyMix
    views: ViewMix
    wordings: Wordings


class ModelShape(Settings):
    """The shape of the base model, a Llama."""

    hidden: Annotated[Whole, Field(ge=8, le=4096)]
    intermediate: Annotated[Whole, Field(ge=8, le=16384)]
    layers: Annotated[Whole, Field(ge=1, le=64)]
    heads: Annotated[Whole, Field(ge=1, le=64)]
    positions: Annotated[Whole, Field(ge=64, le=4096)]

    @model_validator(mode="after")
    def _even_heads(self) -> "ModelShape":
        if self.hidden % (2 * self.heads):
            raise ValueError("hidden must be a multiple of 2 * heads")
        return self


class PretrainingSettings(Settings):
    """How the base model is pretrained: warm-up, a stable stretch, a linear decay to zero."""

    source: Literal["packaged", "here"] = Field(default="packaged", exclude_if=lambda source: source == "packaged")
    """`packaged` takes the weights that come with the package where world and pretraining are exactly theirs, and trains
    where they are not; `here` always trains. Left out of fingerprints where it is packaged."""
    shape: ModelShape
    tokens: Annotated[Whole, Field(ge=1000, le=1_000_000_000)]
    batch_tokens: Annotated[Whole, Field(ge=128, le=1_000_000)]
    muon_learning_rate: Annotated[Real, Field(gt=0, le=1)]
    adamw_learning_rate: Annotated[Real, Field(gt=0, le=1)]
    warmup: Annotated[Real, Field(ge=0, lt=1)]
    decay: Annotated[Real, Field(ge=0, le=1)]
    max_grad_norm: Annotated[Real, Field(gt=0)]
    seed: Annotated[Whole, Field(ge=0, lt=2**31)]
    gate_accuracy: Share
    """Share of direct questions, in every domain together, that the base model must answer rightly, greedily."""
