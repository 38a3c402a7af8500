"""Disks: their refusals to be written, said in a sentence; equal files stored once."""

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from ct_pipeline.settings.errors import CannotWrite
from ct_pipeline.store.manifest import FileRecord

LINKED_FROM = 4096
"""Bytes from which equal files are linked: smaller ones cost a block at most."""


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


def link_equal_files(folder: Path, files: Mapping[str, FileRecord]) -> int:
    """Stores files of equal content once, by hard links, and returns the bytes freed; 0 where the disk has no links.

    The adapter of the last epoch is the adapter at the end: one file, two names. `files` are names in the folder.
    """
    first: dict[FileRecord, Path] = {}
    freed = 0
    for name, content in sorted(files.items()):
        path, kept = folder / name, first.setdefault(content, folder / name)
        if content.size < LINKED_FROM or path.samefile(kept):
            continue
        link = path.with_name(f".{uuid.uuid4().hex}")
        with contextlib.suppress(OSError):
            os.link(kept, link)
            os.replace(link, path)
            freed += content.size
    return freed


def _concerns(error: OSError, root: Path) -> bool:
    """Whether an error names a path of the store, or one that leads to it: the body of `write` may fail elsewhere."""
    if not isinstance(error.filename, (str, os.PathLike)):
        return False
    path = Path(error.filename).absolute()
    return path.is_relative_to(root) or root.is_relative_to(path)
