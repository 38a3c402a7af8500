"""Manifests of a remote, kept on this machine so that a new process need not fetch them again."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from ct_pipeline.store.manifest import Manifest


@dataclass(frozen=True)
class KeptManifests:
    """Files named by the seal of what they hold: never out of date, and checked when they are read.

    Attributes:
        folder: where they lie; None keeps nothing.
    """

    folder: Path | None

    def get(self, seal: str) -> Manifest | None:
        """The manifest of a seal, or None where it is not kept whole."""
        with contextlib.suppress(OSError, ValueError):
            if self.folder is not None and seal.isalnum():
                manifest = Manifest.from_json((self.folder / f"{seal}.json").read_text(encoding="utf-8"))
                return manifest if manifest.seal == seal else None
        return None

    def put(self, manifest: Manifest) -> None:
        """Keeps an accepted manifest; a disk that refuses is no fault, because it is only fetched again."""
        if self.folder is None:
            return
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            part = self.folder / f".{os.getpid()}-{manifest.seal}"
            part.write_text(manifest.to_json(), encoding="utf-8")
            part.replace(self.folder / f"{manifest.seal}.json")
