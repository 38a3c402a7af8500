"""Disks that refuse to be written: said in a sentence."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from ct_pipeline.study.errors import CannotWrite


@contextlib.contextmanager
def disk_errors(root: Path) -> Iterator[None]:
    """Turns the operating system's refusals to write into a sentence that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            text = "the disk is full; free some space and run again: finished work is kept"
            raise CannotWrite(f"{root}: {text}") from error
        if _concerns(error, root) and error.errno in (
            errno.EROFS,
            errno.EACCES,
            errno.EPERM,
            errno.ENOTDIR,
            errno.EEXIST,
        ):
            text = f"cannot be written ({error.strerror}); set CT_PIPELINE_HOME to a folder that can be"
            raise CannotWrite(f"{root}: {text}") from error
        raise


def _concerns(error: OSError, root: Path) -> bool:
    """Whether an error names a path of the store, or one that leads to it: the body of `write` may fail elsewhere."""
    if not isinstance(error.filename, (str, os.PathLike)):
        return False
    path = Path(error.filename).absolute()
    return path.is_relative_to(root) or root.is_relative_to(path)
