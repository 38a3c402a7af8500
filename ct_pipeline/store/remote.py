"""Finished artifacts under an fsspec URL (S3, GCS, Azure, a folder), shared by machines; nothing in it is ever changed.

    finished/<stage>/<subject>/<variant>/<fingerprint>/<seal>.json    the manifest: written last, so half an upload is none
    files/<stage>/<subject>/<variant>/<fingerprint>/<seal>/<SHA-256>  the files, named by their content
    damaged/...                                                       manifests of copies that were found damaged

A seal is of one making: machines that make one artifact at once leave two, each whole. What comes from here is a
stranger's until its names, sizes and hashes are checked. Who may write here decides what is found: hashes show damage,
not forgery.
"""

import contextlib
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ct_pipeline.settings.errors import CannotWrite, UserError, printable
from ct_pipeline.store.artifact_store import Address, warn_of_damage
from ct_pipeline.store.kept_manifests import KeptManifests
from ct_pipeline.store.manifest import MANIFEST, Manifest
from ct_pipeline.store.remote_url import without_credentials
from ct_pipeline.store.untrusted import plain_parts

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

T = TypeVar("T")

WAITS = (0.5, 1.0, 2.0, 4.0)
"""Seconds before a failed request is repeated; drivers repeat some by themselves beneath."""
LISTING_SECONDS = 60.0
"""How long a listing is believed: what another machine finishes is seen after so long."""
MOST_FILES = 20_000
MOST_BYTES = 10**12
MANIFEST_BYTES = 64_000_000
DEPTH = 4
_SHA256 = re.compile("[0-9a-f]{64}")
_LASTING = (FileNotFoundError, PermissionError, NotADirectoryError)
_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError", "ClientAuthenticationError")


class RemoteError(CannotWrite):
    """The remote cannot be reached, read or written; finished work is kept on this machine."""


