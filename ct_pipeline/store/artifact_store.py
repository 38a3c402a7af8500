"""Finished work on disk: stage/subject/variant/fingerprint/, made whole or not at all, checked by hash before use.

An artifact is complete when its manifest is there, belongs to its address, names the inputs as they are now, and every
file, the manifest included, still has its hash. Whatever is not complete is made again; a damaged one is set aside with
a warning first. With a remote (store/remote.py), finished artifacts are copied there, and what is not on this machine is
found there: by its manifest alone, its files follow when somebody opens them.
"""

import contextlib
import errno
import json
import os
import shutil
import socket
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

import pandas

from ct_pipeline.store import provenance
from ct_pipeline.store.disk import disk_errors, link_equal_files
from ct_pipeline.store.manifest import MANIFEST, Manifest, hash_file

HOST = socket.gethostname()


class DamagedArtifact(UserWarning):
    """A finished artifact no longer has the content that its manifest names."""


@dataclass(frozen=True)
class Address:
    """Where an artifact lies; `variant` is the method, the draw, or "-"."""

    stage: str
    subject: str
    variant: str
    fingerprint: str


@dataclass(frozen=True)
class Artifact:
    """A complete artifact: verified, or found in the remote by its manifest and verified when its files are opened.

    Attributes:
        place: where its files lie, or will lie once they are fetched.
        fetch: brings them there; None where they are.
    """

    place: Path
    manifest: Manifest
    fetch: Callable[[], None] | None = field(default=None, repr=False, compare=False)

    @property
    def folder(self) -> Path:
        """Where its files are; fetched first where only the remote has them. UserError where those are damaged."""
        if self.fetch is not None:
            self.fetch()
        return self.place

    @property
    def digest(self) -> str:
        """Content digest; what another artifact records when it reads this one."""
        return self.manifest.digest

    @property
    def record(self) -> Mapping[str, object]:
        """What was measured while it was made."""
        return self.manifest.record

    @property
    def finished(self) -> datetime:
        """When it was finished, UTC."""
        return datetime.fromisoformat(self.manifest.provenance["finished"])

    @property
    def seconds(self) -> float:
        """How long its making took."""
        return float(self.manifest.provenance["seconds"])

    @property
    def started(self) -> datetime:
        """When its making began, UTC."""
        return self.finished - timedelta(seconds=self.seconds)

    def table(self, name: str) -> pandas.DataFrame:
        """The Parquet table `name`.parquet."""
        return pandas.read_parquet(self.folder / f"{name}.parquet")

    def json(self, name: str) -> dict:
        """The JSON document `name`.json."""
        return json.loads((self.folder / f"{name}.json").read_text())


@dataclass
class ArtifactWriter:
    """An artifact being made: write files into `folder`, measurements into `record`."""

    folder: Path
    record: dict[str, object] = field(default_factory=dict)

    def note_external(self, name: str, path: Path | str) -> None:
        """Records a file, or each file of a folder, that no artifact is: path as given, size in bytes, SHA-256.

        Such an input enters the fingerprint by its content, in the settings; here it is noted for its lineage alone.
        """
        given = Path(path)
        files = sorted(each for each in given.rglob("*") if each.is_file()) if given.is_dir() else [given]
        noted = self.record.setdefault("external", {})
        for each in files:
            within = f"/{each.relative_to(given).as_posix()}" if given.is_dir() else ""
            noted[f"{name}{within}"] = {"path": str(each), **vars(hash_file(each))}

    def write_table(self, name: str, table: pandas.DataFrame) -> None:
        """Writes `name`.parquet; equal tables give equal bytes."""
        table.to_parquet(self.folder / f"{name}.parquet", index=False, compression="zstd")

    def write_json(self, name: str, document: object) -> None:
        """Writes `name`.json with sorted keys."""
        (self.folder / f"{name}.json").write_text(json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False))


