"""What a task file of one's own may hold: a part of lm-eval's task format, without anything that runs code."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ct_pipeline.settings.blocks import Count, Settings, Whole

Text = Annotated[str, Field(max_length=20_000)]
Named = Annotated[str, Field(min_length=1, max_length=200)]
Pattern = Annotated[str, Field(min_length=1, max_length=500)]
DataFile = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._@+=/-]*$", max_length=400)]


class TaskData(Settings):
    """Where a task's documents are: files beside the task file, by split."""

    data_files: Annotated[Mapping[Named, DataFile], Field(min_length=1)]


class TaskMetric(Settings):
    """A score of one document; the mean over documents is the task's."""

    metric: Literal["acc", "acc_norm", "acc_bytes", "exact_match"]
    aggregation: Literal["mean"] = "mean"
    higher_is_better: bool = True
    ignore_case: bool | None = None
    ignore_punctuation: bool | None = None


class TaskFilterStep(Settings):
    """One step from a generated text to what is compared."""

    function: Literal["regex", "multi_choice_regex", "remove_whitespace", "take_first", "lowercase", "uppercase"]
    regex_pattern: Pattern | None = None
    group_select: Whole | None = None
    fallback: Text | None = None
    ignore_case: bool | None = None
    ignore_punctuation: bool | None = None


class TaskFilter(Settings):
    """A reading of a generated text."""

    name: Named
    filter: Annotated[tuple[TaskFilterStep, ...], Field(min_length=1, max_length=20)]


class TaskGeneration(Settings):
    """How an answer is generated."""

    until: tuple[Text, ...] = ()
    do_sample: bool = False
    temperature: Annotated[float, Field(ge=0, le=10)] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_gen_toks: Annotated[Whole, Field(ge=1, le=8192)] = 256


class TaskExamples(Settings):
    """Which examples stand before a question."""

    sampler: Literal["default", "first_n"] = "default"


class TaskFile(Settings):
    """A task file; fields mean what they mean in lm-eval's task guide."""

    task: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100)]
    output_type: Literal["multiple_choice", "loglikelihood", "generate_until"]
    dataset_path: Literal["json", "csv", "parquet"]
    dataset_kwargs: TaskData
    training_split: Named | None = None
    validation_split: Named | None = None
    test_split: Named | None = None
    fewshot_split: Named | None = None
    fewshot_config: TaskExamples | None = None
    num_fewshot: Annotated[Whole, Field(ge=0, le=64)] | None = None
    description: Text = ""
    doc_to_text: Text
    doc_to_target: Text | Whole
    doc_to_choice: Text | tuple[Text, ...] | None = None
    gen_prefix: Text | None = None
    target_delimiter: Text = " "
    fewshot_delimiter: Text = "\n\n"
    metric_list: Annotated[tuple[TaskMetric, ...], Field(min_length=1, max_length=10)]
    filter_list: tuple[TaskFilter, ...] | None = None
    generation_kwargs: TaskGeneration | None = None
    repeats: Count = 1
    metadata: Mapping[Named, str | float | int | None] | None = None

    @model_validator(mode="after")
    def _documents(self) -> "TaskFile":
        named = {"training": self.training_split, "validation": self.validation_split, "test": self.test_split}
        lacking = sorted({split for split in (*named.values(), self.fewshot_split) if split} - set(self.files))
        if lacking:
            raise ValueError(f"splits that data_files names; it lacks {', '.join(lacking)}")
        if not (self.test_split or self.validation_split):
            raise ValueError("a test_split or a validation_split: its documents are measured")
        return self

    @property
    def files(self) -> Mapping[str, str]:
        """Split -> file, beside the task file."""
        return self.dataset_kwargs.data_files

    @property
    def templates(self) -> Mapping[str, str]:
        """The texts that lm-eval renders with a document."""
        choices = (self.doc_to_choice,) if isinstance(self.doc_to_choice, str) else ()
        given = {
            "description": self.description,
            "doc_to_text": self.doc_to_text,
            "doc_to_target": self.doc_to_target,
            "doc_to_choice": choices[0] if choices else None,
            "gen_prefix": self.gen_prefix,
        }
        return {name: text for name, text in given.items() if isinstance(text, str)}
