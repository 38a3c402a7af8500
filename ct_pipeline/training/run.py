"""What every training run shares: trainer arguments, the loss per step, and the record at the end."""

import gc
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ct_pipeline.models.loading import BaseModel
from ct_pipeline.study.settings import TrainingSettings
from ct_pipeline.training.adapters import Trainee
from ct_pipeline.training.rows import TrainingRecord

if TYPE_CHECKING:
    from transformers import Trainer, TrainerCallback

OnStep = Callable[[int, int, float], None]
"""Called after each optimizer step with its number (from 1), the number of steps, and the loss in nats per token."""


@dataclass
class Losses:
    """The loss of each optimizer step, in nats per token of the effective batch, passed on as it comes."""

    on_step: OnStep | None
    values: list[float] = field(default_factory=list)

    def add(self, loss: float, steps: int) -> None:
        """Notes one step's loss.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss of step {len(self.values) + 1} is {loss}: lower the learning rate")
        self.values.append(loss)
        if self.on_step is not None:
            self.on_step(len(self.values), steps, loss)


def trainer_arguments(settings: TrainingSettings, seed: int, base: BaseModel, scratch: str) -> dict[str, object]:
    """Arguments that transformers' and TRL's trainers share: fixed seeds, no reports, no checkpoints, silence.

    The learning rate rises over the warm-up share of the steps and falls linearly to 0.
    """
    cpu = base.device.type == "cpu"
    return {
        "output_dir": scratch,
        "per_device_train_batch_size": settings.micro_batch,
        "gradient_accumulation_steps": settings.accumulation,
        "learning_rate": settings.learning_rate,
        "max_steps": settings.steps or -1,
        "num_train_epochs": settings.epochs or 1,
        "lr_scheduler_type": "linear",
        "warmup_steps": settings.warmup,
        "weight_decay": 0.0,
        "max_grad_norm": settings.max_grad_norm,
        "optim": "adamw_torch",
        "seed": seed,
        "data_seed": seed,
        "use_cpu": cpu,
        "bf16": not cpu and str(base.model.dtype) == "torch.bfloat16",
        "gradient_checkpointing": not cpu,
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


def loss_callback(losses: Losses) -> "TrainerCallback":
    """A trainer callback that hands each logged loss on."""
    from transformers import TrainerCallback

    class LossCallback(TrainerCallback):
        """Reads the one loss that a trainer logs per optimizer step."""

        def on_log(
            self, args: object, state: object, control: object, logs: dict | None = None, **kwargs: object
        ) -> None:
            if logs and "loss" in logs:
                losses.add(float(logs["loss"]), state.max_steps)

    return LossCallback()


@contextmanager
def quiet() -> Iterator[None]:
    """Silences progress bars and advice of the training libraries, and restores their settings."""
    import datasets
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), datasets.utils.logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            datasets.enable_progress_bars()


def fit(trainer: "Trainer") -> None:
    """Runs a trainer without its printed summaries."""
    from transformers import PrinterCallback, ProgressCallback

    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    # It walks all modules at every step for a number that nobody reads.
    trainer.floating_point_ops = lambda _inputs: 0
    # The trainer collects garbage at its start, which takes a quarter of a second with all imported modules to look at.
    gc.freeze()
    try:
        trainer.train()
    finally:
        gc.unfreeze()


def record(
    trainee: Trainee, losses: Losses, rows: int, tokens: int, started: float, checks: dict[str, float]
) -> TrainingRecord:
    """Sums a run up and asserts what every run must keep.

    Args:
        trainee: after training.
        losses: one per optimizer step.
        rows: distinct rows trained on.
        tokens: trained completion tokens of these rows.
        started: time.perf_counter() at the start.
        checks: further invariants, measured.

    Raises:
        RuntimeError: dropping the new adapter does not restore the start model bit for bit, or a tensor did not move.
    """
    trainable, moved = trainee.counts()
    drop = trainee.drop_difference()
    if drop != 0.0:
        raise RuntimeError(f"dropping the new adapter leaves the start model's logits changed by {drop}")
    # B starts at zero, so that A has no gradient before the second step.
    if len(losses.values) > 1 and (unmoved := trainee.unmoved()):
        raise RuntimeError(f"training moved nothing of {', '.join(unmoved)}: it has no gradient there")
    return TrainingRecord(
        losses=tuple(losses.values),
        steps=len(losses.values),
        rows=rows,
        tokens=tokens,
        trainable_parameters=trainable,
        moved_parameters=moved,
        seconds=time.perf_counter() - started,
        checks={"drop_difference": drop, **checks},
    )
