"""Risk and selection of best of j for every j up to n, unbiased, from one set of n candidates per prompt."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from ct_pipeline.analysis.best_of import best_of_weights, tie_groups, total_variation
from ct_pipeline.analysis.estimate import Estimate, change_term, share_term
from ct_pipeline.analysis.grid import Grid, grid

Missing = Literal["worst", "dropped"]
"""Candidates without a score: they rank worst, as selection treats them, or leave before anything is counted."""


@dataclass(frozen=True)
class KPoint:
    """Best of k at one k.

    Attributes:
        k: how many compete.
        risk: E[M of best of k].
        selection: risk at k minus risk at 1, paired on the same prompts; exactly 0 at k = 1.
    """

    k: int
    risk: Estimate
    selection: Estimate


def k_curve(
    candidates: pd.DataFrame, confidence: float = 0.95, *, missing: Missing = "worst", largest: int | None = None
) -> tuple[KPoint, ...]:
    """The curve over k (arXiv 2606.03810 draws it from labels of each k anew; here one set gives all of it).

    A point rests on the prompts with k candidates or more and a verdict among those that can win; `Estimate.prompts` counts
    them, and `risk.value − selection.value` is the risk at 1 on just these.

    Args:
        candidates: one row per completion: prompt_id, candidate, verdict (nullable), score (NaN where missing).
        confidence: two-sided, in (0, 1).
        missing: "worst", or "dropped" for the curve without candidates that have no score.
        largest: the last k; None for the most candidates of any prompt.

    Returns:
        Points at k = 1, 2, ...; none for a table without candidates.

    Raises:
        ValueError: confidence outside (0, 1), or a table that `grid` refuses.
    """
    if missing == "dropped":
        candidates = candidates[candidates["score"].notna()]
    cells = grid(candidates)
    risks = prompt_risks(cells, cells.present.shape[1] if largest is None else largest)
    points = []
    for place in range(risks.shape[1]):
        risk = risks[:, place]
        selection = change_term(risk - risks[:, 0], confidence, total_variation(place + 1))
        points.append(KPoint(place + 1, share_term(risk, confidence), selection))
    return tuple(points)


def prompt_risks(cells: Grid, largest: int) -> np.ndarray:
    """E[M of best of j] of each prompt for j = 1 .. largest, in closed form from its n candidates.

    Unbiased where every verdict is there. A candidate without a verdict keeps its rank and leaves numerator and
    denominator, as a label without a verdict leaves a rate: Σ w·M / Σ w over judged candidates estimates
    P(M = 1 | the best of j has a verdict), with a bias of the order of the missing share over n.

    Returns:
        (prompts, largest); NaN where a prompt has fewer than j candidates, or no verdict on any that can win.
    """
    weights = best_of_weights(*tie_groups(cells.scores, cells.present), cells.present)
    judged = ~np.isnan(cells.verdicts)
    verdicts = np.where(judged, cells.verdicts, 0)
    risks = np.full((len(cells.sizes), largest), np.nan)
    for place, weight in zip(range(largest), weights, strict=False):
        total = (weight * judged).sum(axis=1)
        np.divide((weight * verdicts).sum(axis=1), total, out=risks[:, place], where=total > 0)
    return risks
