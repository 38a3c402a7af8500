"""The base model; the tiny world's is packaged or pretrained here, a Hugging Face model is named and pinned."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ct_pipeline.measurement import language_model
from ct_pipeline.measurement.chat_templates import template_of
from ct_pipeline.measurement.language_model import LanguageModel
from ct_pipeline.models.model import Model
from ct_pipeline.settings.blocks import HuggingFaceModel
from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.study import Study, own_devices
from ct_pipeline.steps import preflight
from ct_pipeline.steps.step import Artifacts, Context, Step, one
from ct_pipeline.store.artifact_store import Artifact, ArtifactStore
from ct_pipeline.store.node import Node, making, placed
from ct_pipeline.tinyworld import packaged
from ct_pipeline.tinyworld.pretraining import pretrain

NAME = "base_model"
VERSION = 1
NOT_THE_MODEL = {"engine", "devices", "seeds", "chat_template"}
"""Settings of a model that name no other weights; a template counts by its text."""


@placed
def node(study: Study, model: str) -> Node:
    """The base model of a name in the study."""
    settings = study.models[model]
    if isinstance(settings, HuggingFaceModel):
        named = {"model": settings.model_dump(mode="json", exclude=NOT_THE_MODEL)}
        template = template_of(study, model)
        return Node(NAME, VERSION, model, "-", named | ({"chat_template": template} if template else {}), {})
    return Node(NAME, VERSION, model, "-", {"world": study.world, "pretraining": study.pretraining}, {})


def make(context: Context, model: str) -> Artifact:
    """Takes the packaged model of the tiny world, or pretrains one, and holds it to its gate; pins a Hugging Face model.

    UserError where the gate is not met or a packaged file is damaged.
    """
    store, study = context.store, context.study
    preflight.check(study)
    place = node(study, model)
    settings = study.models[model]
    with making(store, place) as (draft, _):
        if isinstance(settings, HuggingFaceModel):
            draft.write_json("source", settings.model_dump(mode="json", exclude=NOT_THE_MODEL - {"engine"}))
        else:
            if packaged.fits(study.world, study.pretraining):
                draft.record |= packaged.copy_to(draft.folder, study.world, study.pretraining)
            else:
                record = pretrain(study.world, study.pretraining, draft.folder, context.threads, context.progress)
                draft.record |= dataclasses.asdict(record)
            if draft.record["direct_accuracy"] < study.pretraining.gate_accuracy:
                raise UserError(
                    f"base model {model}: {draft.record['direct_accuracy']:.1%} of direct questions are answered rightly, "
                    f"{study.pretraining.gate_accuracy:.0%} are required: raise pretraining.tokens"
                )
    return store.read(place.address)


def model_of(store: ArtifactStore, study: Study, model: str) -> Model:
    """The base model of a name in the study, its files fetched where they are kept here."""
    settings = study.models[model]
    if isinstance(settings, HuggingFaceModel):
        return Model(settings.path, settings.revision)
    return Model(store.fetched(node(study, model).address))


def open_model(store: ArtifactStore, study: Study, model: str) -> LanguageModel:
    """The language model of a name in the study."""
    settings = study.models[model]
    return language_model.open_model(
        model_of(store, study, model),
        engine=settings.engine,
        dtype=getattr(settings, "dtype", None),
        rank=_largest_rank(study),
        template=template_of(study, model),
        devices=own_devices(settings),
    )


def _largest_rank(study: Study) -> int:
    """The rank of the largest stack that is served: the organism's adapter under one of Phase 3."""
    alone = (
        name
        for name, settings in study.methods.items()
        if study.training_of(name).adapter == "new" or settings.made_from
    )
    return study.induction.training.lora.rank + max((rank_beside(study, name) for name in alone), default=0)


def rank_beside(study: Study, method: str) -> int:
    """The largest rank of what an entry's model adds to the organism; of a model change, all it is made from together."""
    organism, settings = study.induction.training.lora.rank, study.methods[method]
    if settings.made_from:
        return organism + sum(rank_beside(study, source) for source in settings.made_from)
    phase = study.training_of(method)
    return phase.lora.rank if phase.adapter == "new" else 2 * organism


def show(context: Context, model: str, made: Artifacts) -> Mapping[str, Any]:
    """The numbers of its pretraining."""
    return {name: value for name, value in made[0].record.items() if isinstance(value, (int, float, str))}


STEP = Step(
    NAME,
    title="base model",
    description="""A causal language model: the tiny world's, packaged or pretrained here, or a pinned Hugging Face model.

It exists once per study, because every organism and every evaluation starts from exactly these weights. The tiny world's
model must answer direct questions rightly before anything is built on it.""",
    version=VERSION,
    grain="model",
    after=(),
    places=one(node),
    make=make,
    kinds=frozenset({"pytorch", "huggingface"}),
    all_cores=True,
    show=show,
)
