"""Bias-augmented consistency training: what the frozen organism says to the clean prompt, said to the wrapped one."""

import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from ct_pipeline.models.adapters import share_weights, with_adapters
from ct_pipeline.models.loading import BaseModel, load_base
from ct_pipeline.settings.blocks import TrainingSettings
from ct_pipeline.training.adapters import SAME_LOGITS, Trainee, new_adapter, save_adapter
from ct_pipeline.training.batches import Cut, within_memory
from ct_pipeline.training.examples import PairRow, TrainingRecord
from ct_pipeline.training.pairs import PairBatches, Side, Window, check_pairs, response_logits, response_tokens
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

if TYPE_CHECKING:
    import torch
    from transformers import Trainer

Form = Literal["kl", "nll"]
Teacher = Literal["frozen", "live"]
TeacherLogits = Callable[[Sequence[int]], "torch.Tensor"]
"""Row numbers -> the teacher's logits on the clean side, at the positions of the loss, row after row."""

_CHECKED_ROWS = 8
_MEASURED_ROWS = 64
_HELD_BYTES = 1 << 29
_BATCH = 32


def train_bct(
    base: BaseModel | Path | str,
    rows: Sequence[PairRow],
    settings: TrainingSettings,
    seed: int,
    out: Path,
    stacked_on: Path | None,
    form: Form = "kl",
    temperature: float = 1.0,
    on_step: OnStep | None = None,
    padding: Side = "left",
    teacher: Teacher = "frozen",
    window: Window = "response",
) -> TrainingRecord:
    """Trains an adapter towards the clean-side behaviour on the wrapped side and writes it to `out`.

    form "nll" minimises −log π(y ∣ wrapped): BCT as published (arXiv 2403.05518, 2510.27062). form "kl" is its
    token-level form, the forward KL from the organism's next-token distributions after the clean prompt, teacher-forced
    on y: the same gradient in expectation over y, with less variance. teacher "live" with window "trailing" is the form
    of the released code (arXiv 2606.03810), whose T²·cross-entropy of the softened distributions has the gradient of
    "kl" at that temperature. All are sums over positions divided by those of the effective batch.

    Args:
        base: the base model or its folder; stays as it is.
        rows: y was drawn by the organism from the clean prompt, end-of-sequence token included.
        settings: adapter, schedule, batch; RetrainingSettings can continue the organism's adapter.
        seed: of a new adapter, the row order and the dropout.
        out: folder for the adapter; checkpoints go to epoch-1, epoch-2, ... in it.
        stacked_on: the organism's adapter folder: the teacher, and the layer that is frozen below or continued.
        form: "kl" or "nll".
        temperature: softens both sides of "kl", whose loss is then multiplied by its square; 1 is exact.
        on_step: told of each optimizer step.
        padding: the side on which rows are padded; changes nothing but rounding.
        teacher: "frozen" is the start model; "live" is the model in training, without dropout and without gradient.
        window: positions of the loss: those that predict a token of y, or the "trailing" min(clean, wrapped) positions
            of prompt and y on both sides, the last token's included.

    Returns:
        The record; its checks hold the largest logit differences between teacher and organism, teacher and base, and
        student and organism before the first step, how far the teacher's logits moved (`teacher_moved`), and, on the
        first rows, the KL in nats per position from the frozen organism's clean side to the student's wrapped side
        before (`teacher_shift`) and after (`remaining_shift`) training.

    Raises:
        ValueError: a row that `check_pairs` refuses, or options that exclude each other.
        UserError: no memory for a single row, or an effective batch that the processes of a launch do not divide.
        RuntimeError: the teacher or the untrained student is not the organism, or a frozen teacher moved.
    """
    base = load_base(base)
    _check_options(form, temperature, teacher, window)
    check_pairs(base, rows)
    pairs = PairBatches(rows, compute_device(base), window)
    told = (form, temperature, teacher, padding)
    return within_memory(settings, lambda cut: _train(base, pairs, settings, cut, seed, out, stacked_on, told, on_step))


