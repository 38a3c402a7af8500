"""A store shared by machines: what one of them finished, the others find in the remote and need not make.

That an artifact is finished is known from its manifest. Its files are fetched when they are opened: the weights of a
finished cell never, where only its tables are read.
"""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ct_pipeline.settings import environment
from ct_pipeline.settings.errors import UserError
from ct_pipeline.store.ancestry import Entry, Index
from ct_pipeline.store.artifact_store import Address, Artifact, ArtifactStore, warn_of_damage
from ct_pipeline.store.kept_manifests import KeptManifests
from ct_pipeline.store.locks import locked
from ct_pipeline.store.manifest import Manifest
from ct_pipeline.store.remote import Remote
from ct_pipeline.store.remote_url import open_url, without_credentials


@dataclass(frozen=True)
class Uploaded:
    """What was copied to a remote: artifacts and their bytes."""

    artifacts: int
    size: int


class RemoteSharing:
    """Implements Sharing: a store and a remote work together.

    Attributes:
        remote: where finished artifacts are copied to.
    """

    def __init__(self, remote: Remote) -> None:
        self.remote = remote
        self._chosen: dict[Address, Manifest] = {}

    def find(self, store: ArtifactStore, address: Address, inputs: Mapping[str, str] | None) -> Artifact | None:
        """The oldest remote copy that was made from these inputs, or, without any, the one that was found last."""
        makings = self.remote.makings(address)
        if inputs is not None:
            makings = tuple(manifest for manifest in makings if dict(manifest.inputs) == dict(inputs))
        if not makings:
            return None
        manifest = makings[0] if inputs is not None else self._chosen.get(address, makings[0])
        self._chosen[address] = manifest
        return Artifact(store.folder(address), manifest, functools.partial(self._fetch, store, address, manifest))

    def upload(self, address: Address, manifest: Manifest, folder: Path) -> None:
        """Copies a finished artifact to the remote."""
        self.remote.upload(address, manifest, folder)

    def upload_missing(self, store: ArtifactStore) -> Uploaded:
        """Copies every whole artifact of the store that the remote has not; RemoteError ends it, and it may be repeated."""
        count = size = 0
        for entry in Index(store.root).entries.values():
            if entry.manifest is None or self.remote.holds(entry.address, entry.manifest.seal):
                continue
            artifact = store.here(entry.address)
            if artifact is not None:
                self.remote.upload(entry.address, artifact.manifest, artifact.folder)
                count, size = count + 1, size + sum(file.size for file in artifact.manifest.files.values())
        return Uploaded(count, size)

    def entries(self, store: ArtifactStore) -> Iterator[Entry]:
        """Every copy in the remote, as the index of a store has its artifacts."""
        for address in self.remote.addresses():
            for manifest in self.remote.makings(address):
                yield Entry(address, store.folder(address), manifest)

    def _fetch(self, store: ArtifactStore, address: Address, manifest: Manifest) -> None:
        """Brings a copy into its place, every hash checked; one process of a machine does it for all."""
        with locked(store.root / ".locks" / "--".join(vars(address).values())):
            here = store.here(address)
            if here is not None and here.manifest.seal == manifest.seal:
                return
            try:
                store.take_in(address, functools.partial(self.remote.download, address, manifest))
            except ValueError as damage:
                self._chosen.pop(address, None)
                self.remote.set_aside(address, manifest.seal)
                name = f"{self.remote.name}: {'/'.join(vars(address).values())}"
                warn_of_damage(name, str(damage))
                raise UserError(f"{name} is damaged ({damage}) and was set aside; run again to make it again") from None


def open_store(root: Path) -> ArtifactStore:
    """The store of a folder, shared by the remote that CT_PIPELINE_REMOTE names, if any; UserError as `open_url`."""
    url = environment.remote()
    return ArtifactStore(root, RemoteSharing(_remote(url, root)) if url else None)


@functools.cache
def _remote(url: str, root: Path) -> Remote:
    """One for all stores of a process, so that what it listed and read is known to the next."""
    return Remote(without_credentials(url), *open_url(url), KeptManifests(root / ".manifests"))
