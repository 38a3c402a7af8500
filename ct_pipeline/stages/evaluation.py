"""Stage 7: the retrained model on the organism's own evaluation prompts, and the change, paired by prompt."""

import dataclasses

from ct_pipeline.stages import misaligned_organism, organism_evaluation, retrained_model
from ct_pipeline.stages.language_model import open_model
from ct_pipeline.stages.measurement import DECODINGS, DOMAINS, change, direct_accuracy, evaluation_seed, measure
from ct_pipeline.stages.node import Node, making
from ct_pipeline.stages.rows import digest, kind_named, rows_of
from ct_pipeline.store.artifact_store import Artifact, ArtifactStore
from ct_pipeline.study.keys import Cell
from ct_pipeline.study.spec import Study

STAGE = "evaluation"
VERSION = 1


def node(study: Study, cell: Cell) -> Node:
    """The rows and the changes of one cell."""
    settings = {
        "prompts": digest(rows_of(study, cell.organism).evaluation),
        "samples": study.evaluation.samples,
        "max_new_tokens": study.evaluation.max_new_tokens,
        "confidence": study.evaluation.confidence,
        "seed": study.seed,
    }
    inputs = {
        "organism_evaluation": organism_evaluation.node(study, cell.organism),
        "retrained_model": retrained_model.node(study, cell),
    }
    return Node(STAGE, VERSION, cell.organism.key, cell.method, settings, inputs)


def make(store: ArtifactStore, study: Study, cell: Cell) -> Artifact:
    """Measures the retrained model as the organism was measured, and the change in every domain and decoding."""
    place = node(study, cell)
    with making(store, place) as (draft, inputs):
        model = open_model(store, study, cell.organism.model)
        adapters = (
            store.folder(misaligned_organism.node(study, cell.organism).address),
            inputs["retrained_model"].folder,
        )
        after = measure(
            model,
            kind_named(cell.organism.kind),
            rows_of(study, cell.organism).evaluation,
            study.evaluation,
            adapters,
            evaluation_seed(study, cell.organism),
        )
        before = inputs["organism_evaluation"].table("organism")
        changes = {
            f"{domain}/{decoding}": dataclasses.asdict(
                change(before, after, domain, decoding, study.evaluation.confidence)
            )
            for domain in DOMAINS
            for decoding in DECODINGS
        }
        draft.write_table("rows", after)
        draft.write_json(
            "changes",
            {
                "changes": changes,
                "direct_accuracy_before": dataclasses.asdict(direct_accuracy(before)),
                "direct_accuracy_after": dataclasses.asdict(direct_accuracy(after)),
            },
        )
    return store.read(place.address)
