"""Curves: risk and selection along k, risk along the score's rank, change along the steps of retraining."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ct_pipeline.report.curves import KCurve, RankCurve
from ct_pipeline.report.doses import DoseCurve
from ct_pipeline.report.figures.style import GRID, POINTS, WIDTH, in_style, label, look, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RISK, SELECTION = 1, 2
"""Places in a point of a k-curve."""
LEGEND = {"frameon": False, "fontsize": 8, "handlelength": 1.6, "columnspacing": 1.2}


def curve_numbers(groups: Iterable[Sequence[KCurve]]) -> dict[str, int]:
    """Each method with a curve to the number of its colour and marker: the same in every plot of a report."""
    names = dict.fromkeys(curve.method.name for curves in groups for curve in curves)
    return {name: number for number, name in enumerate(names)}


@in_style
def k_plot(curves: Sequence[KCurve], numbers: Mapping[str, int]) -> "Figure":
    """Risk of the labels and selection against k: thick means over seeds, thin single seeds, a mark at each method's own k.

    Args:
        curves: one per method.
        numbers: a method's name to the number of its colour and marker, shared by the plots of a report.
    """
    rows = (len(curves) + 1) // 2
    height = 2.35 + 0.2 * rows
    figure, axes = panels(
        WIDTH, height, 1, 2, margins=(0.5, 0.12, 0.55 + 0.2 * rows, 0.25), gridspec_kw={"wspace": 0.3}
    )
    for place, column, title in zip(
        axes, (RISK, SELECTION), ("risk of the labels (%)", f"selection ({POINTS})"), strict=True
    ):
        draw_k_curves(place, curves, numbers, column)
        place.set_title(title, fontsize=8.5, loc="left")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="lower left", ncols=2, **LEGEND)
    return figure


@in_style
def small_k_plots(groups: Sequence[tuple[str, Sequence[KCurve]]], numbers: Mapping[str, int]) -> "Figure":
    """Selection against k for several kinds of organism in one small picture."""
    figure, axes = panels(8.0, 2.6, 1, len(groups), margins=(0.5, 0.1, 0.8, 0.3), sharey=True)
    for place, (title, curves) in zip(axes, groups, strict=True):
        draw_k_curves(place, curves, numbers, SELECTION)
        place.set_title(label(title), fontsize=8, loc="left")
    axes[0].set_ylabel(f"selection ({POINTS})", fontsize=8)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="lower left", ncols=4, **LEGEND)
    return figure


def draw_k_curves(axes: "Axes", curves: Sequence[KCurve], numbers: Mapping[str, int], column: int) -> None:
    """One number of some curves along k: RISK or SELECTION; a mark at each method's own k."""
    for curve in curves:
        style = look(numbers[curve.method.name])
        for seed in curve.seeds:
            points = [(one[0], 100 * one[column]) for one in seed]
            axes.plot(*zip(*points, strict=True), color=style["color"], linewidth=0.5, alpha=0.55)
        ks, values = [one[0] for one in curve.mean], [100 * one[column] for one in curve.mean]
        own = [place for place, k in enumerate(ks) if k == curve.method.k]
        axes.plot(ks, values, linewidth=1.7, markevery=own, markersize=5.5, label=label(curve.method.title), **style)
    last = max((point[0] for curve in curves for point in curve.mean), default=1)
    step = 2 if last < 10 else 4
    axes.set_xticks(sorted({1, *range(step, last + 1, step)}))
    axes.set_xlabel("k", fontsize=8, labelpad=1)
    axes.tick_params(labelsize=7.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(**GRID)


@in_style
def rank_plot(curves: Sequence[RankCurve]) -> "Figure":
    """η̄(u) with its band and the pooled η(s) dashed beside it, a panel per method."""
    columns = 2 if len(curves) in (1, 2, 4) else 3
    rows = -(-len(curves) // columns)
    how = {"sharex": True, "sharey": True, "gridspec_kw": {"wspace": 0.12, "hspace": 0.28}}
    figure, axes = panels(WIDTH, 0.85 + 1.25 * rows, rows, columns, margins=(0.5, 0.1, 0.62, 0.22), **how)
    for number, (place, curve) in enumerate(zip(axes, curves, strict=False)):
        draw_rank_curve(place, curve)
        place.set_title(label(curve.method.title) + (" (!)" if curve.warnings else ""), fontsize=7.5, loc="left")
        if number % columns == 0:
            place.set_ylabel("risk (%)", fontsize=8)
        if number + columns >= len(curves):
            place.tick_params(labelbottom=True)
    for place in axes[len(curves) :]:
        place.set_visible(False)
    figure.text(0.5, 0.27 / figure.get_figheight(), "rank of the score, 0 worst, 1 best", ha="center", fontsize=8)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="lower center", ncols=2, borderaxespad=0.1, **LEGEND)
    return figure


def draw_rank_curve(axes: "Axes", curve: RankCurve) -> None:
    """One method's η̄(u), its band, and the pooled η(s)."""
    known = [(u, term) for u, term in curve.within if term.value is not None]
    ranks = [u for u, _ in known]
    low, high = ([100 * end for end in ends] for ends in zip(*((t.low, t.high) for _, t in known), strict=True))
    axes.fill_between(ranks, low, high, color="#0072b2", alpha=0.2, linewidth=0)
    risks = [100 * term.value for _, term in known]
    axes.plot(ranks, risks, color="#0072b2", linewidth=1.6, label="η̄(u), rank within the prompt")
    if curve.pooled:
        points = [(u, 100 * risk) for u, risk in curve.pooled]
        axes.plot(*zip(*points, strict=True), color="#d55e00", linewidth=1.2, linestyle="--", label="η(s), pooled")
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0", "½", "1"])
    axes.tick_params(labelsize=7.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(**GRID)


@in_style
def dose_plot(
    groups: Sequence[tuple[str, Sequence[DoseCurve]]], epsilon: float, numbers: Mapping[str, int]
) -> "Figure":
    """Change against optimizer steps, a panel per kind of organism: means over seeds with intervals, thin single seeds."""
    columns = min(2, len(groups))
    rows = -(-len(groups) // columns)
    how = {"sharey": True, "gridspec_kw": {"wspace": 0.12, "hspace": 0.45}}
    figure, axes = panels(WIDTH, 0.9 + 1.55 * rows, rows, columns, margins=(0.6, 0.12, 0.72, 0.25), **how)
    for number, (place, (title, curves)) in enumerate(zip(axes, groups, strict=False)):
        draw_doses(place, curves, epsilon, numbers)
        place.set_title(label(title), fontsize=8.5, loc="left")
        if number % columns == 0:
            place.set_ylabel("change (points)", fontsize=8)
    for place in axes[len(groups) :]:
        place.set_visible(False)
    figure.text(0.5, 0.3 / figure.get_figheight(), "optimizer steps", ha="center", fontsize=8)
    handles = {name: handle for place in axes for handle, name in zip(*place.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="lower center", ncols=4, borderaxespad=0.1, **LEGEND)
    return figure


def draw_doses(axes: "Axes", curves: Sequence[DoseCurve], epsilon: float, numbers: Mapping[str, int]) -> None:
    """The curves of one kind of organism; every one begins at no change after no step."""
    axes.axhspan(-100 * epsilon, 100 * epsilon, color="#e9e9e9", linewidth=0)
    axes.axhline(0, color="#444444", linewidth=0.8)
    last = max((step for curve in curves for step, _ in curve.mean), default=0)
    for place, curve in enumerate(curves):
        style = look(numbers[curve.method.name])
        aside = 0.012 * last * (2 * place - len(curves) + 1)
        for seed in curve.seeds:
            points = [(0, 0.0), *((step, 100 * change) for step, change in seed)]
            axes.plot(*zip(*points, strict=True), color=style["color"], linewidth=0.6, alpha=0.6)
        known = [(step, change) for step, change in curve.mean if change.value is not None]
        points = [(0, 0.0), *((step, 100 * change.value) for step, change in known)]
        axes.plot(*zip(*points, strict=True), linewidth=1.8, markersize=3.5, label=label(curve.method.title), **style)
        for step, change in known:
            if change.standard_error is not None:
                axes.plot([step + aside] * 2, [100 * change.low, 100 * change.high], color=style["color"], linewidth=1)
    axes.tick_params(labelsize=7.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(**GRID)
