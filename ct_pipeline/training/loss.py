"""What a loss is: options that check rows, and make of them the batches and the sum that a training minimises."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ct_pipeline.models.loading import BaseModel
from ct_pipeline.settings.blocks import TrainingSettings
from ct_pipeline.training.adapters import Trainee
from ct_pipeline.training.examples import LabelRow, PairRow

if TYPE_CHECKING:
    import torch

Row = LabelRow | PairRow


@dataclass
class Objective:
    """One loss on the rows of one run. What is minimised is its sum divided by the items of the effective batch.

    Attributes:
        collated: row numbers -> a padded batch of tensors, for the trainer, which moves it to the device.
        items: a batch -> how many items the loss is a sum over: tokens or positions.
        summed: model in training, batch -> the loss summed over the items.
        tokens: items of all rows together.
        checks: invariants that were measured, for the record.
        unreachable: names of trained tensors on which the loss does not depend, so that they must stay as they are.
        of_trl: whether TRL's SFTTrainer computes the loss in place of `summed`, from a batch's `labels`.
    """

    collated: Callable[[Sequence[int]], dict[str, object]]
    items: Callable[[dict], "torch.Tensor | int"]
    summed: Callable[["torch.nn.Module", dict], "torch.Tensor"]
    tokens: int
    checks: dict[str, float] = field(default_factory=dict)
    unreachable: frozenset[str] = frozenset()
    of_trl: bool = False


class Loss(Protocol):
    """What a training minimises: a frozen dataclass of options, one file each."""

    def check(self, base: BaseModel, rows: Sequence[Row]) -> None:
        """Refuses rows, or a base, on which the loss is void or undefined.

        Raises:
            ValueError: names the row.
        """

    def begin(
        self, trainee: Trainee, rows: Sequence[Row], settings: TrainingSettings
    ) -> AbstractContextManager[Objective]:
        """Measures before the first step what has to hold, gives the objective, and measures again after the last step.

        Raises:
            RuntimeError: something that has to hold does not.
        """
