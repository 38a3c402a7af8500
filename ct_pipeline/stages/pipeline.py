"""The stages in their order: what each makes, for which keys, and how one key is made."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ct_pipeline.stages import (
    base_model,
    consistency_candidates,
    consistency_labels,
    evaluation,
    misaligned_organism,
    organism_evaluation,
    retrained_model,
)
from ct_pipeline.stages.node import Node, find
from ct_pipeline.store.artifact_store import Artifact, ArtifactStore
from ct_pipeline.study.keys import Cell, Organism
from ct_pipeline.study.spec import Study

Key = str | Organism | Cell
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
    """

    name: str
    title: str
    version: int
    grain: Literal["model", "organism", "cell"]
    nodes: Callable[[Study, Key], tuple[Node, ...]]
    make: Callable[[ArtifactStore, Study, Key, int, Progress], object]
    all_cores: bool = False

    def keys(self, study: Study) -> tuple[Key, ...]:
        """All keys of a study."""
        return {"model": tuple(study.models), "organism": study.organisms, "cell": study.cells}[self.grain]

    def find(self, store: ArtifactStore, study: Study, key: Key) -> tuple[Artifact, ...] | None:
        """The complete artifacts of a key, or None where one is missing."""
        found = tuple(find(store, node) for node in self.nodes(study, key))
        return None if any(artifact is None for artifact in found) else found


STAGES: tuple[Stage, ...] = (
    Stage(
        name=base_model.STAGE,
        title="base model",
        version=base_model.VERSION,
        grain="model",
        nodes=lambda study, key: (base_model.node(study, key),),
        make=base_model.make,
        all_cores=True,
    ),
    Stage(
        name=misaligned_organism.STAGE,
        title="organisms",
        version=misaligned_organism.VERSION,
        grain="organism",
        nodes=lambda study, key: (misaligned_organism.node(study, key),),
        make=lambda store, study, key, threads, progress: misaligned_organism.make(store, study, key),
    ),
    Stage(
        name=misaligned_organism.CONTROL_STAGE,
        title="control organisms",
        version=misaligned_organism.VERSION,
        grain="organism",
        nodes=lambda study, key: (misaligned_organism.control_node(study, key),),
        make=lambda store, study, key, threads, progress: misaligned_organism.make_control(store, study, key),
    ),
    Stage(
        name=organism_evaluation.STAGE,
        title="organism evaluations",
        version=organism_evaluation.VERSION,
        grain="organism",
        nodes=lambda study, key: (organism_evaluation.node(study, key),),
        make=lambda store, study, key, threads, progress: organism_evaluation.make(store, study, key),
    ),
    Stage(
        name=consistency_candidates.STAGE,
        title="candidates",
        version=consistency_candidates.VERSION,
        grain="organism",
        nodes=consistency_candidates.nodes,
        make=lambda store, study, key, threads, progress: consistency_candidates.make(store, study, key),
    ),
    Stage(
        name=consistency_labels.STAGE,
        title="labels",
        version=consistency_labels.VERSION,
        grain="cell",
        nodes=lambda study, key: (consistency_labels.node(study, key),),
        make=lambda store, study, key, threads, progress: consistency_labels.make(store, study, key),
    ),
    Stage(
        name=retrained_model.STAGE,
        title="retrained models",
        version=retrained_model.VERSION,
        grain="cell",
        nodes=lambda study, key: (retrained_model.node(study, key),),
        make=lambda store, study, key, threads, progress: retrained_model.make(store, study, key),
    ),
    Stage(
        name=evaluation.STAGE,
        title="evaluations",
        version=evaluation.VERSION,
        grain="cell",
        nodes=lambda study, key: (evaluation.node(study, key),),
        make=lambda store, study, key, threads, progress: evaluation.make(store, study, key),
    ),
)


def stage_named(name: str) -> Stage:
    """The stage of a name; KeyError where there is none."""
    return {stage.name: stage for stage in STAGES}[name]
