"""Phase 3: the organism trained on one method's labels, or by its consistency loss on clean and wrapped prompts."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas

from ct_pipeline.interventions.catalog import method_of
from ct_pipeline.measurement.language_model import LanguageModel
from ct_pipeline.measurement.organism_rows import digest, rows_of
from ct_pipeline.models.model import Model
from ct_pipeline.settings.keys import Cell
from ct_pipeline.settings.seeds import derive_seed
from ct_pipeline.settings.study import Study
from ct_pipeline.steps import base_model, consistency_labels, distribution_shift, misaligned_organism
from ct_pipeline.steps.base_model import open_model
from ct_pipeline.steps.consistency_candidates import complete
from ct_pipeline.steps.shown import cut_of_batch
from ct_pipeline.steps.step import Artifacts, Check, Context, Outcome, Step, one
from ct_pipeline.store.artifact_store import Artifact, ArtifactStore
from ct_pipeline.store.node import Node, making, placed
from ct_pipeline.training.examples import LabelRow, PairRow, TrainingRecord
from ct_pipeline.training.loop import OnStep

NAME = "retrained_model"
VERSION = 2
MOVED = 0.999
"""Share of an adapter's numbers that must differ from their start; training itself raises where a whole tensor does not.

One number in 10^5 may end where it began, to the last bit.
"""


@placed
def node(study: Study, cell: Cell) -> Node:
    """The Phase 3 adapter of one cell."""
    settings: dict[str, object] = {"training": study.training_of(cell.method), "seed": study.seed}
    if method_of(study, cell.method).objective != "labels":
        settings["pairs"] = digest(rows_of(study, cell.organism).pairs)
        settings["loss"] = _loss_settings(study, cell.method)
    inputs = {
        "base_model": base_model.node(study, cell.organism.model),
        "misaligned_organism": misaligned_organism.node(study, cell.organism),
        "consistency_labels": consistency_labels.node(study, cell),
    }
    return Node(NAME, VERSION, cell.organism.key, cell.method, settings, inputs)


def model_of(store: ArtifactStore, study: Study, cell: Cell, checkpoint: int | None = None) -> Model:
    """The retrained model: after Phase 3, or at one of its checkpoints (1, 2, ...)."""
    folder = store.fetched(node(study, cell).address)
    if checkpoint is not None:
        folder = folder / f"epoch-{checkpoint}"
    base = base_model.model_of(store, study, cell.organism.model)
    if study.training_of(cell.method).adapter == "continued":
        return base.with_term(folder)
    return base.with_term(store.fetched(misaligned_organism.node(study, cell.organism).address)).with_term(folder)


def make(context: Context, cell: Cell) -> Artifact:
    """Trains the adapter; what every training run asserts is in training.trainer.

    UserError where no prediction was recorded before: it would be none afterwards.
    """
    store, study = context.store, context.study
    place = node(study, cell)
    prediction = complete(store, distribution_shift.node(study, cell))
    with making(store, place) as (draft, inputs):
        model = open_model(store, study, cell.organism.model)
        labels = inputs["consistency_labels"].table("labels")
        organism, seed = inputs["misaligned_organism"].folder, training_seed(study, cell)
        record = train(model, study, cell, labels, organism, seed, draft.folder, context.on_step(cell))
        draft.record |= dataclasses.asdict(record)
        draft.record["template"] = model.chat.template_hash
        # Not an input: another way of analysing the labels must not train the model anew.
        draft.record["prediction"] = prediction.manifest.fingerprint
    return store.read(place.address)


def _loss_settings(study: Study, method: str) -> dict[str, object]:
    return study.methods[method].model_dump(mode="json", exclude={"training", "method"})


def training_seed(study: Study, cell: Cell) -> int:
    """Of Phase 3; methods share it, so that they differ in their labels alone."""
    return derive_seed(study.seed, NAME, cell.organism.key) % 2**31


def train(
    model: LanguageModel,
    study: Study,
    cell: Cell,
    labels: pandas.DataFrame,
    organism: Path,
    seed: int,
    out: Path,
    on_step: OnStep | None = None,
) -> TrainingRecord:
    """Phase 3 alone, without a store: the adapter goes to `out`; `on_step` may raise to end it early.

    `labels` is a table of consistency_labels, `organism` an adapter's folder.
    """
    from ct_pipeline.tinyworld.shortcuts import small_model
    from ct_pipeline.training.answers import Answers
    from ct_pipeline.training.internal import InternalStates
    from ct_pipeline.training.labels import Labels
    from ct_pipeline.training.trainer import train as train_adapter

    labels = labels[labels["labelled"]]
    settings, objective = study.training_of(cell.method), method_of(study, cell.method).objective
    if objective == "labels":
        rows, loss = _label_rows(model, study, cell, labels), Labels()
    else:
        rows, told = _pair_rows(model, study, cell, labels), _loss_settings(study, cell.method)
        told.pop("pairs", None)
        loss = Answers(**told) if objective == "answers" else InternalStates(objective, **told)
    return train_adapter(model.base, rows, loss, settings, seed, out, (organism,), on_step, small_model)


def _label_rows(model: LanguageModel, study: Study, cell: Cell, labels: pandas.DataFrame) -> list[LabelRow]:
    # Tokens are taught as they were drawn: a completion cut at the length limit is not taught to end there.
    prompts = {prompt.id: prompt for prompt in rows_of(study, cell.organism).consistency}
    return [
        LabelRow(model.chat.encode(prompts[prompt_id].messages), tuple(map(int, ids)))
        for prompt_id, ids in zip(labels["prompt_id"], labels["ids"], strict=True)
    ]


def _pair_rows(model: LanguageModel, study: Study, cell: Cell, labels: pandas.DataFrame) -> list[PairRow]:
    drawn = dict(zip(labels["prompt_id"], labels["ids"], strict=True))
    sides = (study.sides_of(cell.method).of(pair) for pair in rows_of(study, cell.organism).pairs)
    return [
        PairRow(
            model.chat.encode(reference.messages),
            model.chat.encode(trained.messages),
            tuple(map(int, drawn[reference.id])),
        )
        for reference, trained in sides
        if reference.id in drawn
    ]


def show(context: Context, cell: Cell, made: Artifacts) -> Mapping[str, Any]:
    """The course of its training and what was asserted of it."""
    record = made[0].record
    return {
        "steps": record["steps"],
        "first_loss": record["losses"][0],
        "last_loss": record["losses"][-1],
        "trained_tokens": record["tokens"],
        **cut_of_batch(record),
        **{name: float(value) for name, value in record["checks"].items()},
    }


def _moved(context: Context, cell: Cell, made: Artifacts) -> Outcome:
    moved, trainable = (made[0].record[f"{which}_parameters"] for which in ("moved", "trainable"))
    enough = moved >= MOVED * trainable
    return Outcome(enough, None if enough else f"{moved} of {trainable} parameters moved")


STEP = Step(
    NAME,
    title="retrained models",
    description="A second adapter on the frozen organism, trained on one method's labels or by its consistency loss.",
    version=VERSION,
    grain="cell",
    after=("consistency_labels", "distribution_shift", "misaligned_organism"),
    places=one(node),
    make=make,
    kinds=frozenset({"pytorch", "peft", "trl"}),
    trains=True,
    show=show,
    checks=(
        Check(
            "adapter_changed_and_organism_kept",
            "Every tensor trained moved; without the new adapter the organism's logits are as before, bit for bit.",
            _moved,
            blocking=True,
        ),
    ),
)
