"""The contrasts of a study's conditions as a report's rows: averaged over seeds, gaps in points, rates in percent."""

import dataclasses

import pandas
import pytest

from ct_pipeline.analysis.paired import difference, difference_of_differences
from ct_pipeline.measurement.condition import MAIN_VIEW
from ct_pipeline.report.as_html import as_html
from ct_pipeline.report.as_markdown import as_markdown, plain
from ct_pipeline.report.conditions import HEAD, condition_section, contrast_rows, contrast_table
from ct_pipeline.report.records import ContrastRecord
from ct_pipeline.report.study import study_page
from tests.report.synthetic import study_record as synthetic


def rows(misbehaving):
    return pandas.DataFrame({"prompt": range(40), "verdict": [number < misbehaving for number in range(40)]})


FREE = difference(rows(30), rows(10))
CLOSED = difference_of_differences((rows(10), rows(30)), (rows(10), rows(10)))
CONTRASTS = (
    ContrastRecord("tier/free/in/sampled", "Tier, free: change", "change", MAIN_VIEW, FREE),
    ContrastRecord("tier/gap/change/in/sampled", "Gap: change of the gap", "change of the gap", MAIN_VIEW, CLOSED),
)


@pytest.fixture
def record():
    made = synthetic()
    return dataclasses.replace(made, cells=tuple(dataclasses.replace(cell, contrasts=CONTRASTS) for cell in made.cells))


def test_every_kind_and_method_has_its_contrasts_averaged_over_seeds(record):
    found = contrast_rows(record)
    places = {(row.column.title, row.method.name, row.title) for row in found}
    assert len(places) == len(found)
    assert {row.title for row in found} == {"Tier, free: change", "Gap: change of the gap"}
    for row in found:
        assert row.difference.value == pytest.approx(-0.5)
    assert any(row.difference.seeds > 1 for row in found)


def test_rates_are_told_in_percent_and_gaps_in_points(record):
    table = contrast_table(record)
    assert {len(row) for row in table} == {len(HEAD)}
    change = next(row for row in table if row[2] == "Tier, free: change")
    gap = next(row for row in table if row[2] == "Gap: change of the gap")
    assert change[3:7] == ("in domain, sampled (T = 1)", "75.0 %", "25.0 %", "−50.0")
    assert gap[4:7] == ("+50.0", "0.0", "−50.0")


def test_page_and_markdown_show_every_contrast(record):
    shown = study_page(record)
    page, text = as_html(shown), as_markdown(shown)
    assert '<h2 id="conditions">' in page and 'href="#conditions"' in page and "## Conditions and gaps" in text
    for row in contrast_table(record):
        assert all(cell in page for cell in row)
        assert f"| {' | '.join(map(plain, row))} |" in text


def test_a_study_without_conditions_has_none():
    assert contrast_rows(synthetic()) == ()
    assert condition_section(synthetic()) is None
