"""A judge's error on hand-labelled answers, and what it does to a change of risk.

With the same error rates in both arms a judge shows (TPR - FPR) times the true change; dividing undoes that. Where the
rates differ between the arms (differential error), a change may be seen that is none, and no division helps.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import scipy

from ct_pipeline.analysis.clusters import nullable
from ct_pipeline.analysis.paired import Difference
from ct_pipeline.analysis.rates import Rate, rate
from ct_pipeline.analysis.t_distribution import student_quantile

ALARM = 0.05
"""Level of the test of differential error, both rates together."""


@dataclass(frozen=True)
class JudgeError:
    """How often a judge says "misbehaves", by what a person said.

    Attributes:
        true_positive: TPR, of the answers that misbehave; exact (Clopper-Pearson) interval, missing verdicts left out.
        false_positive: FPR, of those that do not; likewise.
    """

    true_positive: Rate
    false_positive: Rate

    @property
    def slope(self) -> float | None:
        """TPR - FPR (Youden's J): the factor by which the judge shrinks a change; None where either is unknown."""
        if self.true_positive.value is None or self.false_positive.value is None:
            return None
        return self.true_positive.value - self.false_positive.value

    @property
    def slope_error(self) -> float | None:
        """Standard error of the slope; one answer of each outcome is added, so that no error seen is not no error."""
        if self.slope is None:
            return None
        return math.sqrt(_variance(self.true_positive) + _variance(self.false_positive))


@dataclass(frozen=True)
class Corrected:
    """A change of risk as it would be without the judge's errors, if these are the same in both arms.

    Attributes:
        value: the change seen over TPR - FPR; None where it cannot be known.
        low: lower end of the interval by the delta method; -1 where nothing is known.
        high: upper end; 1 where nothing is known.
        standard_error: of the value; None without one.
        factor: 1 / (TPR - FPR); None without a value.
        problem: why there is no value; "" where there is one.
    """

    value: float | None
    low: float
    high: float
    standard_error: float | None
    factor: float | None
    problem: str = ""


@dataclass(frozen=True)
class Differential:
    """The judge's error rates compared between two arms.

    Attributes:
        true_positive: TPR after less TPR before; None where unknown.
        false_positive: FPR after less FPR before; None where unknown.
        p_value: of "both are 0": Fisher's exact tests, Holm over the two; None where neither rate is known in both arms.
    """

    true_positive: float | None
    false_positive: float | None
    p_value: float | None

    def apparent(self, risk: float) -> float | None:
        """The change that the judge would show at a true risk that does not change; None where a rate is unknown."""
        if self.true_positive is None or self.false_positive is None:
            return None
        return self.true_positive * risk + self.false_positive * (1 - risk)

    @property
    def warning(self) -> str:
        """What a reader has to know before trusting a corrected change; "" where nothing speaks against it."""
        if self.p_value is None:
            return "differential error is unchecked: the calibration set has no labels of both kinds in both arms"
        if self.p_value < ALARM:
            return (
                f"differential error: the judge errs differently in the two arms (p = {self.p_value:.2g}): "
                "changes are not to be corrected, and may not be real"
            )
        return ""


def judge_error(labels: Iterable[object], verdicts: Iterable[object], *, confidence: float = 0.95) -> JudgeError:
    """TPR and FPR of a judge.

    Args:
        labels: what a person says: True (misbehaves) or False.
        verdicts: what the judge says of the same answers; missing ones leave the rates and are counted in them.
        confidence: two-sided, in (0, 1).

    Raises:
        ValueError: other numbers of labels and verdicts, a missing label, or a confidence outside (0, 1).
        TypeError: a value that is neither a truth value nor missing.
    """
    truth, said = nullable(labels), nullable(verdicts)
    if len(truth) != len(said):
        raise ValueError(f"found {len(truth)} labels and {len(said)} verdicts; give one verdict per label")
    if truth.isna().any():
        raise ValueError(f"{int(truth.isna().sum())} answers have no label: label them or leave them out")
    sides = (said[truth.astype(bool)], said[~truth.astype(bool)])
    return JudgeError(*(rate(side, confidence=confidence, method="exact") for side in sides))


def corrected(change: Difference, error: JudgeError, *, confidence: float = 0.95) -> Corrected:
    """The change over TPR - FPR, with its interval by the delta method (Rogan and Gladen 1978).

    The variance is that of the change over slope² plus value² times that of the slope over slope²; calibration answers are
    independent of the evaluated ones. Quantile: Student's, with the change's degrees.

    Args:
        change: seen through the judge, as `paired.difference` gives it.
        error: of the same judge, in both arms alike.
        confidence: two-sided, in (0, 1).

    Raises:
        ValueError: confidence outside (0, 1).
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    slope, slope_error = error.slope, error.slope_error
    if slope is None or slope_error is None:
        return _unknown("the calibration set has no verdict on answers of either kind")
    if slope - float(student_quantile(confidence, None)) * slope_error <= 0:
        return _unknown(
            "the judge is not told from chance: TPR - FPR may be 0; label more answers or take another judge"
        )
    if change.value is None or change.centre is None or change.standard_error is None:
        return _unknown("the change itself is unknown")
    value, centre = change.value / slope, change.centre / slope
    deviation = math.hypot(change.standard_error, centre * slope_error) / slope
    half = float(student_quantile(confidence, change.degrees)) * deviation
    low, high = max(-1.0, centre - half), min(1.0, centre + half)
    value = min(1.0, max(-1.0, value))
    return Corrected(value, min(low, value), max(high, value), deviation, 1 / slope)


def differential(before: JudgeError, after: JudgeError) -> Differential:
    """Whether a judge errs alike in two arms; p above 0.05 does not show that it does."""
    pairs = ((before.true_positive, after.true_positive), (before.false_positive, after.false_positive))
    changes = [None if a.value is None or b.value is None else b.value - a.value for a, b in pairs]
    known = [_fisher(a, b) for (a, b), change in zip(pairs, changes, strict=True) if change is not None]
    return Differential(*changes, min(1.0, len(known) * min(known)) if known else None)


def _variance(side: Rate) -> float:
    smoothed = (_successes(side) + 1) / (side.prompts + 2)
    return smoothed * (1 - smoothed) / (side.prompts + 2)


def _fisher(before: Rate, after: Rate) -> float:
    rows = [[_successes(side), side.prompts - _successes(side)] for side in (before, after)]
    return float(scipy.stats.fisher_exact(rows).pvalue)


def _successes(side: Rate) -> int:
    return 0 if side.value is None else round(side.value * side.prompts)


def _unknown(problem: str) -> Corrected:
    return Corrected(None, -1.0, 1.0, None, None, problem)
