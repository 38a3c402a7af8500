"""Observed against predicted changes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ct_pipeline.report.figures.style import GRID, POINTS, WIDTH, in_style, label, look, panels
from ct_pipeline.report.records import MAIN_VIEW, CellRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@in_style
def prediction_plot(cells: Sequence[CellRecord], slope: float | None) -> "Figure":
    """Observed against predicted change, one mark per cell, a colour and a shape per kind of organism.

    Args:
        cells: with a prediction and a change.
        slope: λ, drawn as the line observed = λ·predicted; None draws none.
    """
    figure, (axes,) = panels(WIDTH, 4.4, margins=(0.62, 0.15, 0.5, 0.45))
    for line in (axes.axhline, axes.axvline):
        line(0, color="#444444", linewidth=0.8)
    for number, kind in enumerate(dict.fromkeys(cell.kind for cell in cells)):
        pairs = [
            (100 * cell.shift.prediction.value, 100 * cell.differences[MAIN_VIEW].value)
            for cell in cells
            if cell.kind == kind and cell.shift.prediction.value is not None
        ]
        if pairs:
            name = label(kind.replace("_", " "))
            axes.plot(*zip(*pairs, strict=True), linestyle="none", markersize=4.5, label=name, **look(number))
    if slope is not None:
        axes.axline((0, 0), slope=slope, color="#111111", linewidth=1, linestyle="--")
    axes.set_xlabel(f"predicted from the labels ({POINTS})")
    axes.set_ylabel(f"observed after retraining ({POINTS})")
    axes.grid(**GRID)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2)
    return figure
