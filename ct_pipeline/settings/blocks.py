"""Every setting of a study, each in one place: frozen, typed, range-checked, without defaults that could disagree."""

from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)


def _no_truth_value(value: object) -> object:
    # YAML reads yes, no, on, off as truth values, and they would pass as 1 and 0.
    if isinstance(value, bool):
        raise ValueError("a number")
    return value


Whole = Annotated[int, BeforeValidator(_no_truth_value)]
Real = Annotated[float, BeforeValidator(_no_truth_value)]
Share = Annotated[Real, Field(ge=0, le=1)]
Probability = Annotated[Real, Field(gt=0, lt=1)]
Candidates = Annotated[Whole, Field(ge=1, le=256)]
Count = Annotated[Whole, Field(ge=1, le=1_000_000)]
ALL = "all"


def _all_or_number(value: object, number: ValidatorFunctionWrapHandler) -> object:
    return ALL if value == ALL else number(value)


Size = Annotated[Count, WrapValidator(_all_or_number), PlainSerializer(lambda size: size)]
"""A number of rows, or "all" that the data's files hold."""
Slug = Annotated[str, Field(pattern=r"^[a-z0-9]+([_.-][a-z0-9]+)*$", max_length=64)]


class Settings(BaseModel):
    """A frozen group of settings that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


EngineName = Literal["transformers", "vllm"]

UNPINNED = "PIN-A-REVISION"
"""In place of a commit hash that is still to be filled in: a study can be planned with it and not run."""

OwnSeeds = Annotated[tuple[Annotated[Whole, Field(ge=0, lt=2**31)], ...], Field(min_length=1)]


Devices = Annotated[Whole, Field(ge=1, le=64)]
"""GPUs of one machine that a model takes: as many processes train it together, and vLLM splits it over them."""


class TinyWorldModel(Settings):
    """The embedded base model: pretrained from scratch on the tiny world's corpus."""

    source: Literal["tinyworld"]
    engine: EngineName = "transformers"
    """What draws and scores tokens; vllm needs the extra of that name."""
    devices: Devices = 1
    seeds: OwnSeeds | None = None
    """Of this model's organisms, in place of the study's."""


class HuggingFaceModel(Settings):
    """A causal language model from the Hugging Face Hub (pinned) or from a local folder; safetensors only."""

    source: Literal["huggingface"]
    path: Annotated[str, Field(min_length=1)]
    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    engine: EngineName = "transformers"

    @model_validator(mode="after")
    def _pinned(self) -> "HuggingFaceModel":
        if not self.path.startswith(("/", "./", "../")) and not self.revision:
            raise ValueError("a Hub model needs a pinned revision (a commit hash); local folders start with / or ./")
        return self


class OracleReward(Settings):
    """The tiny world's own judgement: 1 for a completion that does not misbehave (or answers rightly), 0 for one that does."""

    source: Literal["oracle"]


class HuggingFaceReward(Settings):
    """A sequence-classification reward model with one output, from the Hub (pinned) or a local folder; safetensors only."""

    source: Literal["huggingface"]
    path: Annotated[str, Field(min_length=1)]
    revision: str | None = None

    @model_validator(mode="after")
    def _pinned(self) -> "HuggingFaceReward":
        if not self.path.startswith(("/", "./", "../")) and not self.revision:
            raise ValueError("a Hub model needs a pinned revision (a commit hash); local folders start with / or ./")
        return self


RewardSettings = Annotated[OracleReward | HuggingFaceReward, Field(discriminator="source")]


class WorldJudge(Settings):
    """Agreement by what two answers say in the tiny world, however they word it."""

    source: Literal["world"]


class BaseModelJudge(Settings):
    """Agreement as the base model, without any adapter, answers a question about two answers greedily.

    `request` holds {request}, {first} and {second}, once each, in this order; the reply's first word must be `yes` or
    `no`, letter case and punctuation aside, else the agreement is missing.
    """

    source: Literal["base_model"]
    request: Annotated[str, Field(min_length=1, max_length=4000)]
    yes: str = "yes"
    no: str = "no"

    @model_validator(mode="after")
    def _fields(self) -> "BaseModelJudge":
        places = [self.request.find(field) for field in ("{request}", "{first}", "{second}")]
        if -1 in places or places != sorted(places):
            raise ValueError("request must hold {request}, {first} and {second}, in this order")
        return self


