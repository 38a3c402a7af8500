"""The loaded base model, its engine and its chat format, opened once per process and base model."""

import functools
from dataclasses import dataclass

from ct_pipeline.engine.protocol import Engine
from ct_pipeline.models.chat import ChatFormat
from ct_pipeline.models.loading import BaseModel, load_base
from ct_pipeline.stages import base_model
from ct_pipeline.store.artifact_store import ArtifactStore
from ct_pipeline.study.spec import Study


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """What the stages need of a base model."""

    base: BaseModel
    engine: Engine
    chat: ChatFormat


def open_model(store: ArtifactStore, study: Study, model: str) -> LanguageModel:
    """The language model of a name in the study; weights are read at the first call of a process only."""
    path, revision, dtype = base_model.location(store, study, model)
    return _wrapped(load_base(path, revision, dtype))


@functools.lru_cache(maxsize=1)
def _wrapped(base: BaseModel) -> LanguageModel:
    from ct_pipeline.engine.transformers_engine import TransformersEngine

    return LanguageModel(base, TransformersEngine(base), ChatFormat(base.tokenizer, base.name))
