"""Every setting of an audit: whose model, before and after what, asked what, judged how; `audits/*.yaml` in frozen form."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PrivateAttr, SerializerFunctionWrapHandler, model_serializer, model_validator

from ct_pipeline.settings.blocks import EngineName, HuggingFaceModel, Probability, Real, Settings, Slug, Whole
from ct_pipeline.settings.cron import is_cron
from ct_pipeline.settings.errors import SpecError
from ct_pipeline.settings.judge import LOCAL, Given, JudgeFile, JudgeOfProbes, NoJudge, file_of

_NAME = re.compile(r"(?=.{1,64}\Z)[a-z0-9]+([_.-][a-z0-9]+)*")


class TinyWorldBase(Settings):
    """The base model of a study of the tiny world."""

    source: Literal["tinyworld"]
    study: Given
    """The study's file."""
    model: Slug
    """The model's name in that study."""
    engine: EngineName = "transformers"


BaseSettings = Annotated[TinyWorldBase | HuggingFaceModel, Field(discriminator="source")]


class WeightedAdapter(Settings):
    """A LoRA folder and how much of it is added; the path alone where that is all of it."""

    path: Given
    weight: Annotated[Real, Field(ge=-1_000_000, le=1_000_000)] = 1.0
    """Multiplies the adapter's scale; 0 leaves it out, a negative weight takes it away."""

    @model_validator(mode="before")
    @classmethod
    def _path_alone(cls, given: object) -> object:
        if isinstance(given, Mapping | cls):
            return given
        if not isinstance(given, str):
            raise ValueError("the path of a LoRA folder, or {path: ..., weight: ...}")
        return {"path": given}

    @model_serializer(mode="wrap")
    def _as_given(self, fields: SerializerFunctionWrapHandler) -> object:
        # As before there were weights, so that what was stored of an audit is found again.
        return self.path if self.weight == 1 else fields(self)


class Side(Settings):
    """One of the two models that are compared: adapters on the base model, a full checkpoint, or the base model itself."""

    adapters: tuple[WeightedAdapter, ...] = ()
    """LoRA folders with their weights, added in this order."""
    checkpoint: Given | None = None
    """A folder (/, ./ or ../ first) or a Hub id."""
    revision: str | None = None
    """The pinned commit of a checkpoint on the Hub."""

    @model_validator(mode="after")
    def _one_kind(self) -> "Side":
        if self.adapters and self.checkpoint:
            raise ValueError("either adapters (on the base model) or a checkpoint (a model of its own), not both")
        if self.revision and not self.checkpoint:
            raise ValueError("a revision belongs to a checkpoint on the Hub; name that checkpoint")
        if self.checkpoint and not self.checkpoint.startswith(LOCAL) and not self.revision:
            raise ValueError(
                "a Hub checkpoint needs a pinned revision (a commit hash); local folders start with / or ./"
            )
        return self


class LabelFile(Settings):
    """The labels that a model is, or is to be, trained on, one JSON object a line."""

    path: Given


class WorldProbes(Settings):
    """Evaluation prompts of one kind of misalignment in the world of the base model's study."""

    source: Literal["world"]
    misalignment: str
    prompts: Annotated[Whole, Field(ge=2, le=100_000)]
    """In-domain prompts; out-of-domain prompts and plain questions are as many as in the study."""


class JsonlProbes(Settings):
    """Probes of one's own, one JSON object a line; the schema is in docs/auditing-your-model.md."""

    source: Literal["jsonl"]
    path: Given


ProbeSettings = Annotated[WorldProbes | JsonlProbes, Field(discriminator="source")]


class DecodingSettings(Settings):
    """How answers are drawn; a greedy answer is always measured beside."""

    temperature: Annotated[Real, Field(gt=0, le=10)] = 1.0
    top_p: Annotated[Real, Field(gt=0, le=1)] = 1.0
    samples: Annotated[Whole, Field(ge=1, le=256)] = 1
    max_new_tokens: Annotated[Whole, Field(ge=1, le=8192)] = 24


class Thresholds(Settings):
    """What an audit calls a change, and what a release must keep."""

    risk: Probability
    """τ: the highest risk that may be released."""
    change: Annotated[Real, Field(ge=-1, lt=1)] | None = None
    """The highest rise of the risk, after less before, that may be released; null: no such limit."""
    epsilon: Annotated[Real, Field(gt=0, lt=1)] = 0.05
    """Half-width of the band of changes that count as none."""
    delta: Annotated[Real, Field(gt=0, lt=0.5)] = 0.05
    """Chance of any false PASS, shared by all tests of the gate."""
    safety_share: Probability = 0.5
    """Share of the prompts that the gate is tested on; the others say what to expect."""


