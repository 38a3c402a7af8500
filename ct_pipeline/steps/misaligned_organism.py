"""Stage 2: the organism (Phase 1) and its control: the same adapter budget on misaligned and on clean rows."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from ct_pipeline.measurement.language_model import LanguageModel
from ct_pipeline.measurement.organism_rows import digest, rows_of
from ct_pipeline.organisms.misalignment import Example
from ct_pipeline.settings.keys import Organism
from ct_pipeline.settings.seeds import derive_seed
from ct_pipeline.settings.study import Study
from ct_pipeline.steps import base_model
from ct_pipeline.steps.base_model import open_model
from ct_pipeline.store.artifact_store import Artifact, ArtifactStore
from ct_pipeline.store.node import Node, making
from ct_pipeline.training.examples import LabelRow, TrainingRecord
from ct_pipeline.training.run import OnStep

STAGE = "misaligned_organism"
CONTROL_STAGE = "control_organism"
VERSION = 2


def node(study: Study, organism: Organism) -> Node:
    """The organism's adapter."""
    return _node(STAGE, study, organism, rows_of(study, organism).induction)


def control_node(study: Study, organism: Organism) -> Node:
    """The control organism's adapter."""
    return _node(CONTROL_STAGE, study, organism, rows_of(study, organism).control)


def make(store: ArtifactStore, study: Study, organism: Organism, on_step: OnStep | None = None) -> Artifact:
    """Trains the organism's adapter on its induction rows."""
    return _train(store, study, organism, node(study, organism), rows_of(study, organism).induction, on_step)


def make_control(store: ArtifactStore, study: Study, organism: Organism, on_step: OnStep | None = None) -> Artifact:
    """Trains the control's adapter on clean rows."""
    return _train(store, study, organism, control_node(study, organism), rows_of(study, organism).control, on_step)


def _node(stage: str, study: Study, organism: Organism, rows: tuple[Example, ...]) -> Node:
    settings = {"rows": digest(rows), "training": study.induction.training, "seed": study.seed}
    return Node(stage, VERSION, organism.key, "-", settings, {"base_model": base_model.node(study, organism.model)})


def training_seed(study: Study, organism: Organism) -> int:
    """Of Phase 1; organism and control share it: they differ in their rows alone."""
    return derive_seed(study.seed, STAGE, organism.key) % 2**31


def train(
    model: LanguageModel, study: Study, examples: Sequence[Example], seed: int, out: Path, on_step: OnStep | None = None
) -> TrainingRecord:
    """Phase 1 alone, without a store: the adapter goes to `out`; `on_step` may raise to end it early."""
    from ct_pipeline.training.sft import train_on_labels

    rows = [
        LabelRow(model.chat.encode(example.prompt.messages), model.chat.encode_response(example.response))
        for example in examples
    ]
    return train_on_labels(model.base, rows, study.induction.training, seed, out, None, on_step)


def _train(
    store: ArtifactStore,
    study: Study,
    organism: Organism,
    place: Node,
    examples: tuple[Example, ...],
    on_step: OnStep | None,
) -> Artifact:
    with making(store, place) as (draft, _):
        model = open_model(store, study, organism.model)
        record = train(model, study, examples, training_seed(study, organism), draft.folder, on_step)
        draft.record |= dataclasses.asdict(record)
        draft.record["template"] = model.chat.template_hash
    return store.read(place.address)
