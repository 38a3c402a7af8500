"""Best of k along k, and risk along the score's rank: per seed and averaged over seeds, for every kind and method."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from ct_pipeline.analysis.estimate import Estimate
from ct_pipeline.report.averages import RATE, over_seeds_term
from ct_pipeline.report.records import CurvePoint, MethodRecord, ProfilePoint, ShiftSummary, StudyRecord
from ct_pipeline.report.summary import Column, used_cells
from ct_pipeline.report.wording import percent, points

WITHIN, POOLED = "rank within prompt", "pooled score"


@dataclass(frozen=True)
class KCurve:
    """One method's curve over k with missing scores ranked worst: `mean` over seeds, and the seeds' own.

    A point is k, risk, selection. `missing_effect` is the risk with missing scores ranked worst less that without such
    candidates, at the method's own k, in the seed where it is largest; None where that is unknown.
    """

    method: MethodRecord
    mean: tuple[tuple[int, float, float], ...]
    seeds: tuple[tuple[tuple[int, float, float], ...], ...]
    missing_effect: float | None


@dataclass(frozen=True)
class RankCurve:
    """One method's η̄ and η: points (u, risk) with u a rank in [0, 1], within the prompt or pooled.

    `within` has a band, `pooled` is the mean over seeds at the same u; `warnings` counts the seeds, of `seeds`, in which the
    two slope in opposite directions.
    """

    method: MethodRecord
    within: tuple[tuple[float, Estimate], ...]
    pooled: tuple[tuple[float, float], ...]
    warnings: int
    seeds: int


@dataclass(frozen=True)
class ColumnCurves:
    """The curves of one kind of organism."""

    column: Column
    k_curves: tuple[KCurve, ...]
    rank_curves: tuple[RankCurve, ...]


def curves(record: StudyRecord) -> tuple[ColumnCurves, ...]:
    """One per kind of organism that has any; entries in which one candidate competes have no curve of their own."""
    found = []
    for column, by_method in used_cells(record).items():
        chosen = [
            (method, [cell.shift for cell in by_method.get(method.name, ()) if cell.shift and cell.shift.curve])
            for method in record.methods
            if method.k != 1
        ]
        chosen = [(method, shifts) for method, shifts in chosen if shifts]
        if chosen:
            ranks = [rank_curve(method, shifts, record.confidence) for method, shifts in chosen]
            k_curves = tuple(k_curve(method, shifts) for method, shifts in chosen)
            found.append(ColumnCurves(column, k_curves, tuple(one for one in ranks if one is not None)))
    return tuple(found)


def missing_scores_sentence(found: Sequence[ColumnCurves]) -> str | None:
    """How much the treatment of missing scores matters, in one number; None where nothing is known."""
    effects = [
        (abs(one.missing_effect), group.column.title, one.method.title)
        for group in found
        for one in group.k_curves
        if one.missing_effect is not None
    ]
    if not effects:
        return None
    largest, kind, method = max(effects, key=lambda effect: effect[0])
    if not largest:
        return "No score that could matter is missing: ranking such candidates worst or dropping them is the same here."
    return (
        "Candidates without a score rank worst. Dropping them instead would move the labels' risk at the method's own k by "
        f"at most {100 * largest:.1f} points ({kind}, {method}, one seed)."
    )


def simpson_sentence(found: Sequence[ColumnCurves]) -> str:
    """In how many runs the pooled score tells the opposite of the ranks within prompts, and where."""
    every = [(group, one) for group in found for one in group.rank_curves]
    warned = [(group, one) for group, one in every if one.warnings]
    runs = sum(one.seeds for _, one in every)
    if not warned:
        return f"Pooled scores and ranks within prompts do not contradict each other clearly in any of {runs} runs."
    places = "; ".join(
        f"{group.column.title}, {one.method.title} ({one.warnings} of {one.seeds} seeds)" for group, one in warned
    )
    count = sum(one.warnings for _, one in warned)
    return f"Warning (Simpson's paradox): in {count} of {runs} runs the pooled score slopes the other way: {places}."


def spoken_k_curve(one: KCurve) -> str:
    """A curve in words: its first point, the method's own k, its last point."""
    wanted = [point for point in one.mean if point[0] in (1, one.method.k, one.mean[-1][0])]
    risks = ", ".join(f"{percent(risk)} at k = {k} (selection {points(selection)})" for k, risk, selection in wanted)
    return f"{one.method.title}: {risks}"


