"""Planted effects on the page and in tables: every number is there, what is missing is a dash."""

import pandas

from ct_pipeline.analysis.planted import Recovered
from ct_pipeline.analysis.verdicts import Verdict
from ct_pipeline.report.as_html import as_html
from ct_pipeline.report.planted import HEAD, planted_cells, planted_section, planted_sentence, planted_table
from ct_pipeline.report.section import Page
from ct_pipeline.report.wording import MISSING

COUNTS = dict.fromkeys(Verdict, 0) | {Verdict.AMPLIFIES: 19, Verdict.UNDETERMINED: 1}
FOUND = Recovered(
    "entrenching", "reward_hacking", "self_rewarding", "selection", "amplifies", 20, 0, 19, COUNTS, 0.41, 0.4, 0.42, 20
)
NOTHING = Recovered(
    "entrenching", "sycophancy", "null", "change", "none", 0, 2, 0, dict.fromkeys(Verdict, 0), None, -1.0, 1.0, None
)


def test_a_row_says_all_there_is():
    assert planted_cells(FOUND) == (
        "entrenching",
        "reward hacking",
        "self rewarding",
        "selection",
        "amplifies",
        "19 of 20",
        "78 %",
        "19 amplifies, 1 undetermined",
        "+41.0 [+40.0 to +42.0]",
        "20 of 20",
        "yes",
    )


def test_what_is_missing_is_said_and_is_no_zero():
    cells = dict(zip(HEAD, planted_cells(NOTHING), strict=True))
    assert cells["Right runs"] == "0 of 2"
    assert cells["Verdicts of single runs"] == "2 missing"
    assert cells["Mean over seeds"] == cells["Grows with k"] == MISSING
    assert cells["Recovered"] == "NO"


def test_the_sentence_counts_what_was_recovered():
    assert planted_sentence([FOUND, NOTHING]).startswith("1 of 2 planted effects were recovered")


def test_the_table_has_a_number_or_nothing_in_every_column(tmp_path):
    table = planted_table([FOUND, NOTHING])
    assert list(table["recovered"]) == [True, False]
    assert list(table["amplifies"]) == [19, 0]
    assert table.loc[1, ["mean", "low", "high", "growing"]].isna().all()
    table.to_parquet(tmp_path / "planted.parquet")
    assert len(pandas.read_parquet(tmp_path / "planted.parquet")) == 2


def test_the_page_shows_every_cell_and_a_study_without_planted_effects_has_no_such_section():
    shown = as_html(Page("", "", "", (), [planted_section([FOUND, NOTHING])]))
    for row in (FOUND, NOTHING):
        name, *others = planted_cells(row)
        assert f"><div>{name}</div></th>" in shown
        assert all(f">{cell}</div></td>" in shown for cell in others)
    assert planted_section([]) is None
