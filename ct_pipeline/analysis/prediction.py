"""The sign and size of Δ predicted from the labels alone, and how well such predictions did.

A model that has taken up a share λ of the labels' law, P_λ = (1 − λ)·P + λ·Q, has exactly

    Risk(P_λ) − Risk(P) = λ·(Risk(Q) − Risk(P)),

and P_λ is, to first order in λ, where a natural-gradient step on E_Q[log π] started at π = P leads. So the labels' own
difference predicts the sign of Δ and, up to one number λ, its size; λ also holds how far what was learnt on the
consistency prompts carries over to the evaluation prompts. For the regularizers (BCT, ACT) wrapped prompts are pulled
towards clean ones, and Risk(clean) − Risk(wrapped) takes the place of Risk(Q) − Risk(P). The decomposition of the
labels' risk is that of arXiv 2606.03810; predicting Δ from it before retraining, and scoring the prediction, is ours.

The organism is the unit throughout: its cells share θ_0, its candidates and its evaluation prompts, so that their errors
are correlated. Sums over an organism's cells are the observations, Student's quantile has one degree less than there are
organisms, and the intervals speak of other organisms under the same methods.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
import scipy

from ct_pipeline.analysis.by_organism import (
    Estimate,
    jackknife,
    jackknife_error,
    mean_gain,
    share_of,
    sums_of,
)
from ct_pipeline.analysis.distinct import copies, repeated
from ct_pipeline.analysis.paired import Difference
from ct_pipeline.analysis.t_distribution import student_quantile

PredictedSign = Literal["amplifies", "suppresses", "none"]

NUMBERS = ("predicted", "predicted_se", "observed", "observed_se")


@dataclass(frozen=True)
class Prediction:
    """What labels alone say about Δ, as a rate.

    Attributes:
        value: Risk(Q_k) − Risk(A_base), or Risk(clean) − Risk(wrapped); None where nothing is known.
        low: lower end of its interval; -1 where nothing is known.
        high: upper end; 1 where nothing is known.
        standard_error: of the value; None where it is unknown.
        basis: what was compared, in words ("best of 4 against greedy").
    """

    value: float | None
    low: float
    high: float
    standard_error: float | None
    basis: str

    @property
    def predicted_sign(self) -> PredictedSign:
        """The direction of Δ, or "none" where the interval holds 0."""
        if self.value is None or self.low <= 0 <= self.high:
            return "none"
        return "amplifies" if self.low > 0 else "suppresses"


@dataclass(frozen=True)
class Slope:
    """λ of observed = λ·predicted through the origin.

    Attributes:
        value: λ; None where the predictions are no larger than their errors.
        low: lower end of its interval; None where the data do not bound it.
        high: upper end; None where the data do not bound it.
        standard_error: of λ; None where it is unknown.
        attenuated: the least-squares slope, which errors in the predictions pull towards 0: λ·reliability.
        reliability: share of the predictions' mean square that is not their error, at most 1.
        cells: cells behind it.
        organisms: organisms behind it.
    """

    value: float | None
    low: float | None
    high: float | None
    standard_error: float | None
    attenuated: float | None
    reliability: float | None
    cells: int
    organisms: int


@dataclass(frozen=True)
class SignScore:
    """Shares of cells whose sign was right: by the prediction, by "always suppresses", and the first less the second."""

    prediction: Estimate
    always_suppresses: Estimate
    gain: Estimate

    @property
    def best_constant(self) -> tuple[str, float] | None:
        """The better of "always suppresses" and "always amplifies" on these very cells, and its share; None without any."""
        fell = self.always_suppresses.value
        if fell is None:
            return None
        return ("suppresses", fell) if fell >= 0.5 else ("amplifies", 1 - fell)


@dataclass(frozen=True)
class SizeScore:
    """Spearman correlations with ∣Δ∣: of ∣predicted∣, of KL, and the first less the second; cells with a KL only."""

    prediction: Estimate
    kl: Estimate
    gain: Estimate


@dataclass(frozen=True)
class Score:
    """How predictions did over a set of cells.

    Attributes:
        cells: cells with a prediction, an observation and both standard errors.
        organisms: organisms behind them.
        missing: cells that lack one of the four.
        tied: cells in which the prediction or the observation is exactly 0; they have no sign to score.
        all_signs: over all cells but the tied ones.
        clear_signs: over cells in which both intervals exclude 0.
        slope: λ.
        calibration: share of observed Δ inside the interval of λ·predicted, λ taken from the other organisms.
        nominal: what that share should be.
        sizes: whether the size is predicted, beside KL.
    """

    cells: int
    organisms: int
    missing: int
    tied: int
    all_signs: SignScore
    clear_signs: SignScore
    slope: Slope
    calibration: Estimate
    nominal: float
    sizes: SizeScore


@dataclass(frozen=True)
class Scores:
    """The score over all cells, over those of each kind of organism, and over distinct predictions alone.

    Attributes:
        overall: every method counts.
        kinds: by kind.
        distinct: a prediction that repeats another method's for the same organism does not count.
        copies: (method, the one that repeats it) to the number of organisms.
    """

    overall: Score
    kinds: dict[str, Score]
    distinct: Score
    copies: dict[tuple[str, str], int]


def predict(change: Difference, basis: str) -> Prediction:
    """The prediction that a difference between labels and base (or wrapped and clean prompts) makes.

    Args:
        change: `before` is A_base (or the wrapped prompts), `after` the labels (or the clean prompts).
        basis: what was compared, in words.
    """
    return Prediction(change.value, change.low, change.high, change.standard_error, basis)


def score_predictions(
    rows: pd.DataFrame, *, confidence: float = 0.95, organism: Sequence[str] = ("kind", "seed")
) -> Scores:
    """How well Δ was predicted, over all cells and per kind.

    Args:
        rows: one row per cell: kind, method, seed, predicted, predicted_se, observed, observed_se, and kl (in nats,
            missing where there is none, as for the regularizers; KLs of greedy and of sampled labels grow differently
            with length, so leave one of them out). Rates, not percentage points. The errors of predicted and observed
            must be independent: labels are judged on probe prompts, Δ on evaluation prompts.
        confidence: two-sided, in (0, 1).
        organism: columns that tell organisms apart; add the base model's where there are several.

    Raises:
        ValueError: a column is absent, a standard error is negative, a cell stands twice, or confidence outside (0, 1).
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    needed = {"kind", "method", "seed", "kl", *NUMBERS, *organism}
    if absent := sorted(needed - set(rows.columns)):
        raise ValueError(f"the table of predictions lacks the columns {', '.join(absent)}")
    table = rows.astype(dict.fromkeys([*NUMBERS, "kl"], float)).reset_index(drop=True)
    if (table[["predicted_se", "observed_se"]] < 0).any(axis=None):
        raise ValueError("a standard error in the table of predictions is negative")
    twice = table.duplicated([*organism, "method"])
    if twice.any():
        cell = table.loc[twice, [*organism, "method"]].iloc[0].tolist()
        raise ValueError(f"the table of predictions holds the cell {cell} twice; pass one view of Δ at a time")
    table["organism"] = table.groupby(list(organism), sort=False, dropna=False).ngroup()
    kinds = {str(kind): _score(part, confidence) for kind, part in table.groupby("kind", sort=False)}
    copy_of = copies(table, organism)
    distinct = _score(table[copy_of.isna()], confidence)
    return Scores(_score(table, confidence), kinds, distinct, repeated(table, copy_of))