def spoken_rank_curve(one: RankCurve) -> str:
    """η̄ and η in words: the risk at the worst and at the best rank."""
    ends = f"{percent(one.within[0][1].value)} at the lowest rank, {percent(one.within[-1][1].value)} at the highest"
    pooled = f"; pooled {percent(one.pooled[0][1])} to {percent(one.pooled[-1][1])}" if one.pooled else ""
    return f"{one.method.title}: {ends}{pooled}"


def k_curve(method: MethodRecord, shifts: Sequence[ShiftSummary]) -> KCurve:
    """The curve over k of one method, from one seed or several, each with a curve."""
    seeds = [_points(shift.curve, "worst") for shift in shifts]
    shared = sorted(set.intersection(*({k for k, *_ in seed} for seed in seeds)))
    by_k = [{k: (risk, selection) for k, risk, selection in seed} for seed in seeds]
    mean = [(k, *(float(each) for each in np.mean([seed[k] for seed in by_k], axis=0))) for k in shared]
    effects = [_missing_effect(method, shift) for shift in shifts]
    known = [effect for effect in effects if effect is not None]
    return KCurve(method, tuple(mean), tuple(seeds), max(known, key=abs) if known else None)


def _points(curve: Sequence[CurvePoint], missing: str) -> tuple[tuple[int, float, float], ...]:
    chosen = [point for point in curve if point.missing == missing and point.risk is not None]
    return tuple((point.k, point.risk, point.selection) for point in chosen)


def _missing_effect(method: MethodRecord, shift: ShiftSummary) -> float | None:
    worst, dropped = ({k: risk for k, risk, _ in _points(shift.curve, missing)} for missing in ("worst", "dropped"))
    known = method.k in worst and method.k in dropped
    return worst[method.k] - dropped[method.k] if known else None


def rank_curve(method: MethodRecord, shifts: Sequence[ShiftSummary], confidence: float) -> RankCurve | None:
    """η̄ and η of one method, from one seed or several; None where none has a profile."""
    profiles = [[point for point in shift.profile if point.by == WITHIN] for shift in shifts]
    profiles = [profile for profile in profiles if profile]
    if not profiles:
        return None
    shortest = min(profiles, key=len)
    same = [profile for profile in profiles if len(profile) == len(shortest)]
    within = []
    for place, point in enumerate(shortest):
        terms = [_term(profile[place], confidence) for profile in same]
        within.append(((point.low + point.high) / 2, over_seeds_term(terms, confidence, RATE)))
    pooled = [_pooled(shift.profile, [u for u, _ in within]) for shift in shifts]
    pooled = [risks for risks in pooled if risks is not None]
    mean = np.mean(pooled, axis=0) if pooled else []
    warnings = sum(bool(shift.simpson_warning) for shift in shifts)
    points_of_mean = tuple((u, float(risk)) for (u, _), risk in zip(within, mean, strict=False))
    return RankCurve(method, tuple(within), points_of_mean, warnings, len(shifts))


def _term(point: ProfilePoint, confidence: float) -> Estimate:
    """A bin with the standard error that its interval stands for; its candidates stand for prompts, at most too many."""
    if point.risk is None or point.risk_low is None:
        return Estimate(point.risk, 0.0, 1.0, None, 0)
    error = (point.risk_high - point.risk_low) / (2 * float(scipy.stats.norm.ppf((1 + confidence) / 2)))
    return Estimate(point.risk, point.risk_low, point.risk_high, error, point.candidates)


def _pooled(profile: Sequence[ProfilePoint], ranks: Sequence[float]) -> np.ndarray | None:
    """η along the pooled rank, at the ranks given: bins by score, set at the middle of the candidates they hold."""
    bins = [point for point in profile if point.by == POOLED and point.risk is not None]
    if not bins:
        return None
    counts = np.array([point.candidates for point in bins], dtype=float)
    middles = (np.cumsum(counts) - counts / 2) / counts.sum()
    return np.interp(ranks, middles, [point.risk for point in bins])
