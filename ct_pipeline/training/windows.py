"""Positions that a clean and a wrapped prompt share, row by row: the last tokens of both, however long the wrapper."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from ct_pipeline.models.loading import BaseModel
from ct_pipeline.training.examples import PairRow
from ct_pipeline.training.pairs import Side, padded

if TYPE_CHECKING:
    import torch

WindowKind = Literal["matched", "trailing"]


def check_prompts(base: BaseModel, rows: Sequence[PairRow]) -> None:
    """Refuses prompts whose internal states cannot be compared; completions do not matter.

    Raises:
        ValueError: no rows, or a row with an empty prompt, equal prompts, or too many tokens; names it.
    """
    if not rows:
        raise ValueError("there are no pairs to train on")
    for number, row in enumerate(rows):
        if not row.clean_ids or not row.wrapped_ids:
            raise ValueError(f"row {number}: a prompt is empty")
        if row.clean_ids == row.wrapped_ids:
            raise ValueError(
                f"row {number}: clean and wrapped prompt are the same, so there is nothing to make consistent"
            )
        length = max(len(row.clean_ids), len(row.wrapped_ids))
        if length > base.context_window:
            raise ValueError(f"row {number}: {length} tokens exceed the context window of {base.context_window}")


def matched_suffix(clean: Sequence[int], wrapped: Sequence[int]) -> int:
    """Length of the longest token suffix that both prompts end with."""
    length = 0
    for one, other in zip(reversed(clean), reversed(wrapped), strict=False):
        if one != other:
            break
        length += 1
    return length


def window_lengths(rows: Sequence[PairRow], kind: WindowKind) -> tuple[int, ...]:
    """How many last positions of both prompts are compared, for each row.

    "matched" is the longest common token suffix (arXiv 2510.27062); "trailing" the shorter prompt's length, whatever
    the tokens there, as code released with arXiv 2606.03810 has it.

    Raises:
        ValueError: a row whose prompts end with different tokens has no matched position; or an unknown kind.
    """
    if kind == "trailing":
        return tuple(min(len(row.clean_ids), len(row.wrapped_ids)) for row in rows)
    if kind != "matched":
        raise ValueError(f"window: {kind} is none of matched, trailing")
    lengths = tuple(matched_suffix(row.clean_ids, row.wrapped_ids) for row in rows)
    if 0 in lengths:
        number = lengths.index(0)
        row = rows[number]
        raise ValueError(
            f"row {number}: the prompts end with different tokens ({row.clean_ids[-1]} and {row.wrapped_ids[-1]}), so no "
            "position is matched: end both alike, or set window: trailing"
        )
    return lengths


@dataclass(frozen=True)
class Windows:
    """Pairs as batches of one side, with the places in them that are compared.

    Attributes:
        rows: the pairs.
        lengths: compared last positions of each row.
        pairs: whether places are pairs of a query and a key at or before it, both inside the window; else positions.
        device: of the model.
    """

    rows: Sequence[PairRow]
    lengths: Sequence[int]
    pairs: bool
    device: "torch.device"

    def places(self, number: int) -> int:
        """How many places one row has."""
        length = self.lengths[number]
        return length * (length + 1) // 2 if self.pairs else length

    def positions(self, numbers: Iterable[int]) -> int:
        """How many positions some rows have together."""
        return sum(self.lengths[n] for n in numbers)

    def clean(self, numbers: Sequence[int]) -> dict[str, "torch.Tensor"]:
        """The clean prompts on the model's device; see `wrapped`."""
        return self._on_device(self._batch([self.rows[n].clean_ids for n in numbers], numbers, "left"))

    def wrapped(self, numbers: Sequence[int]) -> dict[str, "torch.Tensor"]:
        """The wrapped prompts on the model's device.

        Returns:
            input_ids, attention_mask and position_ids, of shape (rows, longest), and `places`: batch row and column, or
            batch row, query's and key's column, of each place, row after row and the same on both sides; shape
            (2 or 3, places).
        """
        return self._on_device(self._batch([self.rows[n].wrapped_ids for n in numbers], numbers, "left"))

    def collated(self, numbers: Sequence[int], side: Side) -> dict[str, object]:
        """The wrapped prompts for a trainer, which moves them to the device; `rows` holds their numbers."""
        return self._batch([self.rows[n].wrapped_ids for n in numbers], numbers, side) | {"rows": list(numbers)}

    def _batch(self, prompts: Sequence[Sequence[int]], numbers: Sequence[int], side: Side) -> dict[str, "torch.Tensor"]:
        import torch

        batch = padded(prompts, [()] * len(prompts), side)
        width = batch["input_ids"].shape[1]
        places = []
        for row, (prompt, number) in enumerate(zip(prompts, numbers, strict=True)):
            length = self.lengths[number]
            start = (width if side == "left" else len(prompt)) - length
            columns = np.tril_indices(length) if self.pairs else (np.arange(length),)
            places.append(np.stack([np.full(len(columns[0]), row), *(column + start for column in columns)]))
        kept = {name: batch[name] for name in ("input_ids", "attention_mask", "position_ids")}
        return kept | {"places": torch.from_numpy(np.concatenate(places, axis=1))}

    def _on_device(self, batch: dict[str, "torch.Tensor"]) -> dict[str, "torch.Tensor"]:
        return {name: tensor.to(self.device) for name, tensor in batch.items()}
