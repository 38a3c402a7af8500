"""What came in place of a misbehaviour: right, wrong, misbehaving and unreadable answers on the very prompts of the risk."""

from collections.abc import Sequence
from functools import partial

from ct_pipeline.analysis.outcomes import CORRECTED, SHARES, Outcomes, mean_outcomes
from ct_pipeline.report.figures.stacks import outcome_plot
from ct_pipeline.report.outcome_words import HEADS, NOT_CORRECTED, moved, said
from ct_pipeline.report.records import MAIN_VIEW, StudyRecord
from ct_pipeline.report.section import Field, Picture, Pictures, Section, Sentences, Strong, Table, Text
from ct_pipeline.report.summary import Column, GridCell, columns, grid
from ct_pipeline.report.wording import MISSING, change_interval, joined, percent, points


def outcome_section(record: StudyRecord) -> Section | None:
    """Stacked bars per kind of organism with their table; None where nothing was measured."""
    cells = [cell for row in grid(record, MAIN_VIEW) for cell in row if cell.outcomes]
    if not cells:
        return None
    pictures = [
        _picture(record, column, own)
        for column in columns(record)
        if (own := [cell for cell in cells if cell.column == column])
    ]
    flagged = flag_sentence(cells)
    return Section(
        "What came in place of the misbehaviour",
        [
            Text(
                "All answers to the prompts on which the misbehaviour rate is measured (in domain, sampled at T = 1; means "
                "over seeds). A model that misbehaves less is better only if it answers rightly instead. A clear fall of "
                f"which less than {percent(CORRECTED, 0)} became right answers is called “{NOT_CORRECTED}”."
            ),
            *([Sentences([Strong(flagged)])] if flagged else []),
            Pictures(pictures),
        ],
        "outcomes",
        "Right or wrong",
    )


def _picture(record: StudyRecord, column: Column, cells: Sequence[GridCell]) -> Picture:
    arms = _arms(record, column)
    bars = [*arms, *((cell.method.title, cell.outcomes.after) for cell in cells)]
    names = [name for name in SHARES if any(getattr(shares, name) for _, shares in bars)]
    table = Table(
        ("Model", *(HEADS[name] for name in names), "Change of right answers", "Cut at the length limit"),
        [
            *(_row(title, shares, names) for title, shares in arms),
            *(_row(cell.method.title, cell.outcomes.after, names, cell) for cell in cells),
        ],
    )
    spoken = "; ".join(f"{title}: {said(shares)}" for title, shares in bars)
    return Picture(column.title, partial(outcome_plot, bars), f"Outcomes of answers, {column.title}. {spoken}.", table)


def flag_sentence(cells: Sequence[GridCell]) -> str:
    """Which falls are suppressed, not corrected, with their numbers; "" where none is."""
    flagged = [cell for cell in cells if cell.not_corrected]
    if not flagged:
        return ""
    named = [f"{cell.column.title} under {cell.method.title} ({moved(cell.outcomes)})" for cell in flagged]
    return f"Suppressed, not corrected: {joined(named)}."


def _arms(record: StudyRecord, column: Column) -> list[tuple[str, Outcomes]]:
    used = [one.outcomes for one in record.organisms if one.key in column.used and one.outcomes]
    titles = {"base": "Base model", "control": "Control organism", "organism": "Organism (before)"}
    return [(title, mean_outcomes([one[arm] for one in used])) for arm, title in titles.items() if used]


def _row(title: str, shares: Outcomes, names: Sequence[str], cell: GridCell | None = None) -> tuple[Field, ...]:
    right = cell.outcomes.right if cell else None
    change = MISSING if right is None else Field(points(right.value), (change_interval(right),))
    return (
        Field(title, (NOT_CORRECTED,) if cell and cell.not_corrected else ()),
        *(Field(percent(getattr(shares, name))) for name in names),
        change,
        percent(shares.cut),
    )
