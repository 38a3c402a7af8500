"""η̄(u), the risk by rank within the prompt, and the pooled η(s) beside it, with a warning where the two disagree.

Averaged over prompts, selection(k) = ∫ η̄(u)·(k·u^(k−1) − 1) du with η̄(u) = E_x[η_x(u)] and u the rank of the score within
its prompt, because selection compares candidates of one prompt only. The pooled η(s) of arXiv 2606.03810 mixes in how
risk and score vary from prompt to prompt, and can have the opposite sign (Simpson's paradox).
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from ct_pipeline.analysis.best_of import selection_bound, tie_groups
from ct_pipeline.analysis.estimate import Estimate, mean_term, ratio_values, share_term
from ct_pipeline.analysis.grid import Grid, grid


@dataclass(frozen=True)
class Bin:
    """One bin of a profile.

    Attributes:
        low: where it begins: a rank in [0, 1], or a score.
        high: where it ends.
        centre: mean rank, or mean score, of what is in it.
        risk: with a pointwise band, clustered by prompt.
        candidates: with a verdict, in it.
    """

    low: float
    high: float
    centre: float
    risk: Estimate
    candidates: int


@dataclass(frozen=True)
class Profile:
    """Risk along a rank or a score.

    Attributes:
        bins: in ascending order; bins without a verdict are left out.
        slope: least-squares rise of the risk from u = 0 to u = 1, u the rank: within the prompt, or pooled.
        unscored: candidates left out for want of a score.
    """

    bins: tuple[Bin, ...]
    slope: Estimate
    unscored: int

    def selection_bound(self, k: int) -> float | None:
        """(max η̄ − min η̄)·TV_k with the bins' estimates for η̄; None without bins.

        It bounds |selection(k)| for η̄ itself. Noise in the bins widens it, averaging within a bin narrows it.
        """
        risks = [each.risk.value for each in self.bins]
        return selection_bound(min(risks), max(risks), k) if risks else None


@dataclass(frozen=True)
class RankProfile:
    """η̄(u) and the pooled η(s).

    Attributes:
        within: by rank within the prompt; missing scores rank worst, as selection treats them.
        pooled: by quantile of the score over all prompts; candidates without a score are left out.
        simpson_warning: the pooled slope's interval excludes 0 and the within-prompt slope's excludes that sign.
    """

    within: Profile
    pooled: Profile
    simpson_warning: bool


def rank_profile(
    candidates: pd.DataFrame, confidence: float = 0.95, *, bins: int | None = None, pooled_bins: int = 10
) -> RankProfile:
    """Both profiles of one table of candidates.

    Args:
        candidates: one row per completion: prompt_id, candidate, verdict (nullable), score (NaN where missing).
        confidence, bins, pooled_bins: as for `grid_profile`.

    Raises:
        ValueError: as `grid_profile`, or a table that `grid` refuses.
    """
    return grid_profile(grid(candidates), confidence, bins=bins, pooled_bins=pooled_bins)


def grid_profile(
    cells: Grid, confidence: float = 0.95, *, bins: int | None = None, pooled_bins: int = 10
) -> RankProfile:
    """Both profiles of candidates in matrices.

    Args:
        cells: prompts × candidates.
        confidence: of every interval, two-sided, in (0, 1).
        bins: of equal width in u; None for one per rank of the smallest prompt. Never more than that.
        pooled_bins: by quantiles of the pooled score; equal scores share a bin, so that there may be fewer.

    Raises:
        ValueError: less than one bin, or confidence outside (0, 1).
    """
    if (bins is not None and bins < 1) or pooled_bins < 1:
        raise ValueError(f"a profile needs at least one bin, not {bins} and {pooled_bins}")
    within = _within(cells, confidence, bins)
    pooled = _pooled(cells, confidence, pooled_bins)
    return RankProfile(within, pooled, _opposed(within.slope, pooled.slope))


def rank_risks(cells: Grid) -> np.ndarray:
    """The risk at each rank of each prompt: a tie group fills all ranks that it shares with its mean verdict.

    That is η_x(u) on the step of F that an atom takes up, so that Σ over ranks of the rank's best-of-k weight times its
    risk is the k-curve's estimate, and the slope has the numerator of mid-ranks. With n candidates the r-th rank is spread
    as Beta(r, n − r + 1) around r/(n + 1): what is estimated is η_x smoothed that much.

    Returns:
        (prompts, candidates), the worst rank first; NaN where absent and where no candidate of the rank has a verdict.
    """
    rows, columns = cells.present.shape
    below, _ = tie_groups(cells.scores, cells.present)
    judged = ~np.isnan(cells.verdicts)
    first = below.astype(int)
    prompt = np.broadcast_to(np.arange(rows)[:, None], (rows, columns))
    count, sums = np.zeros((rows, columns)), np.zeros((rows, columns))
    np.add.at(count, (prompt[judged], first[judged]), 1)
    np.add.at(sums, (prompt[judged], first[judged]), cells.verdicts[judged])
    group = np.zeros((rows, columns), dtype=int)
    group[prompt[cells.present], first[cells.present]] = first[cells.present]
    group = np.maximum.accumulate(group, axis=1)
    count, sums = (np.take_along_axis(each, group, axis=1) for each in (count, sums))
    return np.where(cells.present & (count > 0), sums / np.maximum(count, 1), np.nan)


def _within(cells: Grid, confidence: float, bins: int | None) -> Profile:
    risks = rank_risks(cells)
    size = np.maximum(cells.sizes, 1)[:, None]
    place = np.arange(risks.shape[1])[None, :]
    ranks = np.where(cells.present, (place + 0.5) / size, np.nan)
    fewest = int(cells.sizes.min()) if len(cells.sizes) else 0
    count = fewest if bins is None else min(bins, fewest)
    judged = ~np.isnan(risks)
    number = np.where(judged, (2 * place + 1) * count // (2 * size), -1)
    steps = np.arange(count + 1) / count if count else np.zeros(1)
    return Profile(_bins(ranks, risks, number, steps, confidence), _within_slope(ranks, risks, confidence), 0)


def _pooled(cells: Grid, confidence: float, bins: int) -> Profile:
    scored = np.isfinite(cells.scores)
    unscored = int((cells.present & ~scored).sum())
    known = scored & ~np.isnan(cells.verdicts)
    if not known.any():
        return Profile((), mean_term(np.empty(0), confidence), unscored)
    scores, risks = np.where(known, cells.scores, np.nan), np.where(known, cells.verdicts, np.nan)
    seen = scores[known]
    edges = np.unique(np.quantile(seen, np.arange(bins + 1) / bins))
    inner = np.clip(np.searchsorted(edges, scores, side="right") - 1, 0, max(len(edges) - 2, 0))
    steps = edges if len(edges) > 1 else np.repeat(edges, 2)
    number = np.where(known, inner, -1)
    slope = _pooled_slope(np.nonzero(known)[0], seen, risks[known], confidence)
    return Profile(_bins(scores, risks, number, steps, confidence), slope, unscored)


def _bins(
    along: np.ndarray, risks: np.ndarray, number: np.ndarray, edges: np.ndarray, confidence: float
) -> tuple[Bin, ...]:
    """The bins that hold something; the risk is a mean of prompts' means."""
    filled = []
    for place, (low, high) in enumerate(pairwise(edges)):
        inside = number == place
        count = inside.sum(axis=1)
        if count.any():
            sums = np.where(inside, risks, 0).sum(axis=1)
            means = np.divide(sums, count, out=np.full(len(count), np.nan), where=count > 0)
            centre = float(along[inside].mean())
            filled.append(Bin(float(low), float(high), centre, share_term(means, confidence), int(count.sum())))
    return tuple(filled)


