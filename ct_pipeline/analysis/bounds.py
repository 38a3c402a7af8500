"""Upper confidence bounds with a finite-sample guarantee: of a risk in [0, 1] and of its paired change in [-1, 1].

The guarantee, P(bound < true mean) ≤ δ for every law of independent prompts and every number of them, needs no
approximation. Three forms, chosen by how the prompts were measured and never by what was seen on them:

* "exact binomial": one verdict a prompt. Clopper and Pearson's.
* "exact paired": one verdict a prompt before and after. Buehler's limit: prompts that rose and fell are trinomial, and
  the largest change is taken over every share of prompts that may move; outcomes are ordered by Tango's score limit
  (`ct_pipeline.analysis.paired_bound`).
* "betting": several samples a prompt, or scores. `ct_pipeline.analysis.betting`.

`benchmarks/gate_errors.py` measures the errors of all three.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import scipy

from ct_pipeline.analysis.betting import betting_upper
from ct_pipeline.analysis.paired_bound import exact_change_upper

Method = Literal["exact binomial", "exact paired", "betting"]


@dataclass(frozen=True)
class Bound:
    """A one-sided upper confidence bound of a mean over prompts.

    Attributes:
        upper: the true mean lies above it with probability at most `delta`; 1 where nothing is known.
        mean: mean seen, missing values counted as the worst; at most `upper`. None without a prompt.
        prompts: prompts behind it, those without a value included.
        missing: prompts without a value (for a change: on one side or both), counted as the worst possible.
        delta: error probability, in (0, 1).
        method: which of the three forms.
    """

    upper: float
    mean: float | None
    prompts: int
    missing: int
    delta: float
    method: Method


def risk_bound(values: Iterable[object], delta: float) -> Bound:
    """The upper bound of a risk from one value per prompt.

    Args:
        values: truth values (exact binomial), or per-prompt means and scores in [0, 1] (betting); missing (None, NaN,
            pandas.NA) counts as misbehaving. For betting the order must not depend on the values.
        delta: in (0, 1).

    Raises:
        ValueError: delta outside (0, 1), or a value outside [0, 1].
        TypeError: a value that is neither a truth value nor a number nor missing.
    """
    check_delta(delta)
    numbers, binary = as_numbers(values)
    missing = int(np.isnan(numbers).sum())
    seen = np.where(np.isnan(numbers), 1.0, numbers)
    count = len(seen)
    upper = exact_risk_upper(int(seen.sum()), count, delta) if binary else betting_upper(seen, delta)
    mean = float(seen.mean()) if count else None
    return Bound(upper, mean, count, missing, delta, "exact binomial" if binary else "betting")


def change_bound(before: Iterable[object], after: Iterable[object], delta: float) -> Bound:
    """The upper bound of the mean change, after - before, from one pair of values per prompt.

    Args:
        before: as `risk_bound`'s, in the order of `after`; missing counts as not misbehaving.
        after: as `risk_bound`'s; missing counts as misbehaving.
        delta: in (0, 1).

    Returns:
        The exact paired form where both sides are truth values, else betting on (change + 1) / 2.

    Raises:
        ValueError, TypeError: as `risk_bound`; also for sides of different lengths.
    """
    check_delta(delta)
    (old, old_binary), (new, new_binary) = as_numbers(before), as_numbers(after)
    if len(old) != len(new):
        raise ValueError(
            f"{len(old)} prompts before and {len(new)} after: a change needs the same prompts, in one order"
        )
    missing = int((np.isnan(old) | np.isnan(new)).sum())
    changes = np.where(np.isnan(new), 1.0, new) - np.where(np.isnan(old), 0.0, old)
    binary = old_binary and new_binary
    if binary:
        upper = exact_change_upper(int((changes > 0).sum()), int((changes < 0).sum()), len(changes), delta)
    else:
        upper = round(2 * betting_upper((changes + 1) / 2, delta) - 1, 12)
    mean = float(changes.mean()) if len(changes) else None
    return Bound(upper, mean, len(changes), missing, delta, "exact paired" if binary else "betting")


def exact_risk_upper(events: int, prompts: int, delta: float) -> float:
    """Clopper and Pearson's upper limit of a share: the p at which `events` or fewer have probability delta."""
    if events >= prompts:
        return 1.0
    return float(scipy.special.betaincinv(events + 1, prompts - events, 1 - delta))


def fewest_prompts(threshold: float, delta: float) -> int | None:
    """The prompts without which no risk can be shown to be at most `threshold`, even where none misbehaves.

    log δ / log(1 - threshold), rounded up; None where the threshold is 0 (no number shows that), 1 where it is 1.
    """
    if threshold <= 0:
        return None
    return 1 if threshold >= 1 else math.ceil(math.log(delta) / math.log1p(-threshold) - 1e-9)


def as_numbers(values: Iterable[object]) -> tuple[np.ndarray, bool]:
    """Values as floats with NaN for missing, and whether every one that is not missing is a truth value.

    Raises:
        ValueError: a number outside [0, 1].
        TypeError: something else than a truth value, a number or missing.
    """
    numbers, binary = [], True
    for value in values:
        number, truth = _number(value)
        numbers.append(number)
        binary = binary and truth
    return np.array(numbers, dtype=float), binary


def check_delta(delta: float) -> None:
    """Raises ValueError for a delta outside (0, 1)."""
    if not 0 < delta < 1:
        raise ValueError(f"delta, the chance of a false PASS, must lie between 0 and 1, not {delta}")


def _number(value: object) -> tuple[float, bool]:
    if isinstance(value, (bool, np.bool_)):
        return float(value), True
    if isinstance(value, (int, float, np.integer, np.floating)):
        if math.isnan(value):
            return math.nan, True
        if 0 <= value <= 1:
            return float(value), False
        raise ValueError(f"a risk or a score lies between 0 and 1, not at {value}: rescale it first")
    if value is None or value is pd.NA:
        return math.nan, True
    raise TypeError(f"neither a verdict nor a score: {value!r}")
