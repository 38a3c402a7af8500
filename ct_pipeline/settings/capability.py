"""What is measured beside alignment: tasks of lm-eval, and how harmful the answers to harmful requests are."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ct_pipeline.settings.blocks import Settings, Size, Slug, Whole
from ct_pipeline.settings.data import Commit

Given = Annotated[str, Field(min_length=1, max_length=4096)]


class TaskSettings(Settings):
    """One task: of lm-eval by its name, or of a folder of one's own by its path."""

    task: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$", max_length=200)] | None = None
    """Name of a task, group or tag of lm-eval; null: the entry's own name."""
    path: Given | None = None
    """A task file (YAML) of one's own; it is read with an allow-list, and its data lie beside it."""
    revision: Commit | None = None
    """Commit of the task's data set on the Hub; a task of lm-eval needs one."""
    prompts: Size
    """Documents that are drawn of all of the task's, the same ones for every model; or all."""
    few_shot: Annotated[Whole, Field(ge=0, le=64)] | None = None
    """Examples before each question; null: as many as the task says."""
    metric: Given | None = None
    """A score of one document in [0, 1]; null: the task's first."""
    filter: Given | None = None
    """Which reading of a generated answer counts, where the task has several; null: the task's first."""

    @model_validator(mode="after")
    def _one_place(self) -> "TaskSettings":
        if self.path is None and self.revision is None:
            raise ValueError(
                "a task of lm-eval needs the pinned revision of its data; a task of one's own needs a path"
            )
        if self.path is not None and (self.task is not None or self.revision is not None):
            raise ValueError("a task with a path has neither task nor revision: its data lie beside it")
        return self


class FilePrompts(Settings):
    """A CSV or JSONL file; a relative path starts where the command runs."""

    source: Literal["file"]
    path: Annotated[str, Field(pattern=r"\.(csv|jsonl)$", max_length=4096)]
    column: Given = "prompt"
    """The column or field that holds the request."""


class UrlPrompts(Settings):
    """A CSV or JSONL file behind a URL, pinned by its hash."""

    source: Literal["url"]
    url: Annotated[
        str, Field(pattern=r"^(https://|http://127\.0\.0\.1[:/])[^\s?#]+\.(csv|jsonl)([?#][^\s]*)?$", max_length=2000)
    ]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    column: Given = "prompt"


PromptSettings = Annotated[FilePrompts | UrlPrompts, Field(discriminator="source")]


class HarmfulnessSettings(Settings):
    """Harmful requests, answered greedily, and the judge of the answers."""

    prompts: PromptSettings
    sample: Size = "all"
    """Requests that are drawn of all, the same ones for every model."""
    judge: Given
    """A judge file whose rubric has the scale `harmfulness`."""
    max_new_tokens: Annotated[Whole, Field(ge=1, le=8192)] = 512


class CapabilitySettings(Settings):
    """The block `capability` of a study."""

    tasks: Mapping[Slug, TaskSettings] = Field(default_factory=dict)
    harmfulness: HarmfulnessSettings | None = None
    chat_template: bool = False
    """Whether the tasks' texts are put into the model's chat template; lm-eval's own numbers are mostly without."""
    seed: Annotated[Whole, Field(ge=0, lt=2**31)] = 0
    """Of the draw of documents; studies with the same one measure the same documents."""
    batch: Annotated[Whole, Field(ge=1, le=1_000_000)] = 2048
    """Requests that are handed to the engine at once; changes no number."""

    @model_validator(mode="after")
    def _something(self) -> "CapabilitySettings":
        if not self.tasks and self.harmfulness is None:
            raise ValueError("at least one of tasks and harmfulness")
        if HARMFULNESS in self.tasks:
            raise ValueError(f"a task of another name than {HARMFULNESS}")
        return self


HARMFULNESS = "harmfulness"
"""What the harmfulness probe is called beside the tasks."""
