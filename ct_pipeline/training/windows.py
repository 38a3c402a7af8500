"""Positions that a clean and a wrapped prompt share, row by row: the last tokens of both, however long the wrapper."""

from collections.abc import Sequence
from typing import Literal

from ct_pipeline.training.examples import PairRow

WindowKind = Literal["matched", "trailing"]


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
