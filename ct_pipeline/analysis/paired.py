"""Δ: the change of a rate on the same prompts; the prompt is the cluster.

A mean of paired differences in [-1, 1] is estimated; the interval is Student's after one prompt that rose by 1 and one
that fell by 1 have been added (Bonett and Price 2012 for one sample per prompt). Without them, "no prompt changed"
would give a width of zero; with them it gives about ±2.8 percentage points at 100 prompts and 95 %, near the exact
rule of three. Its coverage is at least nominal for 50 to 400 prompts, also where few prompts change; it is wide where
many samples per prompt meet few prompts.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import pandas as pd
import scipy

from ct_pipeline.analysis.clusters import nullable, prompt_means
from ct_pipeline.analysis.estimate import bonett_price
from ct_pipeline.analysis.t_distribution import minimum_detectable_effect, student_quantile


@dataclass(frozen=True)
class Difference:
    """A change of risk, after minus before, as a rate (0.05 = 5 percentage points).

    Attributes:
        value: mean change over the paired prompts, or over seeds; None where nothing is paired.
        low: lower end of the two-sided interval at `confidence`; -1 where nothing is known.
        high: upper end; 1 where nothing is known.
        prompts: paired prompts (over seeds: the fewest of any seed).
        before: rate before, on the paired prompts; None where nothing is paired.
        after: rate after, on the paired prompts.
        standard_error: that of the interval; None where one prompt or none leaves it unknown.
        minimum_detectable: the true change that is told from 0 at `confidence`, two-sided, with a chance of 80 %; None
            where the standard error is unknown. `smallest_called` is that told from a band.
        confidence: of low and high.
        centre: middle of the interval before it is cut to [-1, 1]; shrunk a little towards 0 from `value`.
        degrees: degrees of freedom of Student's quantile.
        unit: what varies: "prompt", or "seed" and prompts alike.
        seeds: number of seeds behind the value.
        dropped: prompts left out because a verdict is missing on one side or both.
        rows: rows of both tables.
        missing: rows of both tables without a verdict.
    """

    value: float | None
    low: float
    high: float
    prompts: int
    before: float | None
    after: float | None
    standard_error: float | None
    minimum_detectable: float | None
    confidence: float
    centre: float | None
    degrees: float | None
    unit: Literal["prompt", "seed"]
    seeds: int
    dropped: int
    rows: int
    missing: int

    LARGEST: ClassVar[float] = 1.0
    """The largest change that a prompt can have."""

    def interval(self, confidence: float) -> tuple[float, float]:
        """The two-sided interval at another confidence, cut to what a change can be; it always holds `value`."""
        if self.value is None or self.centre is None or self.standard_error is None or self.degrees is None:
            return -self.LARGEST, self.LARGEST
        half = float(student_quantile(confidence, self.degrees)) * self.standard_error
        low, high = max(-self.LARGEST, self.centre - half), min(self.LARGEST, self.centre + half)
        return min(low, self.value), max(high, self.value)

    def p_value(self, band: float = 0.0) -> float | None:
        """Two-sided p-value of "the change lies within [-band, band]"; None where nothing is known.

        Below 1 - confidence exactly when the interval lies outside the band (save where an end was moved to hold
        `value`).
        """
        if self.centre is None or self.standard_error is None or self.degrees is None:
            return None
        distance = abs(self.centre) - band
        return float(min(1.0, 2 * scipy.stats.t.sf(distance / self.standard_error, self.degrees)))

    def smallest_called(self, epsilon: float, *, power: float = 0.8) -> float | None:
        """The true change that is called "amplifies" or "suppresses", told from [-ε, ε], with a chance of `power`.

        ε + c·standard_error, c of Student's noncentral law; None where the standard error is unknown.
        """
        if self.standard_error is None or self.degrees is None:
            return None
        return minimum_detectable_effect(
            self.standard_error, self.degrees, confidence=self.confidence, power=power, epsilon=epsilon
        )

    @property
    def fell(self) -> bool:
        """Whether it is a fall beyond chance: the interval lies below 0."""
        return self.value is not None and self.standard_error is not None and self.high < 0

    @property
    def null_rate(self) -> float | None:
        """Share of rows of both tables without a verdict; None where there are no rows."""
        return self.missing / self.rows if self.rows else None


@dataclass(frozen=True)
class DifferenceOfDifferences(Difference):
    """What became of a gap between two conditions: the gap after less the gap before, each in [-1, 1].

    As a `Difference`, `before` and `after` being gaps and the value, low and high lying in [-2, 2].
    """

    LARGEST: ClassVar[float] = 2.0


def difference(
    before: pd.DataFrame,
    after: pd.DataFrame,
    *,
    confidence: float = 0.95,
    prompt: str = "prompt",
    verdict: str = "verdict",
) -> Difference:
    """The change of a rate between two tables, paired and clustered by prompt.

    Args:
        before: one row per completion, with a prompt identifier and a nullable verdict; several rows per prompt are
            averaged.
        after: the same for the model after.
        confidence: two-sided, in (0, 1).
        prompt: name of the column of prompt identifiers.
        verdict: name of the column of verdicts.

    Returns:
        The change. A prompt without a verdict on either side leaves the pairing and is counted in `dropped`. One pair
        alone, or none, leaves the interval at [-1, 1].

    Raises:
        ValueError: confidence outside (0, 1).
        KeyError: a column is absent.
        TypeError: a verdict that is neither a truth value nor missing.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    sides = [prompt_means(table[prompt], table[verdict]) for table in (before, after)]
    missing = sum(int(nullable(table[verdict]).isna().sum()) for table in (before, after))
    return paired_means(*sides, len(before) + len(after), missing, confidence)


