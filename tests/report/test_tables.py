"""The tables behind the report and its Markdown file."""

import dataclasses

import pandas as pd
import pytest

from ct_pipeline.report.as_markdown import as_markdown, plain
from ct_pipeline.report.records import MAIN_VIEW, VIEWS, ExampleRow
from ct_pipeline.report.study import study_page
from ct_pipeline.report.summary import grid
from ct_pipeline.report.tables import report_tables, safe_for_spreadsheets
from ct_pipeline.report.wording import points
from tests.report.synthetic import with_cell


def test_every_number_of_the_grid_is_in_its_table(report, record):
    stored = pd.read_parquet(report.parent / "tables" / "grid.parquet")
    assert len(stored) == sum(len(row) for view in VIEWS for row in grid(record, view))
    keyed = stored.set_index(["domain", "decoding", "kind", "method"])
    for row in grid(record, MAIN_VIEW):
        for cell in row:
            found = keyed.loc[(*MAIN_VIEW, cell.column.kind, cell.method.name)]
            assert found["change"] == pytest.approx(cell.change.value)
            assert found["verdict"] == str(cell.verdict)


def test_csv_and_parquet_hold_the_same_rows(report):
    names = {path.stem for path in (report.parent / "tables").glob("*.csv")}
    assert {"grid", "changes", "organism_rates", "gates", "labels", "training", "examples", "published"} <= names
    for name in names:
        parquet = pd.read_parquet(report.parent / "tables" / f"{name}.parquet")
        csv = pd.read_csv(report.parent / "tables" / f"{name}.csv")
        assert list(csv.columns) == list(parquet.columns)
        assert len(csv) == len(parquet)


def test_missing_numbers_stay_missing_in_tables(record):
    tables = report_tables(with_cell(record, 0, null_rate=None))
    assert pd.isna(tables["changes"].loc[0, "null_rate"])
    published = tables["published"]
    assert published.loc[published["method"] == "null", "mean_change_pp"].isna().all()


def test_text_that_a_spreadsheet_would_run_is_quoted_and_numbers_are_not():
    table = pd.DataFrame({"text": ["=1+1", "+x", "-x", "@x", "\tx", "fine", None], "number": [-1.5] * 7})
    got = safe_for_spreadsheets(table)
    assert got["text"].tolist()[:6] == ["'=1+1", "'+x", "'-x", "'@x", "'\tx", "fine"]
    assert got["number"].tolist() == [-1.5] * 7
    assert table.loc[0, "text"] == "=1+1"


def test_hostile_completions_are_harmless_in_csv(record):
    example = ExampleRow("=cmd|' /C calc'!A0", "a", "b", None, None)
    tables = report_tables(with_cell(record, 0, examples=(example,)))
    assert tables["examples"].loc[0, "prompt"].startswith("=cmd")
    assert safe_for_spreadsheets(tables["examples"]).loc[0, "prompt"].startswith("'=cmd")


def test_an_empty_study_has_empty_tables(record):
    empty = dataclasses.replace(record, cells=(), organisms=(), methods=(), base_models=(), stage_seconds={})
    assert all(table.empty for table in report_tables(empty).values())


def test_markdown_holds_the_statement_and_every_change(record):
    text = as_markdown(study_page(record))
    assert "## How much the misbehaviour changed" in text and "### In domain, sampled (T = 1)" in text
    assert "the misbehaviour became more frequent by over 5 percentage points" in text
    for view in VIEWS:
        for row in grid(record, view):
            assert all(points(cell.change.value) in text for cell in row)


def test_markdown_tables_have_the_same_number_of_cells_in_every_row(record):
    organisms = tuple(dataclasses.replace(one, title="a | b\n<b>") for one in record.organisms)
    text = as_markdown(study_page(dataclasses.replace(record, organisms=organisms, name="x|y")))
    for block in text.split("\n\n"):
        lines = [line.replace("\\|", "") for line in block.split("\n") if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1


def test_foreign_text_is_escaped_in_markdown():
    assert plain("<b> [x](javascript:y)\n| `z`") == "\\<b\\> \\[x\\](javascript:y) \\| \\`z\\`"
