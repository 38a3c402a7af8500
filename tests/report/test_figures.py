"""Figures: deterministic, small, and complete where values are missing."""

import dataclasses
import xml.etree.ElementTree as ElementTree

import pytest

from ct_pipeline.analysis.paired import difference
from ct_pipeline.report.colours import DARK, LIGHT, diverging
from ct_pipeline.report.figures.forest import axis_limits, forest_plot, organism_plot, small_delta_plot
from ct_pipeline.report.figures.style import as_png, as_svg
from ct_pipeline.report.records import MAIN_VIEW
from ct_pipeline.report.summary import grid
from tests.analysis.tables import singles

NOTHING = difference(singles([None]), singles([None]))


@pytest.fixture(scope="module")
def cells(record):
    return [row[0] for row in grid(record, MAIN_VIEW)]


def test_a_forest_plot_is_well_formed_and_the_same_every_time(cells):
    first = as_svg(forest_plot(cells, 0.05, (-50, 50)))
    assert first == as_svg(forest_plot(cells, 0.05, (-50, 50)))
    assert ElementTree.fromstring(first).tag.endswith("svg")
    assert "<dc:date>" not in first


def test_a_forest_plot_draws_fields_without_a_value(cells):
    gaps = [
        dataclasses.replace(cells[0], change=NOTHING, by_seed=((1, NOTHING),)),
        dataclasses.replace(cells[1], change=None),
    ]
    for plot in (forest_plot, organism_plot):
        assert "missing" in as_svg(plot(gaps, 0.05, (-50, 50)))


def test_a_row_per_seed_has_the_seeds_own_interval(cells):
    plot = as_svg(organism_plot(cells, 0.05, (-50, 50)))
    assert ElementTree.fromstring(plot).tag.endswith("svg")
    for cell in cells:
        assert f"{cell.method.title}, {cell.by_seed[0][0]}" in plot


def test_labels_are_text_and_no_mathematics(cells):
    method = dataclasses.replace(cells[0].method, title="$\\frac{ \ud800 $<b>")
    plot = as_svg(forest_plot([dataclasses.replace(cells[0], method=method)], 0.05, (-50, 50)))
    assert ElementTree.fromstring(plot).tag.endswith("svg")
    assert as_png(small_delta_plot([("$x", cells[0].change)], 0.05)).startswith(b"\x89PNG")


def test_a_small_plot_is_a_small_png_and_the_same_every_time(cells):
    changes = [(cell.method.title, cell.change) for cell in cells] * 4
    image = as_png(small_delta_plot(changes, 0.05))
    assert image.startswith(b"\x89PNG")
    assert len(image) < 60_000
    assert image == as_png(small_delta_plot(changes, 0.05))


def test_a_small_plot_survives_missing_changes():
    for changes in ([("in domain", NOTHING)], []):
        assert as_png(small_delta_plot(changes, 0.05)).startswith(b"\x89PNG")


def test_axis_holds_every_value_and_the_band(cells):
    changes = [cell.change for cell in cells]
    low, high = axis_limits(changes, 0.05, [48.5, -55.2])
    assert low < -55.2
    assert high > 48.5
    assert all(low < 100 * change.value < high for change in changes)
    assert axis_limits([NOTHING], 0.05)[0] < -5


def test_colours_tell_a_fall_from_a_rise_and_both_from_missing():
    assert diverging(-1, 0.5) == "#76acde"
    assert diverging(1, 0.5) == "#f7a35c"
    assert diverging(0, 0.5) == "#ffffff"
    assert len({diverging(value, 0.5, scale=DARK) for value in (-1, 0, 1, None)}) == 4


@pytest.mark.parametrize(("scale", "text"), [(LIGHT, "#3d3d3d"), (DARK, "#cfcfcf")])
@pytest.mark.parametrize("value", [-1.0, -0.5, 0.0, 0.5, 1.0, None])
def test_small_print_can_be_read_on_every_colour(scale, text, value):
    lighter, darker = sorted((_luminance(text), _luminance(diverging(value, 1.0, scale=scale))), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5


def _luminance(colour: str) -> float:
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
