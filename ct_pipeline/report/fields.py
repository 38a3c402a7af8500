"""The fields that tables of results share: a rate, a change, a mean over prompts, each with its interval below."""

from ct_pipeline.analysis.divergence import KlEstimate
from ct_pipeline.analysis.estimate import Estimate
from ct_pipeline.analysis.paired import Difference
from ct_pipeline.analysis.rates import Rate
from ct_pipeline.analysis.verdicts import verdict
from ct_pipeline.report.section import Field
from ct_pipeline.report.wording import (
    MISSING,
    SYMBOLS,
    change_interval,
    decimal,
    points,
    rate_interval,
    rate_value,
    term_interval,
)


def rate_field(rate: Rate | None) -> Field:
    """A rate in percent."""
    return Field(rate_value(rate), () if rate is None or rate.value is None else (rate_interval(rate),))


def change_field(change: Difference | None, epsilon: float) -> Field:
    """A change in percentage points with its verdict."""
    if change is None or change.value is None:
        return Field(MISSING)
    word = verdict(change, epsilon)
    return Field(f"{SYMBOLS[word]} {points(change.value)}", (change_interval(change), str(word)))


def moved_field(change: Difference | None) -> Field:
    """A change in percentage points, without a verdict."""
    return Field(points(change.value if change else None), (change_interval(change),) if change else ())


def term_field(term: Estimate) -> Field:
    """A mean over prompts in percentage points; what is the same by definition needs no interval."""
    return Field(points(term.value), (term_interval(term),) if term.standard_error else ())


def kl_field(part: KlEstimate | None, *more: str) -> Field:
    """A divergence in nats per answer and per token."""
    if part is None:
        return Field(MISSING, more)
    ends = f"{decimal(part.sequence.low)} to {decimal(part.sequence.high)}" if part.sequence.low is not None else ""
    return Field(
        decimal(part.sequence.value), (ends, f"{decimal(part.token.value, 3)} per token · {part.status}", *more)
    )
