"""How every figure looks and is written: fonts, colours that colour-blind readers tell apart, same input, same bytes."""

import io
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec

from ct_pipeline.report.wording import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

P = ParamSpec("P")

STYLE = {
    "svg.hashsalt": "ct_pipeline",
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": "#666666",
    "axes.titlesize": 9,
    "axes.axisbelow": True,
    "xtick.color": "#333333",
    "ytick.color": "#111111",
}
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8c6d00", "#56b4e9", "#111111", "#7b3294")
"""Okabe and Ito's colours, the two palest replaced by darker ones; a series has a marker of its own, too."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
GRID = {"color": "#dddddd", "linewidth": 0.5}
POINTS = "percentage points"
WIDTH = 4.9
"""Inches; what a column of the report holds."""


def look(number: int) -> dict[str, str]:
    """Colour and marker of the series of a number."""
    return {"color": SERIES[number % len(SERIES)], "marker": MARKERS[number % len(MARKERS)]}


def label(text: str) -> str:
    """Foreign text as it is: no mathematics between dollar signs."""
    return visible(text).replace("$", r"\$")


def in_style(build: "Callable[P, Figure]") -> "Callable[P, Figure]":
    """A function that draws a figure, in the style of all figures; matplotlib is imported when the first is drawn."""

    @wraps(build)
    def styled(*args: P.args, **kwargs: P.kwargs) -> "Figure":
        import matplotlib

        with matplotlib.rc_context(STYLE):
            return build(*args, **kwargs)

    return styled


def panels(
    width: float, height: float, rows: int = 1, columns: int = 1, *, margins: tuple[float, float, float, float], **how
) -> "tuple[Figure, list[Axes]]":
    """A figure of equal panels.

    Args:
        width, height: of the figure, in inches.
        rows, columns: of panels.
        margins: left, right, bottom, top of all panels together, in inches; nothing is laid out by trial, which would take
            longer than the drawing.
        how: passed on to `Figure.subplots`.

    Returns:
        The figure and its axes, row by row.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    left, right, bottom, top = margins
    figure.subplots_adjust(left / width, bottom / height, 1 - right / width, 1 - top / height)
    axes = figure.subplots(rows, columns, squeeze=False, **how)
    return figure, list(axes.flat)


def whole_numbers(axis: "Axis") -> None:
    """Ticks at whole numbers alone."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True))


def label_margin(labels: list[str]) -> float:
    """Inches that the longest of some labels takes at the left of an axis, within limits."""
    return min(2.4, 0.2 + 0.068 * max((len(text) for text in labels), default=0))


def as_svg(figure: "Figure") -> str:
    """The figure as an SVG document without dates or random identifiers."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue().decode("utf-8")


def as_png(figure: "Figure", dpi: float = 80) -> bytes:
    """The figure as a small picture for a page that takes no SVG."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()
