"""What a step's page shows beside plain numbers and words; whoever shows it turns it into its own form."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ct_pipeline.report.as_metadata import Picture as Picture
from ct_pipeline.report.as_metadata import Prose, Rows
from ct_pipeline.report.wording import points


@dataclass(frozen=True)
class File:
    """A file's or folder's place on disk."""

    path: Path


def rows(found: Iterable[Mapping[str, Any]]) -> Rows:
    """Rows as a table."""
    return Rows(tuple(found))


def listed(sentences: Iterable[str]) -> Prose:
    """Sentences as a list."""
    return Prose("\n".join(f"- {each}" for each in sentences))


def numbers(values: Mapping[str, float | None]) -> dict[str, float]:
    """Numbers that are plotted over time; a missing one is left out, not drawn as 0."""
    return {name: float(value) for name, value in values.items() if value is not None}


def in_points(change: Mapping[str, float | None] | None) -> str:
    """A change in percentage points with its interval; "none" where it is missing."""
    if change is None or change["value"] is None:
        return "none"
    return f"{points(change['value'])} [{points(change['low'])}, {points(change['high'])}]"


def cut_of_batch(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """How a training run cut its effective batch; nothing where an older artifact does not say."""
    names = ("micro_batch", "accumulation", "processes", "out_of_memory")
    return {name: record[name] for name in names if record.get(name) not in (None, [])}
