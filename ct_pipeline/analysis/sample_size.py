"""How many prompts a test of the release gate would need to pass with a chance of 80 %, at the values seen elsewhere."""

from collections.abc import Callable, Iterable

import numpy as np
import scipy

from ct_pipeline.analysis.betting import ruled_out
from ct_pipeline.analysis.bounds import as_numbers, exact_risk_upper
from ct_pipeline.analysis.paired_bound import change_ruled_out, score_limit

CHANCE = 0.8
MOST_PROMPTS = 10_000
_DRAWS = 200


def risk_prompts(values: Iterable[object], threshold: float, delta: float) -> int | None:
    """Prompts at which the risk's bound is at most `threshold` with a chance of 80 %, if prompts are like `values`.

    Args:
        values: one per prompt, none missing, as for `bounds.risk_bound`; at least one.
        threshold: allowed risk, in (0, 1).
        delta: of the bound, in (0, 1).

    Returns:
        The number, within 5 % (from 200 draws with replacement for betting); None where the mean is not below the
        threshold, or where it is above MOST_PROMPTS.
    """
    seen, binary = as_numbers(values)
    rate = float(seen.mean())
    if rate >= threshold:
        return None
    if not binary:
        return _smallest(lambda size: _betting_passes(seen, threshold, size, delta))
    return _smallest(
        lambda size: exact_risk_upper(int(scipy.stats.binom.ppf(CHANCE, size, rate)), size, delta) <= threshold
    )


def change_prompts(before: Iterable[object], after: Iterable[object], threshold: float, delta: float) -> int | None:
    """As `risk_prompts`, for the paired change of `bounds.change_bound`; threshold in (-1, 1)."""
    (old, old_binary), (new, new_binary) = as_numbers(before), as_numbers(after)
    changes = new - old
    if changes.mean() >= threshold:
        return None
    if not (old_binary and new_binary):
        return _smallest(lambda size: _betting_passes((changes + 1) / 2, (threshold + 1) / 2, size, delta))
    rates = float((changes > 0).mean()), float((changes < 0).mean())
    return _smallest(lambda size: _exact_change_passes(*rates, threshold, size, delta))


def _smallest(passes: Callable[[int], bool]) -> int | None:
    """By doubling and halving: the smallest size that passes, within 5 %; sizes are taken as monotone."""
    low, high = 1, 2
    while not passes(high):
        if high == MOST_PROMPTS:
            return None
        low, high = high, min(2 * high, MOST_PROMPTS)
    while high - low > max(1, 0.05 * low):
        middle = (low + high) // 2
        low, high = (low, middle) if passes(middle) else (middle, high)
    return high


def _betting_passes(values: np.ndarray, threshold: float, size: int, delta: float) -> bool:
    draws = np.random.default_rng(0).choice(values, (size, _DRAWS))
    return bool(ruled_out(draws, threshold, delta).mean() >= CHANCE)


def _exact_change_passes(rise: float, fall: float, threshold: float, size: int, delta: float) -> bool:
    """Whether the outcome that is larger than 80 % of those drawn passes: then those pass, too."""
    draws = np.random.default_rng(0).multinomial(size, (rise, fall, max(0.0, 1 - rise - fall)), _DRAWS)
    order = np.argsort(score_limit(draws[:, 0], draws[:, 1], size, delta), kind="stable")
    rises, falls, _ = draws[order[int(CHANCE * _DRAWS)]]
    return change_ruled_out(int(rises), int(falls), size, threshold, delta)
