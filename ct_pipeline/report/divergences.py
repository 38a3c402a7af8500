"""KL in tables: of labels from the organism, of the regularizers' teacher shift, and of what retraining took up."""

from collections.abc import Sequence
from dataclasses import dataclass

from ct_pipeline.analysis.divergence import KlEstimate
from ct_pipeline.report.averages import UNLIMITED, over_seeds_term
from ct_pipeline.report.prediction_score import DRAWN_LAWS
from ct_pipeline.report.records import CellRecord, MethodRecord, StudyRecord
from ct_pipeline.report.summary import Column, used_cells

STATUSES = ("exact", "unbiased", "estimate", "bound")

FAMILIES = (
    ("drawn", "Labels that are drawn: KL(labels‖organism)"),
    (
        "point",
        "Labels that hold a point mass (greedy, filtered, reranked): KL(labels‖organism), which grows with length",
    ),
    ("teacher", "Regularizers define no label distribution: teacher shift, KL(on clean prompts‖on wrapped prompts)"),
)
"""Families are tables of their own: their numbers stand on no common axis."""


@dataclass(frozen=True)
class KLField:
    """One kind of organism under one method: KL of labels or teacher, and uptake forward and backward; None where absent."""

    column: Column
    kl: KlEstimate | None
    forward: KlEstimate | None
    backward: KlEstimate | None


@dataclass(frozen=True)
class KLFamily:
    """Methods whose divergences may be compared with each other."""

    title: str
    rows: tuple[tuple[MethodRecord, tuple[KLField, ...]], ...]


def divergences(record: StudyRecord) -> tuple[KLFamily, ...]:
    """The families that have a method with a divergence, each with a row per method and a field per kind."""
    grouped = used_cells(record)
    rows: dict[str, list] = {name: [] for name, _ in FAMILIES}
    for method in record.methods:
        by_column = [(column, by_method.get(method.name, ())) for column, by_method in grouped.items()]
        fields = tuple(_field(column, cells, record.confidence) for column, cells in by_column)
        names = [field.kl.name for field in fields if field.kl]
        if names or any(field.forward for field in fields):
            family = "teacher" if not _label_law(method) else "drawn" if set(names) <= set(DRAWN_LAWS) else "point"
            rows[family].append((method, fields))
    return tuple(KLFamily(title, tuple(rows[name])) for name, title in FAMILIES if rows[name])


def label_part(cell: CellRecord) -> KlEstimate | None:
    """The KL of a cell's labels, or its teacher shift."""
    return None if cell.shift is None else cell.shift.kl or cell.shift.teacher


def _label_law(method: MethodRecord) -> bool:
    return method.role != "regularizer"


def _field(column: Column, cells: Sequence[CellRecord], confidence: float) -> KLField:
    return KLField(
        column,
        _mean([label_part(cell) for cell in cells], confidence),
        _mean([cell.uptake and cell.uptake.forward for cell in cells], confidence),
        _mean([cell.uptake and cell.uptake.backward for cell in cells], confidence),
    )


def _mean(parts: Sequence[KlEstimate | None], confidence: float) -> KlEstimate | None:
    """A divergence averaged over seeds, with the weakest status of any."""
    known = [part for part in parts if part is not None]
    if not known:
        return None
    return KlEstimate(
        known[0].name,
        max((part.status for part in known), key=STATUSES.index),
        over_seeds_term([part.sequence for part in known], confidence, UNLIMITED),
        over_seeds_term([part.token for part in known], confidence, UNLIMITED),
    )
