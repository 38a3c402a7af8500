"""SHA-256 of files; that of a large file is remembered until somebody writes to it, so that a re-audit costs seconds."""

import json
import os
from pathlib import Path

from ct_pipeline.store.disk import disk_errors
from ct_pipeline.store.manifest import hash_file
from ct_pipeline.study.environment import home

LARGE = 50_000_000
"""Bytes from which on a digest is remembered; hashing so many takes about 0.1 s."""
MOST = 2_000
"""Digests that are kept, the last used."""


def digest_of(path: Path) -> str:
    """The SHA-256 of a file.

    A large file is hashed again when its size, its identity or the time of its last change differs: the kernel sets that time
    and no program can.
    """
    state = path.stat()
    if state.st_size < LARGE:
        return hash_file(path).sha256
    key = f"{path.resolve()}:{state.st_dev}:{state.st_ino}:{state.st_size}:{state.st_mtime_ns}:{state.st_ctime_ns}"
    known = _known()
    found = known.pop(key, None) or hash_file(path).sha256
    _keep(known | {key: found})
    return found


def _file() -> Path:
    return home() / "audits" / "digests.json"


def _known() -> dict[str, str]:
    try:
        known = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    fits = isinstance(known, dict) and all(isinstance(value, str) and len(value) == 64 for value in known.values())
    return known if fits else {}


def _keep(known: dict[str, str]) -> None:
    path = _file()
    with disk_errors(home()):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".digests-{os.getpid()}")
        draft.write_text(json.dumps(dict(list(known.items())[-MOST:]), indent=0), encoding="utf-8")
        os.replace(draft, path)
