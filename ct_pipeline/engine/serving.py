"""Which model serves which rows: one merged copy per stack of adapters, or one model for rows of several stacks."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ct_pipeline.engine.protocol import Adapters
from ct_pipeline.models.adapters import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    RowAdapters,
    read_adapter,
    with_adapters,
    with_row_adapters,
)
from ct_pipeline.models.loading import BaseModel
from ct_pipeline.models.model import Term, active

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Mixing = Literal["merged", "mixed"]


@dataclass(frozen=True)
class Served:
    """Rows of one call and the model that computes them.

    Attributes:
        key: tells this model's weights from all others.
        rows: which rows of the call.
        model: computes them.
        stacks: per row of the call, the number of its stack in `switch`; zeros where all rows have one stack.
        switch: chooses each row's stack; None where all rows have one.
    """

    key: tuple
    rows: list[int]
    model: "PreTrainedModel"
    stacks: list[int]
    switch: RowAdapters | None = None

    def logits(self, stacks: "torch.Tensor", **inputs: object) -> "torch.Tensor":
        """A forward pass; `stacks`, of shape (rows,), says which stack each row of the inputs has."""
        if self.switch is not None:
            self.switch.choose(stacks)
        return self.model(**inputs).logits


class AdaptedModels:
    """The adapted copies of one base that are kept for later calls."""

    def __init__(self, base: BaseModel, mixing: Mixing, most: int) -> None:
        """Holds at most `most` adapted models; see `TransformersEngine` for the ways of mixing."""
        if mixing not in ("merged", "mixed"):
            raise ValueError(f"mixing is merged or mixed, not {mixing!r}")
        self._base = base
        self._mixing = mixing
        self._most = most
        self._held: OrderedDict[tuple, PreTrainedModel | RowAdapters] = OrderedDict()

    def served(self, adapters: Adapters | list[Adapters], rows: int) -> Iterator[Served]:
        """Splits the rows of a call by the model that serves them, after checking every adapter.

        Raises:
            ValueError: not one stack per row, or an adapter that does not fit; before the first model is returned.
        """
        # Without the terms of weight 0 their rows are the base's, bit for bit.
        distinct = [active(stack) for stack in (adapters if isinstance(adapters, list) else [adapters])]
        stacks = distinct if isinstance(adapters, list) else distinct * rows
        if len(stacks) != rows:
            raise ValueError(f"{rows} prompts need as many stacks of adapters, not {len(stacks)}")
        distinct = list(dict.fromkeys(distinct))
        keys = {stack: tuple(map(_state, stack)) for stack in distinct}
        if len(distinct) > 1:
            self._check([stack for stack in distinct if keys[stack] not in self._held])
        return self._split(stacks, distinct, keys)

    def clear(self) -> None:
        """Forgets all adapted models."""
        self._held.clear()

    def _split(self, stacks: list[Adapters], distinct: list[Adapters], keys: dict[Adapters, tuple]) -> Iterator[Served]:
        if self._mixing == "mixed" and len(distinct) > 1:
            key = ("mixed", *(keys[stack] for stack in distinct))
            numbers = {stack: number for number, stack in enumerate(distinct)}
            switch = self._get(key, lambda: with_row_adapters(self._base, distinct))
            yield Served(key, list(range(len(stacks))), switch.model, [numbers[stack] for stack in stacks], switch)
            return
        for stack in distinct:
            model = self._base.model
            if stack:
                model = self._get(keys[stack], lambda stack=stack: with_adapters(self._base, stack))
            yield Served(keys[stack], [i for i, s in enumerate(stacks) if s == stack], model, [0] * len(stacks))

    def _check(self, stacks: Sequence[Adapters]) -> None:
        for folder in dict.fromkeys(term.adapter for stack in stacks for term in stack):
            read_adapter(folder, self._base)

    def _get(self, key: tuple, make: object) -> object:
        if key not in self._held:
            while len(self._held) >= self._most:
                self._held.popitem(last=False)
            self._held[key] = make()
        self._held.move_to_end(key)
        return self._held[key]


def _state(term: Term) -> tuple:
    # A folder that was overwritten under the same name must not be served from memory.
    files = [term.adapter / name for name in (WEIGHTS_FILE, CONFIG_FILE)]
    stats = [file.stat() for file in files if file.exists()]
    return (str(term.adapter), term.weight, *((stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats))
