"""Numbers over cells whose errors are shared within an organism: the organism is the unit of every interval."""

import math
from dataclasses import dataclass

import numpy as np

from ct_pipeline.analysis.rates import share_interval
from ct_pipeline.analysis.t_distribution import student_quantile


@dataclass(frozen=True)
class Estimate:
    """A number over cells with its interval clustered by organism.

    `value` is None where no cell bears on it; low and high then span all that is possible.
    """

    value: float | None
    low: float
    high: float
    cells: int
    organisms: int


def share_of(hits: np.ndarray, organisms: np.ndarray, confidence: float) -> Estimate:
    """A share of cells: Clopper-Pearson where each cell is an organism's only one, else at the effective sample size.

    As in Korn and Graubard 1998, with the effective size cut to the number of cells; where every cell agrees the spread
    between organisms is unknown, and the effective size is the number of organisms.
    """
    cells, count = len(hits), len(np.unique(organisms))
    if not cells:
        return Estimate(None, 0.0, 1.0, 0, 0)
    value = float(hits.mean())
    if count == cells or hits.all() or not hits.any():
        low, high = share_interval(value, count, confidence=confidence, method="exact")
    elif count == 1:
        low, high = 0.0, 1.0
    else:
        _, variance = ratio(sums_of(hits.astype(float), organisms), sums_of(np.ones(cells), organisms))
        size = cells if variance * cells <= value * (1 - value) else value * (1 - value) / variance
        low, high = share_interval(value, size, confidence=confidence, method="exact", degrees=count - 1)
    return Estimate(value, min(low, value), max(high, value), cells, count)


def mean_gain(gains: np.ndarray, organisms: np.ndarray, confidence: float) -> Estimate:
    """A mean of paired differences in {-1, 0, 1}: Student's interval after one cell of 1 and one of -1 were added.

    Each of the two is an organism of its own, as in `paired` for prompts: without them, rules that agree on every cell
    seen would differ by exactly 0 for ever.
    """
    cells, count = len(gains), len(np.unique(organisms))
    if not cells:
        return Estimate(None, -1.0, 1.0, 0, 0)
    value = float(gains.mean())
    if count == 1:
        return Estimate(value, -1.0, 1.0, cells, 1)
    tops = np.append(sums_of(gains, organisms), [1.0, -1.0])
    centre, variance = ratio(tops, np.append(sums_of(np.ones(cells), organisms), [1.0, 1.0]))
    half = float(student_quantile(confidence, count - 1)) * math.sqrt(variance)
    low, high = max(-1.0, centre - half), min(1.0, centre + half)
    return Estimate(value, min(low, value), max(high, value), cells, count)


def jackknife(found: float, left_out: np.ndarray, limit: float, cells: int, confidence: float) -> Estimate:
    """The delete-one-organism jackknife with Student's quantile, cut to [-limit, limit]."""
    count = len(left_out)
    if np.isnan(found):
        return Estimate(None, -limit, limit, cells, count)
    if count < 2 or np.isnan(left_out).any():
        return Estimate(float(found), -limit, limit, cells, count)
    half = float(student_quantile(confidence, count - 1)) * jackknife_error(left_out)
    return Estimate(float(found), max(-limit, found - half), min(limit, found + half), cells, count)


def jackknife_error(left_out: np.ndarray) -> float:
    """The standard error from an estimate's values with one organism left out at a time."""
    count = len(left_out)
    return math.sqrt((count - 1) / count * float(((left_out - left_out.mean()) ** 2).sum()))


def ratio(top: np.ndarray, bottom: np.ndarray) -> tuple[float, float]:
    """Σ top / Σ bottom over two organisms or more, and its variance by linearization."""
    count, value = len(top), float(top.sum() / bottom.sum())
    residual = top - value * bottom
    return value, count / (count - 1) * float((residual**2).sum()) / float(bottom.sum()) ** 2


def sums_of(values: np.ndarray, organisms: np.ndarray) -> np.ndarray:
    """The sum of the values of each organism."""
    names, place = np.unique(organisms, return_inverse=True)
    return np.bincount(place, weights=values, minlength=len(names))
