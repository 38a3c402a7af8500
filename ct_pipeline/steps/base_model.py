"""Stage 1: the base model; the tiny world's is pretrained here, a Hugging Face model is named and pinned here."""

import dataclasses
from pathlib import Path

from ct_pipeline.measurement.chat_templates import template_of
from ct_pipeline.measurement.language_model import LanguageModel, opened
from ct_pipeline.settings.blocks import HuggingFaceModel
from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.study import Study, own_devices
from ct_pipeline.steps import preflight
from ct_pipeline.store.artifact_store import Artifact, ArtifactStore
from ct_pipeline.store.node import Node, making

STAGE = "base_model"
VERSION = 1
NOT_THE_MODEL = {"engine", "devices", "seeds", "chat_template"}
"""Settings of a model that name no other weights; a template counts by its text."""


def node(study: Study, model: str) -> Node:
    """The base model of a name in the study."""
    settings = study.models[model]
    if isinstance(settings, HuggingFaceModel):
        named = {"model": settings.model_dump(mode="json", exclude=NOT_THE_MODEL)}
        template = template_of(study, model)
        return Node(STAGE, VERSION, model, "-", named | ({"chat_template": template} if template else {}), {})
    return Node(STAGE, VERSION, model, "-", {"world": study.world, "pretraining": study.pretraining}, {})


def make(store: ArtifactStore, study: Study, model: str, threads: int, progress) -> Artifact:
    """Pretrains the tiny world's model and holds it to its accuracy gate, or pins a Hugging Face model.

    `progress` is called with (step, steps, loss). UserError where the gate is not met.
    """
    from ct_pipeline.tinyworld.pretraining import pretrain

    preflight.check(study)
    place = node(study, model)
    settings = study.models[model]
    with making(store, place) as (draft, _):
        if isinstance(settings, HuggingFaceModel):
            draft.write_json("source", settings.model_dump(mode="json", exclude=NOT_THE_MODEL - {"engine"}))
        else:
            record = pretrain(study.world, study.pretraining, draft.folder, threads, progress)
            draft.record |= dataclasses.asdict(record)
            if record.direct_accuracy < study.pretraining.gate_accuracy:
                raise UserError(
                    f"base model {model}: {record.direct_accuracy:.1%} of direct questions are answered rightly, "
                    f"{study.pretraining.gate_accuracy:.0%} are required: raise pretraining.tokens"
                )
    return store.read(place.address)


def location(store: ArtifactStore, study: Study, model: str) -> tuple[str | Path, str | None, str | None]:
    """Where the model's files are: path or Hub id, revision, dtype; what models.loading.load_base takes."""
    settings = study.models[model]
    if isinstance(settings, HuggingFaceModel):
        return settings.path, settings.revision, settings.dtype
    return store.fetched(node(study, model).address), None, None


def open_model(store: ArtifactStore, study: Study, model: str) -> LanguageModel:
    """The language model of a name in the study."""
    path, revision, dtype = location(store, study, model)
    template = template_of(study, model)
    settings = study.models[model]
    rank = _largest_rank(study)
    return opened(str(path), revision, dtype, settings.engine, rank, template, devices=own_devices(settings))


def _largest_rank(study: Study) -> int:
    """The rank of the largest stack that is served: the organism's adapter under one of Phase 3."""
    organism = study.induction.training.lora.rank
    phases = (study.training_of(method) for method in study.methods)
    return max(organism + (phase.lora.rank if phase.adapter == "new" else 0) for phase in phases)
