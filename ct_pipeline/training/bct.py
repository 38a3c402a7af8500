"""Bias-augmented consistency training: what the frozen organism says to the clean prompt, said to the wrapped one."""

import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ct_pipeline.models.adapters import with_adapters
from ct_pipeline.models.loading import BaseModel, load_base
from ct_pipeline.study.settings import TrainingSettings
from ct_pipeline.training.adapters import SAME_LOGITS, Trainee, new_adapter, save_adapter
from ct_pipeline.training.pairs import Side, check_pairs, padded, response_logits, response_tokens
from ct_pipeline.training.rows import PairRow, TrainingRecord
from ct_pipeline.training.run import Losses, OnStep, fit, loss_callback, quiet, record, trainer_arguments

if TYPE_CHECKING:
    import torch
    from transformers import Trainer

Form = Literal["kl", "nll"]
TeacherLogits = Callable[[Sequence[int]], "torch.Tensor"]
"""Row numbers -> the frozen organism's logits at their completion tokens after the clean prompts."""

_CHECKED_ROWS = 64
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
) -> TrainingRecord:
    """Trains a new adapter towards the frozen start model's clean-side behaviour and writes it to `out`.

    "nll" minimises −log π(y ∣ wrapped) (arXiv 2403.05518, 2510.27062). "kl" is its token-level form, the forward KL
    from the organism's next-token distributions after the clean prompt, teacher-forced on y: the same gradient in
    expectation over y, with less variance. Both are sums over response tokens divided by those of the effective batch.

    Args:
        base: the base model or its folder; stays as it is.
        rows: y was drawn by the organism from the clean prompt, end-of-sequence token included.
        settings: adapter, schedule, batch.
        seed: of the new adapter, the row order and the dropout.
        out: folder for the new adapter.
        stacked_on: the organism's adapter folder: the teacher, and the frozen layer below the new adapter.
        form: "kl" or "nll".
        temperature: softens both sides of "kl", whose loss is then multiplied by its square; 1 is exact.
        on_step: told of each optimizer step.
        padding: the side on which rows are padded; changes nothing but rounding.

    Returns:
        The record; its checks hold the largest logit differences between teacher and organism, teacher and base, and
        student and organism before the first step, and, on the first rows, the KL in nats per token from the teacher's
        clean side to the student's wrapped side before (`teacher_shift`) and after (`remaining_shift`) training.

    Raises:
        ValueError: a row that `check_pairs` refuses.
        RuntimeError: the teacher or the untrained student is not the organism.
    """
    started = time.perf_counter()
    base = load_base(base)
    check_pairs(base, rows)
    losses = Losses(on_step)
    probe = (rows[0].wrapped_ids + rows[0].completion_ids)[:64]
    with (
        quiet(),
        tempfile.TemporaryDirectory() as scratch,
        new_adapter(base, settings.lora, seed, stacked_on, probe) as trainee,
    ):
        from transformers import TrainingArguments

        teacher = _teacher(base, rows, trainee)
        checks = _check_start(base, rows, trainee, teacher, stacked_on)
        trainer = _trainer_class()(
            model=trainee.model,
            args=TrainingArguments(**trainer_arguments(settings, seed, base, scratch)),
            train_dataset=list(range(len(rows))),
            data_collator=lambda numbers: _wrapped(rows, numbers, padding) | {"rows": numbers},
            callbacks=[loss_callback(losses)],
        )
        trainer.teacher, trainer.form, trainer.temperature = teacher, form, temperature
        fit(trainer)
        checks["remaining_shift"] = _mean_kl(trainee, rows, teacher, base)
        save_adapter(trainee, out)
        return record(trainee, losses, len(rows), sum(len(row.completion_ids) for row in rows), started, checks)


