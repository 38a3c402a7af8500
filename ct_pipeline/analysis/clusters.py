"""Verdicts gathered by prompt: the prompt is the cluster, its mean verdict is the observation.

This module does not know what a verdict is about; it only knows that one may be missing.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd


def nullable(verdicts: Iterable[object]) -> pd.Series:
    """Verdicts as a nullable boolean column.

    Args:
        verdicts: True, False or missing (None, NaN, pandas.NA); 0 and 1 stand for False and True.

    Returns:
        A series of dtype `boolean` with a fresh index, one row per verdict.

    Raises:
        TypeError: a value is neither a truth value nor missing. A score or a string is not a verdict.
    """
    if isinstance(verdicts, pd.Series) and verdicts.dtype in ("boolean", "bool"):
        return verdicts.astype("boolean").reset_index(drop=True)
    return pd.Series(pd.array([_truth(value) for value in verdicts], dtype="boolean"))


def prompt_means(prompts: Iterable[object] | None, verdicts: Iterable[object]) -> pd.Series:
    """The mean verdict of each prompt over its rows that have one.

    Args:
        prompts: one identifier per verdict, or None where every row is a prompt of its own.
        verdicts: nullable truth values, as for `nullable`.

    Returns:
        Floats indexed by prompt in order of first appearance; NaN for a prompt without any verdict.

    Raises:
        ValueError: prompts and verdicts differ in number, or a prompt identifier is missing.
    """
    column = nullable(verdicts)
    if prompts is None:
        keys = pd.RangeIndex(len(column))
    else:
        keys = pd.Index(prompts if isinstance(prompts, pd.Series) else list(prompts))
    if len(keys) != len(column):
        raise ValueError(f"{len(keys)} prompts for {len(column)} verdicts")
    place, names = keys.factorize()
    if (place < 0).any():
        raise ValueError("a row has no prompt identifier")
    numbers = column.to_numpy(dtype=float, na_value=np.nan)
    known = ~np.isnan(numbers)
    count = np.bincount(place[known], minlength=len(names))
    sums = np.bincount(place[known], weights=numbers[known], minlength=len(names))
    return pd.Series(np.divide(sums, count, out=np.full(len(names), np.nan), where=count > 0), index=names)


def _truth(value: object) -> object:
    if value is None or value is pd.NA:
        return pd.NA
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, float, np.integer, np.floating)):
        if np.isnan(value):
            return pd.NA
        if value in (0, 1):
            return bool(value)
    raise TypeError(f"not a verdict: {value!r}")
