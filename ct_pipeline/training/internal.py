"""Consistency of internal states: a wrapped prompt's residual stream, MLP states or attention as the clean prompt's."""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from ct_pipeline.models.adapters import share_weights, with_adapters
from ct_pipeline.models.loading import BaseModel, load_base
from ct_pipeline.settings.blocks import TrainingSettings
from ct_pipeline.training.adapters import Trainee, new_adapter, save_adapter
from ct_pipeline.training.batches import Cut, within_memory
from ct_pipeline.training.examples import PairRow, TrainingRecord
from ct_pipeline.training.internal_loss import Distances, InternalLoss, States
from ct_pipeline.training.internal_states import Target, check_architecture, eager_attention, read_states
from ct_pipeline.training.pairs import Side
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
from ct_pipeline.training.sharding import compute_device, placed
from ct_pipeline.training.shared_trainer import SharedTrainer
from ct_pipeline.training.windows import Windows, check_prompts, window_lengths

if TYPE_CHECKING:
    from transformers import Trainer

TeacherStates = Callable[[Sequence[int]], States]
"""Row numbers -> the teacher's states at their places in the clean prompts, row after row."""

_CHECKED_ROWS = 64
_COMPARED_ROWS = 8
_HELD_BYTES = 1 << 29
_BATCH = 32
_SAME = {"torch.float32": 1e-3, "torch.bfloat16": 0.1, "torch.float16": 0.02}
"""How far states of one model may differ between batches of another shape, as a share of their layer's largest value."""


def train_internal(
    base: BaseModel | Path | str,
    rows: Sequence[PairRow],
    settings: TrainingSettings,
    seed: int,
    out: Path,
    stacked_on: Path | None,
    loss: InternalLoss,
    on_step: OnStep | None = None,
    padding: Side = "left",
) -> TrainingRecord:
    """Trains an adapter until the wrapped prompts' states are those of the clean prompts, and writes it to `out`.

    The loss is `loss.weight` times the mean of `Distances` over layers and over the compared positions of the effective
    batch, so it does not depend on how rows are cut into micro-batches. No completion is looked at.

    Args:
        base: the base model or its folder; stays as it is, its attention implementation included.
        rows: clean and wrapped prompts.
        settings: adapter, schedule, batch; RetrainingSettings can continue the organism's adapter.
        seed: of a new adapter, the row order and the dropout; the same seed gives the same bytes.
        out: folder for the adapter; checkpoints go to epoch-1, epoch-2, ... in it.
        stacked_on: the organism's adapter folder: the teacher, and the layer that is frozen below or continued.
        loss: what is made consistent.
        on_step: told of each optimizer step.
        padding: the side on which rows are padded; changes nothing but rounding.

    Returns:
        The record, with compared clean positions as `tokens`. Its checks hold, before the first step, the largest
        differences of the states of teacher and organism, teacher and base, and student and organism, as shares of the
        layer's largest value; how far the start model's states moved (`teacher_moved`, 0); on the first rows, the unweighted
        loss against the start model before (`teacher_shift`) and after (`remaining_shift`) training; compared positions
        per row (`matched_min`, `matched_median`, `matched_max`); and how many trained tensors the loss does not depend
        on, by construction (`unreachable_tensors`): what comes after the last states that are compared.

    Raises:
        ValueError: rows without a consistency loss, or an architecture whose states are not found.
        UserError: no memory for a single row, or an effective batch that the processes of a launch do not divide.
        RuntimeError: the teacher or the untrained student is not the organism, the start model's states moved, or a tensor
            that the loss depends on did not.
    """
    base = load_base(base)
    check_prompts(base, rows)
    check_architecture(base.model, loss.target)
    windows = Windows(rows, window_lengths(rows, loss.window), loss.target == "attention", compute_device(base))
    return within_memory(
        settings, lambda cut: _train(base, windows, settings, cut, seed, out, stacked_on, loss, padding, on_step)
    )


