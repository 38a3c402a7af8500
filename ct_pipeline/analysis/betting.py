"""The upper bound of the mean of values in [0, 1] by betting against "the mean is m or more" (arXiv 2010.09686).

A gambler starts with wealth 1 and before each value x stakes b in [0, 1 / (1 - m)]: the wealth is multiplied by
1 + b(m - x). Where the mean is m or more, no stake that knows only earlier values gains on average, so the wealth reaches
1/δ with probability at most δ (Ville); where it does, m is ruled out. That holds whatever the stakes; they decide only
how tight the bound is. Here they are those that would reach 1/δ with the largest chance if the values were normal: with
wealth w, r values to come and spread s, b = φ(z) / (δ w s √r), 1 - Φ(z) = δ w (the hedge of an all-or-nothing claim of
1/δ; arXiv 2505.22422 aims at the goal likewise). So the wealth ends near 0 or at the goal, and little of δ is wasted.

Values must come in an order that does not depend on them: `release_gate` takes that of the prompts' hashes.
"""

import math

import numpy as np
import scipy

STEPS = 2000
"""Means are tried in steps of 1 / STEPS. The bound is rounded up to one, which keeps the guarantee."""

_REACHED = 1 - 1e-9
"""Share of the goal that counts as reached: rounding of floats."""


def betting_upper(values: np.ndarray, delta: float) -> float:
    """The smallest tried mean such that it and all larger ones are ruled out, at least the mean seen; 1 if there is none.

    Args:
        values: in [0, 1], one per prompt, in an order that does not depend on them.
        delta: in (0, 1).
    """
    if not len(values):
        return 1.0
    first = math.ceil(float(values.mean()) * STEPS - 1e-9)
    means = np.arange(first, STEPS) / STEPS
    open_still = np.flatnonzero(~ruled_out(values, means, delta))
    below = len(open_still) and open_still[-1] + 1
    return (first + int(below)) / STEPS


def ruled_out(values: np.ndarray, means: np.ndarray | float, delta: float) -> np.ndarray:
    """Whether the gambler reaches 1/δ against "the mean is m or more".

    Args:
        values: in [0, 1]; prompts along the first axis, further axes are repetitions.
        means: m in (0, 1), to be broadcast against one row of values.
        delta: in (0, 1).

    Returns:
        Truth values of the broadcast shape.
    """
    means = np.asarray(means, dtype=float)
    share = np.full(np.broadcast_shapes(values.shape[1:], means.shape), float(delta))
    centre, squares = means, means * (1 - means)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        most = 1 / (1 - means)
        for seen, value in enumerate(values):
            left = len(values) - seen
            z = -scipy.special.ndtri(share)
            bet = np.exp(-(z**2) / 2) / (share * np.sqrt(2 * np.pi * left * squares / (seen + 1)))
            bet = np.where((share > 0) & (share < 1), np.minimum(bet, most), 0.0)
            share = np.minimum(share * (1 + bet * (means - value)), 1.0)
            moved = centre + (value - centre) / (seen + 2)
            squares = squares + (value - centre) * (value - moved)
            centre = moved
    return share >= _REACHED
