"""The one way to train: an adapter on a frozen stack of a base model, by whatever loss, and what every run asserts."""

import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from ct_pipeline.models.loading import BaseModel, load_base
from ct_pipeline.settings.blocks import RetrainingSettings, TrainingSettings
from ct_pipeline.training.adapters import Trainee, new_adapter, save_adapter
from ct_pipeline.training.batches import Cut, within_memory
from ct_pipeline.training.examples import TrainingRecord
from ct_pipeline.training.loop import OnStep, Shortcuts, fit, opened_trainer, quiet, trainer_arguments, watcher
from ct_pipeline.training.loss import Loss, Objective, Row

_PROBED = 64


def train(
    base: BaseModel | Path | str,
    rows: Sequence[Row],
    loss: Loss,
    settings: TrainingSettings,
    seed: int,
    out: Path,
    stacked_on: Sequence[Path] = (),
    on_step: OnStep | None = None,
    shortcuts: Shortcuts = nullcontext,
) -> TrainingRecord:
    """Trains an adapter by a loss and writes it to `out`.

    Args:
        base: the base model or its folder; stays as it is, its attention implementation included.
        rows: what the loss takes; token ids.
        loss: what is minimised.
        settings: adapter, schedule, batch, trained tokens; RetrainingSettings can continue the stack's last adapter.
        seed: of a new adapter, the row order and the dropout; the same seed gives the same bytes.
        out: folder for adapter_model.safetensors and adapter_config.json; a continued adapter is served in place of
            the stack's last. Checkpoints go to epoch-1, epoch-2, ... in it.
        stacked_on: adapter folders, lowest first, that make the start model (the organism) of the base: all frozen
            below the new adapter, or the last one continued.
        on_step: told of each optimizer step.
        shortcuts: entered with the model as soon as it has its adapter.

    Returns:
        The record; its checks are those of the loss and, for a new adapter, `drop_difference`, or `continued`,
        `frozen_difference` and `start_difference`.

    Raises:
        ValueError: rows that the loss refuses, or nothing of the settings' shape to continue.
        UserError: no memory for a single row, or an effective batch that the processes of a launch do not divide.
        RuntimeError: something that every run, or every run of this loss, must keep was not kept.
    """
    base = load_base(base)
    loss.check(base, rows)
    continued = isinstance(settings, RetrainingSettings) and settings.adapter == "continued"

    def attempt(cut: Cut) -> TrainingRecord:
        started = time.perf_counter()
        with (
            quiet(),
            tempfile.TemporaryDirectory() as scratch,
            new_adapter(base, settings.lora, seed, stacked_on, rows[0].ids[:_PROBED], continued) as trainee,
            shortcuts(trainee.model),
        ):
            heard = watcher(trainee, out, settings, cut.steps(len(rows)), on_step)
            with loss.begin(trainee, rows, settings) as objective:
                arguments = trainer_arguments(settings, cut, seed, base, scratch)
                fit(opened_trainer(objective, trainee, len(rows), arguments, heard))
            save_adapter(trainee, out, settings.adapter_dtype)
            trainable, moved, invariants = _asserted(trainee, objective, len(heard.losses))
            return TrainingRecord(
                losses=tuple(heard.losses),
                steps=len(heard.losses),
                rows=len(rows),
                tokens=objective.tokens,
                trainable_parameters=trainable,
                moved_parameters=moved,
                seconds=time.perf_counter() - started,
                checks=invariants | objective.checks,
                checkpoints=tuple(heard.checkpoints),
            )

    return within_memory(settings, attempt)


def _asserted(trainee: Trainee, objective: Objective, steps: int) -> tuple[int, int, dict[str, float]]:
    """How many numbers were trained and have moved, and the invariants, as checks.

    Raises:
        RuntimeError: the start model is not what it was before, bit for bit, or a tensor that the loss depends on did
            not move.
    """
    drop = trainee.drop_difference()
    if drop != 0.0:
        raise RuntimeError(f"after training, the start model's logits are changed by {drop}: it must stay as it is")
    # B starts at zero, so that A has no gradient before the second step.
    moved = {name: count for name, count in trainee.moved().items() if name not in objective.unreachable}
    if steps > 1 and (unmoved := [name for name, count in moved.items() if not count]):
        raise RuntimeError(f"training moved nothing of {', '.join(unmoved)}: it has no gradient there")
    checks = {"drop_difference": drop}
    if trainee.continued:
        checks = {"continued": 1.0, "frozen_difference": drop, "start_difference": trainee.start_difference}
    return sum(trainee.initial[name].numel() for name in moved), sum(moved.values()), checks
