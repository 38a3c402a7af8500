"""What transformers' and TRL's trainers are told and asked: one loss of the effective batch, over all processes."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ct_pipeline.models.loading import BaseModel
from ct_pipeline.settings.blocks import RetrainingSettings, TrainingSettings
from ct_pipeline.settings.environment import launched_processes
from ct_pipeline.settings.seeds import derive_seed
from ct_pipeline.training.adapters import Trainee, save_adapter
from ct_pipeline.training.batches import Cut, ShareOfRows
from ct_pipeline.training.loss import Objective
from ct_pipeline.training.sharding import compute_device

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import Trainer, TrainerCallback

OnStep = Callable[[int, int, float], None]
"""Called after each optimizer step with its number (from 1), the number of steps, and the loss in nats per token."""
Shortcuts = Callable[["PeftModel"], AbstractContextManager[object]]
"""Entered with the model of a run, left at its end: makes some kind of model faster, and changes rounding at most."""

_EMPTY = "empty"
_OF_TRL = ("input_ids", "attention_mask", "position_ids", "labels")


def opened_trainer(
    objective: Objective, trainee: Trainee, rows: int, arguments: dict[str, object], watcher: "TrainerCallback"
) -> "Trainer":
    """A trainer of transformers, or of TRL where that computes the loss, over row numbers.

    Args:
        objective: what is minimised.
        trainee: what is trained.
        rows: how many there are.
        arguments: as of `trainer_arguments`.
        watcher: hears of each step.
    """
    tokenizer = trainee.base.tokenizer
    own: dict[str, object]
    if objective.of_trl:
        from datasets import Dataset
        from trl import SFTConfig

        # Rows come tokenised, and the collator looks them up by number: nothing is left to prepare.
        told = SFTConfig(**arguments, dataset_kwargs={"skip_prepare_dataset": True}, max_length=None, packing=False)
        own = {
            "train_dataset": Dataset.from_dict({"row": range(rows)}),
            "data_collator": lambda batch: objective.collated([example["row"] for example in batch]),
            # The trainer gives a tokenizer without padding token one: to a copy, the shared one stays as it is.
            "processing_class": tokenizer if tokenizer.pad_token else copy.deepcopy(tokenizer),
        }
    else:
        from transformers import TrainingArguments

        told = TrainingArguments(**arguments)
        own = {"train_dataset": range(rows), "data_collator": objective.collated}
    return _trainer_class(objective.of_trl)(objective, model=trainee.model, args=told, callbacks=[watcher], **own)


@cache
def _trainer_class(of_trl: bool) -> "type[Trainer]":
    import torch
    from torch.utils.data import DataLoader

    if of_trl:
        from trl import SFTTrainer as Library
    else:
        from transformers import Trainer as Library

    class LossTrainer(Library):
        """A trainer whose loss is the objective's sum divided by the items of the whole effective batch.

        In one process the rows come in the library's way. In several each has its share of the same effective batches
        (`ShareOfRows`), and as the library averages losses and gradients over processes, each multiplies its own by
        their number.
        """

        # Already normalised over the accumulated batch: dividing by the accumulation steps again would shrink it.
        loss_is_scaled_for_ga = True

        def __init__(self, objective: Objective, model: "PeftModel", **options: object) -> None:
            self.objective = objective
            if launched_processes() > 1:
                # Sharded already: the library is not to wrap it, and to average the gradients of what is not sharded.
                model.is_distributed_loading_by_transformers = True
            super().__init__(model=model, **options)

        def summed_loss(self, model: torch.nn.Module, inputs: dict) -> torch.Tensor:
            """The loss summed over the items of one micro-batch."""
            return self.objective.summed(model, inputs)

        def compute_loss(
            self,
            model: torch.nn.Module,
            inputs: dict,
            return_outputs: bool = False,
            num_items_in_batch: torch.Tensor | None = None,
        ) -> torch.Tensor:
            """This micro-batch's part of the effective batch's mean; 0, with gradients of 0, where it is empty."""
            if of_trl:
                # TRL divides by the items of all processes, too, and multiplies by their number.
                known = {name: tensor for name, tensor in inputs.items() if name in _OF_TRL}
                loss = super().compute_loss(model, known, return_outputs, num_items_in_batch)
                return loss * 0 if _EMPTY in inputs else loss
            loss = self.summed_loss(model, inputs) / num_items_in_batch
            return loss * (0 if _EMPTY in inputs else self.args.world_size)

        def get_train_dataloader(self) -> DataLoader:
            """The micro-batches of this process."""
            if self.args.world_size == 1:
                return super().get_train_dataloader()
            args = self.args
            cut = Cut(args.per_device_train_batch_size, args.gradient_accumulation_steps, args.world_size)
            shares = ShareOfRows(len(self.train_dataset), cut, args.data_seed, args.process_index)
            return DataLoader(self.train_dataset, batch_sampler=shares, collate_fn=self._collated)

        def _collated(self, examples: Sequence) -> dict:
            if len(examples):
                return self.data_collator(examples)
            # A process that has no rows left must compute beside the others.
            return self.data_collator([self.train_dataset[0]]) | {_EMPTY: True}

        def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> torch.Tensor:
            counted = (self.objective.items(batch) for batch in batch_samples if _EMPTY not in batch)
            count = torch.as_tensor(sum(counted), device=device)
            if self.args.world_size > 1:
                torch.distributed.all_reduce(count)
            return count

    return LossTrainer


def trainer_arguments(
    settings: TrainingSettings, cut: Cut, seed: int, base: BaseModel, scratch: str
) -> dict[str, object]:
    """Arguments that transformers' and TRL's trainers share: fixed seeds, no reports, no checkpoints, silence.

    The learning rate rises over the warm-up share of the steps and falls linearly to 0.
    """
    cpu = compute_device(base).type == "cpu"
    return {
        "output_dir": scratch,
        "per_device_train_batch_size": cut.micro_batch,
        "gradient_accumulation_steps": cut.accumulation,
        "learning_rate": settings.learning_rate,
        "max_steps": settings.steps or -1,
        "num_train_epochs": settings.epochs or 1,
        "lr_scheduler_type": "linear",
        "warmup_steps": settings.warmup,
        "weight_decay": 0.0,
        "max_grad_norm": settings.max_grad_norm,
        "optim": "adamw_torch_fused",
        "seed": seed,
        "data_seed": seed,
        "use_cpu": cpu,
        "bf16": not cpu and str(base.model.dtype) == "torch.bfloat16",
        "gradient_checkpointing": not cpu,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": not cpu,
        "logging_strategy": "steps",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "save_strategy": "no",
        "eval_strategy": "no",
        "disable_tqdm": True,
        "push_to_hub": False,
        "remove_unused_columns": False,
    }


def watcher(
    trainee: Trainee, out: Path, settings: TrainingSettings, every: int, on_step: OnStep | None
) -> "TrainerCallback":
    """Passes the loss of each optimizer step on, and saves the adapter after every pass over the rows where asked to.

    The n-th folder is `out`/epoch-n, in the layout of `out`. The last one is the adapter at the end of training, also
    where the schedule breaks an epoch off.

    Args:
        trainee: the adapter in training.
        out: folder of the final adapter.
        settings: of the run; without `checkpoints` = epoch nothing is saved.
        every: optimizer steps of one pass over the rows.
        on_step: told of each step.

    Returns:
        A callback whose `losses` are those of the steps, in nats per item of the effective batch, and whose
        `checkpoints` are the steps of the folders. It raises FloatingPointError where a loss is not finite.
    """
    from transformers import TrainerCallback

    wanted = isinstance(settings, RetrainingSettings) and settings.checkpoints == "epoch"

    class Watcher(TrainerCallback):
        """Hears what a trainer does."""

        def __init__(self) -> None:
            self.losses: list[float] = []
            self.checkpoints: list[int] = []

        def on_log(
            self, args: object, state: object, control: object, logs: dict | None = None, **kwargs: object
        ) -> None:
            if not logs or "loss" not in logs:
                return
            loss = float(logs["loss"])
            if not math.isfinite(loss):
                raise FloatingPointError(f"the loss of step {len(self.losses) + 1} is {loss}: lower the learning rate")
            self.losses.append(loss)
            if on_step is not None:
                on_step(len(self.losses), state.max_steps, loss)

        def on_step_end(self, args: object, state: object, control: object, **kwargs: object) -> None:
            if wanted and state.global_step % every == 0:
                self._keep(state.global_step)

        def on_train_end(self, args: object, state: object, control: object, **kwargs: object) -> None:
            if wanted and state.global_step not in self.checkpoints:
                self._keep(state.global_step)

        def _keep(self, step: int) -> None:
            self.checkpoints.append(step)
            save_adapter(trainee, out / f"epoch-{len(self.checkpoints)}", settings.adapter_dtype)

    return Watcher()


@contextmanager
def quiet() -> Iterator[None]:
    """Silences advice of the training libraries, and restores their settings."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def fit(trainer: "Trainer") -> None:
    """Runs a trainer without its printed summaries, and without what it computes at every step for nobody."""
    import torch
    from transformers import PrinterCallback, ProgressCallback

    if trainer.args.world_size > 1:
        # Each process drops out other units than the others, whose rows may have the same shape.
        torch.manual_seed(derive_seed(trainer.args.seed, trainer.args.process_index) % 2**63)
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    trainer.floating_point_ops = lambda _inputs: 0
    # All the way down: PEFT leaves the layers below as they are, and in eval mode they are not checkpointed.
    trainer.model.train()
    trainer.train()
