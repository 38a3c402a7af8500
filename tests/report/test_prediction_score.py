"""Predictions beside what came: which cells count, what is said of them, the figure and the table."""

import dataclasses
import xml.etree.ElementTree as ElementTree

import pytest

from ct_pipeline.analysis.divergence import KlEstimate
from ct_pipeline.analysis.estimate import Estimate
from ct_pipeline.analysis.prediction import Prediction
from ct_pipeline.report.figures.scatter import prediction_plot
from ct_pipeline.report.figures.style import as_svg
from ct_pipeline.report.prediction_score import prediction_scores, prediction_sentences
from ct_pipeline.report.records import MAIN_VIEW, ShiftSummary
from ct_pipeline.report.study import write_report
from ct_pipeline.report.tables import report_tables


def told(cell, factor):
    """A prediction of `factor` times what came."""
    value = factor * cell.differences[MAIN_VIEW].value
    term = Estimate(value, value - 0.05, value + 0.05, 0.025, 100)
    prediction = Prediction(value, value - 0.05, value + 0.05, 0.025, "by hand")
    if cell.method == "bct":
        return ShiftSummary(prediction, {}, None)
    return ShiftSummary(prediction, {"selection": term}, KlEstimate("proposal", "unbiased", term, term))


@pytest.fixture
def foretelling(record):
    cells = tuple(dataclasses.replace(cell, shift=told(cell, 2.0)) for cell in record.cells)
    return dataclasses.replace(record, cells=cells)


def test_label_methods_and_regularizers_are_scored_apart_and_only_gated_organisms_count(foretelling):
    passed = {one.key for one in foretelling.organisms if one.gate.passed}
    labels, regularizers = prediction_scores(foretelling)
    assert {cell.method for cell in regularizers.cells} == {"bct"}
    assert len(labels.cells) == 4 * len(regularizers.cells) == 4 * len(passed)


def test_twice_the_change_is_a_slope_of_a_half_and_every_sign_right(foretelling):
    score = prediction_scores(foretelling)[0].scores.overall
    assert score.all_signs.prediction.value == 1.0
    # Errors of the predictions are taken out of their mean square, so that the slope lies a little above the ratio.
    assert 0.5 <= score.slope.value < 0.6
    first, second = prediction_sentences(prediction_scores(foretelling))
    assert first.startswith("Methods that train on labels: the sign of the change was predicted in 100 % of")
    assert second.startswith("Regularizers: ")


def test_the_page_shows_it_and_a_report_without_predictions_does_not(foretelling, record, tmp_path):
    page = write_report(foretelling, tmp_path / "with").read_text()
    assert 'id="predicted"' in page and 'href="#predicted"' in page
    assert "## What the labels predicted" in (tmp_path / "with" / "report.md").read_text()
    without = write_report(record, tmp_path / "without").read_text()
    assert 'id="predicted"' not in without
    assert not (tmp_path / "without" / "tables" / "predictions.csv").exists()


def test_the_figure_is_a_picture_without_dates_and_the_same_every_time(foretelling):
    cells = prediction_scores(foretelling)[0].cells
    picture = as_svg(prediction_plot(cells, 0.5))
    assert ElementTree.fromstring(picture).tag.endswith("svg")
    assert as_svg(prediction_plot(cells, 0.5)) == picture
    assert as_svg(prediction_plot(cells, None)) != picture


def test_the_table_holds_every_prediction_with_its_parts(foretelling):
    table = report_tables(foretelling)["predictions"]
    assert len(table) == len(foretelling.cells)
    assert table["predicted"].notna().all()
    labelled = table["method"] != "bct"
    assert table.loc[labelled, ["selection", "kl"]].notna().all(axis=None)
    assert table.loc[~labelled, ["selection", "kl"]].isna().all(axis=None)
    assert set(table.loc[labelled, "kl_status"]) == {"unbiased"}
