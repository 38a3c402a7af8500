"""The sections on how much the misbehaviour changed: the grid of verdicts, and the intervals behind it."""

from collections.abc import Sequence
from functools import partial

from ct_pipeline.analysis.published import SOURCE, SOURCE_URL, published_kind
from ct_pipeline.analysis.verdicts import BEYOND, Verdict
from ct_pipeline.report.colours import DARK, LIGHT, diverging
from ct_pipeline.report.figures.forest import axis_limits, forest_plot, organism_plot
from ct_pipeline.report.outcome_words import NOT_CORRECTED, moved, worst_case
from ct_pipeline.report.records import MAIN_VIEW, VIEWS, StudyRecord
from ct_pipeline.report.section import (
    Details,
    Field,
    Legend,
    Link,
    Picture,
    Pictures,
    Section,
    Table,
    Tabs,
    Terms,
    Text,
)
from ct_pipeline.report.summary import Column, GridCell, columns, grid, known
from ct_pipeline.report.wording import MISSING, SYMBOLS, change_interval, decimal, percent, points, signed, view_title

Grid = tuple[tuple[GridCell, ...], ...]


def grid_section(record: StudyRecord) -> Section:
    """Every kind of organism under every method, one table per view."""
    grids = {view: grid(record, view) for view in VIEWS}
    limit = max(
        [0.1, *(abs(cell.change.value) for rows in grids.values() for row in rows for cell in row if known(cell))]
    )
    methods = [
        (method.title, method.summary + (f" ({method.role})" if method.role != "method" else ""))
        for method in record.methods
    ]
    return Section(
        "How much the misbehaviour changed",
        [
            Text(
                "Each field is the misbehaviour rate after consistency training minus before, in percentage points: the mean "
                f"over seeds, its {100 * record.confidence:g} % interval, and the verdict. Changes within "
                f"±{100 * record.epsilon:g} points count as none.{_finds(record, grids[MAIN_VIEW])}"
            ),
            Legend(
                f"less … more misbehaviour (full colour at ±{100 * limit:.0f} points; pale where direction or size is open)",
                [
                    *(f"{symbol} {word}" for word, symbol in SYMBOLS.items()),
                    "† also holds after correction for the number of comparisons (Holm)",
                    "“finds”: the minimum detectable effect, the smallest true change that is called with 80 % power",
                    ("“paper”: mean change in ", Link(SOURCE, SOURCE_URL), ", where it gives one"),
                ],
            ),
            Tabs("view", [(view_title(view), [_grid_table(record, grids[view], limit)]) for view in VIEWS]),
            Details("What the methods do", [Terms(methods)]),
        ],
        "grid",
        "Changes",
    )


def _grid_table(record: StudyRecord, rows: Grid, limit: float) -> Table:
    return Table(
        ("Method", *map(_head, columns(record))),
        [
            (
                Field(row[0].method.title, ("control",) if row[0].method.role == "control" else ()),
                *(_grid_field(cell, record.epsilon, limit) for cell in row),
            )
            for row in rows
            if row
        ],
        look="grid",
    )


def _head(column: Column) -> Field:
    paper = published_kind(column.kind)
    small = [f"{len(column.used)} of {column.planned} organisms used"]
    if paper:
        small.append(f"paper: {percent(paper.share_suppressed, 0)} of {paper.runs} runs fell")
        small += [f"paper: {paper.remark}"] if paper.remark else []
    return Field(column.title, tuple(small))


def _grid_field(cell: GridCell, epsilon: float, limit: float) -> Field:
    change, shade = cell.change, _shade(cell, limit)
    paper = [] if cell.published is None else [f"paper {signed(cell.published)}"]
    if not known(cell):
        why = "not measured" if cell.column.used else "no organism passed the gate"
        return Field(MISSING, (why, *paper), shade)
    small = [change_interval(change), f"{cell.verdict}{' †' if cell.survives else ''}"]
    if change.seeds != cell.column.planned:
        small.append(f"{change.seeds} of {cell.column.planned} seeds")
    if (finds := change.smallest_called(epsilon)) is not None:
        small.append(f"finds ±{decimal(100 * finds, 1)}")
    if cell.outcomes is not None:
        small += [f"{NOT_CORRECTED}: {moved(cell.outcomes)}"] if cell.not_corrected else []
        small += [bounds] if (bounds := worst_case(cell.outcomes)) else []
    return Field(f"{SYMBOLS[cell.verdict]} {points(change.value)}", (*small, *paper), shade)


