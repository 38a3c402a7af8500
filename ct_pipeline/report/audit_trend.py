"""A probe's risk over the runs of an audit, with the runs that raised the drift alarm marked."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ct_pipeline.report.figures.style import GRID, WIDTH, in_style, panels, whole_numbers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOOKS = {
    "before": {"color": "#777777", "marker": "s", "markerfacecolor": "white"},
    "after": {"color": "#0072b2", "marker": "o"},
}


@in_style
def trend_plot(probe: str, runs: Sequence[Mapping[str, object]], limit: float | None) -> "Figure":
    """Risk before and after with intervals, one place per run; a line marks drift, a cross a refused run.

    Args:
        probe: whose risk.
        runs: records, oldest first; a run without the probe leaves a gap.
        limit: the highest risk that the gate allows; None draws no line.
    """
    figure, (axes,) = panels(WIDTH, 2.4, margins=(0.55, 0.15, 0.5, 0.25))
    for side, look in LOOKS.items():
        known = [(run["number"], rate) for run in runs if (rate := _rate(run, probe, side)) is not None]
        if known:
            places = [number for number, _ in known]
            values = [100 * rate["value"] for _, rate in known]
            spans = [
                [100 * (rate["value"] - rate["low"]) for _, rate in known],
                [100 * (rate["high"] - rate["value"]) for _, rate in known],
            ]
            axes.errorbar(places, values, yerr=spans, capsize=2, linewidth=1, markersize=5, label=side, **look)
    for name, marked, style in (
        ("drift", [run["number"] for run in runs if run.get("drift", {}).get("raised")], ":"),
        ("refused", [run["number"] for run in runs if run["status"] == "refused"], "-"),
    ):
        for place, number in enumerate(marked):
            axes.axvline(number, color="#b2182b", linestyle=style, linewidth=1.2, label=name if not place else None)
    if limit is not None:
        axes.axhline(100 * limit, color="#111111", linestyle="--", linewidth=0.9, label="allowed")
    axes.set_ylim(-3, 103)
    numbers = [run["number"] for run in runs] or [1]
    axes.set_xlim(min(numbers) - 0.5, max(numbers) + 0.5)
    whole_numbers(axes.xaxis)
    axes.grid(axis="y", **GRID)
    axes.set_xlabel("run")
    axes.set_ylabel("risk (%)")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2, ncols=5, frameon=False, fontsize=8)
    return figure


def _rate(run: Mapping[str, object], probe: str, side: str) -> Mapping[str, float] | None:
    rate = run.get("probes", {}).get(probe, {}).get("risk", {}).get(side)
    return None if rate is None or rate["value"] is None else rate
