"""Risk of a method's labels, taken apart: distribution shift of the proposal, and selection among its candidates.

With Q_1 the proposal (one random candidate), Q_k what selection keeps, and A_base a decoding of the organism, exactly

    Risk(Q_k) − Risk(A_base) = [Risk(Q_1) − Risk(A_base)] + [Risk(Q_k) − Risk(Q_1)] = shift + selection

(the terms of arXiv 2606.03810). All three risks are taken on the same prompts, so that the sum holds in the estimates.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ct_pipeline.analysis.best_of import total_variation
from ct_pipeline.analysis.estimate import Estimate, change_term, ratio_values, share_term
from ct_pipeline.analysis.grid import Grid, grid, verdict_numbers
from ct_pipeline.analysis.k_curve import prompt_risks


@dataclass(frozen=True)
class BestOf:
    """Keeps the best of k exchangeable candidates.

    Risk(Q_k) comes from all n ≥ k of a prompt through the weights of `best_of`, not from the first k alone.
    """

    k: int


@dataclass(frozen=True)
class Reranked:
    """Keeps one of a set of unlike candidates (diverse decoding): selection = E[M(chosen) − mean M(candidates)]."""


@dataclass(frozen=True)
class Filtered:
    """Keeps candidate 0 of some prompts and drops the others (multi-view).

    With a = 1 where a prompt is kept, Risk(Q_k) = Σ a·M / Σ a and selection = Cov(M, a)/P(a): a ratio, whose interval is
    that of its linearised values (delta method), widened as for other changes.
    """


@dataclass(frozen=True)
class Unselected:
    """Keeps what was drawn (self-refinement, greedy self-training, null): all shift, selection exactly 0."""


Selector = BestOf | Reranked | Filtered | Unselected


@dataclass(frozen=True)
class Against:
    """The labels against one decoding of the organism.

    Attributes:
        base: Risk(A_base).
        shift: Risk(Q_1) − Risk(A_base).
        total: Risk(Q_k) − Risk(A_base) = shift + selection.
    """

    base: Estimate
    shift: Estimate
    total: Estimate


@dataclass(frozen=True)
class Decomposition:
    """A method's label risk and its parts, on the prompts that have a verdict in every arm.

    Attributes:
        proposal: Risk(Q_1).
        labels: Risk(Q_k).
        selection: Risk(Q_k) − Risk(Q_1).
        against: by name of the decoding, shift and total.
        kept: rate of the labels really kept; one draw of Q_k, noisier than `labels` for best of k, else the same.
        prompts: used.
        dropped: prompts left out of all arms because a verdict, or a whole arm, is missing.
        accepted: share of the prompts used that have a label; 1 save for a filter.
    """

    proposal: Estimate
    labels: Estimate
    selection: Estimate
    against: Mapping[str, Against]
    kept: Estimate
    prompts: int
    dropped: int
    accepted: float | None


def decompose(
    candidates: pd.DataFrame,
    labels: pd.DataFrame,
    bases: Mapping[str, pd.DataFrame],
    selector: Selector,
    confidence: float = 0.95,
) -> Decomposition:
    """Shift and selection of one method.

    Args:
        candidates: one row per completion: prompt_id, candidate, verdict (nullable), score (NaN where missing). Only
            prompts on which the verdict is defined belong here.
        labels: the rows kept of them, at most one per prompt.
        bases: by name (greedy, T = 1), rows of the organism's own decoding: prompt_id and verdict, one or more per prompt.
        selector: how the labels were chosen.
        confidence: two-sided, in (0, 1).

    Raises:
        ValueError: labels of prompts without candidates, two labels of one prompt, fewer than k candidates, a filter
            without candidate 0, or confidence outside (0, 1).
    """
    cells = grid(candidates)
    label = _labels(labels, cells)
    arms = _arms(cells, candidates, label, selector)
    for name, base in bases.items():
        means = pd.Series(verdict_numbers(base["verdict"])).groupby(base["prompt_id"].to_numpy()).mean()
        arms = arms.join(means.rename(f"base {name}"), how="outer")
    used = arms.dropna(subset=[column for column in arms if column != "kept"])
    risk = used["labels"].to_numpy()
    accepted = used["accepted"].to_numpy(dtype=float)
    whole = bool((accepted == 1).all())
    values = risk if whole else ratio_values(accepted * risk, accepted)
    proposal = used["proposal"].to_numpy()
    scale = filter_scale(accepted)
    against = {}
    for name in bases:
        base = used[f"base {name}"].to_numpy()
        against[name] = Against(
            base=share_term(base, confidence),
            shift=change_term(proposal - base, confidence),
            total=change_term(values - base, confidence, scale),
        )
    return Decomposition(
        proposal=share_term(proposal, confidence),
        labels=share_term(np.where(accepted == 1, risk, np.nan), confidence),
        selection=change_term(values - proposal, confidence, _selection_scale(selector, scale)),
        against=against,
        kept=share_term(used["kept"].to_numpy(), confidence),
        prompts=len(used),
        dropped=len(arms) - len(used),
        accepted=float(accepted.mean()) if len(used) else None,
    )


def filter_scale(accepted: np.ndarray) -> float:
    """The most that one prompt can move a filter's selection: 1 if rejected, 1/P(a) − 1 if accepted."""
    share = accepted.mean() if len(accepted) else 0.0
    return max(1.0, 1 / share - 1) if share else 1.0