def _train(
    base: BaseModel,
    pairs: PairBatches,
    settings: TrainingSettings,
    cut: Cut,
    seed: int,
    out: Path,
    stacked_on: Path | None,
    told: tuple[Form, float, Teacher, Side],
    on_step: OnStep | None,
) -> TrainingRecord:
    started = time.perf_counter()
    form, temperature, teacher, padding = told
    rows = pairs.rows
    losses = Losses(on_step)
    probe = (rows[0].wrapped_ids + rows[0].completion_ids)[:64]
    with (
        quiet(),
        tempfile.TemporaryDirectory() as scratch,
        new_adapter(base, settings.lora, seed, stacked_on, probe, continues(settings)) as trainee,
    ):
        from transformers import TrainingArguments

        start = _frozen_teacher(base, pairs, trainee)
        tutor = start if teacher == "frozen" else _live_teacher(pairs, trainee)
        checks = _check_start(base, pairs, trainee, tutor, stacked_on)
        first = range(min(len(rows), _CHECKED_ROWS))
        taught = tutor(first)
        kept = checkpoint_callback(trainee, out, settings, cut, len(rows))
        trainer = _trainer_class()(
            model=trainee.model,
            args=TrainingArguments(**trainer_arguments(settings, cut, seed, base, scratch)),
            train_dataset=list(range(len(rows))),
            data_collator=lambda numbers: pairs.collated(numbers, padding),
            callbacks=[loss_callback(losses), kept],
        )
        trainer.teacher, trainer.form, trainer.temperature = tutor, form, temperature
        fit(trainer)
        checks["remaining_shift"] = _mean_kl(trainee, pairs, start)
        again = _start_logits(pairs, trainee) if teacher == "frozen" else tutor
        checks["teacher_moved"] = float((again(first) - taught).abs().max())
        if teacher == "frozen" and not checks["teacher_moved"] <= SAME_LOGITS[str(base.model.dtype)]:
            raise RuntimeError(f"the frozen teacher's logits moved by {checks['teacher_moved']} during training")
        save_adapter(trainee, out, settings.adapter_dtype)
        return record(trainee, losses, len(rows), sum(pairs.sizes), started, checks, kept.steps)


def consistency_loss(
    student: "torch.Tensor",
    teacher: "torch.Tensor | None",
    tokens: "torch.Tensor | None",
    form: Form,
    temperature: float,
) -> "torch.Tensor":
    """The summed loss over the positions of the loss, in nats.

    Args:
        student: logits on the wrapped side; shape (positions, vocabulary).
        teacher: logits on the clean side, same shape; None for "nll".
        tokens: response token ids, for "nll"; shape (positions,).
        form: "kl" or "nll".
        temperature: of "kl".
    """
    from torch.nn import functional

    if form == "nll":
        return functional.cross_entropy(student, tokens, reduction="sum")
    target = functional.log_softmax(teacher / temperature, -1)
    prediction = functional.log_softmax(student / temperature, -1)
    return temperature**2 * functional.kl_div(prediction, target, reduction="sum", log_target=True)


@cache
def _trainer_class() -> "type[Trainer]":
    import torch
    from transformers import Trainer

    class BctTrainer(SharedTrainer, Trainer):
        """A Trainer whose loss is a sum over positions divided by those of the whole effective batch."""

        teacher: TeacherLogits
        form: Form
        temperature: float

        def items(self, batch: dict) -> torch.Tensor:
            return batch["predicts"].sum()

        def summed_loss(self, model: torch.nn.Module, inputs: dict) -> torch.Tensor:
            teacher = self.teacher(inputs["rows"]) if self.form == "kl" else None
            student = response_logits(model, inputs)
            return consistency_loss(student, teacher, response_tokens(inputs), self.form, self.temperature)

    return BctTrainer


def _check_options(form: Form, temperature: float, teacher: Teacher, window: Window) -> None:
    for name, value, known in (("form", form, Form), ("teacher", teacher, Teacher), ("window", window, Window)):
        if value not in get_args(known):
            raise ValueError(f"{name}: {value} is none of {', '.join(get_args(known))}")
    if not temperature > 0:
        raise ValueError(f"temperature: {temperature} is not above 0")
    if form == "nll":
        for name, value, usual in (("teacher", teacher, "frozen"), ("window", window, "response")):
            if value != usual:
                raise ValueError(f"{name}: {value} needs form: kl; nll imitates y and asks no teacher")
        if temperature != 1:
            raise ValueError(f"temperature: {temperature} needs form: kl; nll is of the model's own distribution")


