"""A binary rate with its interval, clustered by prompt; missing verdicts leave the denominator and are counted."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy

from ct_pipeline.analysis.clusters import nullable, prompt_means
from ct_pipeline.analysis.t_distribution import student_quantile

IntervalMethod = Literal["wilson", "exact"]


@dataclass(frozen=True)
class Rate:
    """A share of misbehaving (or right) completions, in [0, 1].

    `value` weighs every prompt alike; it is None, and the interval [0, 1], when no row has a verdict. `prompts` counts
    the prompts with a verdict, `rows` all rows, `missing` the rows without a verdict: those left the denominator.
    """

    value: float | None
    low: float
    high: float
    prompts: int
    rows: int
    missing: int

    @property
    def null_rate(self) -> float | None:
        """Share of rows without a verdict; None where there are no rows."""
        return self.missing / self.rows if self.rows else None


def rate(
    verdicts: Iterable[object],
    prompts: Iterable[object] | None = None,
    *,
    confidence: float = 0.95,
    method: IntervalMethod = "wilson",
) -> Rate:
    """The rate of True among verdicts, with a two-sided interval.

    Every prompt weighs alike; the interval is `cluster_interval`'s.

    Args:
        verdicts: nullable truth values, one per row.
        prompts: the prompt of each row; None where each row is a prompt of its own.
        confidence: two-sided, in (0, 1).
        method: "wilson" or "exact".

    Raises:
        ValueError: confidence outside (0, 1), or numbers of prompts and verdicts that differ.
        TypeError: a value that is neither a truth value nor missing.
    """
    column = nullable(verdicts)
    means = prompt_means(prompts, column)
    seen = means.dropna().to_numpy()
    rows, missing = len(column), int(column.isna().sum())
    if not len(seen):
        _check_confidence(confidence)
        return Rate(None, 0.0, 1.0, 0, rows, missing)
    value = float(seen.mean())
    low, high = cluster_interval(seen, confidence=confidence, method=method)
    return Rate(value, low, high, len(seen), rows, missing)


def score_rate(scores: Iterable[float], *, confidence: float = 0.95) -> Rate:
    """The mean of scores in [0, 1], one per document, with the interval of `cluster_interval`; NaN is missing.

    Raises:
        ValueError: confidence outside (0, 1), or a score outside [0, 1].
    """
    column = np.array(list(scores), dtype=float)
    seen = column[~np.isnan(column)]
    if len(seen) and (seen.min() < 0 or seen.max() > 1):
        raise ValueError("a score lies outside [0, 1]: rescale it first")
    missing = len(column) - len(seen)
    _check_confidence(confidence)
    if not len(seen):
        return Rate(None, 0.0, 1.0, 0, len(column), missing)
    low, high = cluster_interval(seen, confidence=confidence)
    return Rate(float(seen.mean()), low, high, len(seen), len(column), missing)


def cluster_interval(
    means: np.ndarray, *, confidence: float = 0.95, method: IntervalMethod = "wilson"
) -> tuple[float, float]:
    """The two-sided interval of a mean of per-prompt rates; it holds the mean.

    Where every prompt says 0 or 1 it is Wilson's, or Clopper-Pearson's with `method="exact"`. Otherwise the prompt is the
    cluster, and it is the chosen one at the effective sample size v(1 - v) / se² with Student's quantile (Korn and
    Graubard 1998), se after one prompt of rate 0 and one of rate 1 have been added, and the size at least the number of
    prompts. For large samples that is the t interval on prompt means; near 0 and 1 it stays inside [0, 1]. Without the
    two added prompts it covers 87 to 93 % where few prompts misbehave and each does in several samples.

    Args:
        means: one rate per prompt, in [0, 1], at least one.
        confidence: in (0, 1).
        method: "wilson" or "exact".

    Raises:
        ValueError: as `share_interval`.
    """
    count, value = len(means), min(1.0, max(0.0, float(means.mean())))
    size, degrees = float(count), None
    if not ((means == 0) | (means == 1)).all():
        variance = float(np.append(means, (0.0, 1.0)).var()) / (count + 2)
        size, degrees = max(size, value * (1 - value) / variance), float(max(count - 1, 1))
    low, high = share_interval(value, size, confidence=confidence, method=method, degrees=degrees)
    return min(low, value), max(high, value)


def share_interval(
    value: float,
    size: float,
    *,
    confidence: float = 0.95,
    method: IntervalMethod = "wilson",
    degrees: float | None = None,
) -> tuple[float, float]:
    """The two-sided interval of a share seen as `value` in `size` independent observations.

    Args:
        value: the share seen, in [0, 1].
        size: number of observations; a fraction is allowed (an effective sample size).
        confidence: in (0, 1).
        method: "wilson", or "exact" for Clopper-Pearson.
        degrees: degrees of freedom of Student's quantile; None for the normal quantile.

    Raises:
        ValueError: a confidence outside (0, 1), a size not above 0, or an unknown method.
    """
    _check_confidence(confidence)
    if size <= 0:
        raise ValueError(f"no interval for {size} observations")
    upper_tail = (1 + confidence) / 2
    quantile = float(student_quantile(confidence, degrees))
    if method == "wilson":
        shrunk = 1 + quantile**2 / size
        centre = (value + quantile**2 / (2 * size)) / shrunk
        half = quantile / shrunk * math.sqrt(value * (1 - value) / size + quantile**2 / (4 * size**2))
        return max(0.0, float(centre - half)), min(1.0, float(centre + half))
    if method == "exact":
        adjusted = size if degrees is None else size * (float(student_quantile(confidence, None)) / quantile) ** 2
        successes = value * adjusted
        low = 0.0 if value == 0 else float(scipy.stats.beta.ppf(1 - upper_tail, successes, adjusted - successes + 1))
        high = 1.0 if value == 1 else float(scipy.stats.beta.ppf(upper_tail, successes + 1, adjusted - successes))
        return low, high
    raise ValueError(f"unknown interval method {method!r}: wilson or exact")


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
