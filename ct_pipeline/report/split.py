"""Changes taken apart, averaged over seeds: what the labels' risk is the sum of, and what Δ is the sum of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ct_pipeline.analysis.arms import arms_over_seeds
from ct_pipeline.analysis.estimate import Estimate
from ct_pipeline.analysis.paired import Difference
from ct_pipeline.report.averages import over_seeds_term
from ct_pipeline.report.records import CellRecord, MethodRecord, StudyRecord
from ct_pipeline.report.summary import Column, used_cells
from ct_pipeline.report.wording import joined, points, term_interval

BASES = {"sampled": "T = 1", "greedy": "greedy"}
"""The organism's own decoding that labels are compared with, by its name in `ShiftSummary.terms`."""


@dataclass(frozen=True)
class Split:
    """One method: the parts by name and their sum, means over `seeds` seeds."""

    method: MethodRecord
    parts: Mapping[str, Estimate]
    total: Estimate
    seeds: int


@dataclass(frozen=True)
class ColumnSplit:
    """All methods of one kind of organism: what the labels say, by base, and what retraining did; either may be empty."""

    column: Column
    labels: Mapping[str, tuple[Split, ...]]
    arms: tuple[Split, ...]


def splits(record: StudyRecord) -> tuple[ColumnSplit, ...]:
    """One per kind of organism that has any."""
    found = []
    for column, by_method in used_cells(record).items():
        rows = [(method, by_method[method.name]) for method in record.methods if method.name in by_method]
        labels = {base: tuple(_labels(rows, base, record.confidence)) for base in BASES}
        arms = tuple(_arms(rows, record.confidence))
        if arms or any(labels.values()):
            found.append(ColumnSplit(column, labels, arms))
    return tuple(found)


def spoken_splits(rows: Sequence[Split]) -> str:
    """The numbers of some methods in words, in percentage points."""
    return "; ".join(
        f"{row.method.title}: "
        + ", ".join(f"{name} {points(part.value)}" for name, part in row.parts.items())
        + f", sum {points(row.total.value)} ({term_interval(row.total)})"
        for row in rows
    )


def split_sentences(found: Sequence[ColumnSplit], epsilon: float) -> list[str]:
    """Which part of the labels' change is the larger one, and what the arms say of retraining; nothing without splits."""
    sentences = []
    counts = []
    for base, name in BASES.items():
        chosen = [row for one in found for row in one.labels[base] if _selects(row)]
        if chosen:
            larger = sum(abs(row.parts["shift"].value) > abs(row.parts["selection"].value) for row in chosen)
            counts.append(f"in {larger} of {len(chosen)} against the organism's own {name} answers")
    if counts:
        sentences.append(
            "Over combinations of misbehaviour and method with a selection, distribution shift is the larger part of the "
            f"labels' change {joined(counts)}."
        )
    arms = [row for one in found for row in one.arms]
    if arms:
        parts = [
            f"{name} in {sum(_clear(row.parts[name], epsilon) for row in arms)}"
            for name in ("drift", "shift", "selection")
        ]
        sentences.append(
            f"After retraining, of {len(arms)} combinations with all arms, the part's interval lies beyond ±{100 * epsilon:g} "
            f"points for {', '.join(parts)}."
        )
    return sentences


def _selects(row: Split) -> bool:
    """Whether the method selects at all, and both parts are known."""
    parts = row.parts.values()
    return all(part.value is not None for part in parts) and row.parts["selection"].standard_error != 0.0


def _clear(part: Estimate, epsilon: float) -> bool:
    return part.value is not None and (part.low > epsilon or part.high < -epsilon)


def _labels(rows: Sequence[tuple[MethodRecord, Sequence[CellRecord]]], base: str, confidence: float) -> list[Split]:
    names = {"shift": f"shift_from_{base}", "selection": "selection", "total": f"total_from_{base}"}
    found = []
    for method, cells in rows:
        terms = [cell.shift.terms for cell in cells if cell.shift and names["total"] in cell.shift.terms]
        if terms:
            means = {name: over_seeds_term([one[place] for one in terms], confidence) for name, place in names.items()}
            total = means.pop("total")
            found.append(Split(method, means, total, len(terms)))
    return found


def _arms(rows: Sequence[tuple[MethodRecord, Sequence[CellRecord]]], confidence: float) -> list[Split]:
    found = []
    for method, cells in rows:
        by_seed = [cell.arms for cell in cells if cell.arms is not None]
        if by_seed:
            mean = arms_over_seeds(by_seed, confidence=confidence)
            parts = {name: as_term(change) for name, change in mean.terms.items()}
            found.append(Split(method, parts, as_term(mean.total), len(by_seed)))
    return found


def as_term(change: Difference) -> Estimate:
    """A change in the form of the labels' terms."""
    return Estimate(change.value, change.low, change.high, change.standard_error, change.prompts)
