"""One process at a time, by a lock file."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ct_pipeline.store.disk import disk_errors


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Waits for another process that holds the same lock."""
    with disk_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("w")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
