"""What an artifact was made from, up to the first inputs, as it lies on disk now; nothing is moved and no cache believed.

A manifest names the content of its inputs, not their places. Its fingerprint is a hash of stage, settings and the
inputs' fingerprints, so that the artifacts which were read can be told from others of equal content, and from content
that was put in their place later.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Literal

from ct_pipeline.settings.fingerprint import fingerprint
from ct_pipeline.store.artifact_store import Address, inspect
from ct_pipeline.store.manifest import MANIFEST, FileRecord, Manifest, hash_file

State = Literal["ok", "missing", "damaged", "other content"]

HIGHEST_VERSION = 40
MOST_COMBINATIONS = 500


@dataclass(frozen=True)
class Entry:
    """A folder of the store; `manifest` is None where none can be read."""

    address: Address
    folder: Path
    manifest: Manifest | None

    @property
    def finished(self) -> datetime | None:
        """When it was made, UTC; None where nobody can tell."""
        try:
            return self.manifest and datetime.fromisoformat(str(self.manifest.provenance.get("finished")))
        except ValueError:
            return None

    @cached_property
    def digest(self) -> str | None:
        """Content digest that its manifest claims."""
        return self.manifest and self.manifest.digest


@dataclass(frozen=True)
class Link:
    """One input: the name and the content digest by which it was read, and what lies there now.

    Attributes:
        name, digest: as the manifest has them.
        address: of the artifact that was read, or of the one now in its place; None where it is not found.
        state: "ok"; "missing"; "damaged": its files or its manifest changed; "other content": it is whole, but not what
            was read.
    """

    name: str
    digest: str
    address: Address | None
    state: State


@dataclass(frozen=True)
class External:
    """A file that was read by its path: path as given, size and SHA-256 then, and what lies there now.

    `address` is that of the artifact of the store that the file is of; None for a file of somebody's.
    """

    name: str
    path: str
    file: FileRecord
    state: State
    address: Address | None


@dataclass(frozen=True)
class Step:
    """One artifact of a chain: what it says of itself, what it was made from, and what is wrong with it."""

    address: Address
    folder: Path
    manifest: Manifest | None
    links: tuple[Link, ...]
    external: tuple[External, ...]
    faults: tuple[str, ...]


@dataclass(frozen=True)
class Chain:
    """An artifact and everything above it; `steps` holds every artifact before the ones it was made from."""

    root: Address
    steps: Mapping[Address, Step]

    @property
    def faults(self) -> tuple[str, ...]:
        """All that is broken, a sentence each; empty where the chain is whole."""
        return tuple(itertools.chain.from_iterable(map(_sentences, self.steps.values())))


class Index:
    """All artifacts of a store, read from their manifests when first asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    @cached_property
    def entries(self) -> Mapping[Address, Entry]:
        """Address -> folder and manifest."""
        folders = (folder for folder in sorted(self.root.glob("*/*/*/*")) if folder.is_dir())
        found = (self._entry(folder) for folder in folders)
        return {entry.address: entry for entry in found}

    @cached_property
    def by_digest(self) -> Mapping[str, list[Entry]]:
        """Content digest -> artifacts whose manifest claims it."""
        grouped: dict[str, list[Entry]] = {}
        for entry in self.entries.values():
            if entry.digest is not None:
                grouped.setdefault(entry.digest, []).append(entry)
        return grouped

    def holder(self, path: Path) -> Address | None:
        """The artifact in whose folder a path lies, however it is written."""
        place, root = path.resolve(), self.root.resolve()
        parts = place.relative_to(root).parts[:4] if place.is_relative_to(root) else ()
        address = Address(*parts) if len(parts) == 4 else None
        return address if address in self.entries else None

    def _entry(self, folder: Path) -> Entry:
        address = Address(*folder.relative_to(self.root).parts)
        try:
            return Entry(address, folder, Manifest.from_json((folder / MANIFEST).read_text()))
        except (ValueError, OSError):
            return Entry(address, folder, None)


def trace(index: Index, root: Address) -> Chain:
    """Reads and hashes an artifact of the store and all that it was made from."""
    steps: dict[Address, Step] = {}
    _visit(index, root, steps, ())
    # A step is finished after its inputs: the artifact that was asked for comes first.
    return Chain(root, dict(reversed(steps.items())))


def commits_to(manifest: Manifest, inputs: Mapping[str, str]) -> bool:
    """Whether a manifest's fingerprint is that of its stage, place and settings and of these inputs' fingerprints.

    The stage's version is in no manifest: all up to HIGHEST_VERSION are tried.
    """
    parts = {name: getattr(manifest, name) for name in ("stage", "subject", "variant", "settings")}
    return any(
        fingerprint(**parts, version=version, inputs=inputs) == manifest.fingerprint
        for version in range(1, HIGHEST_VERSION + 1)
    )


