"""A number averaged over prompts, with its interval; the prompt is the cluster, every prompt weighs alike.

Three kinds of mean need three intervals; coverage is simulated in the tests of the k-curve and the decomposition.

* A share: that of `rates.cluster_interval`.
* A change: Student's after one prompt that rose and one that fell have been added, as in `paired`, by the largest change
  that a prompt can have: 1, or TV_k for the selection of best of k. Adding ±1 there covers more than 99 %, adding nothing
  40 to 90 % where misbehaviour is rare; TV_k covers 94 to 98 %, and more near rates of 0 and 1.
* Values without limits, such as divergences: plain Student's.
"""

import math
from dataclasses import dataclass

import numpy as np

from ct_pipeline.analysis.rates import cluster_interval
from ct_pipeline.analysis.t_distribution import student_quantile


@dataclass(frozen=True)
class Estimate:
    """A mean over prompts.

    Attributes:
        value: the mean; None where no prompt has a value.
        low: lower end of the two-sided interval. Where nothing is known it is that of the possible values: 0 for a
            rate, -1 for a change, None for a quantity without limits.
        high: upper end, likewise.
        standard_error: clustered by prompt; None where one prompt or none leaves it unknown.
        prompts: how many prompts have a value.
    """

    value: float | None
    low: float | None
    high: float | None
    standard_error: float | None
    prompts: int


def share_term(values: np.ndarray, confidence: float) -> Estimate:
    """The mean of per-prompt rates in [0, 1]; with one verdict per prompt, `rates.rate`.

    Args:
        values: one rate per prompt; NaN leaves.
        confidence: two-sided, in (0, 1).

    Raises:
        ValueError: confidence outside (0, 1).
    """
    seen = _known(values, confidence)
    count = len(seen)
    if not count:
        return Estimate(None, 0.0, 1.0, None, 0)
    value = min(1.0, max(0.0, float(seen.mean())))
    error = float(seen.std(ddof=1)) / math.sqrt(count) if count > 1 else None
    return Estimate(value, *cluster_interval(seen, confidence=confidence), error, count)


def change_term(values: np.ndarray, confidence: float, scale: float = 1.0) -> Estimate:
    """The mean of per-prompt changes in [-1, 1], with Student's interval on the observations and two added ones.

    For changes of -1, 0 and 1 it is the interval of `paired.difference`.

    Args:
        values: one change per prompt, or the linearised values of a ratio; NaN leaves.
        confidence: two-sided, in (0, 1).
        scale: the largest change that a prompt can have; 0, no change is possible, makes the interval [0, 0].

    Raises:
        ValueError: confidence outside (0, 1).
    """
    seen = _known(values, confidence)
    count = len(seen)
    if not count:
        return Estimate(None, -1.0, 1.0, None, 0)
    value = float(seen.mean())
    if count == 1 and (scale or value):
        return Estimate(value, -1.0, 1.0, None, 1)
    centre, error = (float(each) for each in bonett_price(seen, scale))
    half = float(student_quantile(confidence, max(count - 1, 1))) * error
    return Estimate(value, max(-1.0, min(centre - half, value)), min(1.0, max(centre + half, value)), error, count)


def mean_term(values: np.ndarray, confidence: float) -> Estimate:
    """The mean of per-prompt values without limits, with Student's interval.

    Args:
        values: one number per prompt, or the linearised values of a ratio; NaN leaves.
        confidence: two-sided, in (0, 1).

    Raises:
        ValueError: confidence outside (0, 1).
    """
    seen = _known(values, confidence)
    count = len(seen)
    if not count:
        return Estimate(None, None, None, None, 0)
    value = float(seen.mean())
    if count == 1:
        return Estimate(value, None, None, None, 1)
    error = float(seen.std(ddof=1)) / math.sqrt(count)
    half = float(student_quantile(confidence, count - 1)) * error
    return Estimate(value, value - half, value + half, error, count)


def bonett_price(values: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Centre and standard error after one rise and one fall have been added (Bonett and Price 2012).

    Args:
        values: changes, prompts along the last axis.
        scale: size of the two.

    Returns:
        Two arrays of the shape of `values` without its last axis.
    """
    count = values.shape[-1] + 2
    centre = values.sum(axis=-1) / count
    variance = ((values**2).sum(axis=-1) + 2 * scale**2) / count - centre**2
    return centre, np.sqrt(np.maximum(variance, 0) / count)


def ratio_values(numerators: np.ndarray, denominators: np.ndarray) -> np.ndarray:
    """Linearised values of Σ numerators / Σ denominators: their mean is the ratio, their spread its standard error.

    v_i = R + (a_i − R·b_i) / b̄ (delta method). All NaN where the denominators sum to 0.
    """
    total = denominators.sum()
    if not total > 0:
        return np.full(len(numerators), np.nan)
    ratio = numerators.sum() / total
    return ratio + (numerators - ratio * denominators) / denominators.mean()


def _known(values: np.ndarray, confidence: float) -> np.ndarray:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    column = np.asarray(values, dtype=float)
    return column[~np.isnan(column)]
