"""What a step shows, in Dagster's form."""

import base64
from collections.abc import Mapping
from typing import Any

import dagster as dg

from ct_pipeline.report.figures.style import as_png
from ct_pipeline.steps.shown import File, Picture, Prose, Rows


def as_metadata(shown: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that a step shows as metadata of its materialization."""
    return {name: _value(value) for name, value in shown.items()}


def embedded(png: bytes, text: str) -> dg.MetadataValue:
    """A small picture on an asset's page, with a text for those who do not see it."""
    picture = base64.b64encode(png).decode()
    return dg.MetadataValue.md(f"![{text}](data:image/png;base64,{picture})")


def _value(value: Any) -> Any:
    match value:
        case Rows(rows):
            # Dagster refuses a table without rows.
            records = [dg.TableRecord(dict(row)) for row in rows]
            return dg.MetadataValue.table(records) if records else dg.MetadataValue.text("none")
        case Picture(figure, text):
            return embedded(as_png(figure), text)
        case Prose(text):
            return dg.MetadataValue.md(text)
        case File(path):
            return dg.MetadataValue.path(str(path))
    return value