class Sharing(Protocol):
    """How a store shares what is finished with other machines (store/sharing.py)."""

    def find(self, store: "ArtifactStore", address: Address, inputs: Mapping[str, str] | None) -> Artifact | None:
        """What other machines finished under an address, from these inputs or, with None, from any."""
        ...

    def upload(self, address: Address, manifest: Manifest, folder: Path) -> None:
        """Offers an artifact that was just finished in a folder to other machines."""
        ...


class ArtifactStore:
    """The store under one folder; safe for several processes, because a finished folder appears by one rename."""

    def __init__(self, root: Path, sharing: Sharing | None = None) -> None:
        """Takes the folder, and how it is shared with other machines; `sharing.open_store` looks that up."""
        self.root = root.absolute()
        self.sharing = sharing
        self._verified: dict[Path, tuple[tuple, Manifest]] = {}

    def folder(self, address: Address) -> Path:
        """Where the artifact of an address lies or will lie."""
        return self.root / address.stage / address.subject / address.variant / address.fingerprint

    def find(self, address: Address, inputs: Mapping[str, str]) -> Artifact | None:
        """The complete artifact of an address, or None; a damaged one is warned of and moved to `damaged/`.

        `inputs` are the digests of its inputs as they are now: one made from other content is not complete.
        """
        artifact = self.here(address)
        if artifact is not None and dict(artifact.manifest.inputs) == dict(inputs):
            return artifact
        return self.sharing and self.sharing.find(self, address, inputs)

    def read(self, address: Address) -> Artifact | None:
        """The verified artifact of an address whatever its inputs, or None."""
        return self.here(address) or (self.sharing and self.sharing.find(self, address, None))

    def fetched(self, address: Address) -> Path:
        """Where the files of an artifact lie, fetched first where only the remote has them."""
        folder = self.folder(address)
        if self.sharing is not None and not folder.exists() and (artifact := self.read(address)) is not None:
            return artifact.folder
        return folder

    def here(self, address: Address) -> Artifact | None:
        """The verified artifact of an address that lies on this machine, or None."""
        folder = self.folder(address)
        while (seen := _identity(folder)) is not None:
            try:
                return Artifact(folder, self._verify(folder, address))
            except (ValueError, OSError) as damage:
                # Another folder by now: a remade artifact was just put in its place, and that one is looked at instead.
                if _identity(folder) == seen:
                    self._set_aside(folder, str(damage))
        return None

    @contextlib.contextmanager
    def write(
        self, address: Address, settings: Mapping[str, object], inputs: Mapping[str, str]
    ) -> Iterator[ArtifactWriter]:
        """Makes an artifact: files go into a temporary folder, the manifest last, then the folder is renamed.

        Nothing appears under the address when the body raises. CannotWrite where the disk is full or read-only.
        """
        folder = self.folder(address)
        workplace = self._workplace()
        with disk_errors(self.root):
            workplace.mkdir(parents=True)
        draft = ArtifactWriter(workplace)
        started = provenance.clock()
        try:
            with disk_errors(self.root):
                yield draft
                paths = sorted(path for path in workplace.rglob("*") if path.is_file())
                files = {path.relative_to(workplace).as_posix(): hash_file(path) for path in paths}
                link_equal_files(workplace, files)
                manifest = Manifest(
                    stage=address.stage,
                    subject=address.subject,
                    variant=address.variant,
                    fingerprint=address.fingerprint,
                    settings=settings,
                    inputs=dict(inputs),
                    files=files,
                    record=draft.record,
                    provenance=provenance.describe(started),
                )
                _write_synced(workplace / MANIFEST, manifest.to_json())
                folder.parent.mkdir(parents=True, exist_ok=True)
                self._move_into_place(workplace, folder)
        finally:
            shutil.rmtree(workplace, ignore_errors=True)
        if self.sharing is not None:
            self.sharing.upload(address, manifest, folder)

    def prepare(self) -> None:
        """Clears what killed processes left half made; CannotWrite where the store cannot be written."""
        with disk_errors(self.root):
            partial = self.root / ".partial"
            partial.mkdir(parents=True, exist_ok=True)
            for left in partial.iterdir():
                host, owner, _ = left.name.rsplit("-", 2) if left.name.count("-") > 1 else (HOST, "", "")
                # Another machine's processes are not to be seen from here.
                if host == HOST and not (owner.isdigit() and Path(f"/proc/{owner}").exists()):
                    shutil.rmtree(left, ignore_errors=True)
            probe = self._workplace()
            probe.mkdir()
            (probe / "probe").write_bytes(b"\0" * 4096)
            shutil.rmtree(probe)

    def take_in(self, address: Address, fill: Callable[[Path], None]) -> None:
        """Puts an artifact that `fill` copies into a folder in its place; ValueError where it is not whole."""
        folder, workplace = self.folder(address), self._workplace()
        try:
            with disk_errors(self.root):
                workplace.mkdir(parents=True)
                fill(workplace)
                _, faults = inspect(workplace, address)
                if faults:
                    raise ValueError(faults[0])
                folder.parent.mkdir(parents=True, exist_ok=True)
                self._move_into_place(workplace, folder)
        finally:
            shutil.rmtree(workplace, ignore_errors=True)

    def _workplace(self) -> Path:
        """A name that no other process on any machine has; it says who may be asked whether it is still in use."""
        return self.root / ".partial" / f"{HOST}-{os.getpid()}-{uuid.uuid4().hex}"

    def _verify(self, folder: Path, address: Address) -> Manifest:
        stamp = tuple(
            (path.as_posix(), path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(folder.rglob("*"))
        )
        if folder in self._verified and self._verified[folder][0] == stamp:
            return self._verified[folder][1]
        manifest, faults = inspect(folder, address)
        if manifest is None or faults:
            raise ValueError(faults[0])
        self._verified[folder] = (stamp, manifest)
        return manifest

    def _set_aside(self, folder: Path, why: str) -> None:
        name = folder.relative_to(self.root).as_posix().replace("/", "--")
        aside = self.root / "damaged" / f"{name}-{uuid.uuid4().hex[:8]}"
        with disk_errors(self.root):
            aside.parent.mkdir(parents=True, exist_ok=True)
            # Another process that saw the damage, too, may have been faster.
            with contextlib.suppress(FileNotFoundError):
                os.rename(folder, aside)
                warn_of_damage(str(folder), why)

    def _move_into_place(self, made: Path, folder: Path) -> None:
        """Renames a finished folder to its address; an older one is renamed away first, so no reader sees half of it.

        Processes that make the same artifact at once each find it in place afterwards; the last one's stays.
        """
        while True:
            try:
                os.rename(made, folder)
                return
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            old = self._workplace()
            with contextlib.suppress(FileNotFoundError):
                os.rename(folder, old)
            shutil.rmtree(old, ignore_errors=True)


def warn_of_damage(what: str, why: str) -> None:
    """Says that an artifact, or a copy of one, was found damaged."""
    warnings.warn(f"damaged artifact {what}: {why}; set aside and made again", DamagedArtifact, stacklevel=5)


def inspect(folder: Path, address: Address) -> tuple[Manifest | None, tuple[str, ...]]:
    """The manifest that lies in a folder, None where there is none to read, and all that is wrong there.

    Every file is read and hashed; nothing is moved or remembered.
    """
    try:
        manifest = Manifest.from_json((folder / MANIFEST).read_text())
    except FileNotFoundError:
        return None, (f"{MANIFEST} is missing",)
    except ValueError as error:
        return None, (f"{MANIFEST} is unreadable ({error})",)
    faults = []
    if Address(manifest.stage, manifest.subject, manifest.variant, manifest.fingerprint) != address:
        faults.append(f"{MANIFEST} belongs to another artifact")
    present = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {MANIFEST}
    if present != set(manifest.files):
        faults.append(f"its files are not those of its manifest: {sorted(present ^ set(manifest.files))}")
    faults += [
        f"{name} was changed or truncated after it was written"
        for name, expected in manifest.files.items()
        if name in present and hash_file(folder / name) != expected
    ]
    return manifest, tuple(faults)


def _identity(folder: Path) -> int | None:
    try:
        return folder.stat().st_ino
    except (FileNotFoundError, NotADirectoryError):
        return None


def _write_synced(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