def slope_through_origin(
    predicted: np.ndarray,
    predicted_se: np.ndarray,
    observed: np.ndarray,
    organisms: np.ndarray,
    *,
    methods: np.ndarray | None = None,
    confidence: float = 0.95,
) -> Slope:
    """λ of observed = λ·predicted, corrected for the errors of the predictions.

    With x seen as x + u, u of known variance σ² and independent of the error of y, E[Σ x·y] = λ·E[Σ (x² − σ²)], so that

        λ = Σ x·y / Σ (x² − σ²),

    the moment estimator of Fuller (Measurement Error Models, 1987). It needs no model of the scatter of y; Deming's and
    York's lines do: they take all scatter for measurement error and go astray where Δ departs from the first-order law,
    as it will. Errors that an organism's predictions share leave it unbiased. The standard error is the jackknife's that
    leaves out one organism at a time, with Student's quantile: with few organisms of unequal weight the linearized one
    is too small. Simulated coverage of the 95 % interval at 9 cells per organism: .92 to .96 for 3 to 40 organisms.
    There is no interval where leaving out one organism leaves predictions no larger than their errors.

    Args:
        predicted: one number per cell.
        predicted_se: its standard error.
        observed: Δ of the cell.
        organisms: which organism the cell belongs to.
        methods: which method, or group of methods that share a proposal, it belongs to; the interval is then the wider of
            those that leave out one organism, and one method, at a time. None, or one method: organisms alone.
        confidence: two-sided, in (0, 1).
    """
    found = _slope(predicted, predicted_se, observed, organisms, confidence)
    if methods is None or found.low is None or len(np.unique(methods)) < 2:
        return found
    other = _slope(predicted, predicted_se, observed, methods, confidence)
    if other.low is None:
        return replace(found, low=None, high=None, standard_error=None)
    wider = max((found, other), key=lambda one: one.high - one.low)
    return replace(found, low=wider.low, high=wider.high, standard_error=wider.standard_error)


