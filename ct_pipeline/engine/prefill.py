"""The forward pass over prompts: each distinct prompt once, and not again when the next call has the same prompts."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ct_pipeline.engine.batches import left_padded
from ct_pipeline.engine.kv_cache import Prefilled, full_length_cache
from ct_pipeline.engine.serving import Served

if TYPE_CHECKING:
    import torch

Row = tuple[int, tuple[int, ...]]
"""The number of a row's stack of adapters, and its prompt."""


class Prefill:
    """Runs prompts and remembers the last ones: greedy and sampled measurements ask the same prompts in turn."""

    def __init__(self, positions: int, memory: int, layers: int, device: "torch.device") -> None:
        """Sets the limits.

        Args:
            positions: most positions of one forward pass; on a CPU more of them fall out of its cache and take longer.
            memory: most bytes that are kept between calls.
            layers: how many attention layers the model has.
            device: where the model lives.
        """
        self._positions = positions
        self._memory = memory
        self._layers = layers
        self._device = device
        self._held: OrderedDict[tuple, Prefilled] = OrderedDict()

    def run(self, served: Served, rows: Sequence[Row]) -> list[Prefilled]:
        """Prefilled rows, in order, in parts of nearly equal length if `rows` are sorted by it."""
        size = max(self._positions // max(len(prompt) for _, prompt in rows), 1)
        return [self._part(served, tuple(rows[start : start + size])) for start in range(0, len(rows), size)]

    def clear(self) -> None:
        """Forgets what was remembered."""
        self._held.clear()

    def _part(self, served: Served, rows: tuple[Row, ...]) -> Prefilled:
        import torch

        key = (served.key, rows)
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key]
        cache = full_length_cache(self._layers)
        ids, mask, position_ids = left_padded([prompt for _, prompt in rows], self._device)
        logits = served.logits(
            torch.tensor([stack for stack, _ in rows], device=self._device),
            input_ids=ids,
            attention_mask=mask,
            position_ids=position_ids,
            past_key_values=cache,
            logits_to_keep=1,
        )[:, -1].float()
        keys, values = zip(*((layer.keys, layer.values) for layer in cache.layers), strict=True)
        part = Prefilled(keys, values, logits)
        room = self._memory - part.bytes
        if room >= 0:
            while sum(held.bytes for held in self._held.values()) > room:
                self._held.popitem(last=False)
            self._held[key] = part
        return part
