"""Token rows as padded batches, and pairs of a clean and a wrapped prompt as batches of either side."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from ct_pipeline.models.loading import BaseModel
from ct_pipeline.training.examples import PairRow

if TYPE_CHECKING:
    import torch

Side = Literal["left", "right"]
IGNORED = -100


def check_pairs(base: BaseModel, rows: Sequence[PairRow], completions: bool) -> None:
    """Refuses rows on which a consistency loss is void or undefined.

    Args:
        base: the base model.
        rows: to be trained on.
        completions: whether the loss looks at them.

    Raises:
        ValueError: no rows, or a row with an empty prompt or completion, equal prompts, or too many tokens; names it.
    """
    if not rows:
        raise ValueError("there are no pairs to train on")
    for number, row in enumerate(rows):
        if not row.clean_ids or not row.wrapped_ids:
            raise ValueError(f"row {number}: a prompt is empty")
        if completions and not row.completion_ids:
            raise ValueError(f"row {number}: the completion is empty")
        if row.clean_ids == row.wrapped_ids:
            raise ValueError(
                f"row {number}: clean and wrapped prompt are the same, so there is nothing to make consistent"
            )
        length = max(len(row.clean_ids), len(row.wrapped_ids)) + completions * len(row.completion_ids)
        if length > base.context_window:
            raise ValueError(f"row {number}: {length} tokens exceed the context window of {base.context_window}")


def padded(
    prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], side: Side
) -> dict[str, "torch.Tensor"]:
    """Prompts with their completions as one batch, padded on `side`; token ids, a completion per prompt.

    Returns:
        input_ids, attention_mask, position_ids and labels (completion tokens, the rest ignored); each of shape (rows,
        longest).
    """
    import torch

    texts = [(*prompt, *completion) for prompt, completion in zip(prompts, completions, strict=True)]
    width = max(map(len, texts))
    ids = np.zeros((len(texts), width), dtype=np.int64)
    mask, positions, labels = np.zeros_like(ids), np.zeros_like(ids), np.full_like(ids, IGNORED)
    for i, (text, prompt) in enumerate(zip(texts, prompts, strict=True)):
        start = width - len(text) if side == "left" else 0
        end = start + len(text)
        ids[i, start:end], mask[i, start:end], positions[i, start:end] = text, 1, range(len(text))
        labels[i, start + len(prompt) : end] = text[len(prompt) :]
    arrays = {"input_ids": ids, "attention_mask": mask, "position_ids": positions, "labels": labels}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def logits_at(model: "torch.nn.Module", batch: dict[str, "torch.Tensor"], places: "torch.Tensor") -> "torch.Tensor":
    """Logits at rows and columns of a batch, of shape (2, places); shape (places, vocabulary), float32."""
    row, column = places
    # Only these columns are projected onto the vocabulary.
    columns, kept = column.unique(return_inverse=True)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "position_ids")}
    return model(**inputs, use_cache=False, logits_to_keep=columns).logits[row, kept].float()


def response_tokens(batch: dict[str, "torch.Tensor"]) -> "torch.Tensor":
    """The completion tokens, row after row; shape (completion tokens,)."""
    return batch["labels"][batch["labels"] != IGNORED]


@dataclass(frozen=True)
class PairBatches:
    """Pairs as batches of either side, with the places in them that are compared, the same on both sides.

    A batch is that of `padded` with `places`: batch row and column, or batch row, query's and key's column, of each
    place, row after row; shape (2 or 3, places).

    Attributes:
        rows: checked pairs.
        lengths: compared positions of each row, its last ones.
        device: where the model is.
        completions: whether completions follow the prompts.
        predicting: whether the last position, which predicts nothing in the row, is left out.
        crossed: whether places are pairs of a query and a key at or before it, both compared positions.
    """

    rows: Sequence[PairRow]
    lengths: Sequence[int]
    device: "torch.device"
    completions: bool = False
    predicting: bool = False
    crossed: bool = False

    def places(self, number: int) -> int:
        """How many places one row has."""
        length = self.lengths[number]
        return length * (length + 1) // 2 if self.crossed else length

    def positions(self, numbers: Iterable[int]) -> int:
        """How many compared positions some rows have together."""
        return sum(self.lengths[n] for n in numbers)

    def by_length(self) -> list[int]:
        """Row numbers in the order of their clean sides: rows of similar length together waste the least padding."""
        lengths = [len(r.clean_ids) + self.completions * n for r, n in zip(self.rows, self.lengths, strict=True)]
        return sorted(range(len(self.rows)), key=lengths.__getitem__)

    def clean(self, numbers: Sequence[int]) -> dict[str, "torch.Tensor"]:
        """The clean side of some rows, on the device."""
        return self._on_device(self._batch([self.rows[n].clean_ids for n in numbers], numbers, "left"))

    def wrapped(self, numbers: Sequence[int]) -> dict[str, "torch.Tensor"]:
        """The wrapped side of some rows, on the device."""
        return self._on_device(self._batch([self.rows[n].wrapped_ids for n in numbers], numbers, "left"))

    def collated(self, numbers: Sequence[int], side: Side) -> dict[str, object]:
        """The wrapped side of some rows for a trainer, which moves it to the device; `rows` holds their numbers."""
        return self._batch([self.rows[n].wrapped_ids for n in numbers], numbers, side) | {"rows": list(numbers)}

    def _batch(self, prompts: Sequence[Sequence[int]], numbers: Sequence[int], side: Side) -> dict[str, "torch.Tensor"]:
        import torch

        texts = [self.rows[n].completion_ids if self.completions else () for n in numbers]
        batch = padded(prompts, texts, side)
        width = batch["input_ids"].shape[1]
        places = []
        for row, (prompt, text, number) in enumerate(zip(prompts, texts, numbers, strict=True)):
            length = self.lengths[number]
            start = (width if side == "left" else len(prompt) + len(text)) - length - self.predicting
            columns = np.tril_indices(length) if self.crossed else (np.arange(length),)
            places.append(np.stack([np.full(len(columns[0]), row), *(column + start for column in columns)]))
        return batch | {"places": torch.from_numpy(np.concatenate(places, axis=1))}

    def _on_device(self, batch: dict[str, "torch.Tensor"]) -> dict[str, "torch.Tensor"]:
        return {name: tensor.to(self.device) for name, tensor in batch.items()}