def _visit(index: Index, address: Address, steps: dict[Address, Step], above: tuple[Address, ...]) -> None:
    folder = index.root.joinpath(*vars(address).values())
    try:
        manifest, faults = inspect(folder, address)
    except OSError as error:
        manifest, faults = None, (f"cannot be read ({error.strerror})",)
    found, fits = _inputs(index, manifest) if manifest else ({}, True)
    if not fits:
        faults = (*faults, "its fingerprint is not that of its settings and of the inputs that lie there")
    try:
        external = tuple(_external(index, manifest))
    except (AttributeError, KeyError, TypeError) as error:
        external, faults = (), (*faults, f"its note of files of somebody's is unreadable ({error!r})")
    for each in (*found.values(), *(file.address for file in external)):
        if each in (address, *above):
            faults = (*faults, "it is among its own inputs")
        elif each is not None and each not in steps:
            _visit(index, each, steps, (address, *above))
    links = tuple(_link(name, manifest.inputs[name], each, steps) for name, each in found.items())
    steps[address] = Step(address, folder, manifest, links, external, faults)


def _inputs(index: Index, manifest: Manifest) -> tuple[dict[str, Address | None], bool]:
    """Where each input lies, as far as it is found, and whether the fingerprint can be that of what was found."""
    same = {name: _likely(name, manifest, index.by_digest.get(digest, [])) for name, digest in manifest.inputs.items()}
    lost = [name for name, entries in same.items() if not entries]
    if not lost:
        fitting = _fitting(manifest, same)
        return fitting or {name: entries[0].address for name, entries in same.items()}, fitting is not None
    everything = list(index.entries.values())
    replaced = {name: entries or _likely(name, manifest, everything, strict=True) for name, entries in same.items()}
    fitting = _fitting(manifest, replaced) if all(replaced.values()) else None
    # Where an input is gone altogether, nothing can be said of the fingerprint; the missing input is fault enough.
    return fitting or {name: entries[0].address if entries else None for name, entries in same.items()}, True


def _likely(name: str, manifest: Manifest, entries: list[Entry], strict: bool = False) -> list[Entry]:
    """The artifacts that an input's name speaks of, newest first; else all of them, or with `strict` the subject's own."""

    def named(entry: Entry) -> bool:
        of = entry.address
        # A base model is the subject of what its organisms are made from.
        related = manifest.subject == of.subject or manifest.subject.startswith(f"{of.subject}-")
        return (name == of.stage and related) or name.endswith((f" {of.subject}", f" {of.subject}/{of.variant}"))

    near = [entry for entry in entries if named(entry)]
    if not near:
        near = [entry for entry in entries if not strict or entry.address.subject == manifest.subject]
    return sorted(near, key=lambda entry: entry.finished.timestamp() if entry.finished else 0.0, reverse=True)


def _fitting(manifest: Manifest, options: Mapping[str, list[Entry]]) -> dict[str, Address] | None:
    """The first choice of one artifact per input to which the fingerprint commits."""
    combinations = itertools.product(*options.values())
    for chosen in itertools.islice(combinations, MOST_COMBINATIONS):
        addresses = {name: entry.address for name, entry in zip(options, chosen, strict=True)}
        if commits_to(manifest, {name: address.fingerprint for name, address in addresses.items()}):
            return addresses
    return None


def _link(name: str, digest: str, address: Address | None, steps: Mapping[Address, Step]) -> Link:
    if address is None:
        return Link(name, digest, None, "missing")
    step = steps.get(address)
    if step is None:
        return Link(name, digest, address, "damaged")
    if step.manifest is not None and step.manifest.digest != digest:
        return Link(name, digest, address, "other content")
    return Link(name, digest, address, "damaged" if step.faults else "ok")


def _external(index: Index, manifest: Manifest | None) -> Iterator[External]:
    noted = manifest.record.get("external", {}) if manifest else {}
    for name, told in noted.items():
        then = FileRecord(told["size"], told["sha256"])
        path = Path(told["path"])
        try:
            state: State = "ok" if hash_file(path) == then else "other content"
        except OSError:
            state = "missing"
        yield External(name, told["path"], then, state, index.holder(path))


def _sentences(step: Step) -> Iterator[str]:
    place = "/".join(vars(step.address).values())
    yield from (f"{place}: {fault}" for fault in step.faults)
    for link in step.links:
        if link.state == "missing":
            yield f"{place}: its input {link.name} (content {link.digest[:12]}) is not in the store"
        elif link.state == "other content":
            yield f"{place}: its input {link.name} has other content now than when it was read ({link.digest[:12]})"
    for file in step.external:
        if file.state != "ok":
            now = "is not there any more" if file.state == "missing" else "has other content now than when it was read"
            yield f"{place}: the file {file.name} ({file.path}) {now}"
