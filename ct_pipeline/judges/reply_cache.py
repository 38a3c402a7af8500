"""Replies on disk, one file each: whole or not there, whoever writes at the same time."""

import contextlib
import hashlib
import os
import uuid
from pathlib import Path

from ct_pipeline.judges.wire import LARGEST_REPLY, BrokenReply, Reply, restored, stored
from ct_pipeline.settings.errors import Refused
from ct_pipeline.store.disk import disk_errors
from ct_pipeline.store.locks import locked
from ct_pipeline.store.untrusted import read_file


class ReplyCache:
    """A folder of replies by the hash of what was asked; prompts and keys are not in it.

    Safe for several processes: a file is written beside its place and renamed, and one process at a time asks a server.
    """

    def __init__(self, folder: Path) -> None:
        """Takes a folder; it is made when the first reply is kept."""
        self.folder = folder

    def find(self, key: str) -> Reply | None:
        """The reply that was kept under a key; None where there is none, or a damaged one, which is then asked again."""
        path = self._path(key)
        if not path.exists():
            return None
        try:
            return restored(read_file(path, 2 * LARGEST_REPLY))
        except (Refused, BrokenReply):
            return None

    def keep(self, key: str, reply: Reply) -> None:
        """Keeps a reply; CannotWrite where the disk is full or the folder is read-only."""
        path = self._path(key)
        with disk_errors(self.folder):
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_name(f".{key}.{uuid.uuid4().hex}")
            try:
                draft.write_bytes(stored(reply))
                os.replace(draft, path)
            finally:
                draft.unlink(missing_ok=True)

    def alone(self, address: str) -> contextlib.AbstractContextManager[None]:
        """Keeps other processes from asking at an address meanwhile."""
        return locked(self.folder / f".lock-{hashlib.sha256(address.encode()).hexdigest()[:16]}")

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"
