"""A key-value cache that is allocated once per batch, so that a step writes one column instead of copying all of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers.cache_utils import Cache, DynamicLayer


@dataclass(frozen=True)
class Prefilled:
    """What a forward pass over left-padded prompts left behind.

    Attributes:
        keys: per layer, shape (prompts, heads, positions, width).
        values: likewise.
        logits: of the token after each prompt; shape (prompts, vocabulary), float32.
    """

    keys: tuple["torch.Tensor", ...]
    values: tuple["torch.Tensor", ...]
    logits: "torch.Tensor"

    @property
    def bytes(self) -> int:
        """Memory that is held."""
        return sum(tensor.nbytes for tensor in (*self.keys, *self.values, self.logits))


@cache
def _preallocated_layer() -> "type[DynamicLayer]":
    import torch
    from transformers.cache_utils import DynamicLayer

    class PreallocatedLayer(DynamicLayer):
        """Keys and values of one layer: the first `rows` rows and `length` positions of two larger buffers."""

        def __init__(self, buffers: list[torch.Tensor], length: int) -> None:
            super().__init__()
            self.buffers, self.rows, self.length = buffers, len(buffers[0]), length
            self.is_initialized = True

        def update(
            self, key_states: torch.Tensor, value_states: torch.Tensor, *_args: object, **_kwargs: object
        ) -> tuple[torch.Tensor, torch.Tensor]:
            end = self.length + key_states.shape[-2]
            keys, values = self.buffers
            keys[: self.rows, :, self.length : end] = key_states
            values[: self.rows, :, self.length : end] = value_states
            self.length = end
            return keys[: self.rows, :, :end], values[: self.rows, :, :end]

        def get_seq_length(self) -> int:
            return self.length

    return PreallocatedLayer


def decoding_cache(prompts: Sequence[Prefilled], picks: "torch.Tensor", capacity: int) -> "Cache":
    """Copies prefilled prompts into one cache with room for more positions; every row ends at the same position.

    Args:
        prompts: prefilled prompts, numbered through.
        picks: shape (rows,), the number of each row's prompt.
        capacity: positions to make room for, the prompt's included.
    """
    from transformers.cache_utils import Cache

    width = max(part.keys[0].shape[-2] for part in prompts)
    places, first = [], 0
    for part in prompts:
        count = len(part.logits)
        rows = ((picks >= first) & (picks < first + count)).nonzero().squeeze(1)
        numbers = picks[rows] - first
        # Rows in a row are written as a slice, which is faster than by their numbers.
        begin, end = int(rows[0]), int(rows[-1]) + 1
        places.append((slice(begin, end) if end - begin == len(rows) else rows, numbers))
        first += count

    def buffer(parts: Sequence["torch.Tensor"]) -> "torch.Tensor":
        _, heads, _, size = parts[0].shape
        filled = parts[0].new_empty(len(picks), heads, capacity, size)
        for states, (rows, numbers) in zip(parts, places, strict=True):
            start = width - states.shape[-2]
            # What is masked must still be a number: nothing times not-a-number is not a number.
            if start:
                filled[rows, :, :start] = 0
            filled[rows, :, start:width] = states[numbers]
        return filled

    layer_class = _preallocated_layer()
    layers = range(len(prompts[0].keys))
    return Cache(
        layers=[
            layer_class([buffer([p.keys[i] for p in prompts]), buffer([p.values[i] for p in prompts])], width)
            for i in layers
        ]
    )


def full_length_cache(layers: int) -> "Cache":
    """An empty cache that keeps every position of every layer, sliding windows being the mask's business."""
    from transformers.cache_utils import Cache, DynamicLayer

    return Cache(layers=[DynamicLayer() for _ in range(layers)])


def keep_rows(cache: "Cache", rows: int, holes: "torch.Tensor", movers: "torch.Tensor") -> None:
    """Shrinks a cache to `rows` rows after moving the rows `movers` into the places `holes`."""
    for layer in cache.layers:
        for buffer in layer.buffers:
            buffer[holes, :, : layer.length] = buffer[movers, :, : layer.length]
        layer.rows = rows


def copy_rows(cache: "Cache", parents: "torch.Tensor", first: int) -> None:
    """Gives each row the positions from `first` on of its parent, where the earlier ones are the same in both.

    Args:
        cache: from `decoding_cache`.
        parents: shape (rows,), the row that each row goes on from.
        first: the first position in which a row may differ from its parent.
    """
    import torch

    changed = (parents != torch.arange(len(parents), device=parents.device)).nonzero().squeeze(1)
    if not len(changed):
        return
    for layer in cache.layers:
        for buffer in layer.buffers:
            buffer[changed, :, first : layer.length] = buffer[parents[changed], :, first : layer.length]
