"""SHA-256 of files; that of a large file is remembered until somebody writes to it, so that a re-audit costs seconds."""

import functools
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from ct_pipeline.settings.environment import home
from ct_pipeline.settings.errors import UserError
from ct_pipeline.store.disk import disk_errors
from ct_pipeline.store.manifest import hash_file
from ct_pipeline.store.untrusted import files_of

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


def digest_of_folder(role: str, folder: Path, names: Sequence[str] | None = None) -> str:
    """The digest of a model folder's files, by name and content; `names` are those that count, None: all.

    Raises:
        UserError: it holds none of them; `role` says what the folder is to whoever named it.
        Refused: it holds links that lead out of it.
    """
    listing = files_of(folder)
    found = [name for name in names or sorted(listing.files) if name in listing.files]
    if not found:
        allowed = " and ".join(names) if names else "a model folder in the Hugging Face layout"
        raise UserError(f"{role}: {folder} holds none of the files of a model; allowed: {allowed}")
    content = [(name, digest_of(folder / name)) for name in found]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def digest_seen(role: str, path: Path) -> str:
    """The digest of a file or a model folder; one that looks as it did is not read again in this process.

    Raises:
        UserError: it cannot be read; `role` says what it is.
    """
    try:
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        states = tuple((str(each), each.stat().st_size, each.stat().st_mtime_ns) for each in files)
        return _digest_seen(role, path, states)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: the file of {role} cannot be read") from error


@functools.lru_cache(maxsize=256)
def _digest_seen(role: str, path: Path, states: tuple[tuple[str, int, int], ...]) -> str:
    return digest_of_folder(role, path) if path.is_dir() else digest_of(path)


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