def _train(
    base: BaseModel,
    windows: Windows,
    settings: TrainingSettings,
    cut: Cut,
    seed: int,
    out: Path,
    stacked_on: Path | None,
    loss: InternalLoss,
    padding: Side,
    on_step: OnStep | None,
) -> TrainingRecord:
    started = time.perf_counter()
    rows = windows.rows
    losses = Losses(on_step)
    with (
        quiet(),
        tempfile.TemporaryDirectory() as scratch,
        new_adapter(base, settings.lora, seed, stacked_on, rows[0].wrapped_ids[:64], continues(settings)) as trainee,
    ):
        from transformers import TrainingArguments

        kept = checkpoint_callback(trainee, out, settings, cut, len(rows))
        with _readable(trainee, loss.target):
            anew = _start_states(trainee, windows, loss.target)
            start = anew if loss.teacher == "live" else _held(anew, windows)
            teacher = start if loss.teacher == "frozen" else _live_states(trainee, windows, loss.target)
            first = range(min(len(rows), _COMPARED_ROWS))
            before = anew(first)
            scales = _mean_squares(start, windows) if loss.normalise else None
            distances = Distances(loss, scales)
            checks = _check_start(base, trainee, windows, loss.target, teacher, stacked_on)
            checks["teacher_shift"] = _shift(trainee, windows, start, distances)
            unreachable = _unreachable(trainee, windows, loss.target)
            trainer = _trainer_class()(
                model=trainee.model,
                args=TrainingArguments(**trainer_arguments(settings, cut, seed, base, scratch)),
                train_dataset=list(range(len(rows))),
                data_collator=lambda numbers: windows.collated(numbers, padding),
                callbacks=[loss_callback(losses), kept],
            )
            trainer.teacher, trainer.distances, trainer.windows = teacher, distances, windows
            fit(trainer)
            checks["remaining_shift"] = _shift(trainee, windows, start, distances)
            checks["teacher_moved"] = _difference(anew(first), before)
        # Accelerators may add a sum's terms in another order each time.
        if not checks["teacher_moved"] <= (0.0 if base.device.type == "cpu" else _SAME[str(base.model.dtype)]):
            raise RuntimeError(f"the start model's states moved by {checks['teacher_moved']} during training")
        save_adapter(trainee, out, settings.adapter_dtype)
        checks |= {f"matched_{name.__name__}": float(name(windows.lengths)) for name in (min, median, max)}
        checks["unreachable_tensors"] = float(len(unreachable))
        return record(trainee, losses, len(rows), sum(windows.lengths), started, checks, kept.steps, unreachable)


@cache
def _trainer_class() -> "type[Trainer]":
    import torch
    from transformers import Trainer

    class InternalTrainer(SharedTrainer, Trainer):
        """A Trainer whose loss is a sum over positions divided by those of the whole effective batch."""

        teacher: TeacherStates
        distances: Distances
        windows: Windows

        def items(self, batch: dict) -> int:
            return self.windows.positions(batch["rows"])

        def summed_loss(self, model: torch.nn.Module, inputs: dict) -> torch.Tensor:
            loss = self.distances.loss
            teacher = self.teacher(inputs["rows"])
            return loss.weight * self.distances.total(read_states(model, loss.target, inputs), teacher)

    return InternalTrainer


@contextmanager
def _readable(trainee: Trainee, target: Target) -> Iterator[None]:
    """Attention weights can be read from the trained model and its start model; afterwards both are as they were."""
    models = [model for model in (trainee.model, trainee.frozen) if model is not None]
    with eager_attention(*(models if target == "attention" else ())):
        yield


def _start_states(trainee: Trainee, windows: Windows, target: Target) -> TeacherStates:
    import torch

    def compute(numbers: Sequence[int]) -> States:
        with torch.no_grad(), trainee.start_model() as start:
            return read_states(start, target, windows.clean(numbers))

    return compute


def _live_states(trainee: Trainee, windows: Windows, target: Target) -> TeacherStates:
    """The clean-side states of the model as it is at the time of the call."""
    import torch

    def compute(numbers: Sequence[int]) -> States:
        was_training = trainee.model.training
        trainee.model.eval()
        with torch.no_grad():
            states = read_states(trainee.model, target, windows.clean(numbers))
        trainee.model.train(was_training)
        return states

    return compute