def _within_slope(ranks: np.ndarray, risks: np.ndarray, confidence: float) -> Estimate:
    """Σ (u − ū)(M − M̄) / Σ (u − ū)², means of the prompt, clustered by prompt."""
    judged = ~np.isnan(risks)
    count = np.maximum(judged.sum(axis=1, keepdims=True), 1)
    u, m = (np.where(judged, each, 0) for each in (ranks, risks))
    u, m = (np.where(judged, each - each.sum(axis=1, keepdims=True) / count, 0) for each in (u, m))
    some = judged.any(axis=1)
    return mean_term(ratio_values((u * m).sum(axis=1)[some], (u**2).sum(axis=1)[some]), confidence)


def _pooled_slope(prompts: np.ndarray, scores: np.ndarray, verdicts: np.ndarray, confidence: float) -> Estimate:
    """Σ (v − ½)·M / Σ (v − ½)² over all T candidates, v their pooled mid-rank / T, clustered by prompt.

    The ranks are estimated, too: the numerator is a U-statistic, and its linearised values (Hájek projection) are
    v·M + m⁺(s) − M/2, with m⁺(s) the sum over candidates j of M_j·[1(s_j > s) + 1(s_j = s)/2] / T. Taking the ranks as
    given covers 83 % instead of 95 % where score and risk vary from prompt to prompt.
    """
    total = len(scores)
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    below, upto = (np.searchsorted(ordered, scores, side=side) for side in ("left", "right"))
    rank = (below + upto) / (2 * total)
    sums = np.concatenate([[0.0], np.cumsum(verdicts[order])])
    above = (2 * sums[-1] - sums[below] - sums[upto]) / (2 * total)
    spread = float(((rank - 0.5) ** 2).mean())
    if not spread > 0:
        return mean_term(np.empty(0), confidence)
    slope = float(((rank - 0.5) * verdicts).mean())
    influence = rank * verdicts + above - verdicts / 2
    influence -= influence.mean()
    _, prompt = np.unique(prompts, return_inverse=True)
    by_prompt = np.bincount(prompt, weights=influence)
    return mean_term((slope + by_prompt * len(by_prompt) / total) / spread, confidence)


def _opposed(within: Estimate, pooled: Estimate) -> bool:
    if None in (within.low, within.high, pooled.low, pooled.high):
        return False
    return (pooled.low > 0 and within.high <= 0) or (pooled.high < 0 and within.low >= 0)
