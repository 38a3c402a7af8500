"""What every training run shares: trainer arguments, the loss per step, checkpoints, and the record at the end."""

import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ct_pipeline.models.loading import BaseModel
from ct_pipeline.settings.blocks import RetrainingSettings, TrainingSettings
from ct_pipeline.settings.seeds import derive_seed
from ct_pipeline.training.adapters import Trainee, save_adapter
from ct_pipeline.training.batches import Cut
from ct_pipeline.training.examples import TrainingRecord
from ct_pipeline.training.sharding import compute_device

if TYPE_CHECKING:
    from peft import PeftModel
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


def continues(settings: TrainingSettings) -> bool:
    """Whether the organism's own adapter is trained on, and not a new one on top of it."""
    return isinstance(settings, RetrainingSettings) and settings.adapter == "continued"


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


def checkpoint_callback(
    trainee: Trainee, out: Path, settings: TrainingSettings, cut: Cut, rows: int
) -> "TrainerCallback":
    """A trainer callback that saves the adapter after every pass over the rows, where the settings ask for it.

    The n-th folder is `out`/epoch-n, in the layout of `out`. The last one is the adapter at the end of training, also
    where the schedule breaks an epoch off.

    Args:
        trainee: the adapter in training.
        out: folder of the final adapter.
        settings: of the run; without `checkpoints` = epoch nothing is saved.
        cut: of its effective batch.
        rows: how many rows one pass has.

    Returns:
        A callback whose `steps` lists the optimizer steps of the folders.
    """
    from transformers import TrainerCallback

    wanted = isinstance(settings, RetrainingSettings) and settings.checkpoints == "epoch"
    every = cut.steps(rows)

    class CheckpointCallback(TrainerCallback):
        """Saves the adapter at multiples of an epoch's steps, and at the end."""

        def __init__(self) -> None:
            self.steps: list[int] = []

        def on_step_end(self, args: object, state: object, control: object, **kwargs: object) -> None:
            if wanted and state.global_step % every == 0:
                self.keep(state.global_step)

        def on_train_end(self, args: object, state: object, control: object, **kwargs: object) -> None:
            if wanted and state.global_step not in self.steps:
                self.keep(state.global_step)

        def keep(self, step: int) -> None:
            """Saves the adapter as it is after so many steps."""
            self.steps.append(step)
            save_adapter(trainee, out / f"epoch-{len(self.steps)}", settings.adapter_dtype)

    return CheckpointCallback()


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
    # The trainer collects garbage at its start, which takes a quarter of a second with all imported modules to look at.
    gc.freeze()
    try:
        with _walked_once(trainer.model):
            trainer.train()
    finally:
        gc.unfreeze()


@contextmanager
def _walked_once(model: "PeftModel") -> Iterator[None]:
    """Answers the questions that a trainer puts to all modules at every step from what only the adapter can change."""
    trained = [p for p in model.parameters() if p.requires_grad]
    walk = model.train

    def train(mode: bool = True) -> "PeftModel":
        return model if model.training == mode else walk(mode)

    model.train = train
    # Clipping and the clearing of gradients concern parameters that have some.
    model.parameters = lambda recurse=True: iter(trained)
    try:
        yield
    finally:
        del model.train, model.parameters


def record(
    trainee: Trainee,
    losses: Losses,
    rows: int,
    tokens: int,
    started: float,
    checks: dict[str, float],
    checkpoints: Sequence[int] = (),
    unreachable: frozenset[str] = frozenset(),
) -> TrainingRecord:
    """Sums a run up and asserts what every run must keep.

    Args:
        trainee: after training.
        losses: one per optimizer step.
        rows: distinct rows trained on.
        tokens: trained tokens of these rows.
        started: time.perf_counter() at the start.
        checks: further invariants, measured.
        checkpoints: optimizer steps at which the adapter was kept.
        unreachable: names of trained tensors on which the loss does not depend, so that they must stay as they are.

    Raises:
        RuntimeError: the start model is not what it was before, bit for bit, or a tensor that the loss
            depends on did not move.
    """
    trainable, moved = trainee.counts(unreachable)
    drop = trainee.drop_difference()
    if drop != 0.0:
        raise RuntimeError(f"after training, the start model's logits are changed by {drop}: it must stay as it is")
    start = {"drop_difference": drop}
    if trainee.continued:
        start = {"continued": 1.0, "frozen_difference": drop, "start_difference": trainee.start_difference}
    # B starts at zero, so that A has no gradient before the second step.
    if len(losses.values) > 1 and (unmoved := [name for name in trainee.unmoved() if name not in unreachable]):
        raise RuntimeError(f"training moved nothing of {', '.join(unmoved)}: it has no gradient there")
    return TrainingRecord(
        losses=tuple(losses.values),
        steps=len(losses.values),
        rows=rows,
        tokens=tokens,
        trainable_parameters=trainable,
        moved_parameters=moved,
        seconds=time.perf_counter() - started,
        checks={**start, **checks},
        checkpoints=tuple(checkpoints),
    )
