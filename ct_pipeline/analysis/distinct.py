"""Which methods predict the same: two that share their candidates and choose alike are one prediction, not two."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

ALIKE = 0.99
"""Correlation over organisms from which two methods' predictions are copies of each other."""
CLOSE = 0.02
"""Mean absolute difference, as a rate, above which correlated predictions are still two."""


def copies(rows: pd.DataFrame, organism: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The first method of each group of copies, in the order of the rows, to all methods of the group.

    Args:
        rows: one row per cell with the columns method and predicted, and those of the organism; missing predictions leave.
        organism: columns that tell organisms apart.
    """
    table = rows.dropna(subset=["predicted"]).pivot(index=list(organism), columns="method", values="predicted")
    groups: dict[str, list[str]] = {}
    for method in dict.fromkeys(rows["method"]):
        first = next((name for name in groups if _alike(table, name, method)), None)
        groups.setdefault(method if first is None else first, []).append(method)
    return {name: tuple(members) for name, members in groups.items()}


def _alike(table: pd.DataFrame, one: str, other: str) -> bool:
    if one not in table or other not in table:
        return False
    both = table[[one, other]].dropna().to_numpy()
    if len(both) < 3 or np.abs(both[:, 0] - both[:, 1]).mean() > CLOSE:
        return False
    spread = both.std(axis=0)
    if (spread == 0).any():
        return bool((both[:, 0] == both[:, 1]).all())
    return float(np.corrcoef(both, rowvar=False)[0, 1]) >= ALIKE
