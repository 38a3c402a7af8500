"""Interval plots: a forest plot per kind of organism, a small one for asset pages; same input, same bytes."""

import io
from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ct_pipeline.analysis.paired import Difference
from ct_pipeline.analysis.verdicts import Verdict, verdict
from ct_pipeline.report.records import MAIN_VIEW, CellRecord
from ct_pipeline.report.summary import GridCell, known
from ct_pipeline.report.wording import visible

STYLE = {
    "svg.hashsalt": "ct_pipeline",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": "#666666",
    "xtick.color": "#333333",
    "ytick.color": "#111111",
}
COLOURS = {
    Verdict.AMPLIFIES: "#b35806",
    Verdict.SUPPRESSES: "#2166ac",
    Verdict.NEUTRAL: "#333333",
    Verdict.UNDETERMINED: "#7a7a7a",
}
KIND_COLOURS = ("#1b6ca8", "#b35806", "#4d7c0f", "#7b3294", "#111111", "#8c510a")
KIND_MARKERS = ("o", "s", "^", "D", "v", "P")
"""A kind of organism has a colour and a shape, so that either tells it."""
MARKERS = {Verdict.AMPLIFIES: "^", Verdict.SUPPRESSES: "v", Verdict.NEUTRAL: "s", Verdict.UNDETERMINED: "o"}


def forest_plot(cells: Sequence[GridCell], epsilon: float, limits: tuple[float, float]) -> str:
    """Changes of one kind of organism under every method: mean and interval, single seeds, the published mean.

    Args:
        cells: one per method, drawn from top to bottom; one without a value gets its row and the word "missing".
        epsilon: half-width of the shaded band that counts as no change.
        limits: ends of the axis in percentage points, shared by the plots of a report.

    Returns:
        An SVG document without dates or random identifiers.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes(len(cells), width=4.9, epsilon=epsilon)
        for row, cell in enumerate(cells):
            _draw(axes, row, cell.change if known(cell) else None, epsilon)
            for _, change in cell.by_seed:
                if change.value is not None:
                    axes.plot(100 * change.value, row + 0.27, ".", color="#888888", markersize=4)
            if cell.published is not None:
                axes.plot(cell.published, row, "D", markerfacecolor="none", markeredgecolor="#000000", markersize=5)
        axes.set_yticks(range(len(cells)), [_label(cell.method.title) for cell in cells])
        axes.set_xlim(*limits)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue().decode("utf-8")


def foretold_plot(cells: Sequence[CellRecord], slope: float | None) -> str:
    """Observed against predicted change, one mark per cell, a colour per kind of organism; the line is observed = λ·predicted.

    Args:
        cells: with a prediction and a change.
        slope: λ; None draws no line.

    Returns:
        An SVG document without dates or random identifiers.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 4.4), layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for line in (axes.axhline, axes.axvline):
            line(0, color="#444444", linewidth=0.8)
        for number, kind in enumerate(dict.fromkeys(cell.kind for cell in cells)):
            pairs = [
                (100 * cell.shift.prediction.value, 100 * cell.differences[MAIN_VIEW].value)
                for cell in cells
                if cell.kind == kind and cell.shift.prediction.value is not None
            ]
            if pairs:
                look = {
                    "color": KIND_COLOURS[number % len(KIND_COLOURS)],
                    "marker": KIND_MARKERS[number % len(KIND_MARKERS)],
                }
                name = _label(kind.replace("_", " "))
                axes.plot(*zip(*pairs, strict=True), linestyle="none", markersize=4.5, label=name, **look)
        if slope is not None:
            axes.axline((0, 0), slope=slope, color="#111111", linewidth=1, linestyle="--")
        axes.set_xlabel("predicted from the labels (percentage points)")
        axes.set_ylabel("observed after retraining (percentage points)")
        axes.grid(color="#dddddd", linewidth=0.5)
        axes.set_axisbelow(True)
        axes.legend(frameon=False, fontsize=8)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue().decode("utf-8")


def small_delta_plot(changes: Sequence[tuple[str, Difference]], epsilon: float) -> bytes:
    """A few labelled changes with their intervals, for a page that takes an image.

    Args:
        changes: label and change, drawn from top to bottom; a change without a value is written as missing.
        epsilon: half-width of the shaded band that counts as no change.

    Returns:
        A PNG below 60 kB for up to 20 rows.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes(len(changes), width=4.6, epsilon=epsilon)
        for row, (_, change) in enumerate(changes):
            _draw(axes, row, change if change.value is not None else None, epsilon)
        axes.set_yticks(range(len(changes)), [_label(label) for label, _ in changes])
        axes.set_xlim(*axis_limits([change for _, change in changes], epsilon))
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


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


def _label(text: str) -> str:
    """Foreign text as it is: no mathematics between dollar signs."""
    return visible(text).replace("$", r"\$")


def _axes(rows: int, width: float, epsilon: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, 0.75 + 0.36 * max(1, rows)), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.axvspan(-100 * epsilon, 100 * epsilon, color="#e9e9e9", linewidth=0)
    axes.axvline(0, color="#444444", linewidth=0.8)
    axes.set_ylim(max(1, rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("change of the misbehaviour rate (percentage points)")
    axes.grid(axis="x", color="#dddddd", linewidth=0.5)
    axes.set_axisbelow(True)
    return figure, axes


def _draw(axes: Axes, row: int, change: Difference | None, epsilon: float) -> None:
    if change is None or change.value is None:
        place = {"xycoords": ("axes fraction", "data"), "ha": "center", "va": "center"}
        axes.annotate("missing", (0.5, row), color="#777777", **place)
        return
    word = verdict(change, epsilon)
    colour = COLOURS[word]
    if change.standard_error is not None:
        axes.plot([100 * change.low, 100 * change.high], [row, row], color=colour, linewidth=2.2, solid_capstyle="butt")
    axes.plot(100 * change.value, row, MARKERS[word], color=colour, markersize=6.5)
