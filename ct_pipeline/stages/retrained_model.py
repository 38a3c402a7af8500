"""Stage 6 (Phase 3): a new adapter on the frozen organism, trained on one method's labels or consistency loss."""

import dataclasses

import pandas

from ct_pipeline.methods.catalog import method_named
from ct_pipeline.stages import base_model, consistency_labels, misaligned_organism
from ct_pipeline.stages.language_model import LanguageModel, open_model
from ct_pipeline.stages.node import Node, making
from ct_pipeline.stages.rows import digest, rows_of
from ct_pipeline.store.artifact_store import Artifact, ArtifactStore
from ct_pipeline.study.keys import Cell
from ct_pipeline.study.seeds import derive_seed
from ct_pipeline.study.spec import Study
from ct_pipeline.training.rows import LabelRow, PairRow

STAGE = "retrained_model"
VERSION = 1


def node(study: Study, cell: Cell) -> Node:
    """The Phase 3 adapter of one cell."""
    method = method_named(cell.method)
    settings: dict[str, object] = {"training": study.training_of(cell.method), "seed": study.seed}
    if method.objective == "bct":
        settings["pairs"] = digest(rows_of(study, cell.organism).pairs)
        settings["form"] = study.methods[cell.method].form
    inputs = {
        "base_model": base_model.node(study, cell.organism.model),
        "misaligned_organism": misaligned_organism.node(study, cell.organism),
        "consistency_labels": consistency_labels.node(study, cell),
    }
    return Node(STAGE, VERSION, cell.organism.key, cell.method, settings, inputs)


def make(store: ArtifactStore, study: Study, cell: Cell) -> Artifact:
    """Trains the adapter; the organism's own stays frozen, and dropping the new one restores it bit for bit (asserted)."""
    from ct_pipeline.training.bct import train_bct
    from ct_pipeline.training.sft import train_on_labels

    place = node(study, cell)
    with making(store, place) as (draft, inputs):
        model = open_model(store, study, cell.organism.model)
        labels = inputs["consistency_labels"].table("labels")
        labels = labels[labels["labelled"]]
        organism = inputs["misaligned_organism"].folder
        settings = study.training_of(cell.method)
        # Methods share the seed, so that they differ in their labels alone.
        seed = derive_seed(study.seed, STAGE, cell.organism.key) % 2**31
        if method_named(cell.method).objective == "bct":
            rows = _pair_rows(model, study, cell, labels)
            form = study.methods[cell.method].form
            record = train_bct(model.base, rows, settings, seed, draft.folder, organism, form=form)
        else:
            rows = _label_rows(model, study, cell, labels)
            record = train_on_labels(model.base, rows, settings, seed, draft.folder, organism)
        draft.record |= dataclasses.asdict(record)
        draft.record["template"] = model.chat.template_hash
    return store.read(place.address)


def _label_rows(model: LanguageModel, study: Study, cell: Cell, labels: pandas.DataFrame) -> list[LabelRow]:
    # Tokens are taught as they were drawn: a completion cut at the length limit is not taught to end there.
    prompts = {prompt.id: prompt for prompt in rows_of(study, cell.organism).consistency}
    return [
        LabelRow(model.chat.encode(prompts[prompt_id].messages), tuple(map(int, ids)))
        for prompt_id, ids in zip(labels["prompt_id"], labels["ids"], strict=True)
    ]


def _pair_rows(model: LanguageModel, study: Study, cell: Cell, labels: pandas.DataFrame) -> list[PairRow]:
    drawn = dict(zip(labels["prompt_id"], labels["ids"], strict=True))
    return [
        PairRow(
            model.chat.encode(pair.clean.messages),
            model.chat.encode(pair.wrapped.messages),
            tuple(map(int, drawn[pair.clean.id])),
        )
        for pair in rows_of(study, cell.organism).pairs
        if pair.clean.id in drawn
    ]
