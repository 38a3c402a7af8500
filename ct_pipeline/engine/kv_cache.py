"""A key-value cache that is allocated once per batch, so that a step writes one column instead of copying all of it."""

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers.cache_utils import Cache, DynamicLayer


@cache
def _preallocated_layer() -> "type[DynamicLayer]":
    import torch
    from transformers.cache_utils import DynamicLayer

    class PreallocatedLayer(DynamicLayer):
        """Keys and values of one layer: the first `rows` rows and `length` positions of two larger buffers."""

        def __init__(self, keys: torch.Tensor, values: torch.Tensor, counts: torch.Tensor, capacity: int) -> None:
            super().__init__()
            self.rows, self.length = int(counts.sum()), keys.shape[-2]
            self.buffers = []
            for states in (keys, values):
                rows, heads, length, width = states.shape
                buffer = states.new_empty(self.rows, heads, capacity, width)
                expanded = states if self.rows == rows else states.repeat_interleave(counts, 0)
                buffer[:, :, :length] = expanded
                self.buffers.append(buffer)
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

        def keep(self, rows: int, holes: torch.Tensor, movers: torch.Tensor) -> None:
            for buffer in self.buffers:
                buffer[holes, :, : self.length] = buffer[movers, :, : self.length]
            self.rows = rows

    return PreallocatedLayer


def expanded_cache(prefilled: "Cache", counts: "torch.Tensor", capacity: int) -> "Cache":
    """Copies a prefilled cache into one with room for more positions, row i repeated `counts[i]` times.

    Args:
        prefilled: a cache of plain full-length layers after the prompts' forward pass.
        counts: shape (rows,), how often each row is repeated.
        capacity: positions to make room for, the prompt's included.
    """
    from transformers.cache_utils import Cache

    layer_class = _preallocated_layer()
    return Cache(layers=[layer_class(layer.keys, layer.values, counts, capacity) for layer in prefilled.layers])


def full_length_cache(layers: int) -> "Cache":
    """An empty cache that keeps every position of every layer, sliding windows being the mask's business."""
    from transformers.cache_utils import Cache, DynamicLayer

    return Cache(layers=[DynamicLayer() for _ in range(layers)])


def keep_rows(cache: "Cache", rows: int, holes: "torch.Tensor", movers: "torch.Tensor") -> None:
    """Shrinks a cache to `rows` rows after moving the rows `movers` into the places `holes`."""
    for layer in cache.layers:
        layer.keep(rows, holes, movers)