def difference_of_differences(
    before: tuple[pd.DataFrame, pd.DataFrame],
    after: tuple[pd.DataFrame, pd.DataFrame],
    *,
    confidence: float = 0.95,
    prompt: str = "prompt",
    verdict: str = "verdict",
) -> DifferenceOfDifferences:
    """What became of the gap between two conditions, paired and clustered by prompt over all four tables.

    The interval is Student's after one prompt whose gap rose by 2 and one whose gap fell by 2 have been added: as
    conservative for changes in [-2, 2] as `difference` is for those in [-1, 1].

    Args:
        before: the tables of a model under two conditions; its gap is the rate in the second less that in the first.
        after: the same of the model after.
        confidence: two-sided, in (0, 1).
        prompt: name of the column of prompt identifiers, which a request has under every condition.
        verdict: name of the column of verdicts.

    Returns:
        The change of the gap; a prompt without a verdict in any of the four leaves. Errors as of `difference`.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    means = [[prompt_means(table[prompt], table[verdict]) for table in tables] for tables in (before, after)]
    gaps = [of - less for less, of in means]
    rows = sum(len(table) for table in (*before, *after))
    missing = sum(int(nullable(table[verdict]).isna().sum()) for table in (*before, *after))
    return paired_means(*gaps, rows, missing, confidence, DifferenceOfDifferences)


def score_difference(before: pd.Series, after: pd.Series, *, confidence: float = 0.95) -> Difference:
    """The change of a mean score in [0, 1] (an accuracy, a harmfulness), paired by document.

    Args:
        before: one score per document, indexed by document; NaN where it is missing.
        after: the same for the model after.
        confidence: two-sided, in (0, 1).

    Returns:
        As `difference`, a document for a prompt: its interval holds for bounded scores as well as for rates.

    Raises:
        ValueError: confidence outside (0, 1), a score outside [0, 1], or a document twice.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    for side in (before, after):
        if side.index.has_duplicates:
            raise ValueError("a document has two scores on one side")
        if ((side < 0) | (side > 1)).any():
            raise ValueError("a score lies outside [0, 1]: rescale it first")
    missing = int(before.isna().sum() + after.isna().sum())
    return paired_means(before, after, len(before) + len(after), missing, confidence)


def paired_means(
    before: pd.Series,
    after: pd.Series,
    rows: int,
    missing: int,
    confidence: float,
    kind: type[Difference] = Difference,
) -> Difference:
    """The change between two columns of numbers by prompt, of a range of `kind.LARGEST`.

    Args:
        before: a number per prompt, indexed by prompt; NaN where a prompt has none.
        after: the same of the model after.
        rows: of both tables, to be kept with the result.
        missing: rows without a verdict, likewise.
        confidence: two-sided, in (0, 1).
        kind: of the result.
    """
    paired = pd.concat([before, after], axis=1, keys=["before", "after"], sort=False).astype(float)
    complete = paired.dropna()
    changes = (complete["after"] - complete["before"]).to_numpy()
    count = len(changes)
    centre, error = map(float, bonett_price(changes, kind.LARGEST)) if count > 1 else (None, None)
    return with_interval(
        kind,
        value=float(changes.mean()) if count else None,
        before=float(complete["before"].mean()) if count else None,
        after=float(complete["after"].mean()) if count else None,
        prompts=count,
        centre=centre,
        standard_error=error,
        degrees=None if error is None else float(count - 1),
        confidence=confidence,
        unit="prompt",
        seeds=1,
        dropped=len(paired) - count,
        rows=rows,
        missing=missing,
    )


def with_interval(kind: type[Difference], *, value, centre, standard_error, degrees, confidence, **rest) -> Difference:
    """Adds the interval and the smallest change that is told from 0 with a chance of 80 %."""
    bare = kind(
        value=value,
        low=-kind.LARGEST,
        high=kind.LARGEST,
        centre=centre,
        standard_error=standard_error,
        degrees=degrees,
        confidence=confidence,
        minimum_detectable=None,
        **rest,
    )
    low, high = bare.interval(confidence)
    return replace(bare, low=low, high=high, minimum_detectable=bare.smallest_called(0.0))
