"""Contrasts: named differences of rates on the same prompts. Every change that is stored or shown is computed here."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import pandas

from ct_pipeline.analysis.clusters import prompt_means
from ct_pipeline.analysis.paired import Difference, difference, difference_of_differences, score_difference
from ct_pipeline.measurement.condition import View
from ct_pipeline.measurement.risk_rows import risk_rows

BEFORE, AFTER = "before", "after"
Kind = Literal["change", "gap", "change of the gap"]
CHANGE_OF_GAP: Kind = "change of the gap"


@dataclass(frozen=True)
class Side:
    """One model under one condition."""

    model: str
    condition: str


@dataclass(frozen=True)
class Contrast:
    """The rate of one side less that of another, prompt by prompt.

    Of two models under one condition it is a change (Δ), of two conditions of one model a gap, and of two gaps what
    became of the gap: a difference of differences.

    Attributes:
        name: under which it is stored.
        less: what is taken off.
        of: what it is taken off from.
        title: how a report names it.

    Raises:
        ValueError: a side beside a contrast, or contrasts of contrasts of contrasts.
    """

    name: str
    less: "Side | Contrast"
    of: "Side | Contrast"
    title: str = ""

    def __post_init__(self) -> None:
        inner = [isinstance(side, Contrast) for side in (self.less, self.of)]
        if inner[0] != inner[1] or any(isinstance(each.of, Contrast) for each in (self.less, self.of) if inner[0]):
            raise ValueError(f"contrast {self.name!r} compares two sides, or two contrasts of sides")

    @property
    def kind(self) -> Kind:
        """What differs between its sides."""
        if isinstance(self.of, Contrast):
            return CHANGE_OF_GAP
        return "gap" if self.of.model == self.less.model else "change"


Rows = Callable[[Side], pandas.DataFrame | pandas.Series]
"""A side -> a row per completion (prompt_id, verdict), or a score in [0, 1] per document."""


def change(condition: str, before: str = BEFORE, after: str = AFTER) -> Contrast:
    """Δ: a model after less the same before, under one condition, whose name it takes."""
    return Contrast(condition, Side(before, condition), Side(after, condition))


def estimated(contrast: Contrast, rows: Rows, confidence: float) -> Difference:
    """The contrast with its interval, paired and clustered by prompt.

    Raises:
        ValueError: a difference of differences of scores: they have none.
    """
    if isinstance(contrast.of, Contrast):
        gaps = ((rows(gap.less), rows(gap.of)) for gap in (contrast.less, contrast.of))
        return difference_of_differences(*gaps, confidence=confidence, prompt="prompt_id")
    sides = rows(contrast.less), rows(contrast.of)
    if isinstance(sides[0], pandas.Series):
        return score_difference(*sides, confidence=confidence)
    return difference(*sides, confidence=confidence, prompt="prompt_id")


def by_prompt(contrast: Contrast, rows: Rows) -> dict[str, float]:
    """Prompt -> the contrast of two sides on it, of the prompts that have a verdict on both."""
    means = [prompt_means(table["prompt_id"], table["verdict"]) for table in map(rows, (contrast.less, contrast.of))]
    return {str(prompt): float(value) for prompt, value in (means[1] - means[0]).dropna().items()}


def tabulated(contrasts: Iterable[Contrast], rows: Rows, confidence: float) -> dict[str, dict[str, object]]:
    """Name -> the contrast as JSON."""
    return {each.name: dataclasses.asdict(estimated(each, rows, confidence)) for each in contrasts}


def sides_of(tables: Mapping[str, pandas.DataFrame]) -> Rows:
    """Sides by their model alone: each table holds the rows of one."""
    return lambda side: tables[side.model]


def risky_sides_of(
    tables: Mapping[str, pandas.DataFrame],
    conditioned: Mapping[str, pandas.DataFrame] | None = None,
    probe: str | None = None,
) -> Rows:
    """Sides by model and condition, as the rows that the risk is defined on.

    Args:
        tables: model -> the answers to the prompts as they stand.
        conditioned: model -> those to prompts that carry a condition, which are paired with the prompts they come from.
        probe: of an audit.

    A side's condition is a view ("in/sampled"), or a factor and its condition before one ("tier/free/in/sampled").
    """

    def rows(side: Side) -> pandas.DataFrame:
        *under, domain, decoding = side.condition.split("/")
        if not under:
            return risk_rows(tables[side.model], View(domain, decoding), probe)
        table = (conditioned or {})[side.model]
        found = risk_rows(table[table["condition"] == "/".join(under)], View(domain, decoding), probe)
        return found.assign(prompt_id=found["request_id"])

    return rows
