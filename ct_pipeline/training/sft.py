"""Supervised fine-tuning on label rows with TRL: how organisms are made and how labels retrain them."""

import copy
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ct_pipeline.models.loading import BaseModel, load_base
from ct_pipeline.study.settings import TrainingSettings
from ct_pipeline.training.adapters import new_adapter, save_adapter
from ct_pipeline.training.rows import LabelRow, TrainingRecord
from ct_pipeline.training.run import Losses, OnStep, fit, loss_callback, quiet, record, trainer_arguments

if TYPE_CHECKING:
    import torch

IGNORED = -100


def train_on_labels(
    base: BaseModel | Path | str,
    rows: Sequence[LabelRow],
    settings: TrainingSettings,
    seed: int,
    out: Path,
    stacked_on: Path | None,
    on_step: OnStep | None = None,
) -> TrainingRecord:
    """Trains a new adapter to imitate completions and writes it to `out`.

    The loss is −log p of the completion tokens, end-of-sequence token included, averaged over all completion tokens of
    the effective batch, so it does not depend on how rows are cut into micro-batches (arXiv 2606.03810, phases 1, 3).

    Args:
        base: the base model or its folder; stays as it is.
        rows: what to imitate; token ids.
        settings: adapter, schedule, batch.
        seed: of the new adapter, the row order and the dropout; the same seed gives the same bytes.
        out: folder for adapter_model.safetensors and adapter_config.json.
        stacked_on: the organism's adapter folder, kept frozen below the new one (Phase 3), or None (Phase 1).
        on_step: told of each optimizer step.

    Raises:
        ValueError: no rows, or a row with an empty prompt or completion, or one longer than the context window.
    """
    started = time.perf_counter()
    base = load_base(base)
    check_rows(base, rows)
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    dataset = Dataset.from_dict(
        {
            "input_ids": [[*row.prompt_ids, *row.completion_ids] for row in rows],
            "labels": [[IGNORED] * len(row.prompt_ids) + list(row.completion_ids) for row in rows],
        }
    )
    losses = Losses(on_step)
    probe = (rows[0].prompt_ids + rows[0].completion_ids)[:64]
    with (
        quiet(),
        tempfile.TemporaryDirectory() as scratch,
        new_adapter(base, settings.lora, seed, stacked_on, probe) as trainee,
    ):
        trainer = SFTTrainer(
            model=trainee.model,
            args=SFTConfig(
                **trainer_arguments(settings, seed, base, scratch),
                # Rows come tokenised, with their labels: nothing is left to prepare.
                dataset_kwargs={"skip_prepare_dataset": True},
                max_length=None,
                packing=False,
            ),
            train_dataset=dataset,
            # The trainer gives a tokenizer without padding token one: to a copy, the shared one stays as it is.
            processing_class=base.tokenizer if base.tokenizer.pad_token else copy.deepcopy(base.tokenizer),
            data_collator=_collate,
            callbacks=[loss_callback(losses)],
        )
        fit(trainer)
        save_adapter(trainee, out)
        tokens = sum(len(row.completion_ids) for row in rows)
        return record(trainee, losses, len(rows), tokens, started, {})


def check_rows(base: BaseModel, rows: Sequence[LabelRow]) -> None:
    """Refuses rows that cannot be trained on; the error names the row."""
    if not rows:
        raise ValueError("there are no rows to train on")
    for number, row in enumerate(rows):
        if not row.prompt_ids:
            raise ValueError(f"row {number}: the prompt is empty")
        if not row.completion_ids:
            raise ValueError(f"row {number}: the completion is empty")
        length = len(row.prompt_ids) + len(row.completion_ids)
        if length > base.context_window:
            raise ValueError(f"row {number}: {length} tokens exceed the context window of {base.context_window}")


def _collate(examples: list[dict[str, list[int]]]) -> dict[str, "torch.Tensor"]:
    import torch

    width = max(len(example["input_ids"]) for example in examples)

    def padded(name: str, filler: int) -> torch.Tensor:
        return torch.tensor([[*e[name], *[filler] * (width - len(e[name]))] for e in examples])

    mask = [[1] * len(e["input_ids"]) + [0] * (width - len(e["input_ids"])) for e in examples]
    return {
        "input_ids": padded("input_ids", 0),
        "labels": padded("labels", IGNORED),
        "attention_mask": torch.tensor(mask),
    }
