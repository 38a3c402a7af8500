"""The stages in their order: what each makes, for which keys, and how one key is made."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ct_pipeline.settings.devices import devices_of, model_of
from ct_pipeline.settings.environment import launched_processes
from ct_pipeline.settings.keys import Key as Key
from ct_pipeline.settings.study import Study
from ct_pipeline.steps import (
    base_model,
    candidate_scores,
    capability,
    consistency_candidates,
    consistency_labels,
    distribution_shift,
    evaluation,
    misaligned_organism,
    organism_evaluation,
    retrained_model,
    uptake,
)
from ct_pipeline.store.artifact_store import Artifact, ArtifactStore
from ct_pipeline.store.node import Node, find

Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        name: also the name of its Dagster asset.
        title: what a progress display calls it.
        version: of its code's meaning.
        grain: what one key is.
        nodes: (study, key) -> the artifacts of a key.
        make: (store, study, key, threads, progress) -> makes what is missing of a key.
        all_cores: whether one key keeps every core busy, so that keys are made one after another.
        trains: whether making a key fine-tunes its model: in as many processes together as the model has devices.
        wanted: whether a study asks for it at all; where it does not, there are no keys and nothing is missing.
    """

    name: str
    title: str
    version: int
    grain: Literal["model", "organism", "cell"]
    nodes: Callable[[Study, Key], tuple[Node, ...]]
    make: Callable[[ArtifactStore, Study, Key, int, Progress], object]
    all_cores: bool = False
    trains: bool = False
    wanted: Callable[[Study], bool] = lambda study: True

    def keys(self, study: Study) -> tuple[Key, ...]:
        """All keys of a study."""
        if not self.wanted(study):
            return ()
        return {"model": tuple(study.models), "organism": study.organisms, "cell": study.cells}[self.grain]

    def find(self, store: ArtifactStore, study: Study, key: Key) -> tuple[Artifact, ...] | None:
        """The complete artifacts of a key, or None where one is missing; () where the study does not ask for the stage."""
        if not self.wanted(study):
            return ()
        found = tuple(find(store, node) for node in self.nodes(study, key))
        return None if any(artifact is None for artifact in found) else found


def _single(node: Callable[[Study, Key], Node]) -> Callable[[Study, Key], tuple[Node, ...]]:
    """The nodes of a stage that makes one artifact per key."""
    return lambda study, key: (node(study, key),)


def _plain(make: Callable[[ArtifactStore, Study, Key], object]) -> Callable:
    """A stage that uses the one thread it is given and is too short to report its steps."""
    return lambda store, study, key, threads, progress: make(store, study, key)


def _training(make: Callable[[ArtifactStore, Study, Key, Progress | None], object]) -> Callable:
    """A stage that trains in one process, too short to report its steps, or as one of the processes of a launch."""

    def made(store: ArtifactStore, study: Study, key: Key, threads: int, progress: Progress) -> object:
        together, devices = launched_processes(), devices_of(study, key)
        if together != devices:
            raise RuntimeError(
                f"{model_of(key)} is trained by {devices} processes together, and here are {together}: materialize the "
                "asset of the stage, which launches them"
            )
        return make(store, study, key, progress if devices > 1 else None)

    return made


STAGES: tuple[Stage, ...] = (
    Stage(
        base_model.STAGE,
        title="base model",
        version=base_model.VERSION,
        grain="model",
        nodes=_single(base_model.node),
        make=base_model.make,
        all_cores=True,
    ),
    Stage(
        misaligned_organism.STAGE,
        title="organisms",
        version=misaligned_organism.VERSION,
        grain="organism",
        nodes=_single(misaligned_organism.node),
        make=_training(misaligned_organism.make),
        trains=True,
    ),
    Stage(
        misaligned_organism.CONTROL_STAGE,
        title="control organisms",
        version=misaligned_organism.VERSION,
        grain="organism",
        nodes=_single(misaligned_organism.control_node),
        make=_training(misaligned_organism.make_control),
        trains=True,
    ),
    Stage(
        organism_evaluation.STAGE,
        title="organism evaluations",
        version=organism_evaluation.VERSION,
        grain="organism",
        nodes=_single(organism_evaluation.node),
        make=_plain(organism_evaluation.make),
    ),
    Stage(
        consistency_candidates.STAGE,
        title="candidates",
        version=consistency_candidates.VERSION,
        grain="organism",
        nodes=candidate_scores.nodes,
        make=_plain(candidate_scores.make),
    ),
    Stage(
        consistency_labels.STAGE,
        title="labels",
        version=consistency_labels.VERSION,
        grain="cell",
        nodes=_single(consistency_labels.node),
        make=_plain(consistency_labels.make),
    ),
    Stage(
        distribution_shift.STAGE,
        title="shifts and predictions",
        version=distribution_shift.VERSION,
        grain="cell",
        nodes=_single(distribution_shift.node),
        make=_plain(distribution_shift.make),
    ),
    Stage(
        retrained_model.STAGE,
        title="retrained models",
        version=retrained_model.VERSION,
        grain="cell",
        nodes=_single(retrained_model.node),
        make=_training(retrained_model.make),
        trains=True,
    ),
    Stage(
        evaluation.STAGE,
        title="evaluations",
        version=evaluation.VERSION,
        grain="cell",
        nodes=_single(evaluation.node),
        make=_plain(evaluation.make),
    ),
    Stage(
        capability.STAGE,
        title="capability and safety",
        version=capability.VERSION,
        grain="cell",
        nodes=_single(capability.node),
        make=_plain(capability.make),
        wanted=capability.wanted,
    ),
    Stage(
        uptake.STAGE,
        title="uptake",
        version=uptake.VERSION,
        grain="cell",
        nodes=_single(uptake.node),
        make=_plain(uptake.make),
    ),
)


def stage_named(name: str) -> Stage:
    """The stage of a name; KeyError where there is none."""
    return {stage.name: stage for stage in STAGES}[name]