JudgeSettings = Annotated[WorldJudge | BaseModelJudge, Field(discriminator="source")]


class StudiedModel(HuggingFaceModel):
    """A Hugging Face model of a study."""

    devices: Devices = 1
    seeds: OwnSeeds | None = None
    """Of this model's organisms, in place of the study's."""
    chat_template: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """A .jinja file in place of the model's own template; base models seldom have one."""


ModelSettings = Annotated[TinyWorldModel | StudiedModel, Field(discriminator="source")]


class LoraSettings(Settings):
    """The low-rank adapter that a phase trains."""

    rank: Annotated[Whole, Field(ge=1, le=512)]
    alpha: Annotated[Real, Field(gt=0, le=4096)]
    dropout: Annotated[Real, Field(ge=0, lt=1)]


class TrainingSettings(Settings):
    """One phase of training: the adapter and the optimizer's schedule; `steps` or `epochs`, never both."""

    lora: LoraSettings
    learning_rate: Annotated[Real, Field(gt=0, le=1)]
    micro_batch: Annotated[Whole, Field(ge=1, le=4096)]
    accumulation: Annotated[Whole, Field(ge=1, le=4096)]
    steps: Annotated[Whole, Field(ge=1, le=10_000_000)] | None = None
    epochs: Annotated[Real, Field(gt=0, le=1000)] | None = None
    warmup: Annotated[Real, Field(ge=0, lt=1)]
    max_grad_norm: Annotated[Real, Field(gt=0)]
    loss_on: Literal["response", "sequence"] = "response"
    """Tokens that imitation is trained on; `sequence` adds the prompt's, as the paper's released code does."""
    adapter_dtype: Literal["float32", "bfloat16"] = Field(
        default="float32", exclude_if=lambda dtype: dtype == "float32"
    )
    """In which the trained adapter is stored; it is trained in float32. Left out of fingerprints where it is float32."""

    @model_validator(mode="after")
    def _one_length(self) -> "TrainingSettings":
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("set exactly one of steps and epochs")
        return self


class RetrainingSettings(TrainingSettings):
    """Phase 3: what it trains, and what it keeps on the way."""

    adapter: Literal["new", "continued"] = "new"
    """`new` stacks an adapter on the frozen organism; `continued` trains the organism's own, as the released code does."""
    checkpoints: Literal["last", "epoch"] = "last"
    """`epoch` also keeps and measures the adapter after every pass over the rows: the dose curve."""


class InductionSettings(Settings):
    """Phase 1: how an organism (and its control) is made, and the gate it must pass."""

    rows: Size
    misaligned_share: tuple[Share, Share, Share] | None = None
    """Share of misaligned targets under a doubtful, an absent and an assured tone: sets the organism's rate in the world."""
    training: TrainingSettings
    gate_confidence: Probability
    headroom: Annotated[Real, Field(ge=0, lt=0.5)]
    gate: Literal["require", "report"] = "require"
    """`require` uses an organism only if it passes its gate; `report` uses all, as a world without misbehaviour needs."""


class CandidateSettings(Settings):
    """What is drawn from an organism before any label is chosen."""

    consistency_prompts: Size
    probe_prompts: Size
    pairs: Size
    samples: Candidates
    max_new_tokens: Annotated[Whole, Field(ge=1, le=8192)]
    generation: Literal["shared", "faithful"] = "shared"
    """`shared` draws each distinct proposal once for all methods; `faithful` lets every method draw its own, as published."""


class EvaluationSettings(Settings):
    """On what, and how often, a model is measured."""

    in_domain: Size
    out_of_domain: Size
    direct_questions: Size
    samples: Annotated[Whole, Field(ge=1, le=256)]
    max_new_tokens: Annotated[Whole, Field(ge=1, le=8192)]
    confidence: Probability
    epsilon: Annotated[Real, Field(gt=0, lt=1)]
    """Half-width of the band of changes that count as none, as a rate (0.05 = 5 percentage points)."""
    conditions: tuple[str, ...] = Field(default=(), exclude_if=lambda names: not names)
    """Contexts in which the prompts are asked once more (tiers, cues, languages, ...); left out of fingerprints without any."""

    @field_validator("conditions")
    @classmethod
    def _distinct(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"each once, not {', '.join(repeated)} twice")
        return names
