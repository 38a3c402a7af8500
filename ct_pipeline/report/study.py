"""Writes the report of a study: one self-contained HTML page, a page per cell, a Markdown file, and their tables."""

from collections.abc import Sequence
from pathlib import Path

from ct_pipeline.report.as_html import write_page, write_text
from ct_pipeline.report.as_markdown import as_markdown
from ct_pipeline.report.capability import capability_section
from ct_pipeline.report.changes import grid_section, interval_section
from ct_pipeline.report.conditions import condition_section
from ct_pipeline.report.glossary import GLOSSARY
from ct_pipeline.report.judge_sections import study_judge_section
from ct_pipeline.report.outcomes import outcome_section
from ct_pipeline.report.pictures import write_pictures
from ct_pipeline.report.planted import planted_section
from ct_pipeline.report.prediction_score import prediction_section
from ct_pipeline.report.records import StudyRecord
from ct_pipeline.report.runs import (
    example_section,
    organism_section,
    provenance_section,
    run_section,
    single_runs_section,
)
from ct_pipeline.report.section import Page, Section, Sentences, Strong, Terms, Text
from ct_pipeline.report.single_run import cell_path, single_run_page
from ct_pipeline.report.statement import limits, result_sentences
from ct_pipeline.report.tables import report_tables, write_tables
from ct_pipeline.report.why import why_section
from ct_pipeline.report.wording import moment

PAGE = "index.html"


def write_report(record: StudyRecord, out_dir: Path, extra: Sequence[Section] = ()) -> Path:
    """Writes index.html, report.md, cells/<organism>/<method>.html, tables/*.csv and *.parquet, figures/*.png.

    The same record gives the same bytes.

    Args:
        record: everything the report says.
        out_dir: made if absent; files of the same name are replaced, others stay.
        extra: sections of other measurements, shown before what the study can and cannot say.

    Returns:
        The path of index.html, which opens from disk and loads nothing.

    Raises:
        ValueError: an organism's key or a method's name cannot be a file name, or two sections have the same anchor.
    """
    folder = Path(out_dir)
    methods = {method.name: method for method in record.methods}
    organisms = {organism.key: organism for organism in record.organisms}
    for cell in record.cells:
        page = single_run_page(record, cell, methods[cell.method], organisms[cell.organism])
        write_page(page, folder / cell_path(cell))
    tables = report_tables(record)
    write_tables(tables, folder / "tables")
    write_pictures(record, folder / "figures")
    page = study_page(record, extra, list(tables))
    write_text(as_markdown(page, PAGE), folder / "report.md")
    return write_page(page, folder / PAGE)


def study_page(record: StudyRecord, extra: Sequence[Section] = (), tables: Sequence[str] = ()) -> Page:
    """The main page of a study's report; `extra` as in `write_report`, `tables` are those that it names."""
    first, *others = result_sentences(record)
    sections = [
        grid_section(record),
        outcome_section(record),
        organism_section(record),
        interval_section(record),
        condition_section(record),
        why_section(record),
        prediction_section(record),
        capability_section(record),
        planted_section(record.planted),
        study_judge_section(record.judging, record.confidence),
        run_section(record),
        single_runs_section(record),
        example_section(record),
        *extra,
        Section("What this can and cannot say", [Sentences(limits(record))], "limits", "Limits"),
        Section("Words", [Terms(GLOSSARY)], "glossary", "Words"),
        provenance_section(record, tables),
    ]
    return Page(
        title=f"{record.name}: what consistency training did",
        kicker="Consistency training audit" + (f" · finished {moment(record.finished)}" if record.finished else ""),
        heading=record.name,
        lead=[Text(record.description), Sentences([Strong(first), *others], result=True)],
        sections=[section for section in sections if section is not None],
        contents=True,
    )
