"""The exact upper bound of a paired change of binary verdicts: Buehler's limit over an unknown share that moved.

Of n prompts `rises` went from right to wrong and `falls` back; their law is trinomial with p₊ and p₋, and Δ = p₊ - p₋.
Outcomes are ordered by how large a change they speak for; the bound is the largest Δ under which an outcome at most as
large as the one seen has probability above δ for some p₋ (Buehler 1957; for this design Lloyd and Moldovan 2007). It is
exact whatever the order; Tango's score limit at δ (1998) gives one that grows with rises and falls with falls, so the
probability falls as Δ grows. As the order is that of δ, the bounds of two δ need not be nested: with 6 prompts, 3 rises
and no fall it is .947 at δ = .01 and .934 at .005; from 100 prompts on such steps are below .001. δ / 100 is spent on an
interval for p₋, outside of which it is not looked at (Berger and Boos 1994); δ less that is left for the rest.
"""

import numpy as np
import scipy

_TOLERANCE = 2e-4
"""The bound is at most about twice this above the exact one, never below it."""

_NUISANCE_SHARE = 0.01
"""Share of δ spent on the interval for p₋."""


def exact_change_upper(rises: int, falls: int, prompts: int, delta: float) -> float:
    """The upper confidence bound of Δ.

    Args:
        rises: prompts that misbehave after and not before.
        falls: prompts that misbehave before and not after.
        prompts: all prompts.
        delta: in (0, 1).
    """
    if rises >= prompts:
        return 1.0
    region = _Region(rises, falls, prompts, delta)
    low, high = (rises - falls) / prompts, 1.0
    while high - low > _TOLERANCE:
        middle = (low + high) / 2
        if region.improbable(middle):
            high = middle
        else:
            low = middle
    return high


def change_ruled_out(rises: int, falls: int, prompts: int, change: float, delta: float) -> bool:
    """Whether the outcome rules out that Δ is `change` or more: `exact_change_upper` is at most `change`, in one step."""
    return rises < prompts and change > -1 and _Region(rises, falls, prompts, delta).improbable(change)


def score_limit(rises: np.ndarray, falls: np.ndarray, prompts: int, delta: float) -> np.ndarray:
    """Tango's approximate upper limit of Δ at delta, which orders the outcomes; arrays of counts of one shape."""
    quantile = -scipy.special.ndtri(delta)
    rises, falls = np.broadcast_arrays(np.asarray(rises, dtype=float), np.asarray(falls, dtype=float))
    low, high = (rises - falls) / prompts, np.ones(rises.shape)
    for _ in range(40):
        change = (low + high) / 2
        linear = (2 * prompts - rises + falls) * change - rises - falls
        root = np.sqrt(np.maximum(linear**2 + 8 * prompts * falls * change * (1 - change), 0))
        fallen = (root - linear) / (4 * prompts)
        variance = np.maximum(prompts * (2 * fallen + change * (1 - change)), 1e-300)
        beyond = (prompts * change - rises + falls) / np.sqrt(variance) > quantile
        low, high = np.where(beyond, low, change), np.where(beyond, change, high)
    return high


class _Region:
    """The outcomes at most as large as the one seen: for each number of falls, the most rises among them (-1: none)."""

    def __init__(self, rises: int, falls: int, prompts: int, delta: float) -> None:
        self.prompts, self.delta = prompts, (1 - _NUISANCE_SHARE) * delta
        tail = _NUISANCE_SHARE * delta / 2
        self.least_fall = float(scipy.special.betaincinv(falls, prompts - falls + 1, tail)) if falls else 0.0
        self.most_fall = (
            float(scipy.special.betaincinv(falls + 1, prompts - falls, 1 - tail)) if falls < prompts else 1.0
        )
        limit = float(score_limit(rises, falls, prompts, delta)) + 1e-9
        counts = np.arange(prompts + 1.0)
        low, high = np.full(prompts + 1, -1.0), prompts - counts + 1
        while (high - low > 1).any():
            middle = np.floor((low + high) / 2)
            inside = (middle < 0) | (score_limit(np.maximum(middle, 0), counts, prompts, delta) <= limit)
            low, high = np.where(inside, middle, low), np.where(inside, high, middle)
        self.most = np.maximum.accumulate(low)

    def improbable(self, change: float) -> bool:
        """Whether the region's probability is at most delta for every p₋ of the interval, at this Δ.

        The values of p₋ are cut into cells. The probability falls with p₊ and rises with p₋, so that at a cell's lowest
        p₊ and highest p₋ is a bound for the cell; cells above delta are cut again.
        """
        lowest, highest = max(self.least_fall, -change), min(self.most_fall, (1 - change) / 2)
        if lowest > highest:
            return True
        edges = np.linspace(lowest, highest, 17)
        left, right = edges[:-1], edges[1:]
        while True:
            middle = (left + right) / 2
            if (self.probability(middle + change, middle) > self.delta).any():
                return False
            undecided = self.probability(left + change, right) > self.delta
            if not undecided.any():
                return True
            left, right = left[undecided], right[undecided]
            if (right - left).max() < _TOLERANCE:
                return False
            quarter = (right - left)[:, None] / 4
            left = (left[:, None] + quarter * np.arange(4)).ravel()
            right = left + np.repeat(quarter.ravel(), 4)

    def probability(self, rise: np.ndarray, fall: np.ndarray) -> np.ndarray:
        """P(outcome in the region) at p₊ and p₋, arrays of one shape; summed over falls within 7 standard deviations."""
        n = self.prompts
        width = int(7 * np.sqrt(n * float((fall * (1 - fall)).max())) + 20)
        falls = np.rint(n * fall)[:, None] + np.arange(-width, width + 1)
        possible = (falls >= 0) & (falls <= n)
        falls = np.clip(falls, 0, n)
        most, fall = self.most[falls.astype(int)], fall[:, None]
        weight = np.exp(
            scipy.special.gammaln(n + 1)
            - scipy.special.gammaln(falls + 1)
            - scipy.special.gammaln(n - falls + 1)
            + scipy.special.xlogy(falls, fall)
            + scipy.special.xlog1py(n - falls, -fall)
        )
        of_rest = np.clip(rise[:, None] / np.maximum(1 - fall, 1e-300), 0, 1)
        others = np.maximum(n - falls - most, 1.0)
        few_rises = scipy.special.betainc(others, np.maximum(most, 0) + 1, 1 - of_rest)
        few_rises = np.where(most < 0, 0.0, np.where(most >= n - falls, 1.0, few_rises))
        return (weight * few_rises * possible).sum(axis=1)
