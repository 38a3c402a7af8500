"""Δ: the change of a rate on the same prompts; the prompt is the cluster and, from three seeds on, the seed the unit.

A mean of paired differences in [-1, 1] is estimated; the interval is Student's after one prompt that rose by 1 and one
that fell by 1 have been added (Bonett and Price 2012 for one sample per prompt). Without them, "no prompt changed"
would give a width of zero; with them it gives about ±2.8 percentage points at 100 prompts and 95 %, near the exact
rule of three. Its coverage is at least nominal for 50 to 400 prompts, also where few prompts change; it is wide where
many samples per prompt meet few prompts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from ct_pipeline.analysis.clusters import nullable, prompt_means


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
        minimum_detectable: the true change that a two-sided test at `confidence` would find with a chance of 80 %; None
            where the standard error is unknown.
        confidence: of low and high.
        centre: middle of the interval before it is cut to [-1, 1]; shrunk a little towards 0 from `value`.
        degrees: degrees of freedom of Student's quantile.
        unit: what varies: "prompt" or "seed".
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

    def interval(self, confidence: float) -> tuple[float, float]:
        """The two-sided interval at another confidence, cut to [-1, 1]; it always holds `value`."""
        if self.value is None or self.centre is None or self.standard_error is None or self.degrees is None:
            return -1.0, 1.0
        half = float(stats.t.ppf((1 + confidence) / 2, self.degrees)) * self.standard_error
        low, high = max(-1.0, self.centre - half), min(1.0, self.centre + half)
        return min(low, self.value), max(high, self.value)

    def p_value(self, band: float = 0.0) -> float | None:
        """Two-sided p-value of "the change lies within [-band, band]"; None where nothing is known.

        Below 1 - confidence exactly when the interval lies outside the band (save where an end was moved to hold
        `value`).
        """
        if self.centre is None or self.standard_error is None or self.degrees is None:
            return None
        distance = abs(self.centre) - band
        return float(min(1.0, 2 * stats.t.sf(distance / self.standard_error, self.degrees)))

    @property
    def null_rate(self) -> float | None:
        """Share of rows of both tables without a verdict; None where there are no rows."""
        return self.missing / self.rows if self.rows else None


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
    paired = pd.concat(sides, axis=1, keys=["before", "after"], sort=False).astype(float)
    complete = paired.dropna()
    changes = (complete["after"] - complete["before"]).to_numpy()
    count = len(changes)
    missing = sum(int(nullable(table[verdict]).isna().sum()) for table in (before, after))
    centre, error, degrees = _shrunk(changes) if count > 1 else (None, None, None)
    return _difference(
        value=float(changes.mean()) if count else None,
        before=float(complete["before"].mean()) if count else None,
        after=float(complete["after"].mean()) if count else None,
        prompts=count,
        centre=centre,
        standard_error=error,
        degrees=degrees,
        confidence=confidence,
        unit="prompt",
        seeds=1,
        dropped=len(paired) - count,
        rows=len(before) + len(after),
        missing=missing,
    )


def over_seeds(differences: Sequence[Difference], *, confidence: float = 0.95) -> Difference:
    """The mean change over organisms that differ in their seed alone.

    With three seeds or more the seed is the unit: Student's interval over the seeds' changes, never narrower than the
    prompts alone allow (seeds that agree by chance, or all stand at 0, would otherwise give a width near zero). With
    one or two seeds the spread between seeds cannot be estimated: the prompts are the unit, what spread two seeds show
    is added, and the interval speaks of these seeds, not of others. The seeds share their prompts, so that a few odd
    prompts move all of them alike: the prompts' standard error does not shrink with the number of seeds.

    Args:
        differences: one per seed, on the same prompts; those without a value are left out.
        confidence: two-sided, in (0, 1).

    Raises:
        ValueError: no difference at all, or confidence outside (0, 1).
    """
    if not differences:
        raise ValueError("no seeds to average")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    known = [one for one in differences if one.value is not None]
    values = np.array([one.value for one in known], dtype=float)
    errors = [one.standard_error for one in known]
    within_known = bool(known) and all(error is not None for error in errors)
    centre, error, degrees, unit = _seed_level(known, values, errors if within_known else None, confidence)
    return _difference(
        value=float(values.mean()) if known else None,
        before=float(np.mean([one.before for one in known])) if known else None,
        after=float(np.mean([one.after for one in known])) if known else None,
        prompts=min((one.prompts for one in known), default=0),
        centre=centre,
        standard_error=error,
        degrees=degrees,
        confidence=confidence,
        unit=unit,
        seeds=len(known),
        dropped=sum(one.dropped for one in differences),
        rows=sum(one.rows for one in differences),
        missing=sum(one.missing for one in differences),
    )


def _shrunk(changes: np.ndarray) -> tuple[float, float, float]:
    """Centre, standard error and degrees of freedom after one rise and one fall of 1 have been added."""
    count = len(changes)
    centre = float(changes.sum()) / (count + 2)
    variance = (float((changes**2).sum()) + 2) / (count + 2) - centre**2
    return centre, math.sqrt(variance / (count + 2)), float(count - 1)


def _seed_level(
    known: Sequence[Difference], values: np.ndarray, errors: Sequence[float] | None, confidence: float
) -> tuple[float | None, float | None, float | None, Literal["prompt", "seed"]]:
    """Centre, standard error, degrees of freedom and unit of a mean over seeds; `errors` None where one is unknown."""
    count = len(known)
    spread = float(values.std(ddof=1)) / math.sqrt(count) if count > 1 else 0.0
    tail = (1 + confidence) / 2
    if count < 3:
        if errors is None:
            return None, None, None, "prompt"
        centre = float(np.mean([one.centre for one in known]))
        prompts_error = float(np.mean(errors))
        return centre, math.hypot(prompts_error, spread), float(min(one.degrees for one in known)), "prompt"
    floor = float(np.mean(errors)) if errors is not None else 0.0
    floor_degrees = float(min(one.degrees for one in known)) if errors is not None else 1.0
    by_seed = float(stats.t.ppf(tail, count - 1)) * spread
    by_prompt = float(stats.t.ppf(tail, floor_degrees)) * floor
    if by_seed >= by_prompt and by_seed > 0:
        return float(values.mean()), spread, float(count - 1), "seed"
    if floor > 0:
        return float(values.mean()), floor, floor_degrees, "prompt"
    return None, None, None, "seed"


def _difference(*, value, centre, standard_error, degrees, confidence, **rest) -> Difference:
    """Adds the interval and the smallest change that could be found with a chance of 80 %."""
    detectable = None
    if standard_error is not None:
        quantiles = stats.t.ppf((1 + confidence) / 2, degrees) + stats.t.ppf(0.8, degrees)
        detectable = float(quantiles) * standard_error
    bare = Difference(
        value=value,
        low=-1.0,
        high=1.0,
        centre=centre,
        standard_error=standard_error,
        degrees=degrees,
        confidence=confidence,
        minimum_detectable=detectable,
        **rest,
    )
    low, high = bare.interval(confidence)
    return replace(bare, low=low, high=high)