def _start_logits(pairs: PairBatches, trainee: Trainee) -> TeacherLogits:
    import torch

    def compute(numbers: Sequence[int]) -> torch.Tensor:
        with torch.no_grad(), trainee.start_model() as start:
            return response_logits(start, pairs.clean(numbers))

    return compute


def _frozen_teacher(base: BaseModel, pairs: PairBatches, trainee: Trainee) -> TeacherLogits:
    """The start model's clean-side logits: computed once per row where they fit into memory, else anew for each batch."""
    import torch

    compute = _start_logits(pairs, trainee)
    if sum(pairs.sizes) * base.model.config.get_text_config().vocab_size * 4 > _HELD_BYTES:
        return compute
    held: dict[int, torch.Tensor] = {}
    # Rows of similar length together waste the least padding.
    ordered = sorted(range(len(pairs.rows)), key=lambda n: len(pairs.rows[n].clean_ids) + pairs.sizes[n])
    for start in range(0, len(ordered), _BATCH):
        numbers = ordered[start : start + _BATCH]
        held |= dict(zip(numbers, compute(numbers).split([pairs.sizes[n] for n in numbers]), strict=True))
    return lambda numbers: torch.cat([held[n] for n in numbers])


def _live_teacher(pairs: PairBatches, trainee: Trainee) -> TeacherLogits:
    """The clean-side logits of the model as it is at the time of the call."""
    import torch

    def compute(numbers: Sequence[int]) -> torch.Tensor:
        was_training = trainee.model.training
        trainee.model.eval()
        with torch.no_grad():
            logits = response_logits(trainee.model, pairs.clean(numbers))
        trainee.model.train(was_training)
        return logits

    return compute


def _check_start(
    base: BaseModel, pairs: PairBatches, trainee: Trainee, teacher: TeacherLogits, stacked_on: Path | None
) -> dict[str, float]:
    import torch

    numbers = range(min(len(pairs.rows), _CHECKED_ROWS))
    clean, wrapped = pairs.clean(numbers), pairs.wrapped(numbers)
    # Built anew from the folders, so that a fault in how the trained model is stacked cannot hide itself.
    organism = placed(with_adapters(base, () if stacked_on is None else (stacked_on,)))
    plain = placed(share_weights(base.model))
    trainee.model.eval()
    with torch.no_grad():
        taught = teacher(numbers)
        checks = {
            "teacher_organism_difference": float((taught - response_logits(organism, clean)).abs().max()),
            "teacher_base_difference": float((taught - response_logits(plain, clean)).abs().max()),
            "student_organism_difference": float(
                (response_logits(trainee.model, wrapped) - response_logits(organism, wrapped)).abs().max()
            ),
        }
    limit = SAME_LOGITS[str(base.model.dtype)]
    for name in ("teacher_organism_difference", "student_organism_difference"):
        if not checks[name] <= limit:
            raise RuntimeError(f"{name} is {checks[name]} before the first step, more than {limit}: not the organism")
    return checks | {"teacher_shift": _mean_kl(trainee, pairs, teacher)}


def _mean_kl(trainee: Trainee, pairs: PairBatches, teacher: TeacherLogits) -> float:
    """KL from the teacher's clean to the student's wrapped distributions on the first rows, in nats per position."""
    import torch

    trainee.model.eval()
    numbers = range(min(len(pairs.rows), _MEASURED_ROWS))
    total = 0.0
    with torch.no_grad():
        for start in range(0, len(numbers), _BATCH):
            part = numbers[start : start + _BATCH]
            student = response_logits(trainee.model, pairs.wrapped(part))
            total += float(consistency_loss(student, teacher(part), None, "kl", 1.0))
    return total / sum(pairs.sizes[n] for n in numbers)