def _slope(
    predicted: np.ndarray, predicted_se: np.ndarray, observed: np.ndarray, clusters: np.ndarray, confidence: float
) -> Slope:
    top = sums_of(predicted * observed, clusters)
    bottom = sums_of(predicted**2 - predicted_se**2, clusters)
    squares = float((predicted**2).sum())
    attenuated, reliability = (float(part.sum()) / squares if squares > 0 else None for part in (top, bottom))
    value = float(top.sum() / bottom.sum()) if bottom.sum() > 0 else None
    left = bottom.sum() - bottom
    if value is None or len(top) < 2 or (left <= 0).any():
        return Slope(value, None, None, None, attenuated, reliability, len(predicted), len(top))
    error = jackknife_error((top.sum() - top) / left)
    half = float(student_quantile(confidence, len(top) - 1)) * error
    return Slope(value, value - half, value + half, error, attenuated, reliability, len(predicted), len(top))


def _score(table: pd.DataFrame, confidence: float) -> Score:
    whole = table.dropna(subset=list(NUMBERS))
    x, x_se, y, y_se = (whole[name].to_numpy() for name in NUMBERS)
    organisms = whole["organism"].to_numpy()
    quantile = float(scipy.stats.norm.ppf((1 + confidence) / 2))
    signed = (x != 0) & (y != 0)
    clear = signed & (np.abs(x) > quantile * x_se) & (np.abs(y) > quantile * y_se)
    return Score(
        cells=len(whole),
        organisms=len(np.unique(organisms)),
        missing=len(table) - len(whole),
        tied=int((~signed).sum()),
        all_signs=_sign_score(x[signed], y[signed], organisms[signed], confidence),
        clear_signs=_sign_score(x[clear], y[clear], organisms[clear], confidence),
        slope=slope_through_origin(
            x,
            x_se,
            y,
            organisms,
            methods=whole["method"].astype("category").cat.codes.to_numpy(),
            confidence=confidence,
        ),
        calibration=_calibration(x, x_se, y, y_se, organisms, confidence),
        nominal=confidence,
        sizes=_size_score(whole, confidence),
    )


def _sign_score(x: np.ndarray, y: np.ndarray, organisms: np.ndarray, confidence: float) -> SignScore:
    right, fell = (np.sign(x) == np.sign(y)), y < 0
    return SignScore(
        prediction=share_of(right, organisms, confidence),
        always_suppresses=share_of(fell, organisms, confidence),
        gain=mean_gain(right.astype(float) - fell, organisms, confidence),
    )


def _calibration(
    x: np.ndarray, x_se: np.ndarray, y: np.ndarray, y_se: np.ndarray, organisms: np.ndarray, confidence: float
) -> Estimate:
    """Share of cells with ∣y − λx∣ inside its interval, λ from the other organisms.

    The half-width joins the errors of y and of λx at the normal quantile with that of λ at Student's. Scatter about the
    law is not in it: a share below nominal says that the first-order law with one λ does not hold.
    """
    inside, owners = [], []
    normal = float(scipy.stats.norm.ppf((1 + confidence) / 2))
    for one in np.unique(organisms):
        held = organisms == one
        others = slope_through_origin(x[~held], x_se[~held], y[~held], organisms[~held])
        if others.value is None or others.standard_error is None:
            continue
        student = student_quantile(confidence, others.organisms - 1)
        measured = normal**2 * (y_se[held] ** 2 + (others.value * x_se[held]) ** 2)
        half = np.sqrt(measured + (student * others.standard_error * x[held]) ** 2)
        inside.append(np.abs(y[held] - others.value * x[held]) <= half)
        owners.append(organisms[held])
    if not inside:
        return Estimate(None, 0.0, 1.0, 0, 0)
    return share_of(np.concatenate(inside), np.concatenate(owners), confidence)


def _size_score(whole: pd.DataFrame, confidence: float) -> SizeScore:
    known = whole.dropna(subset=["kl"])
    size, guess, kl = known["observed"].abs(), known["predicted"].abs(), known["kl"]
    table, organisms = np.column_stack([size, guess, kl]), known["organism"].to_numpy()
    found = _correlations(table)
    left_out = np.array([_correlations(table[organisms != one]) for one in np.unique(organisms)]).reshape(-1, 3)
    prediction, of_kl, gain = (
        jackknife(found[column], left_out[:, column], limit, len(known), confidence)
        for column, limit in enumerate((1.0, 1.0, 2.0))
    )
    return SizeScore(prediction, of_kl, gain)


def _correlations(table: np.ndarray) -> np.ndarray:
    """Spearman of the first column with the second, with the third, and the first less the second; NaN where undefined."""
    if len(table) < 3 or (table == table[0]).all(axis=0).any():
        return np.full(3, np.nan)
    ranks = np.corrcoef(scipy.stats.rankdata(table, axis=0), rowvar=False)
    return np.array([ranks[0, 1], ranks[0, 2], ranks[0, 1] - ranks[0, 2]])
