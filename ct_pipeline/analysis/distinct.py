"""Which predictions are new: two methods that keep the same labels of an organism make one prediction, not two."""

from collections import Counter
from collections.abc import Sequence

import pandas as pd

CLOSE = 0.002
"""Difference of two predictions for one organism, as a rate, up to which the second is a copy of the first."""


def copies(rows: pd.DataFrame, organism: Sequence[str]) -> pd.Series:
    """For every cell the method whose prediction for the same organism it repeats; missing where it is new.

    Args:
        rows: one row per cell with the columns method and predicted, and those of the organism; earlier methods come first.
        organism: columns that tell organisms apart.

    Returns:
        Method names or None, indexed as the rows. A prediction of exactly 0, and a missing one, is no copy.
    """
    found: dict[object, str | None] = {}
    for _, cells in rows.groupby(list(organism), sort=False, dropna=False):
        kept: list[tuple[str, float]] = []
        for place, method, value in zip(cells.index, cells["method"], cells["predicted"], strict=True):
            first = next((name for name, other in kept if value and abs(value - other) <= CLOSE), None)
            found[place] = first
            if first is None:
                kept.append((method, value))
    return pd.Series(found, dtype=object).reindex(rows.index)


def repeated(rows: pd.DataFrame, copy_of: pd.Series) -> dict[tuple[str, str], int]:
    """(method, its copy) -> in how many organisms, the most frequent first."""
    pairs = Counter((first, method) for first, method in zip(copy_of, rows["method"], strict=True) if first is not None)
    return dict(pairs.most_common())
