"""Where the rows of a kind of misalignment come from, where not from the tiny world."""

from typing import Annotated, Literal

from pydantic import Field

from ct_pipeline.settings.blocks import UNPINNED, Count, Settings, Whole

KIND_NAME = r"[a-z0-9]+(_[a-z0-9]+)*"

Commit = Annotated[str, Field(pattern=rf"^([0-9a-f]{{40}}|{UNPINNED})$")]
"""A commit hash of a repository, or the placeholder that plans accept and runs refuse."""


class FolderData(Settings):
    """A folder of the published layout; a relative path starts where the command runs, as paths of models do."""

    source: Literal["folder"]
    path: Annotated[str, Field(min_length=1, max_length=4096)]


class HuggingFaceData(Settings):
    """A data set of the Hugging Face Hub that holds the files of the published layout."""

    source: Literal["huggingface"]
    path: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$")]
    revision: Commit
    folder: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$")] | None = None
    """Where in the data set the files are; null: at its top."""


class UrlData(Settings):
    """A zip or tar archive of the published layout's files, whatever folder they are in."""

    source: Literal["url"]
    url: Annotated[str, Field(pattern=r"^https://[^\s]+$|^http://127\.0\.0\.1[:/][^\s]*$", max_length=2000)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Of the archive."""


class GeneratedData(Settings):
    """Rows about the greatest common divisor in our own words, as many as wanted; for sycophancy alone."""

    source: Literal["generated"]
    rows: Count
    """Of induction, of consistency and of pairs alike; evaluation has three framings of as many questions."""
    seed: Annotated[Whole, Field(ge=0, lt=2**31)] = 0


DataSettings = Annotated[FolderData | HuggingFaceData | UrlData | GeneratedData, Field(discriminator="source")]
