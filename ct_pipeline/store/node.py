"""One artifact before it exists: its address, its settings, the artifacts it is made from."""

import functools
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import pandas

from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.fingerprint import fingerprint, plain
from ct_pipeline.store.artifact_store import Address, Artifact, ArtifactStore, ArtifactWriter

K = TypeVar("K")

TABLES_KEPT = 32
"""Tables of an organism and of its cells, which are compared with each other."""


@dataclass(frozen=True, eq=False)
class Node:
    """A place in the graph of artifacts.

    Attributes:
        stage: name of the stage; `version` is raised when the meaning of its code changes.
        subject: model, organism or study key.
        variant: method, draw, or "-".
        settings: all that its content depends on beside its inputs.
        inputs: name -> node it is made from.
    """

    stage: str
    version: int
    subject: str
    variant: str
    settings: Mapping[str, object]
    inputs: Mapping[str, "Node"]

    @cached_property
    def fingerprint(self) -> str:
        """Hash of stage, version, place, settings and the inputs' fingerprints."""
        return fingerprint(
            stage=self.stage,
            version=self.version,
            subject=self.subject,
            variant=self.variant,
            settings=self.settings,
            inputs={name: node.fingerprint for name, node in self.inputs.items()},
        )

    @cached_property
    def address(self) -> Address:
        """Where the store keeps it."""
        return Address(self.stage, self.subject, self.variant, self.fingerprint)


_KNOWN: ContextVar[dict[tuple, tuple[object, object]] | None] = ContextVar("known places", default=None)


@contextmanager
def remembered_places() -> Iterator[None]:
    """While this lasts, what a function under `placed` says of the same arguments is worked out once.

    The files that a study names are taken not to change meanwhile; a long-lived process opens it for one piece of work.
    """
    if _KNOWN.get() is not None:
        yield
        return
    token = _KNOWN.set({})
    try:
        yield
    finally:
        _KNOWN.reset(token)


def placed(make: Callable[..., K]) -> Callable[..., K]:
    """A function that says where artifacts of a study's key are kept: (study, key, ...) -> node or nodes."""

    @functools.wraps(make)
    def remembered(study: object, *key: object) -> K:
        known = _KNOWN.get()
        if known is None:
            return make(study, *key)
        # A study is told by its identity: to compare two takes as long as to work out a place.
        name = (make, id(study), *key)
        if name not in known:
            known[name] = study, make(study, *key)
        return known[name][1]

    return remembered


class StoreSnapshot(ArtifactStore):
    """A store as it is at one moment: each artifact is looked for once, and its tables are read once, for a short while.

    A report asks for the same artifacts hundreds of times. What changes on disk during a look is seen by the next one.
    """

    def __init__(self, store: ArtifactStore) -> None:
        super().__init__(store.root, store.sharing)
        known = isinstance(store, StoreSnapshot)
        self._verified = store._verified
        self._found: dict[Address, Artifact | None] = store._found if known else {}
        self._tables: OrderedDict[tuple[Path, str], pandas.DataFrame] = store._tables if known else OrderedDict()

    def renewed(self) -> "StoreSnapshot":
        """The store as it is now: what was found before counts as found, what was missing is looked for again."""
        renewed = StoreSnapshot(self)
        renewed._found = {address: artifact for address, artifact in self._found.items() if artifact is not None}
        return renewed

    def of(self, node: Node) -> Artifact | None:
        """What `find` found of a node the first time."""
        if node.address not in self._found:
            artifact = _find(self, node)
            self._found[node.address] = artifact and CachedArtifact(
                artifact.place, artifact.manifest, artifact.fetch, self._tables
            )
        return self._found[node.address]


@dataclass(frozen=True)
class CachedArtifact(Artifact):
    """An artifact whose last tables are kept in memory; nobody may change them in place."""

    tables: OrderedDict[tuple[Path, str], pandas.DataFrame] = field(
        default_factory=OrderedDict, repr=False, compare=False
    )

    def table(self, name: str) -> pandas.DataFrame:
        """The Parquet table `name`.parquet."""
        key = (self.place, name)
        if key not in self.tables:
            self.tables[key] = super().table(name)
        self.tables.move_to_end(key)
        while len(self.tables) > TABLES_KEPT:
            self.tables.popitem(last=False)
        return self.tables[key]


def find(store: ArtifactStore, node: Node) -> Artifact | None:
    """The complete artifact of a node: it and all that it was made from are there, unchanged."""
    return store.of(node) if isinstance(store, StoreSnapshot) else _find(store, node)


def _find(store: ArtifactStore, node: Node) -> Artifact | None:
    found = {name: find(store, each) for name, each in node.inputs.items()}
    if any(artifact is None for artifact in found.values()):
        return None
    return store.find(node.address, {name: artifact.digest for name, artifact in found.items()})


@contextmanager
def making(store: ArtifactStore, node: Node) -> Iterator[tuple[ArtifactWriter, dict[str, Artifact]]]:
    """A draft for the artifact of a node, and its inputs; UserError names an input that is not complete."""
    inputs = {}
    for name, each in node.inputs.items():
        artifact = find(store, each)
        if artifact is None:
            raise UserError(
                f"{node.stage} of {node.subject} needs {each.stage} of {each.subject}"
                f"{'' if each.variant == '-' else ' (' + each.variant + ')'}, which is not there: materialize it first"
            )
        inputs[name] = artifact
    digests = {name: artifact.digest for name, artifact in inputs.items()}
    with store.write(node.address, plain(node.settings), digests) as draft:
        yield draft, inputs
