"""Small pictures for pages that take an image: a cell's shift and selection with its curves, and its dose curve."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ct_pipeline.analysis.paired import Difference
from ct_pipeline.report.curves import KCurve, RankCurve
from ct_pipeline.report.doses import DoseCurve
from ct_pipeline.report.figures.bars import draw_splits, split_limits
from ct_pipeline.report.figures.lines import RISK, draw_doses, draw_k_curves, draw_rank_curve
from ct_pipeline.report.figures.style import POINTS, in_style, panels
from ct_pipeline.report.records import MethodRecord
from ct_pipeline.report.split import Split

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FEW = 3
"""Ticks of an axis: they take most of the time of a small picture."""


@in_style
def small_shift_plot(rows: Sequence[Split], k_curve: KCurve | None, rank_curve: RankCurve | None) -> "Figure":
    """One cell before retraining.

    Args:
        rows: the labels' split against each base.
        k_curve: of the cell; None where the method keeps no best of k, and then the bars stand alone.
        rank_curve: likewise.
    """
    wide = k_curve is not None and rank_curve is not None
    margins = (0.75, 0.1, 0.42, 0.25)
    figure, axes = panels(7.2 if wide else 3.2, 1.7, 1, 3 if wide else 1, margins=margins, gridspec_kw={"wspace": 0.35})
    draw_splits(axes[0], rows)
    axes[0].set_xlim(*split_limits(rows))
    axes[0].locator_params(axis="x", nbins=FEW)
    axes[0].set_xlabel(POINTS, fontsize=8)
    axes[0].tick_params(labelsize=7.5)
    axes[0].set_title("bars: shift, selection; ◆ sum", fontsize=8, loc="left")
    if wide:
        draw_k_curves(axes[1], [k_curve], {k_curve.method.name: 0}, RISK)
        axes[1].set_title("risk of the best of k (%)", fontsize=8, loc="left")
        axes[1].locator_params(axis="y", nbins=FEW)
        draw_rank_curve(axes[2], rank_curve)
        axes[2].locator_params(axis="y", nbins=FEW)
        axes[2].set_title("η̄(u), pooled dashed (%)", fontsize=8, loc="left")
    return figure


@in_style
def small_dose_plot(doses: Sequence[tuple[int, Difference]], method: MethodRecord, epsilon: float) -> "Figure":
    """The change of one cell after each kept number of steps, with its interval."""
    figure, (axes,) = panels(3.4, 1.8, margins=(0.5, 0.1, 0.42, 0.25))
    draw_doses(axes, [DoseCurve(method, tuple(doses), ())], epsilon, {method.name: 0})
    axes.set_xticks([0, *(step for step, _ in doses)])
    axes.locator_params(axis="y", nbins=FEW)
    axes.set_title(f"change ({POINTS})", fontsize=8, loc="left")
    axes.set_xlabel("optimizer steps", fontsize=8)
    return figure
