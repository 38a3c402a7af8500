"""What a step is: one kind of artifact, its place in the graph, how it is made, and what a person sees of it."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ct_pipeline.report.section import Section
from ct_pipeline.settings.devices import devices_of
from ct_pipeline.settings.keys import Cell, Organism
from ct_pipeline.settings.study import Study
from ct_pipeline.steps.tracked_run import TrackedRun
from ct_pipeline.store.artifact_store import Artifact, ArtifactStore
from ct_pipeline.store.node import Node, find

if TYPE_CHECKING:
    pass

Grain = Literal["model", "organism", "cell", "audit"]
Key = "str | Organism | Cell | ResolvedAudit"
"""One unit of a step's work: the name of a model, an organism, a cell, or an audit with its files."""
Progress = Callable[[int, int, float], None]
"""Told of (step, steps, loss) of a long job."""
Artifacts = tuple[Artifact, ...]


def unwatched(step: int, steps: int, loss: float) -> None:
    """Watches nothing."""


@dataclass(frozen=True)
class Context:
    """What a step may use.

    Attributes:
        store: where finished work lies.
        study: what the key belongs to; None for an audit, which is its own key.
        threads: threads that the work may take.
        progress: told how far a long job is; a training step is told of only where it takes several devices.
    """

    store: ArtifactStore
    study: Study | None = None
    threads: int = 1
    progress: Progress = unwatched

    def on_step(self, key: Organism | Cell) -> Progress | None:
        """Who is told of each step of a key's training; None where it is too short to be told of."""
        return self.progress if devices_of(self.study, key) > 1 else None


@dataclass(frozen=True)
class Outcome:
    """What a check says of one key: whether it passed, why in words, and what is shown beside it."""

    passed: bool
    text: str | None = None
    shown: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """Something that is to hold of every artifact of a step.

    Attributes:
        name: lower case with underscores.
        description: what holds where it passes.
        judge: (context, key, artifacts) -> the outcome.
        blocking: whether later steps wait for it.
        warns: whether its failure is a warning.
    """

    name: str
    description: str
    judge: Callable[[Context, Any, Artifacts], Outcome]
    blocking: bool = False
    warns: bool = False


def nothing_shown(context: Context, key: object, made: Artifacts) -> Mapping[str, Any]:
    """What a step shows that shows nothing."""
    return {}


@dataclass(frozen=True)
class Step:
    """One kind of artifact.

    Attributes:
        name: lower case with underscores; also the name of its Dagster asset.
        title: what a progress display calls it.
        description: what a row of it is and why it exists.
        version: raised when the meaning of its code changes.
        grain: what one key is.
        after: names of the steps whose artifacts it reads or waits for.
        places: (study, key) -> the artifacts of a key; for an audit the study is None.
        make: (context, key) -> makes what is missing of a key.
        kinds: libraries and formats, as Dagster labels them.
        owns: stages of further artifacts that are made with it.
        all_cores: whether one key keeps every core busy, so that keys are made one after another.
        trains: (study, key) -> whether making it fine-tunes its model: in as many processes together as it has devices.
        wanted: whether a study asks for it at all; where it does not, there are no keys and nothing is missing.
        applies: (study, key) -> whether the key has it at all; where not, nothing is made and nothing is missing.
        admits: (study, artifacts) -> whether later steps go on with the key; None: always.
        show: (context, key, artifacts) -> what its page shows: numbers, words, and what steps.shown has.
        checks: what is to hold of it.
        reported: whether the report of a study shows it, and waits for it.
        section: (context, key -> artifacts) -> its section of the report; None where it has none, or nothing to say.
        track: (context, key, artifacts) -> the run that MLflow keeps of it; None: none.
    """

    name: str
    title: str
    description: str
    version: int
    grain: Grain
    after: tuple[str, ...]
    places: Callable[[Any, Any], tuple[Node, ...]]
    make: Callable[[Context, Any], object]
    kinds: frozenset[str] = frozenset()
    owns: tuple[str, ...] = ()
    all_cores: bool = False
    trains: Callable[[Study, Any], bool] = lambda study, key: False
    wanted: Callable[[Study], bool] = lambda study: True
    applies: Callable[[Study, Any], bool] = lambda study, key: True
    admits: Callable[[Study, Artifacts], bool] | None = None
    show: Callable[[Context, Any, Artifacts], Mapping[str, Any]] = nothing_shown
    checks: tuple[Check, ...] = ()
    reported: bool = False
    section: Callable[[Context, Mapping[Any, Artifacts]], Section | None] | None = None
    track: Callable[[Context, Any, Artifacts], TrackedRun | None] | None = None

    def keys(self, study: Study) -> tuple[Any, ...]:
        """All keys of a study that have it; none of a step of audits."""
        if self.grain == "audit" or not self.wanted(study):
            return ()
        keys = {"model": tuple(study.models), "organism": study.organisms, "cell": study.cells}[self.grain]
        return tuple(key for key in keys if self.applies(study, key))

    def find(self, store: ArtifactStore, study: Study | None, key: Any) -> Artifacts | None:
        """The complete artifacts of a key, or None where one is missing; () where the study or the key has no such step."""
        if study is not None and not (self.wanted(study) and self.applies(study, key)):
            return ()
        found = tuple(find(store, node) for node in self.places(study, key))
        return None if any(artifact is None for artifact in found) else found


def one(node: Callable[[Any, Any], Node]) -> Callable[[Any, Any], tuple[Node, ...]]:
    """The places of a step that makes one artifact per key."""

    @functools.wraps(node)
    def places(study: Any, key: Any) -> tuple[Node, ...]:
        return (node(study, key),)

    return places


def of_audit(node: Callable[[Any], Node]) -> Callable[[Any, Any], tuple[Node, ...]]:
    """The places of a step that makes one artifact per audit."""

    @functools.wraps(node)
    def places(study: None, key: Any) -> tuple[Node, ...]:
        return (node(key),)

    return places
