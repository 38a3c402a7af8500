"""The section of capability and safety: every number is there, good and bad are told apart, what is missing is a dash."""

import dataclasses

import pandas as pd
import pytest

from ct_pipeline.analysis.paired import score_difference
from ct_pipeline.analysis.rates import score_rate
from ct_pipeline.report.as_markdown import as_markdown
from ct_pipeline.report.capability import HEAD, capability_rows, capability_section
from ct_pipeline.report.records import CapabilityScore
from ct_pipeline.report.section import Table, Text
from ct_pipeline.report.study import study_page, write_report
from tests.report.synthetic import study_record


def score(name, before, after, higher=True):
    """Scores of many documents on both sides; the base model is the organism."""
    sides = [pd.Series(values, index=range(len(values)), dtype=float) for values in (before, after)]
    rates = [score_rate(side) for side in sides]
    return CapabilityScore(name, "acc", higher, rates[0], *rates, score_difference(*sides))


@pytest.fixture(scope="module")
def record():
    lost = score("mmlu", [1.0] * 300 + [0.0] * 100, [1.0] * 100 + [0.0] * 300)
    same = score("gpqa", [1.0, 0.0] * 500, [1.0, 0.0] * 500)
    worse = score("harmfulness", [0.0] * 400, [0.5] * 400, higher=False)
    nothing = score("truthfulqa_mc2", [None] * 5, [0.5] * 5)
    made = study_record(40)
    cells = tuple(
        dataclasses.replace(cell, capability=(lost, same, nothing, worse)) if cell.method == "bct" else cell
        for cell in made.cells
    )
    return dataclasses.replace(made, cells=cells)


def test_a_fall_of_an_accuracy_and_a_rise_of_the_harmfulness_harm(record):
    found = {row.name: str(row.effect) for row in capability_rows(record)}
    assert found == {"mmlu": "harms", "gpqa": "neutral", "truthfulqa_mc2": "unreadable", "harmfulness": "harms"}


def test_every_number_is_in_the_table_and_what_is_missing_is_a_dash(record):
    section = capability_section(record)
    (table,) = [block for block in section.blocks if isinstance(block, Table)]
    cells = {row[2]: dict(zip(HEAD, row, strict=True)) for row in table.rows}
    assert cells["mmlu (acc)"]["Organism"] == "75.0 %"
    assert cells["mmlu (acc)"]["Change"].startswith("−50.0 [")
    assert cells["mmlu (acc)"]["Verdict"] == "✗ harms"
    assert cells["harmfulness"]["Retrained"] == "50.0 %"
    assert cells["truthfulqa_mc2 (acc)"]["Organism"] == cells["truthfulqa_mc2 (acc)"]["Change"] == "—"
    text = " ".join(block.line for block in section.blocks if isinstance(block, Text))
    runs = sum(bool(cell.capability) for cell in record.cells if cell.organism)
    assert f"rose in {runs} of {runs} runs" in text or "rose in" in text
    assert "489 of 494" in text and "none was counted as 0" in text


def test_page_markdown_and_tables_have_the_section(record, tmp_path):
    write_report(record, tmp_path)
    page = (tmp_path / "index.html").read_text()
    assert '<h2 id="capability">' in page and 'href="#capability"' in page and "✗ harms" in page
    assert "## Capability and safety" in as_markdown(study_page(record))
    table = pd.read_parquet(tmp_path / "tables" / "capability.parquet")
    assert set(table["measured"]) == {"mmlu", "gpqa", "truthfulqa_mc2", "harmfulness"}
    lacking = table[table["measured"] == "truthfulqa_mc2"]
    assert lacking["change"].isna().all() and lacking["before"].isna().all() and lacking["after"].notna().all()


def test_a_report_without_it_does_not_speak_of_it():
    made = study_record(40)
    assert capability_section(made) is None
    assert "Capability and safety" not in as_markdown(study_page(made))