class Remote:
    """The remote under one URL.

    Attributes:
        name: its URL without credentials.
    """

    def __init__(
        self,
        name: str,
        files: "AbstractFileSystem",
        root: str,
        kept: KeptManifests | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """Takes a file system, the folder in it, and what is kept of it here; `sleep` waits between tries."""
        self.name = name
        self._fs = files
        self._root = root.rstrip("/")
        self._kept = kept or KeptManifests(None)
        self._sleep = sleep
        self._listed: dict[Address, dict[str, int]] = {}
        self._listed_at: float | None = None
        self._manifests: dict[tuple[Address, str], Manifest | None] = {}

    def forget(self) -> None:
        """Asks anew for what is there."""
        self._listed_at = None
        self._manifests.clear()

    def makings(self, address: Address) -> tuple[Manifest, ...]:
        """Manifests of the copies of an address, the oldest first: machines that start from nothing choose the same."""
        seals = self._listing().get(address, {})
        if any((address, seal) not in self._manifests for seal in seals):
            self._read_manifests(address)
        found = [manifest for seal in seals if (manifest := self._manifests.get((address, seal)))]
        return tuple(sorted(found, key=lambda manifest: (str(manifest.provenance["finished"]), manifest.seal)))

    def holds(self, address: Address, seal: str) -> bool:
        """Whether a copy is there, by the last listing."""
        return seal in self._listing().get(address, {})

    def addresses(self) -> tuple[Address, ...]:
        """Everything that is there, by the last listing."""
        return tuple(self._listing())

    def upload(self, address: Address, manifest: Manifest, folder: Path) -> None:
        """Copies a finished artifact's files, then its manifest; RemoteError where that fails."""
        place = self._files_of(address, manifest.seal)
        paths = {file.sha256: str(folder / name) for name, file in manifest.files.items()}
        where = [f"{place}/{sha256}" for sha256 in paths]
        self._tried("writing", lambda: self._fs.put(list(paths.values()), where))
        self._tried("writing", lambda: self._write(self._manifest_of(address, manifest.seal), manifest.to_json()))
        self._listed.setdefault(address, {})[manifest.seal] = 0
        self._manifests[address, manifest.seal] = manifest

    def download(self, address: Address, manifest: Manifest, folder: Path) -> None:
        """Copies an artifact into an empty folder, its manifest last; hashes are still to be checked.

        Raises:
            ValueError: files are missing, of another size, or no files.
            RemoteError: the remote cannot be read.
            UserError: the disk has no room for it.
        """
        place = self._files_of(address, manifest.seal)
        sizes = {file.sha256: file.size for file in manifest.files.values()}
        free = shutil.disk_usage(folder).free
        if sum(sizes.values()) > free:
            raise UserError(
                f"{self.name}: {_spelled(address)} has {sum(sizes.values()):,} bytes and the disk of {folder} has {free:,} "
                "free; make room, or set CT_PIPELINE_HOME to another disk"
            )
        self._check_sizes(place, sizes)
        first = {file.sha256: folder / name for name, file in manifest.files.items()}
        for name in manifest.files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)

        def get() -> None:
            lacking = [sha for sha, path in first.items() if not path.exists() or path.stat().st_size != sizes[sha]]
            self._fs.get([f"{place}/{sha256}" for sha256 in lacking], [str(first[sha256]) for sha256 in lacking])

        try:
            self._tried("reading", get)
        except FileNotFoundError:
            raise ValueError("files are missing") from None
        for name, file in manifest.files.items():
            if folder / name != first[file.sha256]:
                shutil.copyfile(first[file.sha256], folder / name)
        (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")

    def set_aside(self, address: Address, seal: str) -> None:
        """Takes a damaged copy out of what counts as finished; where this machine may not write, for itself alone."""
        self._manifests[address, seal] = None
        path = self._manifest_of(address, seal)
        with contextlib.suppress(RemoteError, FileNotFoundError):
            aside = path.replace(f"{self._root}/finished/", f"{self._root}/damaged/", 1)
            self._tried("writing", lambda: self._fs.mv(path, aside))
        self._listed.get(address, {}).pop(seal, None)

    def remove(self, address: Address) -> None:
        """Deletes every copy of an address: manifests first, so that a deletion cut short leaves nothing that counts."""
        seals = self._listing().pop(address, {})
        for place in [self._manifest_of(address, seal) for seal in seals] + [self._place("files", address)]:
            self._delete(place)

    def size(self, address: Address) -> int:
        """Bytes of all copies of an address, half uploads included."""
        return sum(info["size"] or 0 for info in self._found(self._place("files", address)).values())

    def damaged(self) -> frozenset[str]:
        """Names of the copies that were set aside, by whichever machine."""
        top = f"{self._root}/damaged/"
        return frozenset(path.removeprefix(top).removesuffix(".json") for path in self._found(top.rstrip("/")))

    def remove_damaged(self, dry_run: bool) -> int:
        """Deletes what was set aside, and its files unless they were uploaded again; returns the bytes."""
        freed = 0
        for path in self._found(f"{self._root}/damaged"):
            *parts, name = path.removeprefix(f"{self._root}/damaged/").split("/")
            if len(parts) != 4:
                continue
            address, seal = Address(*parts), name.removesuffix(".json")
            for place in (path, *(() if self.holds(address, seal) else (self._files_of(address, seal),))):
                freed += sum(info["size"] or 0 for info in self._found(place).values())
                if not dry_run:
                    self._delete(place)
        return freed

    def check(self) -> None:
        """Writes, lists, reads and deletes a small file; RemoteError where any of that fails."""
        place = f"{self._root}/probe/{time.time_ns()}"
        self._tried("writing", lambda: self._write(place, "probe"))
        if not self._found(place) or self._tried("reading", lambda: self._fs.cat_file(place)) != b"probe":
            raise RemoteError(f"{self.name}: what was written is not read back; check that it is one store for all")
        self._tried("deleting", lambda: self._fs.rm_file(place))

    def _listing(self) -> dict[Address, dict[str, int]]:
        now = time.monotonic()
        if self._listed_at is None or now - self._listed_at > LISTING_SECONDS:
            top = f"{self._root}/finished/"
            listed: dict[Address, dict[str, int]] = {}
            for path, info in self._found(top.rstrip("/")).items():
                parts = path.removeprefix(top).split("/")
                if len(parts) == 5 and parts[-1].endswith(".json") and _is_file(info):
                    listed.setdefault(Address(*parts[:4]), {})[parts[4].removesuffix(".json")] = info["size"] or 0
            self._listed, self._listed_at = listed, now
        return self._listed

    def _read_manifests(self, address: Address) -> None:
        """Reads the manifests of an address with those of its neighbours: requests go side by side."""
        wanted = {
            self._manifest_of(at, seal): (at, seal)
            for at, seals in self._listed.items()
            if (at.stage, at.subject) == (address.stage, address.subject)
            for seal, size in seals.items()
            if (at, seal) not in self._manifests and size <= MANIFEST_BYTES
        }

        for path, place in list(wanted.items()):
            if (known := self._kept.get(place[1])) is not None and _misfit(known, *place) is None:
                self._manifests[place] = known
                del wanted[path]
        away = list(wanted)

        def read() -> dict[str, bytes]:
            results = self._fs.cat_ranges(away, None, None, on_error="return")
            for result in results:
                # One that was deleted since the listing is not there; any other failure does not say that it is not.
                if isinstance(result, Exception) and not isinstance(result, FileNotFoundError):
                    raise result
            return {path: text for path, text in zip(away, results, strict=True) if isinstance(text, bytes)}

        for path, text in (self._tried("reading", read) if away else {}).items():
            address, seal = wanted[path]
            manifest = self._manifests[address, seal] = self._manifest(address, seal, text)
            if manifest is not None:
                self._kept.put(manifest)

    def _manifest(self, address: Address, seal: str, text: bytes) -> Manifest | None:
        try:
            manifest = Manifest.from_json(text.decode())
            fault = _misfit(manifest, address, seal)
        except ValueError as error:
            fault = str(error)
        if fault is None:
            return manifest
        warn_of_damage(f"{self.name}: {_spelled(address)}", fault)
        self.set_aside(address, seal)
        return None

    def _check_sizes(self, place: str, sizes: Mapping[str, int]) -> None:
        found = self._found(place)
        for sha256, size in sizes.items():
            info = found.get(f"{place}/{sha256}")
            if info is None:
                raise ValueError(f"a file is missing ({sha256[:12]})")
            if not _is_file(info) or info["size"] != size:
                raise ValueError(f"a file is no file of {size:,} bytes ({sha256[:12]})")

    def _found(self, place: str) -> dict[str, dict]:
        try:
            return self._tried("listing", lambda: self._fs.find(place, detail=True))
        except FileNotFoundError:
            return {}

    def _delete(self, place: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._tried("deleting", lambda: self._fs.rm(place, recursive=True))

    def _write(self, path: str, text: str) -> None:
        # Object stores show an object when it is whole; a folder shows a file that is half written.
        part = f"{path}.part"
        local = "file" in _protocols(self._fs)
        self._fs.pipe_file(part if local else path, text.encode())
        if local:
            self._fs.mv(part, path)

    def _tried(self, what: str, request: Callable[[], T]) -> T:
        """What a request returns; repeated where it fails, but for what no repetition mends.

        FileNotFoundError is the caller's when reading, listing and deleting.
        """
        for wait in (*WAITS, None):
            try:
                return request()
            except Exception as error:
                if isinstance(error, FileNotFoundError) and what != "writing":
                    raise
                lasting = isinstance(error, _LASTING) or type(error).__name__ in _CREDENTIALS
                if wait is None or lasting:
                    raise RemoteError(self._failure(what, error)) from error
            self._sleep(wait)
        raise AssertionError("unreachable")

    def _failure(self, what: str, error: Exception) -> str:
        told = printable(without_credentials(f"{type(error).__name__}: {error}"))[:300]
        return (
            f"{self.name}: {what} failed ({told}); check the address in CT_PIPELINE_REMOTE, the network and the credentials "
            "that its driver reads from the environment (ct-pipeline doctor tries all three). Finished work is kept on this "
            "machine; the next start, or ct-pipeline sync, uploads it"
        )

    def _place(self, top: str, address: Address) -> str:
        return "/".join((self._root, top, *vars(address).values()))

    def _manifest_of(self, address: Address, seal: str) -> str:
        return f"{self._place('finished', address)}/{seal}.json"

    def _files_of(self, address: Address, seal: str) -> str:
        return f"{self._place('files', address)}/{seal}"


def _misfit(manifest: Manifest, address: Address, seal: str) -> str | None:
    """Why a manifest of a stranger is not accepted; None where it is."""
    if Address(manifest.stage, manifest.subject, manifest.variant, manifest.fingerprint) != address:
        return f"{MANIFEST} belongs to another artifact"
    if manifest.seal != seal:
        return f"{MANIFEST} is not the one of its name"
    if not all(isinstance(each, Mapping) for each in (manifest.inputs, manifest.settings, manifest.record)):
        return f"{MANIFEST} has inputs, settings or a record of another form"
    try:
        told = datetime.fromisoformat(manifest.provenance["finished"]).tzinfo is not None
        told = told and 0 <= float(manifest.provenance["seconds"]) < 1e9
    except (KeyError, TypeError, ValueError, OverflowError):
        told = False
    if not told:
        return f"{MANIFEST} does not say when it was made"
    if not all(isinstance(text, str) for pair in manifest.inputs.items() for text in pair):
        return f"{MANIFEST} has inputs of another form"
    return _files_misfit(manifest)


def _files_misfit(manifest: Manifest) -> str | None:
    if len(manifest.files) > MOST_FILES:
        return f"more than {MOST_FILES:,} files"
    folders = {parent.as_posix() for name in manifest.files for parent in Path(name).parents}
    for name, file in manifest.files.items():
        if not plain_parts(name, DEPTH) or name == MANIFEST or name in folders:
            return f"a file name that does not belong into an artifact: {printable(name)[:200]}"
        if type(file.size) is not int or file.size < 0 or not _SHA256.fullmatch(str(file.sha256)):
            return f"no size and hash of {name}"
    if sum(file.size for file in manifest.files.values()) > MOST_BYTES:
        return f"more than {MOST_BYTES:,} bytes"
    return None


def _is_file(info: Mapping[str, object]) -> bool:
    return info["type"] == "file" and not info.get("islink")


def _protocols(files: "AbstractFileSystem") -> Sequence[str]:
    return (files.protocol,) if isinstance(files.protocol, str) else files.protocol


def _spelled(address: Address) -> str:
    return "/".join(vars(address).values())
