"""How rows of token ids become padded batches that fit into memory."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ct_pipeline.engine.protocol import Sampling
from ct_pipeline.settings.errors import UserError

if TYPE_CHECKING:
    import torch


R = TypeVar("R")


@dataclass(frozen=True)
class Share:
    """Part of one row's work: `samples` completions of prompt `row`, from number `first` on."""

    row: int
    first: int
    samples: int


def check_sampling(sampling: Sampling) -> None:
    """Refuses ways of drawing that mean nothing, on any engine; ValueError."""
    if sampling.samples < 1 or sampling.max_new_tokens < 1:
        raise ValueError(f"samples and max_new_tokens are at least 1: {sampling}")
    if sampling.temperature < 0 or not 0 < sampling.top_p <= 1:
        raise ValueError(f"temperature is at least 0 and top_p in (0, 1]: {sampling}")
    if sampling.temperature == 0 and sampling.samples > 1:
        raise ValueError(f"at temperature 0 a prompt has one completion, not {sampling.samples} samples")
    if sampling.beams < 1 or (sampling.beams > 1 and sampling.temperature > 0):
        raise ValueError(f"beams is at least 1, and more than one need temperature 0: {sampling}")


def check_ids(sequences: Iterable[Sequence[int]], rows: int, name: str) -> None:
    """UserError where a token has no row in a model's embedding: its tokenizer is another model's, or grew without it.

    Args:
        sequences: token ids of prompts or completions.
        rows: of the embedding.
        name: of the model.
    """
    largest = max((max(ids) for ids in sequences if ids), default=-1)
    if largest >= rows:
        raise UserError(
            f"the tokenizer of {name} gives the token {largest:,}, its embedding has {rows:,} rows: it is another model's "
            "tokenizer, or the embedding was not resized when tokens were added"
        )


def check_lengths(prompts: Sequence[Sequence[int]], more: Sequence[int], window: int, what: str) -> None:
    """Refuses empty prompts and rows that do not fit into the model's context window.

    Raises:
        ValueError: names the first such row, its length and the limit.
    """
    for row, (prompt, extra) in enumerate(zip(prompts, more, strict=True)):
        if not len(prompt):
            raise ValueError(f"row {row}: the prompt is empty")
        if len(prompt) + extra > window:
            raise ValueError(
                f"row {row}: {len(prompt)} prompt tokens and {extra} {what} tokens exceed the context window of "
                f"{window}"
            )


def shares_by_length(lengths: Sequence[int], samples: int, new: int, most_tokens: int) -> Iterator[list[Share]]:
    """Groups rows of similar length into batches of at most `most_tokens` positions, padding and new ones too."""
    batch: list[Share] = []
    rows = 0
    for row in sorted(range(len(lengths)), key=lambda r: (-lengths[r], r)):
        done = 0
        while done < samples:
            # Rows come longest first, so the batch's first row sets the width of all.
            width = lengths[batch[0].row if batch else row] + new
            room = max(most_tokens // width, 1) - rows
            if room < min(samples - done, most_tokens // width or 1):
                yield batch
                batch, rows = [], 0
                continue
            count = min(samples - done, room)
            batch.append(Share(row, done, count))
            done, rows = done + count, rows + count
    if batch:
        yield batch


def within_memory(
    batch: Sequence[Share], run: Callable[[list[Share]], R], make_room: Callable[[], None]
) -> Iterator[tuple[list[Share], R]]:
    """Runs a batch; in halves, and halves of halves, where the device has no memory for it.

    Args:
        batch: what is computed together.
        run: computes a part of it.
        make_room: called after each lack of memory.

    Yields:
        The parts in their order, with what `run` returned.

    Raises:
        UserError: there is no memory for one sample of one row.
    """
    import torch

    waiting = [list(batch)]
    while waiting:
        part = waiting.pop(0)
        try:
            result = run(part)
        except torch.OutOfMemoryError as error:
            halves = _halved(part)
            if not halves:
                raise UserError(
                    "the device has no memory for a single row: take engine: vllm with more `devices`, shorten "
                    "max_new_tokens, or take a smaller model"
                ) from error
        else:
            yield part, result
            continue
        # Outside the handler: the error holds the tensors of the run.
        make_room()
        torch.cuda.empty_cache()
        waiting[:0] = halves


def _halved(batch: list[Share]) -> list[list[Share]]:
    """A batch as two of about half the work; none where it is one sample of one row."""
    if len(batch) > 1:
        middle = len(batch) // 2
        return [batch[:middle], batch[middle:]]
    (share,) = batch
    half = share.samples // 2
    if not half:
        return []
    return [[replace(share, samples=half)], [replace(share, first=share.first + half, samples=share.samples - half)]]


def left_padded(
    rows: Sequence[Sequence[int]], device: "torch.device"
) -> tuple["torch.Tensor", "torch.Tensor", "torch.Tensor"]:
    """Pads rows on the left.

    Returns:
        Token ids, attention mask and position ids, each of shape (rows, longest), int64.
    """
    import torch

    width = max(map(len, rows))
    ids = np.zeros((len(rows), width), dtype=np.int64)
    mask = np.zeros((len(rows), width), dtype=np.int64)
    for i, row in enumerate(rows):
        ids[i, width - len(row) :] = row
        mask[i, width - len(row) :] = 1
    positions = np.maximum(mask.cumsum(1) - 1, 0)
    return tuple(torch.from_numpy(array).to(device) for array in (ids, mask, positions))
