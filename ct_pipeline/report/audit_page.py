"""The report of an audit: one self-contained HTML page with the trend over runs, and the card as Markdown and JSON."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ct_pipeline.report.as_html import write_page, write_text
from ct_pipeline.report.audit_card import Card, lead, markdown_card, sections
from ct_pipeline.report.section import Link, Page, Picture, Pictures, Section, Table, Text
from ct_pipeline.report.wording import duration, moment, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_RUNS = 60
"""Runs that a trend shows; older ones stay in their records."""
HEAD = ("Run", "When", "Verdict", "Gate", "Against the run before", "Took")

Run = Mapping[str, object]


def write_audit_report(card: Card, runs: Sequence[Run], folder: Path) -> Path:
    """Writes index.html, card.md and card.json; returns the page, which opens from disk and loads nothing.

    Args:
        card: of the last run that was finished.
        runs: all records of the audit, oldest first.
        folder: made if absent.
    """
    write_text(json.dumps(card, indent=1, sort_keys=True, ensure_ascii=False), folder / "card.json")
    write_text(markdown_card(card), folder / "card.md")
    files = Text((Link("card.md", "card.md"), " · ", Link("card.json", "card.json")))
    page = Page(
        title=f"Audit: {card['name']}",
        kicker=f"Audit · run {card['run']['number']} · {moment(card['run']['time'])}",
        heading=card["name"],
        lead=[*lead(card), files],
        sections=[_runs(card, runs[-MOST_RUNS:]), *sections(card)],
    )
    return write_page(page, folder / "index.html")


def drifted(run: Run) -> bool:
    """Whether a run raised the drift alarm."""
    return bool(run.get("drift", {}).get("raised"))


def _runs(card: Card, runs: Sequence[Run]) -> Section:
    limit = None if card["results"]["labels_only"] else card["thresholds"]["risk"]
    figures = [
        Picture(
            probe,
            partial(_trend, probe, runs, limit),
            f"Risk of {probe} over runs: {'; '.join(_spoken(probe, run) for run in runs)}.",
            None,
        )
        for probe in card["results"]["probes"]
    ]
    return Section("Runs", [Pictures(figures), Table(HEAD, [_row(run) for run in reversed(runs)])])


def _trend(probe: str, runs: Sequence[Run], limit: float | None) -> "Figure":
    # Heavier than all the rest of a run that found nothing to do.
    from ct_pipeline.report.audit_trend import trend_plot

    return trend_plot(probe, runs, limit)


def _spoken(probe: str, run: Run) -> str:
    risks = run.get("probes", {}).get(probe, {}).get("risk", {})
    sides = ", ".join(f"{side} {percent(rate['value'])}" for side, rate in risks.items())
    return f"run {run['number']}: {sides or 'none'}{', drift' if drifted(run) else ''}"


def _row(run: Run) -> tuple[str, ...]:
    if run["status"] == "refused":
        why = "; ".join(f"{each['where']}: {each['what']}" for each in run["refusals"][:3])
        return str(run["number"]), moment(run["time"]), "refused", "", why, duration(run["seconds"])
    drift = "drift: " if drifted(run) else ""
    return (
        str(run["number"]),
        moment(run["time"]),
        run["overall"] or "",
        run["gate"] or "not applicable",
        drift + " ".join(run["drift"]["sentences"]),
        f"{duration(run['seconds'])}{', all reused' if run['reused'] else ''}",
    )
