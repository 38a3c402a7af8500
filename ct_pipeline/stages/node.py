"""One artifact before it exists: its address, its settings, the artifacts it is made from."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from ct_pipeline.store.artifact_store import Address, Artifact, ArtifactStore, Draft
from ct_pipeline.study.errors import UserError
from ct_pipeline.study.fingerprint import fingerprint, plain


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

    @property
    def address(self) -> Address:
        """Where the store keeps it."""
        return Address(self.stage, self.subject, self.variant, self.fingerprint)


def find(store: ArtifactStore, node: Node) -> Artifact | None:
    """The complete artifact of a node: it and all that it was made from are there, unchanged."""
    found = {name: find(store, each) for name, each in node.inputs.items()}
    if any(artifact is None for artifact in found.values()):
        return None
    return store.find(node.address, {name: artifact.digest for name, artifact in found.items()})


@contextmanager
def making(store: ArtifactStore, node: Node) -> Iterator[tuple[Draft, dict[str, Artifact]]]:
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
