"""Outcomes of answers in words, the same in reports, cards, tables and metadata."""

from ct_pipeline.analysis.outcomes import SHARES, OutcomeChange, Outcomes
from ct_pipeline.report.wording import MISSING, percent, points

NOT_CORRECTED = "suppressed, not corrected"
HEADS = {
    "right": "Right",
    "open": "Behaves (no right answer known)",
    "wrong": "Wrong",
    "misbehaves": "Misbehaves",
    "unreadable": "Unreadable",
}
_SAID = {"open": "behaves"}
_INK = dict(zip(SHARES, "█▓▒▲·", strict=True))
BAR = 40
"""Characters of a bar."""


def said(shares: Outcomes) -> str:
    """Outcomes in words, those that occur."""
    parts = [(_SAID.get(name, name), getattr(shares, name)) for name in SHARES]
    return ", ".join(f"{name} {percent(share, 0)}" for name, share in parts if share) or MISSING


def moved(outcomes: OutcomeChange) -> str:
    """Right and wrong answers before and after: "right 44.1 % → 33.9 %, wrong 12.0 % → 60.1 %"."""
    sides = outcomes.before, outcomes.after
    names = ("right", "wrong") if outcomes.right.value is not None else ("open",)
    return ", ".join(
        f"{_SAID.get(name, name)} {' → '.join(percent(getattr(side, name)) for side in sides)}" for name in names
    )


def worst_case(outcomes: OutcomeChange) -> str:
    """What the missing verdicts leave open, where their share differs between the sides; else ""."""
    if not outcomes.missing_differs:
        return ""
    sides = " → ".join(percent(side.unreadable) for side in (outcomes.before, outcomes.after))
    return (
        f"no verdict: {sides}; whatever the missing ones are, the change is between {points(outcomes.worst_low)} and "
        f"{points(outcomes.worst_high)}"
    )


def bar(shares: Outcomes) -> str:
    """Outcomes as a line of characters: █ right, ▓ behaves, ▒ wrong, ▲ misbehaves, · unreadable."""
    if shares.right is None:
        return MISSING
    drawn, ended, total = "", 0, 0.0
    for name in SHARES:
        total += getattr(shares, name)
        drawn += _INK[name] * (round(BAR * total) - ended)
        ended = round(BAR * total)
    return drawn
