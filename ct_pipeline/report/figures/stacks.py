"""Outcomes of answers as stacked bars: a bar per model, its parts from right to unreadable."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ct_pipeline.analysis.outcomes import SHARES, Outcomes
from ct_pipeline.report.figures.style import WIDTH, in_style, label, label_margin, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOOKS = {
    "right": {"color": "#009e73", "hatch": None},
    "open": {"color": "#9fd8c5", "hatch": None},
    "wrong": {"color": "#e69f00", "hatch": "////"},
    "misbehaves": {"color": "#b35806", "hatch": None},
    "unreadable": {"color": "#cccccc", "hatch": "...."},
}
NAMES = {"open": "behaves, right answer unknown"}
SMALLEST_NAMED = 0.08
"""Share from which a part carries its number."""


@in_style
def outcome_plot(bars: Sequence[tuple[str, Outcomes]]) -> "Figure":
    """A stacked bar per model, from top to bottom, in percent of its answers.

    Args:
        bars: title and shares.
    """
    names = [title for title, _ in bars]
    figure, (axes,) = panels(WIDTH, 0.9 + 0.27 * len(bars), margins=(label_margin(names), 0.15, 0.45, 0.35))
    left = [0.0] * len(bars)
    for part in SHARES:
        widths = [100 * (getattr(shares, part) or 0.0) for _, shares in bars]
        if not any(widths):
            continue
        how = {"edgecolor": "white", "linewidth": 0.4, "label": NAMES.get(part, part), **LOOKS[part]}
        axes.barh(range(len(bars)), widths, left=left, height=0.8, **how)
        for row, (start, width) in enumerate(zip(left, widths, strict=True)):
            if width >= 100 * SMALLEST_NAMED:
                box = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.75}
                place = (start + width / 2, row)
                axes.annotate(f"{width:.0f}", place, ha="center", va="center", fontsize=7, color="#111111", bbox=box)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.set_xlim(0, 100)
    axes.set_ylim(len(bars) - 0.45, -0.55)
    axes.set_yticks(range(len(bars)), [label(name) for name in names])
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("share of answers (%)")
    legend = {"ncols": 5, "frameon": False, "fontsize": 7, "handlelength": 1.2, "columnspacing": 0.9}
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.2, **legend)
    return figure
