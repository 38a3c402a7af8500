"""Krippendorff's alpha: agreement of judges beyond chance, with missing verdicts, for verdicts and scores.

alpha = 1 - D_observed / D_expected over the coincidences of values within units (K. Krippendorff, "Computing Krippendorff's
Alpha-Reliability", 2011): 1 is perfect agreement, 0 that of values dealt out by chance, below 0 systematic disagreement.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Level = Literal["nominal", "ordinal", "interval"]


@dataclass(frozen=True)
class Alpha:
    """Agreement of two judges or more.

    Attributes:
        value: alpha, at most 1; None where no unit has two values, or where all values are the same.
        low: lower end of the bootstrap interval over units; NaN where it is unknown.
        high: upper end.
        level: of measurement.
        units: units with two values or more; only these count.
        values: values in those units.
        undefined: share of bootstrap samples without an alpha, left out of the interval.
    """

    value: float | None
    low: float
    high: float
    level: Level
    units: int
    values: int
    undefined: float


def krippendorff_alpha(
    ratings: Sequence[Sequence[object]],
    level: Level,
    *,
    confidence: float = 0.95,
    samples: int = 2000,
    seed: int = 0,
) -> Alpha:
    """Alpha of judges who rated the same units.

    Args:
        ratings: one row per judge, one column per unit; None, NaN and pandas.NA are missing. Truth values count as 0 and 1.
        level: nominal (verdicts), ordinal (grades of a rubric) or interval (scores with a unit).
        confidence: of the two-sided percentile interval, in (0, 1).
        samples: bootstrap samples of units; 0: no interval.
        seed: of the bootstrap.

    Raises:
        ValueError: rows of different lengths, an infinite rating, an unknown level, or a confidence outside (0, 1).
        TypeError: a rating that is no number.
    """
    if level not in ("nominal", "ordinal", "interval"):
        raise ValueError(f"unknown level {level!r}: nominal, ordinal or interval")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    table = _numbers(ratings)
    table = table[:, (~np.isnan(table)).sum(axis=0) >= 2]
    units, count = table.shape[1], int((~np.isnan(table)).sum())
    if not units:
        return Alpha(None, float("nan"), float("nan"), level, 0, 0, 0.0)
    pairs = _Pairs.of(table)
    value = pairs.alpha(np.ones(units), level)
    generator = np.random.default_rng(seed)
    drawn = [
        pairs.alpha(np.bincount(generator.integers(units, size=units), minlength=units), level) for _ in range(samples)
    ]
    known = [each for each in drawn if each is not None]
    tails = ((1 - confidence) / 2, (1 + confidence) / 2)
    low, high = np.quantile(known, tails) if known and value is not None else (float("nan"), float("nan"))
    undefined = 1 - len(known) / samples if samples else 0.0
    return Alpha(value, float(low), float(high), level, units, count, undefined)


@dataclass(frozen=True)
class _Pairs:
    """All ordered pairs of values within units.

    Attributes:
        values: the distinct values in rising order, K of them.
        cell: first value's index times K plus the second's, per pair.
        unit: of each pair.
        weight: 1 / (values in the unit - 1).
    """

    values: np.ndarray
    cell: np.ndarray
    unit: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(cls, table: np.ndarray) -> "_Pairs":
        present = ~np.isnan(table)
        values, codes = np.unique(table[present], return_inverse=True)
        coded = np.zeros(table.shape, dtype=np.int64)
        coded[present] = codes
        sizes = present.sum(axis=0)
        parts = [
            (coded[first, both] * len(values) + coded[second, both], np.flatnonzero(both))
            for first in range(len(table))
            for second in range(len(table))
            if first != second
            for both in [present[first] & present[second]]
        ]
        cell, unit = (np.concatenate(each) for each in zip(*parts, strict=True))
        return cls(values, cell, unit, 1 / (sizes[unit] - 1))

    def alpha(self, copies: np.ndarray, level: Level) -> float | None:
        """Alpha with each unit counted so many times; None where all values are the same."""
        size = len(self.values)
        weights = self.weight * copies[self.unit]
        coincidences = np.bincount(self.cell, weights, minlength=size * size).reshape(size, size)
        totals = coincidences.sum(axis=1)
        distance = _distances(self.values, totals, level)
        expected = float(totals @ distance @ totals) / (totals.sum() - 1)
        return 1 - float((coincidences * distance).sum()) / expected if expected > 0 else None


def _distances(values: np.ndarray, totals: np.ndarray, level: Level) -> np.ndarray:
    """Squared differences between values; the ordinal ones depend on how often the values between them occur."""
    if level == "nominal":
        return 1.0 - np.eye(len(values))
    # The middle of each value's ranks: between two middles lie the values between and half of both ends.
    places = np.cumsum(totals) - totals / 2 if level == "ordinal" else values
    return np.subtract.outer(places, places) ** 2


def _numbers(ratings: Sequence[Sequence[object]]) -> np.ndarray:
    if len({len(row) for row in ratings}) > 1:
        raise ValueError(f"judges rated {', '.join(str(len(row)) for row in ratings)} units; give each the same units")
    if len(ratings) < 2:
        raise ValueError(f"found {len(ratings)} judges; agreement needs two")
    table = np.array([[_number(rating) for rating in row] for row in ratings], dtype=float)
    if np.isinf(table).any():
        raise ValueError("found an infinite rating; ratings are finite numbers or missing")
    return table


def _number(rating: object) -> float:
    # pandas.NA is no number and says so by its type's name: pandas itself is not needed here.
    if rating is None or type(rating).__name__ == "NAType":
        return float("nan")
    if isinstance(rating, (bool, int, float, np.bool_, np.integer, np.floating)):
        return float(rating)
    raise TypeError(f"found the rating {rating!r}; ratings are numbers, truth values or missing")
