"""The word for a change: amplifies, suppresses, neutral or undetermined; Holm's correction; the plain sign test."""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import scipy

from ct_pipeline.analysis.paired import Difference

Key = TypeVar("Key", bound=Hashable)


class Verdict(StrEnum):
    """What an interval for Δ allows to be said."""

    AMPLIFIES = "amplifies"
    SUPPRESSES = "suppresses"
    NEUTRAL = "neutral"
    UNDETERMINED = "undetermined"


class Effect(StrEnum):
    """The verdict on the change of a score that has a good and a bad direction."""

    IMPROVES = "improves"
    HARMS = "harms"
    NEUTRAL = "neutral"
    UNDETERMINED = "undetermined"


@dataclass(frozen=True)
class SignTest:
    """Cells that rose, fell or stood still, and the exact two-sided p-value of "rise and fall are equally likely".

    Cells that stand still, and cells without a value, take no part in the test; p is None where no cell moved.
    """

    rose: int
    fell: int
    unchanged: int
    missing: int
    p_value: float | None

    @property
    def share_suppressed(self) -> float | None:
        """Share of all cells with a value that fell; None where no cell has one."""
        cells = self.rose + self.fell + self.unchanged
        return self.fell / cells if cells else None


def verdict(change: Difference, epsilon: float) -> Verdict:
    """The verdict on one change.

    Amplifies or suppresses where the interval at `change.confidence` lies wholly outside [−ε, ε]; neutral where two
    one-sided tests at the same error rate put the change inside it, that is where the interval at 2·confidence − 1
    lies strictly inside; undetermined otherwise, and always where nothing is known. A large p-value alone is never
    "neutral".

    Args:
        change: the change with its interval.
        epsilon: half-width of the band that counts as no change, as a rate.

    Raises:
        ValueError: epsilon not above 0.
    """
    if epsilon <= 0:
        raise ValueError(f"epsilon must be above 0, not {epsilon}")
    if change.value is None or change.standard_error is None:
        return Verdict.UNDETERMINED
    if change.low > epsilon:
        return Verdict.AMPLIFIES
    if change.high < -epsilon:
        return Verdict.SUPPRESSES
    low, high = change.interval(2 * change.confidence - 1) if change.confidence > 0.5 else (-1.0, 1.0)
    return Verdict.NEUTRAL if -epsilon < low and high < epsilon else Verdict.UNDETERMINED


def effect(change: Difference, epsilon: float, higher_is_better: bool) -> Effect:
    """The verdict as good or bad: a fall of an accuracy harms, and so does a rise of a harmfulness.

    Raises:
        ValueError: epsilon not above 0.
    """
    word = verdict(change, epsilon)
    if word in (Verdict.AMPLIFIES, Verdict.SUPPRESSES):
        return Effect.IMPROVES if (word == Verdict.AMPLIFIES) == higher_is_better else Effect.HARMS
    return Effect(str(word))


def holm(p_values: Iterable[float | None]) -> list[float | None]:
    """Holm's step-down adjusted p-values, in the order given; a missing p-value stays missing and is not counted."""
    values = list(p_values)
    order = sorted((index for index, p in enumerate(values) if p is not None), key=lambda index: values[index])
    adjusted: list[float | None] = [None] * len(values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * values[index]))
        adjusted[index] = largest
    return adjusted


def holm_verdicts(changes: Mapping[Key, Difference], epsilon: float) -> dict[Key, Verdict]:
    """Verdicts over a whole grid: "amplifies" and "suppresses" stand only where they survive Holm's correction.

    The p-value of a cell is that of "Δ lies within [−ε, ε]"; a cell that does not survive is undetermined. Neutral
    cells are left as they are: the correction guards against false alarms, not against false calm.

    Raises:
        ValueError: epsilon not above 0.
    """
    adjusted = holm(change.p_value(epsilon) for change in changes.values())
    result = {}
    for (key, change), p in zip(changes.items(), adjusted, strict=True):
        word = verdict(change, epsilon)
        directed = word in (Verdict.AMPLIFIES, Verdict.SUPPRESSES)
        result[key] = Verdict.UNDETERMINED if directed and (p is None or p > 1 - change.confidence) else word
    return result


def sign_test(values: Iterable[float | None]) -> SignTest:
    """The plain sign test over cells, as the published study reports it (arXiv 2606.03810); sizes are ignored."""
    cells = list(values)
    known = [value for value in cells if value is not None]
    rose, fell = sum(value > 0 for value in known), sum(value < 0 for value in known)
    p = float(scipy.stats.binomtest(rose, rose + fell, 0.5).pvalue) if rose + fell else None
    return SignTest(rose, fell, len(known) - rose - fell, len(cells) - len(known), p)
