"""Token rows as padded batches, and the next-token distributions at the positions that a loss looks at."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from ct_pipeline.models.loading import BaseModel
from ct_pipeline.training.examples import PairRow

if TYPE_CHECKING:
    import torch

Side = Literal["left", "right"]
Window = Literal["response", "trailing"]
IGNORED = -100


def check_pairs(base: BaseModel, rows: Sequence[PairRow]) -> None:
    """Refuses rows on which a consistency loss is void or undefined.

    Raises:
        ValueError: no rows, or a row with an empty prompt or completion, equal prompts, or too many tokens; names it.
    """
    if not rows:
        raise ValueError("there are no pairs to train on")
    for number, row in enumerate(rows):
        if not row.clean_ids or not row.wrapped_ids:
            raise ValueError(f"row {number}: a prompt is empty")
        if not row.completion_ids:
            raise ValueError(f"row {number}: the completion is empty")
        if row.clean_ids == row.wrapped_ids:
            raise ValueError(
                f"row {number}: clean and wrapped prompt are the same, so there is nothing to make consistent"
            )
        length = max(len(row.clean_ids), len(row.wrapped_ids)) + len(row.completion_ids)
        if length > base.context_window:
            raise ValueError(f"row {number}: {length} tokens exceed the context window of {base.context_window}")


def padded(
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    side: Side,
    trailing: Sequence[int] | None = None,
) -> dict[str, "torch.Tensor"]:
    """Prompts with their completions as one padded batch.

    Args:
        prompts: token ids.
        completions: token ids, one per prompt.
        side: where the padding goes.
        trailing: if given, `predicts` marks so many last positions of each row, whatever they predict.

    Returns:
        input_ids, attention_mask, position_ids, labels (completion tokens, the rest ignored) and `predicts` (whether
        the next token is a completion token); each of shape (rows, longest).
    """
    import torch

    texts = [(*prompt, *completion) for prompt, completion in zip(prompts, completions, strict=True)]
    width = max(map(len, texts))
    ids = np.zeros((len(texts), width), dtype=np.int64)
    mask, positions, predicts = np.zeros_like(ids), np.zeros_like(ids), np.zeros(ids.shape, dtype=bool)
    labels = np.full_like(ids, IGNORED)
    for i, (text, prompt) in enumerate(zip(texts, prompts, strict=True)):
        start = width - len(text) if side == "left" else 0
        end = start + len(text)
        ids[i, start:end], mask[i, start:end], positions[i, start:end] = text, 1, range(len(text))
        labels[i, start + len(prompt) : end] = text[len(prompt) :]
        window = slice(start + len(prompt) - 1, end - 1) if trailing is None else slice(end - trailing[i], end)
        predicts[i, window] = True
    arrays = {
        "input_ids": ids,
        "attention_mask": mask,
        "position_ids": positions,
        "labels": labels,
        "predicts": predicts,
    }
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def response_logits(model: "torch.nn.Module", batch: dict[str, "torch.Tensor"]) -> "torch.Tensor":
    """Logits at the positions that `predicts` marks, row after row; shape (marked positions, vocabulary), float32."""
    predicts = batch["predicts"]
    # Only columns with a marked position are projected onto the vocabulary.
    columns = predicts.any(0).nonzero().squeeze(1)
    logits = model(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        position_ids=batch["position_ids"],
        use_cache=False,
        logits_to_keep=columns,
    ).logits
    return logits[predicts[:, columns]].float()


def response_tokens(batch: dict[str, "torch.Tensor"]) -> "torch.Tensor":
    """The completion tokens in the order of `response_logits`, unless that is of a window; shape (completion tokens,)."""
    return batch["labels"][batch["labels"] != IGNORED]


@dataclass(frozen=True)
class PairBatches:
    """Pair rows as batches of either side, with the positions of the loss marked row by row.

    Attributes:
        rows: checked pairs.
        device: where the model is.
        window: "response" marks the positions that predict a completion token; "trailing" marks, on both sides, the
            last min(clean, wrapped) positions of prompt and completion.
    """

    rows: Sequence[PairRow]
    device: "torch.device"
    window: Window

    @cached_property
    def sizes(self) -> list[int]:
        """How many positions of the loss each row has, the same on both sides."""
        if self.window == "response":
            return [len(row.completion_ids) for row in self.rows]
        return [min(len(row.clean_ids), len(row.wrapped_ids)) + len(row.completion_ids) for row in self.rows]

    def clean(self, numbers: Sequence[int]) -> dict[str, "torch.Tensor"]:
        """The clean side of some rows, on the device."""
        return self._on_device(self._batch([self.rows[n].clean_ids for n in numbers], numbers, "left"))

    def wrapped(self, numbers: Sequence[int]) -> dict[str, "torch.Tensor"]:
        """The wrapped side of some rows, on the device."""
        return self._on_device(self._batch([self.rows[n].wrapped_ids for n in numbers], numbers, "left"))

    def collated(self, numbers: Sequence[int], side: Side) -> dict[str, object]:
        """The wrapped side of some rows for a trainer, which moves it to the device; `rows` holds their numbers."""
        return self._batch([self.rows[n].wrapped_ids for n in numbers], numbers, side) | {"rows": list(numbers)}

    def _batch(
        self, prompts: Sequence[tuple[int, ...]], numbers: Sequence[int], side: Side
    ) -> dict[str, "torch.Tensor"]:
        trailing = None if self.window == "response" else [self.sizes[n] for n in numbers]
        return padded(prompts, [self.rows[n].completion_ids for n in numbers], side, trailing)

    def _on_device(self, batch: dict[str, "torch.Tensor"]) -> dict[str, "torch.Tensor"]:
        return {name: tensor.to(self.device) for name, tensor in batch.items()}
