"""What best of k does to a law: exact weights of ranks in a sample, exact tilts of a discrete law, their distance.

With F the distribution function of the score S under the proposal P, ties given to the first drawn, best of k keeps y
with probability Q_k(y) = P(y)·w_k(S(y)), w_k(s) = [F(s)^k − F(s⁻)^k] / [F(s) − F(s⁻)]. Hence
selection(k) = E_Q_k[M] − E_P[M] = Cov(M, w_k(S)); Proposition 3.2 of arXiv 2606.03810, that a monotone
η(s) = P(M = 1 | S = s) fixes its sign, is a corollary.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd


def tie_groups(scores: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ranks that each candidate shares with its equals, counted from the worst.

    A missing score ranks below every score, as selection treats it; all missing scores of a prompt are equal.

    Args:
        scores: (prompts, candidates), NaN where missing; absent candidates at the end of a row.
        present: False where absent.

    Returns:
        (below, upto), of the shape of `scores`: the tie group holds the ranks below + 1 .. upto. 0 and 1 where absent.
    """
    rows, columns = scores.shape
    if not columns:
        return np.zeros((rows, 0)), np.ones((rows, 0))
    order = np.argsort(-scores, axis=1, kind="stable")
    ranked = np.take_along_axis(scores, order, axis=1)
    there = np.take_along_axis(present, order, axis=1)
    first = np.ones((rows, columns), dtype=bool)
    same = (ranked[:, 1:] == ranked[:, :-1]) | (np.isnan(ranked[:, 1:]) & np.isnan(ranked[:, :-1]))
    first[:, 1:] = ~same | (there[:, 1:] != there[:, :-1])
    places = np.broadcast_to(np.arange(columns), (rows, columns))
    start = np.maximum.accumulate(np.where(first, places, 0), axis=1)
    nexts = np.full((rows, columns), columns)
    nexts[:, :-1] = np.where(first[:, 1:], places[:, 1:], columns)
    end = np.minimum.accumulate(nexts[:, ::-1], axis=1)[:, ::-1]
    size = present.sum(axis=1)[:, None]
    below, upto = np.zeros((rows, columns)), np.ones((rows, columns))
    np.put_along_axis(below, order, np.where(there, size - end, 0), axis=1)
    np.put_along_axis(upto, order, np.where(there, size - start, 1), axis=1)
    return below, upto


def best_of_weights(below: np.ndarray, upto: np.ndarray, present: np.ndarray) -> Iterator[np.ndarray]:
    """For j = 1, 2, ...: the chance that each candidate is the best of j of its prompt's, drawn without replacement.

    The best of a random j-subset of n candidates has rank at most i with chance C(i, j)/C(n, j). A candidate of its own
    rank i gets C(i−1, j−1)/C(n, j); a tie group at ranks a..b gets [C(b, j) − C(a−1, j)]/C(n, j), shared equally. A
    j-subset of n independent draws is j independent draws, so Σ weight·M is an unbiased estimate of E[M of best of j],
    of the least variance among those that use nothing but the draws (a U-statistic). The ratios are products of at most
    j factors in [0, 1]: relative error below 2j·2⁻⁵³, no overflow.

    Args:
        below, upto: of `tie_groups`.
        present: False where absent.

    Yields:
        (prompts, candidates), each row summing to 1; 0 where absent; NaN in rows of fewer than j candidates. Endless.
    """
    size = np.broadcast_to(present.sum(axis=1)[:, None], below.shape).astype(float)
    lower, upper = np.where(present, 1.0, 0.0), np.where(present, 1.0, 0.0)
    taken = 0
    while True:
        left = np.where(size > taken, size - taken, np.nan)
        lower = lower * np.maximum(below - taken, 0) / left
        upper = upper * np.maximum(upto - taken, 0) / left
        taken += 1
        yield (upper - lower) / (upto - below)


def tilt(probabilities: np.ndarray, scores: np.ndarray, k: int) -> np.ndarray:
    """w_k(S(y)) for each outcome y of a discrete law: how much more often best of k keeps it than the proposal draws it.

    Args:
        probabilities: P(y), above 0, summing to 1.
        scores: S(y); NaN, a missing score, ranks worst.
        k: how many compete.

    Raises:
        ValueError: probabilities that are not above 0 or do not sum to 1, or k below 1.
    """
    law = np.asarray(probabilities, dtype=float)
    if not (law > 0).all() or abs(law.sum() - 1) > 1e-9:
        raise ValueError("a law needs probabilities above 0 that sum to 1: leave out what never happens")
    if k < 1:
        raise ValueError(f"best of {k} keeps nothing: k is 1 or more")
    rank = pd.Series(scores, dtype=float).rank(method="dense").fillna(0).to_numpy()
    upto = (law[None, :] * (rank[None, :] <= rank[:, None])).sum(axis=1)
    below = (law[None, :] * (rank[None, :] < rank[:, None])).sum(axis=1)
    return (upto**k - below**k) / (upto - below)


def selection_of_law(probabilities: np.ndarray, scores: np.ndarray, verdicts: np.ndarray, k: int) -> float:
    """selection(k) = Cov(M, w_k(S)) under a discrete law; for k = 2, p(1 − p)(2·AUC − 1).

    Args:
        probabilities, scores, k: as for `tilt`.
        verdicts: M(y), 0 or 1.

    Raises:
        ValueError: as `tilt`.
    """
    law, misbehaves = np.asarray(probabilities, dtype=float), np.asarray(verdicts, dtype=float)
    return float((law * (misbehaves - (law * misbehaves).sum()) * (tilt(law, scores, k) - 1)).sum())


def total_variation(k: int) -> float:
    """TV_k, the total variation distance between best of k and its proposal for a score without atoms.

    k·u^(k−1) exceeds 1 above u₀ = k^(−1/(k−1)), so that TV_k = ∫_{u₀}¹ (k·u^(k−1) − 1) du = u₀ − u₀^k: .250, .472, .650,
    .779 for k = 2, 4, 8, 16. With atoms the distance is smaller.

    Raises:
        ValueError: k below 1.
    """
    if k < 1:
        raise ValueError(f"best of {k} keeps nothing: k is 1 or more")
    if k == 1:
        return 0.0
    crossing = k ** (-1 / (k - 1))
    return crossing - crossing**k


def selection_bound(lowest: float, highest: float, k: int) -> float:
    """|selection(k)| ≤ (max η̄ − min η̄)·TV_k: two laws of distance TV differ in a mean by at most its range times TV."""
    return (highest - lowest) * total_variation(k)
