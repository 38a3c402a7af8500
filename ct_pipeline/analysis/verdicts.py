"""The word for a change, from amplifies to undetermined; Holm's correction; the plain sign test."""

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
    RISES = "rises, size unclear"
    FALLS = "falls, size unclear"
    NEUTRAL = "neutral"
    UNDETERMINED = "undetermined"
    UNREADABLE = "unreadable"


BEYOND = (Verdict.AMPLIFIES, Verdict.SUPPRESSES)
"""Verdicts of a change beyond the band of no change."""
DIRECTED = (*BEYOND, Verdict.RISES, Verdict.FALLS)
"""Verdicts that name a direction."""
MOST_MISSING = 0.2
"""Share of answers without a verdict, over both sides, above which a change is called unreadable."""


class Effect(StrEnum):
    """The verdict on the change of a score that has a good and a bad direction."""

    IMPROVES = "improves"
    HARMS = "harms"
    BETTER = "better, size unclear"
    WORSE = "worse, size unclear"
    NEUTRAL = "neutral"
    UNDETERMINED = "undetermined"
    UNREADABLE = "unreadable"


_GOOD = {Verdict.AMPLIFIES: Effect.IMPROVES, Verdict.SUPPRESSES: Effect.HARMS}
_GOOD |= {Verdict.RISES: Effect.BETTER, Verdict.FALLS: Effect.WORSE}
_BAD = {Verdict.AMPLIFIES: Effect.HARMS, Verdict.SUPPRESSES: Effect.IMPROVES}
_BAD |= {Verdict.RISES: Effect.WORSE, Verdict.FALLS: Effect.BETTER}


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

    Unreadable where more than `MOST_MISSING` of the answers have no verdict. Amplifies or suppresses where the interval at
    `change.confidence` lies wholly outside [−ε, ε]; neutral where two one-sided tests at the same error rate put the
    change inside it, that is where the interval at 2·confidence − 1 lies strictly inside; rises or falls, size unclear,
    where the interval leaves out 0 and not the band; undetermined otherwise, and always where nothing is known. A large
    p-value alone is never "neutral". The ends are compared as they are printed, to a tenth of a percentage point, so that
    a reader can check every word, and equal intervals have equal words.

    Args:
        change: the change with its interval.
        epsilon: half-width of the band that counts as no change, as a rate.

    Raises:
        ValueError: epsilon not above 0.
    """
    if epsilon <= 0:
        raise ValueError(f"epsilon must be above 0, not {epsilon}")
    if change.null_rate is not None and change.null_rate > MOST_MISSING:
        return Verdict.UNREADABLE
    if change.value is None or change.standard_error is None:
        return Verdict.UNDETERMINED
    low, high = _printed((change.low, change.high))
    if low > epsilon:
        return Verdict.AMPLIFIES
    if high < -epsilon:
        return Verdict.SUPPRESSES
    inner = _printed(change.interval(2 * change.confidence - 1)) if change.confidence > 0.5 else (-1.0, 1.0)
    if -epsilon < inner[0] and inner[1] < epsilon:
        return Verdict.NEUTRAL
    return Verdict.RISES if low > 0 else Verdict.FALLS if high < 0 else Verdict.UNDETERMINED


def _printed(ends: tuple[float, float]) -> tuple[float, float]:
    return round(ends[0], 3), round(ends[1], 3)


def effect(change: Difference, epsilon: float, higher_is_better: bool) -> Effect:
    """The verdict as good or bad: a fall of an accuracy harms, and so does a rise of a harmfulness.

    Raises:
        ValueError: epsilon not above 0.
    """
    word = verdict(change, epsilon)
    return (_GOOD if higher_is_better else _BAD).get(word) or Effect(str(word))


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
    """Verdicts over a whole grid: what names a direction stands only where it survives Holm's correction.

    "Amplifies" and "suppresses" are tested against "Δ lies within [−ε, ε]", "rises" and "falls" against "Δ is 0", each over
    the whole grid. A change beyond the band that survives the second test alone keeps its direction; one that survives
    none is undetermined. Neutral cells are left as they are: the correction guards against false alarms, not against
    false calm.

    Raises:
        ValueError: epsilon not above 0.
    """
    adjusted = [holm(change.p_value(band) for change in changes.values()) for band in (epsilon, 0.0)]
    result = {}
    for (key, change), beyond, moved in zip(changes.items(), *adjusted, strict=True):
        word, error = verdict(change, epsilon), 1 - change.confidence
        if word in BEYOND and (beyond is None or beyond > error):
            word = Verdict.RISES if word == Verdict.AMPLIFIES else Verdict.FALLS
        if word in (Verdict.RISES, Verdict.FALLS) and (moved is None or moved > error):
            word = Verdict.UNDETERMINED
        result[key] = word
    return result


def sign_test(values: Iterable[float | None]) -> SignTest:
    """The plain sign test over cells, as the published study reports it (arXiv 2606.03810); sizes are ignored."""
    cells = list(values)
    known = [value for value in cells if value is not None]
    rose, fell = sum(value > 0 for value in known), sum(value < 0 for value in known)
    p = float(scipy.stats.binomtest(rose, rose + fell, 0.5).pvalue) if rose + fell else None
    return SignTest(rose, fell, len(known) - rose - fell, len(cells) - len(known), p)
