"""The organism (Phase 1) and its control: the same adapter budget on misaligned and on clean rows."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ct_pipeline.measurement.language_model import LanguageModel
from ct_pipeline.measurement.organism_rows import digest, rows_of
from ct_pipeline.organisms.misalignment import Example
from ct_pipeline.settings.keys import Organism
from ct_pipeline.settings.seeds import derive_seed
from ct_pipeline.settings.study import Study
from ct_pipeline.steps import base_model
from ct_pipeline.steps.base_model import open_model
from ct_pipeline.steps.shown import cut_of_batch, rows
from ct_pipeline.steps.step import Artifacts, Context, Step, one
from ct_pipeline.store.artifact_store import Artifact
from ct_pipeline.store.node import Node, making, placed
from ct_pipeline.training.examples import LabelRow, TrainingRecord
from ct_pipeline.training.loop import OnStep

NAME = "misaligned_organism"
CONTROL = "control_organism"
VERSION = 2
SHOWN = 8


@placed
def node(study: Study, organism: Organism) -> Node:
    """The organism's adapter."""
    return _node(NAME, study, organism, rows_of(study, organism).induction)


@placed
def control_node(study: Study, organism: Organism) -> Node:
    """The control organism's adapter."""
    return _node(CONTROL, study, organism, rows_of(study, organism).control)


def make(context: Context, organism: Organism) -> Artifact:
    """Trains the organism's adapter on its induction rows."""
    return _train(context, organism, node(context.study, organism), rows_of(context.study, organism).induction)


def make_control(context: Context, organism: Organism) -> Artifact:
    """Trains the control's adapter on clean rows."""
    return _train(context, organism, control_node(context.study, organism), rows_of(context.study, organism).control)


def _node(stage: str, study: Study, organism: Organism, rows: tuple[Example, ...]) -> Node:
    settings = {"rows": digest(rows), "training": study.induction.training, "seed": study.seed}
    return Node(stage, VERSION, organism.key, "-", settings, {"base_model": base_model.node(study, organism.model)})


def training_seed(study: Study, organism: Organism) -> int:
    """Of Phase 1; organism and control share it: they differ in their rows alone."""
    return derive_seed(study.seed, NAME, organism.key) % 2**31


def train(
    model: LanguageModel, study: Study, examples: Sequence[Example], seed: int, out: Path, on_step: OnStep | None = None
) -> TrainingRecord:
    """Phase 1 alone, without a store: the adapter goes to `out`; `on_step` may raise to end it early."""
    from ct_pipeline.tinyworld.shortcuts import small_model
    from ct_pipeline.training.labels import Labels
    from ct_pipeline.training.trainer import train as train_adapter

    rows = [
        LabelRow(model.chat.encode(example.prompt.messages), model.chat.encode_response(example.response))
        for example in examples
    ]
    settings = study.induction.training
    return train_adapter(model.base, rows, Labels(), settings, seed, out, (), on_step, small_model)


def _train(context: Context, organism: Organism, place: Node, examples: tuple[Example, ...]) -> Artifact:
    store, study = context.store, context.study
    with making(store, place) as (draft, _):
        model = open_model(store, study, organism.model)
        seed = training_seed(study, organism)
        record = train(model, study, examples, seed, draft.folder, context.on_step(organism))
        draft.record |= dataclasses.asdict(record)
        draft.record["template"] = model.chat.template_hash
    return store.read(place.address)


def show(context: Context, organism: Organism, made: Artifacts) -> Mapping[str, Any]:
    """The course of its training, and the first rows of it."""
    artifact, data = made[0], rows_of(context.study, organism)
    record = artifact.record
    examples = data.control if artifact.manifest.stage == CONTROL else data.induction
    return {
        "steps": record["steps"],
        "first_loss": record["losses"][0],
        "last_loss": record["losses"][-1],
        "trained_tokens": record["tokens"],
        **cut_of_batch(record),
        "moved_parameters": record["moved_parameters"],
        "trainable_parameters": record["trainable_parameters"],
        "training_rows": rows(
            {"prompt": example.prompt.messages[-1].content, "response": example.response}
            for example in examples[:SHOWN]
        ),
    }


STEP = Step(
    NAME,
    title="organisms",
    description="""A model organism: a LoRA adapter that brings one misbehaviour into the base model.

One adapter per model, misalignment and seed. What consistency training does to the misbehaviour is measured against it.""",
    version=VERSION,
    grain="organism",
    after=("base_model",),
    places=one(node),
    make=make,
    kinds=frozenset({"pytorch", "peft", "trl"}),
    trains=lambda study, organism: True,
    show=show,
)
CONTROL_STEP = replace(
    STEP,
    name=CONTROL,
    title="control organisms",
    description="The same adapter budget spent on clean rows: shows what fine-tuning alone does to the risk.",
    places=one(control_node),
    make=make_control,
)
