"""Lock files: one process at a time; the lock of a process that was killed is gone."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ct_pipeline.settings.errors import CannotWrite
from ct_pipeline.store.disk import disk_errors

WITHOUT_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


class Taken(Exception):
    """Another process holds a lock that was not to be waited for."""


@contextlib.contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[None]:
    """Holds a lock file, made with its folder where it is absent, while the body runs; the file stays.

    Raises:
        CannotWrite: the folder cannot be written, or its file system has no locks.
        Taken: another process holds it and `wait` is false.
    """
    # Lock files of strangers' making, as soft locks are, would outlive a process that was killed.
    lock = FileLock(path, timeout=-1 if wait else 0, fallback_to_soft=False)
    with disk_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            raise Taken(str(path)) from None
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise
            raise CannotWrite(
                f"{path.parent}: its file system has no file locks ({error.strerror}), without which two processes spoil each "
                "other's work; set CT_PIPELINE_HOME to a folder on a local disk, or mount this one with locks (NFS: no "
                "nolock; Lustre: flock)"
            ) from None
    try:
        yield
    finally:
        lock.release()
