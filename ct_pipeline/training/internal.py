"""Consistency of internal states: a wrapped prompt's residual stream, MLP states or attention as the clean prompt's."""

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from ct_pipeline.models.loading import BaseModel
from ct_pipeline.settings.blocks import TrainingSettings
from ct_pipeline.training.adapters import Trainee
from ct_pipeline.training.consistency import Ask, Consistency, States, Teacher, chunks
from ct_pipeline.training.examples import PairRow
from ct_pipeline.training.internal_states import Target, check_architecture, eager_attention, read_states
from ct_pipeline.training.loss import Objective
from ct_pipeline.training.pairs import PairBatches, Side, check_pairs
from ct_pipeline.training.windows import WindowKind, window_lengths

if TYPE_CHECKING:
    import torch

_SMALLEST = 1e-9


@dataclass(frozen=True)
class InternalStates(Consistency):
    """Draws the wrapped prompts' states to the clean prompts', wherever both have the same tokens; no completion counts.

    The distance is the mean over layers of each layer's sum over places: squared differences for residual, one minus the
    cosine for mlp, the Jensen-Shannon divergence of each query's attention, averaged over heads, for attention. Recorded
    checks are unweighted, and differences shares of the layer's largest value; beside those of every consistency loss
    they hold the compared positions per row (`matched_min`, `matched_median`, `matched_max`) and how many trained
    tensors the loss does not depend on, by construction (`unreachable_tensors`).

    Attributes:
        target: "residual" is ACT (arXiv 2510.27062), "mlp" MLPCT and "attention" AttCT (both arXiv 2606.05817).
        teacher: "frozen" is the start model; "live" the model in training.
        window: "matched" compares the longest common token suffix of the two prompts, row by row; "trailing" the last
            min(clean, wrapped) positions.
        hidden: for residual, whether squared differences are summed or averaged over the hidden dimension.
        normalise: for residual, whether each layer's distance is divided by the start model's mean square over all
            compared clean positions of the training set and the hidden dimension.
        weight: multiplies the loss.
        padding: of rows in training.

    Raises:
        ValueError: an unknown choice, one that the target does not have, or a weight that is not positive.
    """

    target: Target
    teacher: Teacher = "frozen"
    window: WindowKind = "matched"
    hidden: Literal["sum", "mean"] = "sum"
    normalise: bool = False
    weight: float = 1.0
    padding: Side = "left"
    same: ClassVar[dict[str, float]] = {"torch.float32": 1e-3, "torch.bfloat16": 0.1, "torch.float16": 0.02}

    def __post_init__(self) -> None:
        """Checks the choices."""
        known = {"target": get_args(Target), "teacher": get_args(Teacher), "window": get_args(WindowKind)}
        for name, choices in (known | {"hidden": ("sum", "mean")}).items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}: {getattr(self, name)} is none of {', '.join(choices)}")
        if self.target != "residual" and (self.hidden != "sum" or self.normalise):
            raise ValueError(
                f"hidden and normalise scale the distances of target: residual; {self.target} has no scale"
            )
        if not 0 < self.weight < math.inf:
            raise ValueError(f"weight: {self.weight} is not positive and finite")

    def check(self, base: BaseModel, rows: Sequence[PairRow]) -> None:
        """Refuses rows that `check_pairs` and `window_lengths` refuse, and an architecture whose states are not found."""
        check_pairs(base, rows, completions=False)
        check_architecture(base.model, self.target)
        window_lengths(rows, self.window)

    def batches(self, rows: Sequence[PairRow], device: "torch.device") -> PairBatches:
        """Prompts with the places of their windows."""
        return PairBatches(rows, window_lengths(rows, self.window), device, crossed=self.target == "attention")

    def read(self, model: "torch.nn.Module", batch: dict) -> States:
        """One tensor per layer."""
        return read_states(model, self.target, batch)

    def readable(self, *models: "torch.nn.Module") -> AbstractContextManager[None]:
        """Attention weights can be read from models; afterwards they compute as before."""
        return eager_attention(*(models if self.target == "attention" else ()))

    def scales(self, start: Ask, pairs: PairBatches) -> list[float] | None:
        """Each layer's mean square over all compared clean positions of all rows and the hidden dimension."""
        if not self.normalise:
            return None
        totals: list[float] = []
        values = 0
        for numbers in chunks(range(len(pairs.rows))):
            states = start(numbers)
            squares = [float(layer.float().square().sum()) for layer in states]
            totals = [sum(pair) for pair in zip(totals or [0.0] * len(squares), squares, strict=True)]
            values += states[0].numel()
        return [total / values for total in totals]

    def distance(self, student: States, teacher: States, scales: Sequence[float] | None) -> "torch.Tensor":
        """The mean over layers of each layer's sum over places, divided by its scale, without the weight."""
        scales = scales or [1.0] * len(student)
        layers = [
            self._layer(one.float(), other.float()) / scale
            for one, other, scale in zip(student, teacher, scales, strict=True)
        ]
        return sum(layers) / len(layers)

    def summed(self, student: States, teacher: States, batch: dict, scales: Sequence[float] | None) -> "torch.Tensor":
        """The weighted distance."""
        return self.weight * self.distance(student, teacher, scales)

    def difference(self, states: States, others: States) -> float:
        """The largest difference in any layer, as a share of that layer's largest value."""
        return max(
            float((one.float() - other.float()).abs().max() / other.abs().max())
            for one, other in zip(states, others, strict=True)
        )

    @contextmanager
    def begin(self, trainee: Trainee, rows: Sequence[PairRow], settings: TrainingSettings) -> Iterator[Objective]:
        """Also finds the trained tensors that no compared state is computed from."""
        windows = self.batches(rows, trainee.probe.device)
        with super().begin(trainee, rows, settings) as objective:
            objective.unreachable = self._unreachable(trainee, windows)
            yield objective
        objective.checks |= {f"matched_{of.__name__}": float(of(windows.lengths)) for of in (min, median, max)}
        objective.checks["unreachable_tensors"] = float(len(objective.unreachable))

    def _unreachable(self, trainee: Trainee, windows: PairBatches) -> frozenset[str]:
        """As the last layer's output projection in AttCT."""
        import torch

        trainee.model.eval()
        total = sum(layer.float().sum() for layer in self.read(trainee.model, windows.wrapped([0])))
        names, tensors = zip(*trainee.trainable().items(), strict=True)
        gradients = torch.autograd.grad(total, tensors, allow_unused=True)
        return frozenset(name for name, gradient in zip(names, gradients, strict=True) if gradient is None)

    def _layer(self, student: "torch.Tensor", teacher: "torch.Tensor") -> "torch.Tensor":
        from torch.nn import functional

        if self.target == "mlp":
            return (1 - functional.cosine_similarity(student, teacher, dim=-1)).sum()
        if self.target == "attention":
            return _jensen_shannon(student, teacher).sum() / student.shape[-1]
        squares = functional.mse_loss(student, teacher, reduction="sum")
        return squares / student.shape[-1] if self.hidden == "mean" else squares


def _jensen_shannon(student: "torch.Tensor", teacher: "torch.Tensor") -> "torch.Tensor":
    """The terms of ½·KL(p ∥ m) + ½·KL(q ∥ m) in nats, with m = (p + q)/2; sums over keys give the divergence.

    p and q are attention to keys of the window, not normalised anew: attention that leaves for the wrapper counts. The
    sum is at least 0, and 0 only where both are the same, whatever they sum to (the log-sum inequality).
    """
    middle = ((student + teacher) / 2).clamp(min=_SMALLEST).log()
    one = student * (student.clamp(min=_SMALLEST).log() - middle)
    return (one + teacher * (teacher.clamp(min=_SMALLEST).log() - middle)) / 2
