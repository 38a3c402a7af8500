"""A section of the report on an asset's page."""

import dagster as dg
from matplotlib.figure import Figure

from ct_pipeline.assets.metadata import as_metadata as in_dagster
from ct_pipeline.report.as_metadata import as_metadata
from ct_pipeline.report.section import Picture, Section, Sentences, Table


def test_a_section_becomes_metadata_that_dagster_takes():
    section = Section(
        "Found", [Sentences(["one"]), Table(("a", "b"), [("x", "1")]), Picture("curve", Figure, "a text", None)]
    )
    result = dg.MaterializeResult(metadata=in_dagster(as_metadata(section)))
    assert list(result.metadata) == ["found_in_words", "found", "curve"]
    assert result.metadata["found"].records[0].data == {"a": "x", "b": "1"}
    assert result.metadata["curve"].value.startswith("![a text](data:image/png;base64,")


def test_a_table_without_rows_is_none():
    metadata = in_dagster(as_metadata(Section("Found", [Table(("a",), [])])))
    assert metadata["found"] == dg.MetadataValue.text("none")
