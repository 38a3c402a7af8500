"""Means over the seeds of one kind of organism, with the interval that changes get."""

from collections.abc import Sequence

from ct_pipeline.analysis.estimate import Estimate
from ct_pipeline.analysis.paired import Difference
from ct_pipeline.analysis.seeds import over_seeds
from ct_pipeline.analysis.t_distribution import student_quantile

CHANGE, RATE, UNLIMITED = (-1.0, 1.0), (0.0, 1.0), (None, None)
"""What an interval is cut to."""


def over_seeds_term(
    terms: Sequence[Estimate], confidence: float, limits: tuple[float | None, float | None] = CHANGE
) -> Estimate:
    """The mean of one number per seed; its interval is `analysis.seeds.over_seeds`'s.

    Args:
        terms: one per seed, on the same prompts; those without a value are left out.
        confidence: two-sided, in (0, 1).
        limits: of the possible values.

    Returns:
        Its interval is that of the possible values where no error is known; a number that is the same by definition (both
        ends equal to it in every seed) keeps its interval of width 0. `prompts` are the fewest of any seed.
    """
    known = [term for term in terms if term.value is not None]
    if not known:
        return Estimate(None, *limits, None, 0)
    prompts = min(term.prompts for term in known)
    if all(term.low == term.high == term.value == known[0].value for term in known):
        return Estimate(known[0].value, known[0].value, known[0].value, 0.0, prompts)
    mean = over_seeds([_difference(term, confidence) for term in known], confidence=confidence)
    if mean.standard_error is None:
        return Estimate(mean.value, *limits, None, prompts)
    half = float(student_quantile(confidence, mean.degrees)) * mean.standard_error
    low, high = mean.centre - half, mean.centre + half
    low = low if limits[0] is None else max(limits[0], low)
    high = high if limits[1] is None else min(limits[1], high)
    return Estimate(mean.value, min(low, mean.value), max(high, mean.value), mean.standard_error, prompts)


def _difference(term: Estimate, confidence: float) -> Difference:
    """A term in the form that is averaged: what `over_seeds` does not look at is empty."""
    known = term.standard_error is not None
    return Difference(
        value=term.value,
        low=-1.0 if term.low is None else term.low,
        high=1.0 if term.high is None else term.high,
        prompts=term.prompts,
        before=0.0,
        after=term.value,
        standard_error=term.standard_error,
        minimum_detectable=None,
        confidence=confidence,
        centre=term.value if known else None,
        degrees=float(max(term.prompts - 1, 1)) if known else None,
        unit="prompt",
        seeds=1,
        dropped=0,
        rows=0,
        missing=0,
    )
