"""Stage 2: the organism (Phase 1) and its control: the same adapter budget on misaligned and on clean rows."""

import dataclasses

from ct_pipeline.organisms.kind import Example
from ct_pipeline.stages import base_model
from ct_pipeline.stages.language_model import open_model
from ct_pipeline.stages.node import Node, making
from ct_pipeline.stages.rows import digest, rows_of
from ct_pipeline.store.artifact_store import Artifact, ArtifactStore
from ct_pipeline.study.keys import Organism
from ct_pipeline.study.seeds import derive_seed
from ct_pipeline.study.spec import Study

STAGE = "misaligned_organism"
CONTROL_STAGE = "control_organism"
VERSION = 2


def node(study: Study, organism: Organism) -> Node:
    """The organism's adapter."""
    return _node(STAGE, study, organism, rows_of(study, organism).induction)


def control_node(study: Study, organism: Organism) -> Node:
    """The control organism's adapter."""
    return _node(CONTROL_STAGE, study, organism, rows_of(study, organism).control)


def make(store: ArtifactStore, study: Study, organism: Organism) -> Artifact:
    """Trains the organism's adapter on its induction rows."""
    return _train(store, study, organism, node(study, organism), rows_of(study, organism).induction)


def make_control(store: ArtifactStore, study: Study, organism: Organism) -> Artifact:
    """Trains the control's adapter on clean rows."""
    return _train(store, study, organism, control_node(study, organism), rows_of(study, organism).control)


def _node(stage: str, study: Study, organism: Organism, rows: tuple[Example, ...]) -> Node:
    settings = {"rows": digest(rows), "training": study.induction.training, "seed": study.seed}
    return Node(stage, VERSION, organism.key, "-", settings, {"base_model": base_model.node(study, organism.model)})


def _train(
    store: ArtifactStore, study: Study, organism: Organism, place: Node, examples: tuple[Example, ...]
) -> Artifact:
    from ct_pipeline.training.rows import LabelRow
    from ct_pipeline.training.sft import train_on_labels

    with making(store, place) as (draft, _):
        model = open_model(store, study, organism.model)
        rows = [
            LabelRow(model.chat.encode(example.prompt.messages), model.chat.encode_response(example.response))
            for example in examples
        ]
        # Organism and control share the seed: they differ in their rows alone.
        seed = derive_seed(study.seed, STAGE, organism.key) % 2**31
        record = train_on_labels(model.base, rows, study.induction.training, seed, draft.folder, None)
        draft.record |= dataclasses.asdict(record)
        draft.record["template"] = model.chat.template_hash
    return store.read(place.address)