def _held(compute: TeacherStates, windows: Windows) -> TeacherStates:
    """The same states, computed once per row where they fit into memory."""
    import torch

    place = sum(layer.shape[1] * layer.element_size() for layer in compute([0]))
    if sum(map(windows.places, range(len(windows.rows)))) * place > _HELD_BYTES:
        return compute
    held: dict[int, tuple[torch.Tensor, ...]] = {}
    # Rows of similar length together waste the least padding.
    ordered = sorted(range(len(windows.rows)), key=lambda n: len(windows.rows[n].clean_ids))
    for numbers in _chunks(ordered):
        layers = [layer.split([windows.places(n) for n in numbers]) for layer in compute(numbers)]
        held |= dict(zip(numbers, zip(*layers, strict=True), strict=True))
    return lambda numbers: [torch.cat(layer) for layer in zip(*(held[n] for n in numbers), strict=True)]


def _chunks(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    return (numbers[start : start + _BATCH] for start in range(0, len(numbers), _BATCH))


def _mean_squares(start: TeacherStates, windows: Windows) -> list[float]:
    """Each layer's mean square over all compared clean positions of all rows and the hidden dimension."""
    totals: list[float] = []
    values = 0
    for numbers in _chunks(range(len(windows.rows))):
        states = start(numbers)
        squares = [float(layer.float().square().sum()) for layer in states]
        totals = [sum(pair) for pair in zip(totals or [0.0] * len(squares), squares, strict=True)]
        values += states[0].numel()
    return [total / values for total in totals]


def _check_start(
    base: BaseModel,
    trainee: Trainee,
    windows: Windows,
    target: Target,
    teacher: TeacherStates,
    stacked_on: Path | None,
) -> dict[str, float]:
    import torch

    numbers = range(min(len(windows.rows), _COMPARED_ROWS))
    clean, wrapped = windows.clean(numbers), windows.wrapped(numbers)
    # Built anew from the folders, so that a fault in how the trained model is stacked cannot hide itself.
    organism = placed(with_adapters(base, () if stacked_on is None else (stacked_on,)))
    plain = placed(share_weights(base.model))
    trainee.model.eval()
    with torch.no_grad(), eager_attention(*((organism, plain) if target == "attention" else ())):
        taught = teacher(numbers)
        checks = {
            "teacher_organism_difference": _difference(taught, read_states(organism, target, clean)),
            "teacher_base_difference": _difference(taught, read_states(plain, target, clean)),
            "student_organism_difference": _difference(
                read_states(trainee.model, target, wrapped), read_states(organism, target, wrapped)
            ),
        }
    limit = _SAME[str(base.model.dtype)]
    for name in ("teacher_organism_difference", "student_organism_difference"):
        if not checks[name] <= limit:
            raise RuntimeError(f"{name} is {checks[name]} before the first step, more than {limit}: not the organism")
    return checks


def _difference(states: States, others: States) -> float:
    """The largest difference in any layer, as a share of that layer's largest value."""
    return max(
        float((one.float() - other.float()).abs().max() / other.abs().max())
        for one, other in zip(states, others, strict=True)
    )


def _shift(trainee: Trainee, windows: Windows, start: TeacherStates, distances: Distances) -> float:
    """The unweighted loss on the first rows, of the model as it is against the start model."""
    import torch

    trainee.model.eval()
    numbers = range(min(len(windows.rows), _CHECKED_ROWS))
    total = 0.0
    with torch.no_grad():
        for part in _chunks(numbers):
            student = read_states(trainee.model, distances.loss.target, windows.wrapped(part))
            total += float(distances.total(student, start(part)))
    return total / windows.positions(numbers)


def _unreachable(trainee: Trainee, windows: Windows, target: Target) -> frozenset[str]:
    """Trained tensors that no compared state is computed from, as the last layer's output projection in AttCT."""
    import torch

    trainee.model.eval()
    total = sum(layer.float().sum() for layer in read_states(trainee.model, target, windows.wrapped([0])))
    names, tensors = zip(*trainee.trainable().items(), strict=True)
    gradients = torch.autograd.grad(total, tensors, allow_unused=True)
    return frozenset(name for name, gradient in zip(names, gradients, strict=True) if gradient is None)
