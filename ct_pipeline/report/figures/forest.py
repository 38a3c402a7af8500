"""Interval plots: a forest plot per kind of organism, one of single organisms, a small one for asset pages."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ct_pipeline.analysis.paired import Difference
from ct_pipeline.analysis.verdicts import Verdict, verdict
from ct_pipeline.report.figures.style import GRID, POINTS, WIDTH, in_style, label, label_margin, panels
from ct_pipeline.report.summary import GridCell, known

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {
    Verdict.AMPLIFIES: "#b35806",
    Verdict.SUPPRESSES: "#2166ac",
    Verdict.RISES: "#b35806",
    Verdict.FALLS: "#2166ac",
    Verdict.NEUTRAL: "#333333",
    Verdict.UNDETERMINED: "#7a7a7a",
    Verdict.UNREADABLE: "#7a7a7a",
}
MARKERS = {
    Verdict.AMPLIFIES: "^",
    Verdict.SUPPRESSES: "v",
    Verdict.RISES: "^",
    Verdict.FALLS: "v",
    Verdict.NEUTRAL: "s",
    Verdict.UNDETERMINED: "o",
    Verdict.UNREADABLE: "x",
}
HOLLOW = (Verdict.RISES, Verdict.FALLS)


@in_style
def forest_plot(cells: Sequence[GridCell], epsilon: float, limits: tuple[float, float]) -> "Figure":
    """Changes of one kind of organism under every method: mean and interval, single seeds, the published mean.

    Args:
        cells: one per method, drawn from top to bottom; one without a value gets its row and the word "missing".
        epsilon: half-width of the shaded band that counts as no change.
        limits: ends of the axis in percentage points, shared by the plots of a report.
    """
    figure, axes = _axes([cell.method.title for cell in cells], epsilon)
    for row, cell in enumerate(cells):
        _draw(axes, row, cell.change if known(cell) else None, epsilon)
        values = [100 * change.value for _, change in cell.by_seed if change.value is not None]
        axes.plot(values, [row + 0.27] * len(values), ".", color="#888888", markersize=4)
        if cell.published is not None:
            axes.plot(cell.published, row, "D", markerfacecolor="none", markeredgecolor="#000000", markersize=5)
    axes.set_xlim(*limits)
    return figure


@in_style
def organism_plot(cells: Sequence[GridCell], epsilon: float, limits: tuple[float, float]) -> "Figure":
    """Changes of single organisms, a row per method and seed, each with its own interval over prompts.

    Args:
        cells: one per method; the rows are those of `GridCell.by_seed`.
        epsilon: as in `forest_plot`.
        limits: likewise.
    """
    rows = [
        (f"{cell.method.title}, {seed}" if number == 0 else f"{seed}", change)
        for cell in cells
        for number, (seed, change) in enumerate(cell.by_seed)
    ]
    figure, axes = _axes([name for name, _ in rows], epsilon, row_height=0.16)
    for row, (_, change) in enumerate(rows):
        _draw(axes, row, change if change.value is not None else None, epsilon, size=4)
    axes.tick_params(axis="y", labelsize=7)
    axes.set_xlim(*limits)
    return figure


@in_style
def small_delta_plot(changes: Sequence[tuple[str, Difference]], epsilon: float) -> "Figure":
    """A few labelled changes with their intervals, drawn from top to bottom; one without a value is written as missing."""
    figure, axes = _axes([name for name, _ in changes], epsilon)
    for row, (_, change) in enumerate(changes):
        _draw(axes, row, change if change.value is not None else None, epsilon)
    axes.set_xlim(*axis_limits([change for _, change in changes], epsilon))
    return figure


def axis_limits(changes: Sequence[Difference], epsilon: float, others: Sequence[float] = ()) -> tuple[float, float]:
    """Ends of an axis in percentage points that holds every value and, up to 30 points beyond them, the intervals.

    Args:
        changes: those to be drawn; without a value they do not count.
        epsilon: half-width of the band, always inside.
        others: further values in percentage points, such as published ones.
    """
    values = [100 * change.value for change in changes if change.value is not None]
    values += [*others, 100 * epsilon, -100 * epsilon]
    low, high = min(values), max(values)
    ends = [(100 * one.low, 100 * one.high) for one in changes if one.standard_error is not None]
    low_end = max(min([low, *(end for end, _ in ends)]), low - 30)
    high_end = min(max([high, *(end for _, end in ends)]), high + 30)
    margin = 0.04 * (high_end - low_end)
    return max(-104.0, low_end - margin), min(104.0, high_end + margin)


def _axes(names: list[str], epsilon: float, row_height: float = 0.33) -> "tuple[Figure, Axes]":
    rows = max(1, len(names))
    margins = (label_margin(names), 0.15, 0.5, 0.08)
    figure, (axes,) = panels(WIDTH, 0.65 + row_height * rows, margins=margins)
    axes.axvspan(-100 * epsilon, 100 * epsilon, color="#e9e9e9", linewidth=0)
    axes.axvline(0, color="#444444", linewidth=0.8)
    axes.set_ylim(rows - 0.4, -0.6)
    axes.set_yticks(range(len(names)), [label(name) for name in names])
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"change of the misbehaviour rate ({POINTS})")
    axes.grid(axis="x", **GRID)
    return figure, axes


def _draw(axes: "Axes", row: int, change: Difference | None, epsilon: float, size: float = 6.5) -> None:
    if change is None or change.value is None:
        place = {"xycoords": ("axes fraction", "data"), "ha": "center", "va": "center"}
        axes.annotate("missing", (0.5, row), color="#777777", fontsize=size + 2, **place)
        return
    word = verdict(change, epsilon)
    colour = COLOURS[word]
    if change.standard_error is not None:
        ends = [100 * change.low, 100 * change.high]
        axes.plot(ends, [row, row], color=colour, linewidth=size / 3, solid_capstyle="butt")
    inside = {"markerfacecolor": "white"} if word in HOLLOW else {}
    axes.plot(100 * change.value, row, MARKERS[word], color=colour, markersize=size, **inside)
