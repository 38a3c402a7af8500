"""The report of an audit: one self-contained HTML page with the trend over runs, and the card as Markdown and JSON."""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup

from ct_pipeline.report.audit_card import Card, markdown_card, sections, sentences
from ct_pipeline.report.wording import duration, moment, percent, visible

TEMPLATES = Path(__file__).parent / "templates"
MOST_RUNS = 60
"""Runs that a trend shows; older ones stay in their records."""

Run = Mapping[str, object]


def write_audit_report(card: Card, runs: Sequence[Run], folder: Path) -> Path:
    """Writes index.html, card.md and card.json; returns the page, which opens from disk and loads nothing.

    Args:
        card: of the last run that was finished.
        runs: all records of the audit, oldest first.
        folder: made if absent.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "card.json", json.dumps(card, indent=1, sort_keys=True, ensure_ascii=False))
    _write(folder / "card.md", markdown_card(card))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: visible(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = runs[-MOST_RUNS:]
    page = environment.get_template("audit.html.j2").render(
        card=card,
        css=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
        sentences=list(sentences(card)),
        sections=list(sections(card)),
        figures=_figures(card, shown),
        rows=[_row(run) for run in reversed(shown)],
        time=moment(card["run"]["time"]),
        longest=lambda text: max(map(len, text.split()), default=0),
    )
    _write(folder / "index.html", page)
    return folder / "index.html"


def _figures(card: Card, runs: Sequence[Run]) -> list[dict[str, str]]:
    # Heavier than all the rest of a run that found nothing to do.
    from ct_pipeline.report.audit_trend import trend_plot
    from ct_pipeline.report.figures.style import as_svg

    limit = None if card["results"]["labels_only"] else card["thresholds"]["risk"]
    figures = []
    for probe in card["results"]["probes"]:
        svg = as_svg(trend_plot(probe, runs, limit))
        figures.append(
            {
                "caption": probe,
                "address": "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode("ascii"),
                "alt": f"Risk of {probe} over runs: {'; '.join(_spoken(probe, run) for run in runs)}.",
            }
        )
    return figures


def _spoken(probe: str, run: Run) -> str:
    risks = run.get("probes", {}).get(probe, {}).get("risk", {})
    told = ", ".join(f"{side} {percent(rate['value'])}" for side, rate in risks.items())
    return f"run {run['number']}: {told or 'none'}{', drift' if drifted(run) else ''}"


def drifted(run: Run) -> bool:
    """Whether a run raised the drift alarm."""
    return bool(run.get("drift", {}).get("raised"))


def _row(run: Run) -> tuple[str, ...]:
    if run["status"] == "refused":
        told = "; ".join(f"{each['where']}: {each['what']}" for each in run["refusals"][:3])
        return str(run["number"]), moment(run["time"]), "refused", "", told, duration(run["seconds"])
    drift = "drift: " if drifted(run) else ""
    return (
        str(run["number"]),
        moment(run["time"]),
        run["overall"] or "",
        run["gate"] or "not applicable",
        drift + " ".join(run["drift"]["sentences"]),
        f"{duration(run['seconds'])}{', all reused' if run['reused'] else ''}",
    )


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
