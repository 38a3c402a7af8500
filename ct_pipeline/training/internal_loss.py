"""Which internal states are made consistent, and how far two models' states are apart."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from ct_pipeline.training.internal_states import Target
from ct_pipeline.training.windows import WindowKind

if TYPE_CHECKING:
    import torch

States = list["torch.Tensor"]
"""One tensor per layer, of shape (places, channels); see `internal_states.read_states`."""

_SMALLEST = 1e-9


@dataclass(frozen=True)
class InternalLoss:
    """Which states are made consistent, with whose, where, and how their distance is scaled.

    Attributes:
        target: "residual" is ACT (arXiv 2510.27062), "mlp" MLPCT and "attention" AttCT (both arXiv 2606.05817).
        teacher: "frozen" is the start model; "live" the model in training, without dropout and without gradient, as
            released code has it.
        window: "matched" compares the longest common token suffix of the two prompts, row by row; "trailing" the last
            min(clean, wrapped) positions.
        hidden: for residual, whether squared differences are summed or averaged over the hidden dimension.
        normalise: for residual, whether each layer's distance is divided by the start model's mean square over all
            compared clean positions of the training set and the hidden dimension.
        weight: multiplies the loss.

    Raises:
        ValueError: an unknown choice, one that the target does not have, or a weight that is not positive.
    """

    target: Target
    teacher: Literal["frozen", "live"] = "frozen"
    window: WindowKind = "matched"
    hidden: Literal["sum", "mean"] = "sum"
    normalise: bool = False
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Checks the choices."""
        known = {"target": get_args(Target), "teacher": ("frozen", "live"), "window": get_args(WindowKind)}
        for name, choices in (known | {"hidden": ("sum", "mean")}).items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}: {getattr(self, name)} is none of {', '.join(choices)}")
        if self.target != "residual" and (self.hidden != "sum" or self.normalise):
            raise ValueError(
                f"hidden and normalise scale the distances of target: residual; {self.target} has no scale"
            )
        if not 0 < self.weight < math.inf:
            raise ValueError(f"weight: {self.weight} is not positive and finite")


@dataclass(frozen=True)
class Distances:
    """How far two models' states are apart under one loss, without its weight.

    Attributes:
        loss: the target, and how residual distances are scaled.
        scales: per layer, what squared residual differences are divided by; None for 1.
    """

    loss: InternalLoss
    scales: Sequence[float] | None = None

    def total(self, student: States, teacher: States) -> "torch.Tensor":
        """The mean over layers of each layer's sum over places.

        Args:
            student: with gradients, if wanted.
            teacher: at the same places.
        """
        scales = self.scales or [1.0] * len(student)
        layers = [
            self._layer(one.float(), other.float()) / scale
            for one, other, scale in zip(student, teacher, scales, strict=True)
        ]
        return sum(layers) / len(layers)

    def _layer(self, student: "torch.Tensor", teacher: "torch.Tensor") -> "torch.Tensor":
        from torch.nn import functional

        if self.loss.target == "mlp":
            return (1 - functional.cosine_similarity(student, teacher, dim=-1)).sum()
        if self.loss.target == "attention":
            return _jensen_shannon(student, teacher).sum() / student.shape[-1]
        squares = functional.mse_loss(student, teacher, reduction="sum")
        return squares / student.shape[-1] if self.loss.hidden == "mean" else squares


def _jensen_shannon(student: "torch.Tensor", teacher: "torch.Tensor") -> "torch.Tensor":
    """The terms of ½·KL(p ∥ m) + ½·KL(q ∥ m) in nats, with m = (p + q)/2; sums over keys give the divergence.

    p and q are attention to keys of the window, not normalised anew: attention that leaves for the wrapper counts. The
    sum is at least 0, and 0 only where both are the same, whatever they sum to (the log-sum inequality).
    """
    middle = ((student + teacher) / 2).clamp(min=_SMALLEST).log()
    one = student * (student.clamp(min=_SMALLEST).log() - middle)
    return (one + teacher * (teacher.clamp(min=_SMALLEST).log() - middle)) / 2