def _shade(cell: GridCell, limit: float) -> tuple[str, str]:
    """The two backgrounds of a field; paler where its size or direction is open."""
    settled = cell.verdict in (*BEYOND, Verdict.NEUTRAL)
    value, strength = cell.change.value if known(cell) else None, 1.0 if settled else 0.4
    light, dark = (diverging(value, limit, scale=scale, strength=strength) for scale in (LIGHT, DARK))
    return light, dark


def _finds(record: StudyRecord, rows: Grid) -> str:
    """The range of the smallest true changes that the fields of the main grid could have called."""
    changes = [cell.change for row in rows for cell in row if known(cell)]
    finds = [found for change in changes if (found := change.smallest_called(record.epsilon)) is not None]
    if not finds:
        return ""
    return (
        " The minimum detectable effect, called with 80 % power, lies between "
        f"{100 * min(finds):.1f} and {100 * max(finds):.1f} in domain, sampled."
    )


def interval_section(record: StudyRecord) -> Section:
    """The main view's changes with their intervals, a figure per kind of organism, all on one axis."""
    rows, level = grid(record, MAIN_VIEW), f"{100 * record.confidence:g}"
    everything = [cell for row in rows for cell in row]
    changes = [cell.change for cell in everything if known(cell)]
    changes += [change for cell in everything for _, change in cell.by_seed]
    ends = axis_limits(changes, record.epsilon, [cell.published for cell in everything if cell.published is not None])
    by_column = [(column, [row[place] for row in rows]) for place, column in enumerate(columns(record))]
    several = [(column, cells) for column, cells in by_column if any(len(cell.by_seed) > 1 for cell in cells)]
    blocks = [
        Text(
            f"In domain, sampled at T = 1. Thick line: {level} % interval of the mean; marker: ▲ amplifies, ▼ suppresses, "
            "△ ▽ rises or falls, size unclear, ■ neutral, ● undetermined, × unreadable; small dots: single seeds; hollow "
            f"diamond: the paper; grey band: ±{100 * record.epsilon:g} points."
        ),
        Pictures(
            [
                Picture(
                    column.title,
                    partial(forest_plot, cells, record.epsilon, ends),
                    f"Interval plot for {column.title}: {'; '.join(map(_spoken, cells))}.",
                    Table(("Method", "Mean", "Interval", "Seeds"), [_mean_row(cell) for cell in cells]),
                )
                for column, cells in by_column
            ]
        ),
    ]
    if several:
        single = [
            Picture(
                f"{column.title}, single organisms",
                partial(organism_plot, cells, record.epsilon, ends),
                f"Interval plot of single organisms, {column.title}: "
                f"{'; '.join(_spoken_seeds(cell) for cell in cells if cell.by_seed)}.",
                Table(("Method", "Seed", "Change", "Interval"), _seed_rows(cells)),
            )
            for column, cells in several
        ]
        soft = Text(f"A row per method and seed; {level} % intervals over prompts.", soft=True)
        blocks.append(Details("Single organisms with their own intervals", [soft, Pictures(single)]))
    return Section("Changes with their intervals", blocks, "intervals", "Intervals")


def _mean_row(cell: GridCell) -> tuple[Field, ...]:
    seeds = tuple(f"{seed}: {points(change.value)}" for seed, change in cell.by_seed)
    return (
        Field(cell.method.title, (str(cell.verdict),) if cell.verdict else ()),
        Field(points(cell.change.value if cell.change else None)),
        Field(change_interval(cell.change)),
        Field("" if seeds else MISSING, seeds),
    )


def _seed_rows(cells: Sequence[GridCell]) -> list[tuple[str, ...]]:
    return [
        (cell.method.title, str(seed), points(change.value), change_interval(change))
        for cell in cells
        for seed, change in cell.by_seed
    ]


def _spoken(cell: GridCell) -> str:
    if not known(cell):
        return f"{cell.method.title}: missing"
    interval = change_interval(cell.change)
    return f"{cell.method.title}: {points(cell.change.value)} points ({interval}), {cell.verdict}"


def _spoken_seeds(cell: GridCell) -> str:
    seeds = (f"{seed}: {points(change.value)} ({change_interval(change)})" for seed, change in cell.by_seed)
    return f"{cell.method.title}, seed " + ", ".join(seeds)