def _arms(cells: Grid, candidates: pd.DataFrame, label: pd.Series, selector: Selector) -> pd.DataFrame:
    """proposal, labels, accepted and kept of each prompt with candidates."""
    kept = label.reindex(cells.prompts).to_numpy()
    accepted = cells.prompts.isin(label.index)
    if isinstance(selector, BestOf):
        if selector.k < 1 or (len(cells.sizes) and cells.sizes.min() < selector.k):
            raise ValueError(
                f"best of {selector.k} needs 1 or more candidates, and as many per prompt as compete: the fewest are "
                f"{cells.sizes.min() if len(cells.sizes) else 0}"
            )
        risks = prompt_risks(cells, selector.k)
        columns = (risks[:, 0], risks[:, -1], True, kept)
    elif isinstance(selector, Reranked):
        columns = (_mean(cells, strict=True), kept, True, kept)
    elif isinstance(selector, Filtered):
        plain = candidates[candidates["candidate"] == 0]
        if len(plain) != len(cells.prompts):
            raise ValueError(f"{len(plain)} of {len(cells.prompts)} prompts have a candidate 0, the answer filtered")
        risk = pd.Series(verdict_numbers(plain["verdict"]), index=plain["prompt_id"].to_numpy()).reindex(cells.prompts)
        columns = (risk.to_numpy(), risk.to_numpy(), accepted, kept)
    else:
        risk = _mean(cells, strict=False)
        columns = (risk, risk, True, kept)
    names = ("proposal", "labels", "accepted", "kept")
    return pd.DataFrame(dict(zip(names, columns, strict=True)), index=cells.prompts)


def _mean(cells: Grid, strict: bool) -> np.ndarray:
    """Mean verdict of each prompt's candidates; `strict`: missing where one of them is, for a set of unlike candidates."""
    judged = ~np.isnan(cells.verdicts)
    count = judged.sum(axis=1)
    enough = (count == cells.sizes) if strict else count > 0
    sums = np.where(judged, cells.verdicts, 0).sum(axis=1)
    return np.where(enough, sums / np.maximum(count, 1), np.nan)


def _labels(labels: pd.DataFrame, cells: Grid) -> pd.Series:
    """The verdict of each prompt's label."""
    prompts = labels["prompt_id"]
    if prompts.duplicated().any():
        raise ValueError(f"prompt {prompts[prompts.duplicated()].iloc[0]} has two labels: a method keeps at most one")
    strangers = prompts[~prompts.isin(cells.prompts)]
    if len(strangers):
        raise ValueError(f"the label of prompt {strangers.iloc[0]} has no candidates: give the table it was kept of")
    return pd.Series(verdict_numbers(labels["verdict"]), index=prompts.to_numpy())


def _selection_scale(selector: Selector, otherwise: float) -> float:
    """The largest selection effect that a prompt can have."""
    if isinstance(selector, Unselected):
        return 0.0
    return total_variation(selector.k) if isinstance(selector, BestOf) else otherwise
