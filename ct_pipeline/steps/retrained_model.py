"""Phase 3: the organism trained on one method's labels or by its consistency loss, or changed without training."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas

from ct_pipeline.interventions.catalog import method_of
from ct_pipeline.interventions.intervention import ConsistencyLoss, LabelMethod, ModelChange
from ct_pipeline.measurement.language_model import LanguageModel
from ct_pipeline.measurement.organism_rows import digest, rows_of
from ct_pipeline.models.model import Model
from ct_pipeline.settings.keys import Cell
from ct_pipeline.settings.seeds import derive_seed
from ct_pipeline.settings.study import Study
from ct_pipeline.steps import base_model, consistency_labels, distribution_shift, misaligned_organism
from ct_pipeline.steps.base_model import open_model
from ct_pipeline.steps.consistency_candidates import complete
from ct_pipeline.steps.model_change import change_model
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
    """The Phase 3 adapter of one cell, or what a model change adds to the organism in its place."""
    intervention = method_of(study, cell.method)
    if isinstance(intervention, ModelChange):
        return _changed_node(study, cell, intervention)
    settings: dict[str, object] = {"training": study.training_of(cell.method), "seed": study.seed}
    if isinstance(intervention, ConsistencyLoss):
        settings["pairs"] = digest(rows_of(study, cell.organism).pairs)
        settings["loss"] = own_settings(study, cell.method)
    inputs = {
        "base_model": base_model.node(study, cell.organism.model),
        "misaligned_organism": misaligned_organism.node(study, cell.organism),
        "consistency_labels": consistency_labels.node(study, cell),
    }
    return Node(NAME, VERSION, cell.organism.key, cell.method, settings, inputs)


def _changed_node(study: Study, cell: Cell, change: ModelChange) -> Node:
    settings = {"change": change.name, "settings": own_settings(study, cell.method)}
    inputs = {
        "base_model": base_model.node(study, cell.organism.model),
        "misaligned_organism": misaligned_organism.node(study, cell.organism),
    } | {f"source {name}": node(study, Cell(cell.organism, name)) for name in study.methods[cell.method].made_from}
    return Node(NAME, VERSION, cell.organism.key, cell.method, settings, inputs)


def trains(study: Study, cell: Cell) -> bool:
    """Whether a cell's model is trained, on labels or by a loss."""
    return not isinstance(method_of(study, cell.method), ModelChange)


def continues(study: Study, method: str) -> bool:
    """Whether what is kept of a method is the organism's adapter trained on, and not a second one beside it."""
    return study.training_of(method).adapter == "continued" and not isinstance(method_of(study, method), ModelChange)


def model_of(store: ArtifactStore, study: Study, cell: Cell, checkpoint: int | None = None) -> Model:
    """The retrained model: after Phase 3, or at one of its checkpoints (1, 2, ...)."""
    place = node(study, cell)
    folder = store.fetched(place.address)
    if checkpoint is not None:
        folder = folder / f"epoch-{checkpoint}"
    base = base_model.model_of(store, study, cell.organism.model)
    if continues(study, cell.method):
        return base.with_term(folder)
    # Nothing is added, and not zeros, which an engine would sum in another order.
    weight = 1.0 if trains(study, cell) or store.read(place.address).record["modules"] else 0.0
    organism = store.fetched(misaligned_organism.node(study, cell.organism).address)
    return base.with_term(organism).with_term(folder, weight)


def make(context: Context, cell: Cell) -> Artifact:
    """Trains the adapter; what every training run asserts is in training.trainer. A model change is applied instead.

    UserError where no prediction was recorded before: it would be none afterwards.
    """
    store, study = context.store, context.study
    place = node(study, cell)
    predicted = distribution_shift.STEP.applies(study, cell)
    prediction = complete(store, distribution_shift.node(study, cell)) if predicted else None
    with making(store, place) as (draft, inputs):
        model, organism = open_model(store, study, cell.organism.model), inputs["misaligned_organism"]
        if trains(study, cell):
            labels, seed = inputs["consistency_labels"].table("labels"), training_seed(study, cell)
            watched = context.on_step(cell)
            record = train(model, study, cell, labels, organism.folder, seed, draft.folder, watched)
            draft.record |= dataclasses.asdict(record)
        else:
            names = study.methods[cell.method].made_from
            sources = {name: (inputs[f"source {name}"], continues(study, name)) for name in names}
            draft.record |= change_model(study, cell, model.base, organism, sources, draft.folder)
        draft.record["template"] = model.chat.template_hash
        if prediction is not None:
            # Not an input: another way of analysing the labels must not train the model anew.
            draft.record["prediction"] = prediction.manifest.fingerprint
    return store.read(place.address)


def own_settings(study: Study, method: str) -> dict[str, object]:
    """What an entry is told beside its name and its training."""
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
    settings, intervention = study.training_of(cell.method), method_of(study, cell.method)
    if isinstance(intervention, LabelMethod):
        rows, loss = _label_rows(model, study, cell, labels), Labels()
    else:
        rows, told = _pair_rows(model, study, cell, labels), own_settings(study, cell.method)
        told.pop("pairs", None)
        objective = intervention.objective
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
    """The course of its training and what was asserted of it; of a model change what it is made from."""
    record = made[0].record
    if not trains(context.study, cell):
        made_from = ", ".join(context.study.methods[cell.method].made_from) or "the organism alone"
        return {"training": "none", "made_from": made_from, "modules": record["modules"], "rank": record["rank"]}
    return {
        "steps": record["steps"],
        "first_loss": record["losses"][0],
        "last_loss": record["losses"][-1],
        "trained_tokens": record["tokens"],
        **cut_of_batch(record),
        **{name: float(value) for name, value in record["checks"].items()},
    }


def _moved(context: Context, cell: Cell, made: Artifacts) -> Outcome:
    if not trains(context.study, cell):
        return Outcome(True, "nothing was trained")
    moved, trainable = (made[0].record[f"{which}_parameters"] for which in ("moved", "trainable"))
    enough = moved >= MOVED * trainable
    return Outcome(enough, None if enough else f"{moved} of {trainable} parameters moved")


STEP = Step(
    NAME,
    title="retrained models",
    description="""A second adapter on the frozen organism, trained on one method's labels or by its consistency loss,
or made without training of the organism and of finished models.""",
    version=VERSION,
    grain="cell",
    after=("consistency_labels", "distribution_shift", "misaligned_organism"),
    places=one(node),
    make=make,
    kinds=frozenset({"pytorch", "peft", "trl"}),
    trains=trains,
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
