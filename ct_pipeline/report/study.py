"""Writes the report of a study: one self-contained HTML page, a page per cell, a Markdown file, and their tables."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup

from ct_pipeline.analysis.published import SOURCE, SOURCE_URL, published_kind
from ct_pipeline.analysis.verdicts import verdict
from ct_pipeline.report import wording
from ct_pipeline.report.capability import capability_context
from ct_pipeline.report.colours import DARK, LIGHT, diverging
from ct_pipeline.report.figures.forest import axis_limits, forest_plot, organism_plot
from ct_pipeline.report.figures.scatter import prediction_plot
from ct_pipeline.report.figures.style import as_svg
from ct_pipeline.report.glossary import GLOSSARY
from ct_pipeline.report.judge_sections import study_judge_sections
from ct_pipeline.report.markdown import markdown_report
from ct_pipeline.report.pictures import write_pictures
from ct_pipeline.report.planted import planted_context
from ct_pipeline.report.prediction_score import PredictionScore, prediction_scores, prediction_sentences
from ct_pipeline.report.records import MAIN_VIEW, VIEWS, CellRecord, ExampleRow, StudyRecord
from ct_pipeline.report.statement import limits, result_sentences
from ct_pipeline.report.summary import Column, GridCell, columns, grid, known
from ct_pipeline.report.tables import report_tables, write_tables
from ct_pipeline.report.why import data_address, why_context

TEMPLATES = Path(__file__).parent / "templates"
METHODS_WITH_EXAMPLES_PER_KIND = 2
PATH_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,120}")


def write_report(record: StudyRecord, out_dir: Path) -> Path:
    """Writes index.html, report.md, cells/<organism>/<method>.html, tables/*.csv and *.parquet, figures/*.png.

    The same record gives the same bytes.

    Args:
        record: everything the report says.
        out_dir: made if absent; files of the same name are replaced, others stay.

    Returns:
        The path of index.html, which opens from disk and loads nothing.

    Raises:
        ValueError: an organism's key or a method's name cannot be a file name.
    """
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    environment = _environment()
    cell_page = environment.get_template("cell.html.j2")
    methods = {method.name: method for method in record.methods}
    organisms = {organism.key: organism for organism in record.organisms}
    for cell in record.cells:
        page = folder / cell_path(cell)
        page.parent.mkdir(parents=True, exist_ok=True)
        text = cell_page.render(
            record=record, cell=cell, method=methods[cell.method], organism=organisms[cell.organism]
        )
        _write(page, text)
    tables = report_tables(record)
    write_tables(tables, folder / "tables")
    write_pictures(record, folder / "figures")
    _write(folder / "report.md", markdown_report(record))
    index = folder / "index.html"
    _write(index, environment.get_template("study.html.j2").render(**_context(record, list(tables))))
    return index


def cell_path(cell: CellRecord) -> str:
    """Where a cell's page lies, relative to the report's folder.

    Raises:
        ValueError: the organism's key or the method's name cannot be a file name.
    """
    for part in (cell.organism, cell.method):
        if not PATH_PART.fullmatch(part):
            raise ValueError(f"{part!r} cannot be a file name: letters, digits, _ . - and a letter or digit first")
    return f"cells/{cell.organism}/{cell.method}.html"


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: wording.visible(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = (
        "points", "change_interval", "percent", "rate_value", "rate_interval", "duration", "count", "decimal",
        "memory", "moment", "verdict_word", "view_title", "signed", "term_interval",
    )  # fmt: skip
    environment.filters.update({name: getattr(wording, name) for name in names})
    environment.globals.update(
        VIEWS=VIEWS,
        MAIN_VIEW=MAIN_VIEW,
        SYMBOLS=wording.SYMBOLS,
        MISSING=wording.MISSING,
        css=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
        cell_path=cell_path,
        verdict=verdict,
        web_address=web_address,
        source=SOURCE,
        source_url=SOURCE_URL,
    )
    return environment


def web_address(text: str | None) -> str | None:
    """The address if it is one of the web, else None: nothing else becomes a link."""
    return text if text and re.fullmatch(r"https?://[^\s\"'<>]+", text) else None


def _context(record: StudyRecord, table_names: list[str]) -> dict[str, object]:
    grids = {view: grid(record, view) for view in VIEWS}
    sizes = [abs(cell.change.value) for rows in grids.values() for row in rows for cell in row if known(cell)]
    limit = max([0.1, *sizes])
    kinds, families = columns(record), prediction_scores(record)
    return {
        "record": record,
        "sentences": result_sentences(record),
        "limits": limits(record),
        "columns": kinds,
        "grids": grids,
        "colour_limit": limit,
        "shade": lambda cell: _shade(cell, limit),
        "published_kind": published_kind,
        "figures": _figures(record, kinds, grids[MAIN_VIEW]),
        "prediction_scores": _prediction_scores(families),
        "prediction_sentences": prediction_sentences(families),
        "why": why_context(record),
        "capability": capability_context(record),
        "planted": planted_context(record.planted),
        "judge_sections": study_judge_sections(record.judging),
        "cells_by_column": _cells_by_column(record, kinds),
        "examples": _examples(record, kinds),
        "methods": {method.name: method for method in record.methods},
        "settings_text": json.dumps(record.settings, indent=2, ensure_ascii=False, default=str),
        "all_passed": all(one.gate is not None and one.gate.passed for one in record.organisms),
        "glossary": GLOSSARY,
        "table_names": table_names,
    }


def _shade(cell: GridCell, limit: float) -> str:
    """The two backgrounds of a field as CSS variables; paler where undetermined."""
    settled = cell.verdict is not None and cell.verdict != "undetermined"
    value, strength = cell.change.value if known(cell) else None, 1.0 if settled else 0.4
    light, dark = (diverging(value, limit, scale=scale, strength=strength) for scale in (LIGHT, DARK))
    return f"--light:{light};--dark:{dark}"


def _figures(
    record: StudyRecord, kinds: tuple[Column, ...], rows: tuple[tuple[GridCell, ...], ...]
) -> list[dict[str, object]]:
    """One forest plot per column, on one axis, each as a data address with a text that says the same."""
    everything = [cell for row in rows for cell in row]
    changes = [cell.change for cell in everything if known(cell)]
    changes += [change for cell in everything for _, change in cell.by_seed]
    ends = axis_limits(changes, record.epsilon, [cell.published for cell in everything if cell.published is not None])
    figures = []
    for position, column in enumerate(kinds):
        cells = [row[position] for row in rows]
        several = any(len(cell.by_seed) > 1 for cell in cells)
        figures.append(
            {
                "column": column,
                "cells": cells,
                "address": data_address(as_svg(forest_plot(cells, record.epsilon, ends))),
                "by_organism": data_address(as_svg(organism_plot(cells, record.epsilon, ends))) if several else None,
                "by_organism_alt": f"Interval plot of single organisms, {column.title}: "
                + "; ".join(_spoken_seeds(cell) for cell in cells if cell.by_seed)
                + ".",
                "alt": f"Interval plot for {column.title}: " + "; ".join(_spoken(cell) for cell in cells) + ".",
            }
        )
    return figures


def _prediction_scores(families: Sequence[PredictionScore]) -> list[dict[str, object]]:
    """One scatter plot per family of methods, with its score over all kinds and per kind."""
    shown = []
    for one, sentence in zip(families, prediction_sentences(families), strict=True):
        shown.append(
            {
                "title": one.title,
                "scores": {"all": one.scores.overall, **one.scores.kinds},
                "address": data_address(as_svg(prediction_plot(one.cells, one.scores.overall.slope.value))),
                "alt": f"Observed change against the predicted one, {len(one.cells)} runs. {sentence}",
            }
        )
    return shown


def _spoken(cell: GridCell) -> str:
    if not known(cell):
        return f"{cell.method.title}: missing"
    interval = wording.change_interval(cell.change)
    return f"{cell.method.title}: {wording.points(cell.change.value)} points ({interval}), {cell.verdict}"


def _spoken_seeds(cell: GridCell) -> str:
    seeds = (
        f"{seed}: {wording.points(change.value)} ({wording.change_interval(change)})" for seed, change in cell.by_seed
    )
    return f"{cell.method.title}, seed " + ", ".join(seeds)


def _cells_by_column(record: StudyRecord, kinds: tuple[Column, ...]) -> list[tuple[Column, list[CellRecord]]]:
    return [
        (column, [cell for cell in record.cells if (cell.model, cell.kind) == (column.model, column.kind)])
        for column in kinds
    ]


def _examples(
    record: StudyRecord, kinds: tuple[Column, ...]
) -> list[tuple[Column, list[tuple[CellRecord, ExampleRow]]]]:
    """Per column one example of each of the methods that changed most, from organisms that are used."""
    chosen = []
    for column, cells in _cells_by_column(record, kinds):
        sizes = [(abs(change), cell) for cell in cells if (change := _main_change(cell)) is not None]
        telling = [pair for pair in sizes if pair[1].examples and pair[1].organism in column.used]
        telling.sort(key=lambda pair: (-pair[0], pair[1].organism, pair[1].method))
        largest: dict[str, CellRecord] = {}
        for _, cell in telling:
            largest.setdefault(cell.method, cell)
        if largest:
            picked = list(largest.values())[:METHODS_WITH_EXAMPLES_PER_KIND]
            chosen.append((column, [(cell, _typical(cell)) for cell in picked]))
    return chosen


def _main_change(cell: CellRecord) -> float | None:
    change = cell.differences.get(MAIN_VIEW)
    return None if change is None else change.value


def _typical(cell: CellRecord) -> ExampleRow:
    """The first example that moved the way the whole run did, else the first."""
    rose = (_main_change(cell) or 0.0) > 0
    moved = (one for one in cell.examples if (one.verdict_before, one.verdict_after) == (not rose, rose))
    return next(moved, cell.examples[0])


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