def consistency_loss(
    student: "torch.Tensor", teacher: "torch.Tensor | None", tokens: "torch.Tensor", form: Form, temperature: float
) -> "torch.Tensor":
    """The summed loss over response tokens, in nats.

    Args:
        student: logits after the wrapped prompt; shape (tokens, vocabulary).
        teacher: the frozen organism's logits after the clean prompt, same shape; None for "nll".
        tokens: response token ids; shape (tokens,).
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

    class BctTrainer(Trainer):
        """A Trainer whose loss is a sum over response tokens divided by those of the whole effective batch."""

        # Already normalised over the accumulated batch: dividing by the accumulation steps again would shrink it.
        loss_is_scaled_for_ga = True
        teacher: TeacherLogits
        form: Form
        temperature: float

        def compute_loss(
            self,
            model: torch.nn.Module,
            inputs: dict,
            return_outputs: bool = False,
            num_items_in_batch: torch.Tensor | None = None,
        ) -> torch.Tensor:
            teacher = self.teacher(inputs["rows"]) if self.form == "kl" else None
            student = response_logits(model, inputs)
            loss = consistency_loss(student, teacher, response_tokens(inputs), self.form, self.temperature)
            return loss / num_items_in_batch

        def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> torch.Tensor:
            return sum(batch["predicts"].sum() for batch in batch_samples).to(device)

    return BctTrainer


def _clean(rows: Sequence[PairRow], numbers: Sequence[int]) -> dict[str, "torch.Tensor"]:
    return padded([rows[n].clean_ids for n in numbers], [rows[n].completion_ids for n in numbers], "left")


def _wrapped(rows: Sequence[PairRow], numbers: Sequence[int], side: Side) -> dict[str, "torch.Tensor"]:
    return padded([rows[n].wrapped_ids for n in numbers], [rows[n].completion_ids for n in numbers], side)


def _to(batch: dict[str, "torch.Tensor"], base: BaseModel) -> dict[str, "torch.Tensor"]:
    return {name: tensor.to(base.device) for name, tensor in batch.items()}


def _teacher(base: BaseModel, rows: Sequence[PairRow], trainee: Trainee) -> TeacherLogits:
    """The organism's clean-side logits: computed once per row where they fit into memory, else anew for each batch."""
    import torch

    def compute(numbers: Sequence[int]) -> torch.Tensor:
        with torch.no_grad(), trainee.start_model():
            return response_logits(trainee.model, _to(_clean(rows, numbers), base))

    vocabulary = base.model.config.get_text_config().vocab_size
    if sum(len(row.completion_ids) for row in rows) * vocabulary * 4 > _HELD_BYTES:
        return compute
    held: dict[int, torch.Tensor] = {}
    # Rows of similar length together waste the least padding.
    ordered = sorted(range(len(rows)), key=lambda n: len(rows[n].clean_ids) + len(rows[n].completion_ids))
    for start in range(0, len(ordered), _BATCH):
        numbers = ordered[start : start + _BATCH]
        lengths = [len(rows[n].completion_ids) for n in numbers]
        held |= dict(zip(numbers, compute(numbers).split(lengths), strict=True))
    return lambda numbers: torch.cat([held[n] for n in numbers])


def _check_start(
    base: BaseModel, rows: Sequence[PairRow], trainee: Trainee, teacher: TeacherLogits, stacked_on: Path | None
) -> dict[str, float]:
    import torch

    numbers = range(min(len(rows), _BATCH))
    clean, wrapped = _to(_clean(rows, numbers), base), _to(_wrapped(rows, numbers, "left"), base)
    # Built anew from the folders, so that a fault in how the trained model is stacked cannot hide itself.
    organism = with_adapters(base, () if stacked_on is None else (stacked_on,))
    trainee.model.eval()
    with torch.no_grad():
        taught = teacher(numbers)
        checks = {
            "teacher_organism_difference": float((taught - response_logits(organism, clean)).abs().max()),
            "teacher_base_difference": float((taught - response_logits(base.model, clean)).abs().max()),
            "student_organism_difference": float(
                (response_logits(trainee.model, wrapped) - response_logits(organism, wrapped)).abs().max()
            ),
        }
    limit = SAME_LOGITS[str(base.model.dtype)]
    for name in ("teacher_organism_difference", "student_organism_difference"):
        if not checks[name] <= limit:
            raise RuntimeError(f"{name} is {checks[name]} before the first step, more than {limit}: not the organism")
    return checks | {"teacher_shift": _mean_kl(trainee, rows, teacher, base)}


def _mean_kl(trainee: Trainee, rows: Sequence[PairRow], teacher: TeacherLogits, base: BaseModel) -> float:
    """KL from the teacher's clean to the student's wrapped distributions on the first rows, in nats per token."""
    import torch

    trainee.model.eval()
    total, tokens = 0.0, 0
    numbers = range(min(len(rows), _CHECKED_ROWS))
    with torch.no_grad():
        for start in range(0, len(numbers), _BATCH):
            part = numbers[start : start + _BATCH]
            batch = _to(_wrapped(rows, part, "left"), base)
            answer = response_tokens(batch)
            total += float(consistency_loss(response_logits(trainee.model, batch), teacher(part), answer, "kl", 1.0))
            tokens += len(answer)
    return total / tokens
