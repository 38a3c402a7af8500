"""Planted effects recovered, as a reader sees them: a section, a table for the terminal, and numbers."""

from collections.abc import Sequence

import pandas as pd

from ct_pipeline.analysis.planted import REQUIRED_SHARE, SHARE_CONFIDENCE, Recovered
from ct_pipeline.analysis.verdicts import Verdict
from ct_pipeline.report.section import Section, Table, Text
from ct_pipeline.report.wording import MISSING, absent, percent, points

HEAD = (
    "World",
    "Organism",
    "Method",
    "Quantity",
    "Planted",
    "Right runs",
    "Share, at least",
    "Verdicts of single runs",
    "Mean over seeds",
    "Grows with k",
    "Recovered",
)


def planted_cells(row: Recovered) -> tuple[str, ...]:
    """The texts of one row, in the order of HEAD."""
    return (
        row.world,
        row.kind.replace("_", " "),
        row.method.replace("_", " "),
        row.quantity,
        row.planted,
        _of(row.right, row),
        percent(row.share_low, 0),
        _verdicts(row),
        MISSING if absent(row.mean) else f"{points(row.mean)} [{points(row.low)} to {points(row.high)}]",
        MISSING if row.growing is None else _of(row.growing, row),
        "yes" if row.recovered else "NO",
    )


def planted_sentence(rows: Sequence[Recovered]) -> str:
    """How many planted effects were recovered, and what that means."""
    recovered = sum(row.recovered for row in rows)
    return (
        f"{recovered} of {len(rows)} planted effects were recovered: at least {percent(REQUIRED_SHARE, 0)} of single runs "
        "gave the verdict that is known beforehand (where none is planted: no sign), and where a selection effect is "
        "planted it grew with every doubling of k in as many. Changes are in domain at T = 1 and, like selection on the "
        f"labels, in percentage points; the share has an exact lower bound at {percent(SHARE_CONFIDENCE, 0)}."
    )


def planted_section(rows: Sequence[Recovered]) -> Section | None:
    """Which planted effects were recovered; None where nothing is planted."""
    if not rows:
        return None
    known = f"The world of this study was made so that the answer is known beforehand. {planted_sentence(rows)}"
    table = Table(HEAD, [planted_cells(row) for row in rows])
    return Section("Planted effects recovered", [Text(known), table], "planted", "Planted")


def planted_table(rows: Sequence[Recovered]) -> pd.DataFrame:
    """One row per planted effect in numbers; shares, means and their bounds are rates; missing ones are null."""
    return pd.DataFrame(
        [
            {
                "world": row.world,
                "kind": row.kind,
                "method": row.method,
                "quantity": row.quantity,
                "planted": row.planted,
                "recovered": row.recovered,
                "runs": row.runs,
                "missing": row.missing,
                "right": row.right,
                "share": row.share,
                "share_low": row.share_low,
                **{str(word): row.verdicts[word] for word in Verdict},
                "mean": row.mean,
                "low": None if absent(row.mean) else row.low,
                "high": None if absent(row.mean) else row.high,
                "growing": row.growing,
            }
            for row in rows
        ]
    ).astype({"growing": "Int64", **dict.fromkeys(("share", "share_low", "mean", "low", "high"), float)})


def _of(count: int, row: Recovered) -> str:
    return f"{count} of {row.runs + row.missing}"


def _verdicts(row: Recovered) -> str:
    counts = [f"{row.verdicts[word]} {word}" for word in Verdict if row.verdicts[word]]
    return ", ".join([*counts, *([f"{row.missing} missing"] if row.missing else [])]) or MISSING
