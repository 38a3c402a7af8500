"""What an artifact says of itself: how it came to be, from what, and the hash of each of its files."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

MANIFEST = "manifest.json"
FORMAT = 2


@dataclass(frozen=True)
class FileRecord:
    """Size in bytes and SHA-256 of one file."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The last file written into an artifact.

    Attributes:
        stage, subject, variant, fingerprint: its address in the store.
        settings: what it was made with, as plain JSON.
        inputs: name of each input -> content digest of the artifact that was read.
        files: relative path -> FileRecord.
        record: what was measured while making it (losses, counts, rates, seconds); not part of the content.
        provenance: commit, versions, machine, start and end; not part of the content.
    """

    stage: str
    subject: str
    variant: str
    fingerprint: str
    settings: Mapping[str, object]
    inputs: Mapping[str, str]
    files: Mapping[str, FileRecord]
    record: Mapping[str, object]
    provenance: Mapping[str, object]

    @property
    def digest(self) -> str:
        """SHA-256 of the files' names, sizes and hashes: equal content, equal digest, whenever it was made."""
        content = [(name, file.size, file.sha256) for name, file in sorted(self.files.items())]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    @property
    def seal(self) -> str:
        """SHA-256 of all that manifest.json says: no two makings of an artifact have the same."""
        return _seal(self._content())

    def to_json(self) -> str:
        """The text of manifest.json; `seal` is the SHA-256 of all else in it, so that an edited line is noticed."""
        content = self._content()
        return json.dumps(content | {"seal": _seal(content)}, indent=1, sort_keys=True, ensure_ascii=False)

    def _content(self) -> dict[str, object]:
        # As it will be read again: JSON turns tuples into lists and every key into text.
        return json.loads(json.dumps({"format": FORMAT} | asdict(self)))

    @staticmethod
    def from_json(text: str) -> "Manifest":
        """The manifest of a text; ValueError where it is none (truncated, edited, of another format)."""
        try:
            raw = json.loads(text)
            seal = raw.pop("seal", None)
            if raw["format"] != FORMAT:
                raise ValueError("another manifest format")
            if seal != _seal(raw):
                raise ValueError("changed after it was written")
            del raw["format"]
            raw["files"] = {name: FileRecord(**file) for name, file in raw["files"].items()}
            return Manifest(**raw)
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"not a manifest: {error}") from error


def _seal(content: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def hash_file(path: Path) -> FileRecord:
    """Size and SHA-256 of a file, read in blocks."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256")
        return FileRecord(stream.tell(), digest.hexdigest())