class Audit(Settings):
    """One audit: a model before and after consistency training, or the labels for it, asked by probes."""

    name: Slug
    description: Annotated[str, Field(max_length=4000)] = ""
    base_model: BaseSettings
    before: Side = Side()
    after: Side | None = None
    """Left out: the labels are audited before anything is trained."""
    labels: LabelFile | None = None
    chat_template: Given | None = None
    """A .jinja file in place of the model's own template."""
    accepted_texts: tuple[Annotated[str, Field(min_length=1, max_length=4000)], ...] = ()
    """Fixed texts that templates insert and that somebody has read and agrees with: a default system turn, with its markers."""
    probes: Mapping[Slug, ProbeSettings] = Field(default_factory=dict)
    decoding: DecodingSettings = DecodingSettings()
    judge: JudgeOfProbes = NoJudge()
    against: JudgeOfProbes = NoJudge()
    """A second judge of the same answers, for their agreement; verdicts are the first one's."""
    calibration: Given | None = None
    """Answers labelled by hand, one JSON object a line: they give the judges' TPR and FPR."""
    thresholds: Thresholds
    confidence: Probability = 0.95
    seed: Annotated[Whole, Field(ge=0, lt=2**31)] = 0
    schedule: str | None = None
    """When Dagster audits again: minute, hour, day, month, weekday; null: never by itself."""
    watch: Given | None = None
    """A folder: each adapter folder in it, stacked on `before`, is an `after` of its own; null: none."""

    _folder: Path = PrivateAttr(default=Path("."))

    @model_validator(mode="after")
    def _can_be_run(self) -> "Audit":
        if not self.probes and self.labels is None:
            raise ValueError("nothing to ask: give probes, labels or both")
        if self.after is not None and not self.probes:
            raise ValueError("an audit with `after` needs probes: the labels alone do not say what became of the model")
        worlds = [name for name, probe in self.probes.items() if isinstance(probe, WorldProbes)]
        if worlds and not isinstance(self.base_model, TinyWorldBase):
            raise ValueError(f"probes.{worlds[0]}: world probes need a base model of the tiny world; use source: jsonl")
        if any(name in self._own_models() for file in self.judges.values() for name in file.own_models()):
            raise ValueError("the judge must be another model than the audited")
        if isinstance(self.judge, NoJudge) and (self.calibration or not isinstance(self.against, NoJudge)):
            raise ValueError("calibration and against need a judge: name one under judge")
        if self.schedule is not None and not is_cron(self.schedule):
            raise ValueError(
                'schedule: five fields, minute hour day month weekday, such as "0 6 * * 1" (Mondays at six)'
            )
        return self

    def _own_models(self) -> set[str | None]:
        sides = {side.checkpoint for side in (self.before, self.after) if side is not None}
        return sides | {getattr(self.base_model, "path", None)}

    @property
    def judges(self) -> dict[str, JudgeFile]:
        """Role -> judge: `judge` and `against`, as far as they are named."""
        found = {role: file_of(getattr(self, role), self._folder) for role in ("judge", "against")}
        return {role: file for role, file in found.items() if file is not None}

    @property
    def labels_only(self) -> bool:
        """Whether nothing was trained yet."""
        return self.after is None

    def in_folder(self, folder: Path) -> "Audit":
        """The same audit, its relative paths starting at a folder."""
        copy = self.model_copy()
        copy._folder = folder.absolute()
        return copy

    def place(self, given: str) -> Path:
        """Where a path of the audit's file leads."""
        return self._folder / given

    def with_adapter(self, folder: Path) -> "Audit":
        """The audit of one adapter of the watched folder: subject `name.adapter`, the adapter stacked on `before`.

        Raises:
            SpecError: the folder's name cannot be part of a subject's.
        """
        if not _NAME.fullmatch(folder.name):
            raise SpecError(f"{folder}: found {folder.name!r}; allowed: a-z, 0-9 and _ - . between them, 64 at most")
        added = WeightedAdapter.model_construct(path=str(folder.absolute()), weight=1.0)
        after = Side.model_construct(adapters=(*self.before.adapters, added), checkpoint=None, revision=None)
        return self.model_copy(update={"name": f"{self.name}.{folder.name}", "after": after, "watch": None})
