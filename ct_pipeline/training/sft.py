"""Supervised fine-tuning on label rows with TRL: how organisms are made and how labels retrain them."""

import copy
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ct_pipeline.models.loading import BaseModel, load_base
from ct_pipeline.settings.blocks import TrainingSettings
from ct_pipeline.training.adapters import new_adapter, save_adapter
from ct_pipeline.training.batches import Cut, within_memory
from ct_pipeline.training.examples import LabelRow, TrainingRecord
from ct_pipeline.training.pairs import IGNORED, padded, response_logits, response_tokens
from ct_pipeline.training.run import (
    Losses,
    OnStep,
    checkpoint_callback,
    continues,
    fit,
    loss_callback,
    quiet,
    record,
    trainer_arguments,
)
from ct_pipeline.training.shared_trainer import SharedTrainer, is_empty

if TYPE_CHECKING:
    import torch
    from trl import SFTTrainer


_OF_TRL = ("input_ids", "attention_mask", "position_ids", "labels")


def train_on_labels(
    base: BaseModel | Path | str,
    rows: Sequence[LabelRow],
    settings: TrainingSettings,
    seed: int,
    out: Path,
    stacked_on: Path | None,
    on_step: OnStep | None = None,
) -> TrainingRecord:
    """Trains an adapter to imitate completions and writes it to `out`.

    The loss is −log p of the trained tokens, averaged over those of the effective batch, so it does not depend on how
    rows are cut into micro-batches (arXiv 2606.03810, phases 1, 3). Trained are the completion tokens, end-of-sequence
    token included; with `loss_on` = sequence the prompt tokens too, all but the first, as in the paper's released code.

    Args:
        base: the base model or its folder; stays as it is.
        rows: what to imitate; token ids.
        settings: adapter, schedule, batch, trained tokens; RetrainingSettings can continue the organism's adapter.
        seed: of a new adapter, the row order and the dropout; the same seed gives the same bytes.
        out: folder for adapter_model.safetensors and adapter_config.json; a continued adapter is served in place of
            the organism's. Checkpoints go to epoch-1, epoch-2, ... in it.
        stacked_on: the organism's adapter folder, frozen below the new one or continued (Phase 3), or None (Phase 1).
        on_step: told of each optimizer step.

    Raises:
        ValueError: no rows, or a row with an empty prompt or completion, or one longer than the context window; or
            nothing of the settings' shape to continue.
        UserError: no memory for a single row, or an effective batch that the processes of a launch do not divide.
    """
    base = load_base(base)
    check_rows(base, rows)
    return within_memory(settings, lambda cut: _train(base, rows, settings, cut, seed, out, stacked_on, on_step))


def _train(
    base: BaseModel,
    rows: Sequence[LabelRow],
    settings: TrainingSettings,
    cut: Cut,
    seed: int,
    out: Path,
    stacked_on: Path | None,
    on_step: OnStep | None,
) -> TrainingRecord:
    started = time.perf_counter()
    from datasets import Dataset
    from trl import SFTConfig

    prompts, answers = _split(rows, settings.loss_on)
    losses = Losses(on_step)
    probe = (rows[0].prompt_ids + rows[0].completion_ids)[:64]
    with (
        quiet(),
        tempfile.TemporaryDirectory() as scratch,
        new_adapter(base, settings.lora, seed, stacked_on, probe, continues(settings)) as trainee,
    ):
        kept = checkpoint_callback(trainee, out, settings, cut, len(rows))
        trainer = _trainer_class()(
            model=trainee.model,
            args=SFTConfig(
                **trainer_arguments(settings, cut, seed, base, scratch),
                # Rows come tokenised, and the collator looks them up by number: nothing is left to prepare.
                dataset_kwargs={"skip_prepare_dataset": True},
                max_length=None,
                packing=False,
            ),
            train_dataset=Dataset.from_dict({"row": range(len(rows))}),
            # The trainer gives a tokenizer without padding token one: to a copy, the shared one stays as it is.
            processing_class=base.tokenizer if base.tokenizer.pad_token else copy.deepcopy(base.tokenizer),
            data_collator=lambda batch: padded(
                [prompts[example["row"]] for example in batch], [answers[example["row"]] for example in batch], "right"
            ),
            callbacks=[loss_callback(losses), kept],
        )
        fit(trainer)
        save_adapter(trainee, out, settings.adapter_dtype)
        return record(trainee, losses, len(rows), sum(map(len, answers)), started, {}, kept.steps)


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


def _split(
    rows: Sequence[LabelRow], loss_on: Literal["response", "sequence"]
) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """What each row is conditioned on, and what of it is trained; the first token is predicted by nothing."""
    if loss_on == "response":
        return [row.prompt_ids for row in rows], [row.completion_ids for row in rows]
    texts = [row.prompt_ids + row.completion_ids for row in rows]
    return [text[:1] for text in texts], [text[1:] for text in texts]


def _has_fused_kernel(device: "torch.device") -> bool:
    """Whether TRL's loss skips untrained positions there; elsewhere it projects every position onto the vocabulary."""
    return device.type != "cpu"


@cache
def _trainer_class() -> "type[SFTTrainer]":
    import torch
    from torch.nn import functional
    from trl import SFTTrainer

    class LabelTrainer(SharedTrainer, SFTTrainer):
        """TRL's trainer, whose loss on a CPU is computed at the trained tokens alone."""

        def items(self, batch: dict) -> torch.Tensor:
            return (batch["labels"] != IGNORED).sum()

        def summed_loss(self, model: torch.nn.Module, inputs: dict) -> torch.Tensor:
            return functional.cross_entropy(response_logits(model, inputs), response_tokens(inputs), reduction="sum")

        def compute_loss(
            self,
            model: torch.nn.Module,
            inputs: dict,
            return_outputs: bool = False,
            num_items_in_batch: torch.Tensor | None = None,
        ) -> torch.Tensor:
            if not (_has_fused_kernel(self.args.device) or self.aux_loss_enabled):
                return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            # TRL divides by the items of all processes, too, and multiplies by their number.
            known = {name: tensor for name, tensor in inputs.items() if name in _OF_TRL}
            loss = SFTTrainer.compute_loss(self, model, known, return_outputs, num_items_in_batch)
            return loss * 0 if is_empty(inputs) else loss

    return LabelTrainer
