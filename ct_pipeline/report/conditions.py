"""What a study's conditions show: changes under each, gaps between them, and whether gaps closed; averaged over seeds."""

from dataclasses import dataclass

from ct_pipeline.analysis.paired import Difference, DifferenceOfDifferences
from ct_pipeline.analysis.seeds import over_seeds
from ct_pipeline.measurement.condition import View
from ct_pipeline.report.records import ContrastRecord, MethodRecord, StudyRecord
from ct_pipeline.report.section import Section, Table, Text
from ct_pipeline.report.summary import Column, used_cells
from ct_pipeline.report.wording import change_interval, percent, points, view_name

HEAD = ("Organism", "Method", "Contrast", "Measured", "From", "To", "Difference", "Interval")


@dataclass(frozen=True)
class ContrastRow:
    """One contrast of the cells of a kind under a method, in one view, averaged over their seeds."""

    column: Column
    method: MethodRecord
    title: str
    view: View
    difference: Difference


def contrast_rows(record: StudyRecord) -> tuple[ContrastRow, ...]:
    """All contrasts that the study's conditions declare; () where it names none."""
    rows = []
    for column, by_method in used_cells(record).items():
        for method in record.methods:
            found: dict[str, list[ContrastRecord]] = {}
            for cell in by_method.get(method.name, ()):
                for contrast in cell.contrasts:
                    found.setdefault(contrast.name, []).append(contrast)
            rows += [
                ContrastRow(column, method, alike[0].title, alike[0].view, _mean(alike, record.confidence))
                for alike in found.values()
            ]
    return tuple(rows)


def contrast_table(record: StudyRecord) -> tuple[tuple[str, ...], ...]:
    """The rows as text under HEAD: rates (of a change of a gap: gaps), the difference in points, its interval."""
    return tuple(
        (
            row.column.title,
            row.method.title,
            row.title,
            view_name(row.view),
            *_ends(row.difference),
            points(row.difference.value),
            change_interval(row.difference),
        )
        for row in contrast_rows(record)
    )


def condition_section(record: StudyRecord) -> Section | None:
    """The contrasts of the study's conditions in one table; None where it names none."""
    rows = contrast_table(record)
    if not rows:
        return None
    how = (
        "A condition is the same request in another context. A change is after less before under one condition; a gap is the "
        "rate under one condition less that under another, of one model; both in percentage points, means over seeds with "
        f"{100 * record.confidence:g} % intervals. Where a gap's change is shown, from and to are the gaps before and after."
    )
    return Section("Conditions and gaps", [Text(how), Table(HEAD, rows)], "conditions", "Conditions")


def _ends(difference: Difference) -> tuple[str, str]:
    shown = points if isinstance(difference, DifferenceOfDifferences) else percent
    return shown(difference.before), shown(difference.after)


def _mean(alike: list[ContrastRecord], confidence: float) -> Difference:
    return over_seeds([each.difference for each in alike], confidence=confidence)
