"""A change taken apart: a bar per part, a mark with its interval for their sum."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ct_pipeline.report.figures.style import GRID, POINTS, WIDTH, in_style, label, label_margin, panels
from ct_pipeline.report.split import Split

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PART_LOOKS = {
    "drift": {"color": "#999999", "hatch": None},
    "shift": {"color": "#0072b2", "hatch": None},
    "selection": {"color": "#e69f00", "hatch": "////"},
}
LEGEND = {"ncols": 4, "frameon": False, "fontsize": 8, "handlelength": 1.3, "columnspacing": 1.2}


@in_style
def split_plot(rows: Sequence[Split], limits: tuple[float, float]) -> "Figure":
    """Parts and sum of every method of one kind of organism, from top to bottom.

    Args:
        rows: one per method, all with the same parts.
        limits: ends of the axis in percentage points.
    """
    names = [row.method.title for row in rows]
    height = 0.9 + 0.42 * len(rows)
    figure, (axes,) = panels(WIDTH, height, margins=(label_margin(names), 0.15, 0.5, 0.32))
    draw_splits(axes, rows)
    axes.set_xlim(*limits)
    axes.set_xlabel(f"change of the misbehaviour rate ({POINTS})")
    axes.legend(*_legend(axes), loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2, **LEGEND)
    return figure


@in_style
def small_split_plots(groups: Sequence[tuple[str, Sequence[Split]]], limits: tuple[float, float]) -> "Figure":
    """Several kinds of organism in one small picture, two in a row."""
    lines = (len(groups) + 1) // 2
    names = [row.method.title for row in groups[0][1]]
    tallest = max(len(rows) for _, rows in groups)
    height = lines * (0.3 + 0.2 * tallest) + 0.7
    margins = (label_margin(names), 0.1, 0.45, 0.5)
    figure, axes = panels(8.0, height, lines, 2, margins=margins, sharex=True)
    for place, (title, rows) in zip(axes, groups, strict=False):
        draw_splits(place, rows)
        place.set_title(label(title), loc="left")
        place.tick_params(labelsize=7)
        place.set_xlim(*limits)
    for place in axes[1::2]:
        place.tick_params(axis="y", labelleft=False)
    for place in axes[len(groups) :]:
        place.set_visible(False)
    for place in axes[-2:]:
        place.set_xlabel(POINTS, fontsize=8)
    figure.legend(*_legend(axes[0]), loc="upper left", **LEGEND)
    return figure


def draw_splits(axes: "Axes", rows: Sequence[Split]) -> None:
    """Bars of every part around each row's middle, the sum as a diamond with its interval."""
    parts = list(rows[0].parts) if rows else []
    thickness = 0.72 / max(1, len(parts))
    for number, name in enumerate(parts):
        known = [(row, one.parts[name].value) for row, one in enumerate(rows) if one.parts[name].value is not None]
        places = [row + (number - (len(parts) - 1) / 2) * thickness for row, _ in known]
        how = {"edgecolor": "white", "linewidth": 0.3, "label": name, **PART_LOOKS[name]}
        axes.barh(places, [100 * value for _, value in known], height=0.9 * thickness, **how)
    for row, one in enumerate(rows):
        if one.total.value is None:
            where = {"xycoords": ("axes fraction", "data"), "ha": "right", "va": "center"}
            axes.annotate("missing" if one.seeds else "no arms", (0.99, row), color="#777777", fontsize=8, **where)
            continue
        if one.total.standard_error is not None:
            axes.plot([100 * one.total.low, 100 * one.total.high], [row, row], color="#111111", linewidth=1.1)
        axes.plot(
            100 * one.total.value,
            row,
            "D",
            color="#111111",
            markersize=4,
            linestyle="none",
            label="sum" if row == 0 else "_",
        )
    axes.axvline(0, color="#444444", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [label(one.method.title) for one in rows])
    axes.set_ylim(len(rows) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", **GRID)


def _legend(axes: "Axes") -> tuple[list[object], list[str]]:
    """The parts in their order, then the sum."""
    found = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    names = [name for name in (*PART_LOOKS, "sum") if name in found]
    return [found[name] for name in names], names


def split_limits(rows: Sequence[Split]) -> tuple[float, float]:
    """Ends of an axis in percentage points that holds every part, every sum and the sums' intervals."""
    values = [0.0]
    for row in rows:
        values += [100 * part.value for part in row.parts.values() if part.value is not None]
        if row.total.value is not None:
            values.append(100 * row.total.value)
        if row.total.standard_error is not None:
            values += [100 * row.total.low, 100 * row.total.high]
    margin = 0.04 * (max(values) - min(values)) or 1.0
    return max(-104.0, min(values) - margin), min(104.0, max(values) + margin)
