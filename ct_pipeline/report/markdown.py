"""The report as Markdown: the same statement and tables, for terminals and pull requests."""

import re
from collections.abc import Iterable, Mapping, Sequence

from ct_pipeline.report.capability import capability_context
from ct_pipeline.report.curves import curves, missing_scores_sentence, simpson_sentence
from ct_pipeline.report.judge_sections import Section, study_judge_sections
from ct_pipeline.report.planted import planted_context
from ct_pipeline.report.prediction_score import prediction_scores, prediction_sentences
from ct_pipeline.report.records import MAIN_VIEW, VIEWS, OrganismRecord, StudyRecord, View
from ct_pipeline.report.split import ColumnSplit, Split, split_sentences, splits
from ct_pipeline.report.statement import limits, result_sentences
from ct_pipeline.report.summary import Column, GridCell, columns, grid, known
from ct_pipeline.report.wording import (
    MISSING,
    SYMBOLS,
    change_interval,
    duration,
    moment,
    points,
    rate_value,
    signed,
    term_interval,
    view_name,
    visible,
)

SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~&$!])")


def markdown_report(record: StudyRecord) -> str:
    """The whole Markdown text; foreign text is escaped."""
    parts = [
        f"# {plain(record.name)}",
        plain(record.description),
        " ".join(plain(sentence) for sentence in result_sentences(record)),
        "The full report, with figures and examples: [index.html](index.html). Tables: [tables/](tables/).",
    ]
    for view in VIEWS:
        parts += [f"## Change of the misbehaviour rate: {view_name(view)}", _grid(record, view)]
        if view == MAIN_VIEW:
            band = f"{100 * record.epsilon:g}"
            parts.append(
                f"In percentage points: mean over seeds, {100 * record.confidence:g} % interval, verdict; in brackets "
                f"the number of arXiv 2606.03810. ▲ amplifies, ▼ suppresses, = neutral (within ±{band}), "
                f"? undetermined; † holds after Holm's correction.{_finds(record)}"
            )
    if found := splits(record):
        parts += ["## Why: shift and selection", " ".join(map(plain, split_sentences(found, record.epsilon)))]
        parts += [
            "The labels against the organism's own answers at T = 1, in percentage points:",
            _labels(record, found),
        ]
        if any(one.arms for one in found):
            parts += ["What retraining did, in percentage points:", _arms(record, found)]
        lines = curves(record)
        why = [missing_scores_sentence(lines), simpson_sentence(lines)] if lines else []
        parts.append("\n".join(f"- {plain(sentence)}" for sentence in why if sentence))
    if sentences := prediction_sentences(prediction_scores(record)):
        parts += ["## What the labels predicted", "\n".join(f"- {plain(sentence)}" for sentence in sentences)]
    parts += [
        *_capability(record),
        *_planted(record),
        *(part for section in study_judge_sections(record.judging) for part in section_parts(section)),
        "## Organisms",
        _organisms(record),
        "## Time",
        table(("Stage", "Time"), [(plain(name), duration(spent)) for name, spent in record.stage_seconds.items()]),
        "## What this can and cannot say",
        "\n".join(f"- {plain(sentence)}" for sentence in limits(record)),
        "## Provenance",
        _provenance(record),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def plain(text: object) -> str:
    """Foreign text on one line, with every character that Markdown would act on escaped."""
    return SPECIAL.sub(r"\\\1", " ".join(visible(text).split()))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table of cells that are escaped already; empty without rows."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *lines]) if lines else ""


def section_parts(section: Section) -> list[str]:
    """A section in Markdown, its texts escaped; empty parts where it has none."""
    return [
        f"## {plain(section.title)}",
        *map(plain, section.paragraphs),
        table(section.head, [tuple(map(plain, row)) for row in section.rows]),
        "\n".join(f"- {plain(line)}" for line in section.bullets),
    ]


def _grid(record: StudyRecord, view: View) -> str:
    head = ("Method", *(plain(column.title) for column in columns(record)))
    return table(head, [(plain(row[0].method.title), *map(_grid_cell, row)) for row in grid(record, view) if row])


def _grid_cell(cell: GridCell) -> str:
    published = "" if cell.published is None else f" (paper {signed(cell.published)})"
    if not known(cell):
        return MISSING + published
    mark = "†" if cell.survives else ""
    return (
        f"{SYMBOLS[cell.verdict]} {points(cell.change.value)} [{change_interval(cell.change)}] "
        f"{cell.verdict}{mark}{published}"
    )


def _finds(record: StudyRecord) -> str:
    """The range of the smallest true changes that the fields of the main grid could have called."""
    cells = [cell.change for row in grid(record, MAIN_VIEW) for cell in row if known(cell)]
    finds = [found for change in cells if (found := change.smallest_called(record.epsilon)) is not None]
    if not finds:
        return ""
    return (
        " The smallest true change that a field would have called, with a chance of 80 %, lies between "
        f"{100 * min(finds):.1f} and {100 * max(finds):.1f}."
    )


def _labels(record: StudyRecord, found: Sequence[ColumnSplit]) -> str:
    return _split_table(record, {one.column: one.labels["sampled"] for one in found})


def _arms(record: StudyRecord, found: Sequence[ColumnSplit]) -> str:
    return _split_table(record, {one.column: one.arms for one in found})


def _split_table(record: StudyRecord, by_column: Mapping[Column, Sequence[Split]]) -> str:
    """A row per method, a column per kind: the parts and their sum."""
    fields = {(column, row.method.name): row for column, rows in by_column.items() for row in rows}
    methods = [method for method in record.methods if any((column, method.name) in fields for column in by_column)]
    rows = [
        (plain(one.title), *(_split_cell(fields.get((column, one.name))) for column in by_column)) for one in methods
    ]
    return table(("Method", *(plain(column.title) for column in by_column)), rows)


def _split_cell(row: Split | None) -> str:
    if row is None:
        return MISSING
    parts = ", ".join(f"{name} {points(part.value)}" for name, part in row.parts.items())
    return f"{parts}; sum {points(row.total.value)} [{term_interval(row.total)}]"


def _capability(record: StudyRecord) -> list[str]:
    found = capability_context(record)
    if found is None:
        return []
    rows = [tuple(plain(cell) for cell in row) for row in found["rows"]]
    return ["## Capability and safety", " ".join(map(plain, found["sentences"])), table(found["head"], rows)]


def _planted(record: StudyRecord) -> list[str]:
    found = planted_context(record.planted)
    if found is None:
        return []
    rows = [tuple(plain(cell) for cell in row) for row in found["rows"]]
    return ["## Planted effects recovered", plain(found["sentence"]), table(found["head"], rows)]


def _organisms(record: StudyRecord) -> str:
    head = ("Organism", "Base", "Control", "Organism rate", "Gate")
    return table(head, [_organism(one) for one in record.organisms])


def _organism(one: OrganismRecord) -> tuple[str, ...]:
    rates = one.rates.get(MAIN_VIEW)
    arms = (None, None, None) if rates is None else (rates.base, rates.control, rates.organism)
    gate = "not judged" if one.gate is None else "passed" if one.gate.passed else "not passed"
    return (plain(one.key), *(rate_value(rate) for rate in arms), gate)


def _provenance(record: StudyRecord) -> str:
    state = {True: " with uncommitted changes", False: "", None: ""}[record.dirty]
    facts = [
        ("Commit", f"{plain(record.commit)}{state}" if record.commit else MISSING),
        ("Started", plain(moment(record.started))),
        ("Finished", plain(moment(record.finished))),
        ("Wall time", duration(record.wall_seconds)),
        *((plain(name), plain(version)) for name, version in record.versions.items()),
    ]
    return table(("What", "Value"), facts)
