"""Where the files of a data set are: a folder, the Hugging Face Hub at a commit, or an archive behind a URL with a hash."""

import hashlib
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from ct_pipeline.settings.blocks import UNPINNED
from ct_pipeline.settings.data import FolderData, HuggingFaceData, UrlData
from ct_pipeline.settings.errors import UserError, printable
from ct_pipeline.store.manifest import hash_file
from ct_pipeline.store.untrusted import LIMITS

LARGEST_ARCHIVE = 1_000_000_000
MOST_MEMBERS = 100_000
SECONDS = 60
_BLOCK = 1 << 20


def folder_of(settings: FolderData | HuggingFaceData | UrlData, names: Sequence[str], kept: Path) -> Path:
    """The folder in which a data set's files are, fetched first where they are elsewhere.

    Args:
        settings: where the data set is.
        names: the files that are wanted of it; others are left where they are.
        kept: where what an archive held is kept, by its hash.

    Raises:
        UserError: nothing is there, a revision is still to be pinned, or an archive is not the one that was pinned.
    """
    if isinstance(settings, FolderData):
        folder = Path(settings.path)
        if not folder.is_dir():
            raise UserError(f"{printable(settings.path)}: no such folder; it should hold {', '.join(names[:6])}")
        return folder
    return _from_hub(settings, names) if isinstance(settings, HuggingFaceData) else _from_url(settings, names, kept)


def file_of(url: str, sha256: str, kept: Path) -> Path:
    """The single file behind a URL, kept under its hash; UserError where it is another or cannot be fetched."""
    place = kept / f"{sha256}{Path(urlsplit(url).path).suffix}"
    if place.is_file() and hash_file(place).sha256 == sha256:
        return place
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept) as folder:
        fetched = Path(folder) / "file"
        digest = _download(url, fetched)
        if digest != sha256:
            raise UserError(f"{url}: found sha256 {digest}; allowed: {sha256}, which the study pins")
        fetched.replace(place)
    return place


def _from_hub(settings: HuggingFaceData, names: Sequence[str]) -> Path:
    if settings.revision == UNPINNED:
        raise UserError(f"data set {settings.path}: pin a revision: put the commit's hash in place of {UNPINNED}")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    inside = settings.folder or ""
    patterns = [f"{inside}/{name}" if inside else name for name in names]
    try:
        found = snapshot_download(
            settings.path, repo_type="dataset", revision=settings.revision, allow_patterns=patterns
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"data set {settings.path} at {settings.revision} cannot be fetched: {printable(error)}"
        ) from error
    return Path(found) / inside


def _from_url(settings: UrlData, names: Sequence[str], kept: Path) -> Path:
    place = kept / settings.sha256
    if place.is_dir():
        return place
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept) as folder:
        archive, files = Path(folder) / "archive", Path(folder) / "files"
        digest = _download(settings.url, archive)
        if digest != settings.sha256:
            raise UserError(f"{settings.url}: found sha256 {digest}; allowed: {settings.sha256}, which the study pins")
        files.mkdir()
        _unpack(archive, settings.url, frozenset(names), files)
        try:
            files.rename(place)
        except OSError:
            # Another process was faster; what it kept has the same hash.
            if not place.is_dir():
                raise
    return place


def _download(url: str, archive: Path) -> str:
    """Writes what is at a URL to a file; returns its SHA-256 in hex."""
    from urllib.error import URLError
    from urllib.request import urlopen

    digest, size = hashlib.sha256(), 0
    try:
        with urlopen(url, timeout=SECONDS) as answer, archive.open("wb") as out:
            while block := answer.read(_BLOCK):
                size += len(block)
                if size > LARGEST_ARCHIVE:
                    raise UserError(f"{url}: found more than {LARGEST_ARCHIVE:,} bytes; allowed: an archive of fewer")
                digest.update(block)
                out.write(block)
    except (URLError, OSError) as error:
        raise UserError(f"{url} cannot be fetched: {printable(error)}") from error
    return digest.hexdigest()


def _unpack(archive: Path, url: str, names: frozenset[str], files: Path) -> None:
    """Writes the wanted members of an archive, by their bare names; the paths that it gives them are not used."""
    seen: set[str] = set()
    try:
        for number, (path, size, opened) in enumerate(_members(archive)):
            name = path.rpartition("/")[2]
            if number >= MOST_MEMBERS:
                raise UserError(f"{url}: found more than {MOST_MEMBERS:,} members; allowed: fewer")
            if name not in names:
                continue
            if name in seen:
                raise UserError(f"{url}: found {name} twice; allowed: one data set per archive")
            if size > LIMITS.size:
                raise UserError(f"{url}: found {name} of {size:,} bytes; allowed: at most {LIMITS.size:,}")
            seen.add(name)
            with opened() as source, (files / name).open("wb") as out:
                shutil.copyfileobj(source, out)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, RuntimeError) as error:
        raise UserError(f"{url}: neither a zip nor a tar archive that can be read: {printable(error)}") from error


def _members(archive: Path) -> Iterator[tuple[str, int, Callable[[], IO[bytes]]]]:
    """Path, size and opener of every regular file; the size is what an archive says, and no more is read of it."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            for member in opened.infolist():
                if not member.is_dir():
                    yield member.filename, member.file_size, lambda member=member: opened.open(member)
        return
    with tarfile.open(archive) as opened:
        for member in opened:
            if member.isreg():
                yield member.name, member.size, lambda member=member: opened.extractfile(member)
