"""Rows of one model on one task, kept by what the model is: the same adapters are never measured twice, in no study."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from ct_pipeline.engine.protocol import Adapters
from ct_pipeline.models.loading import context_window
from ct_pipeline.models.model import content_of
from ct_pipeline.settings.blocks import HuggingFaceModel
from ct_pipeline.settings.fingerprint import fingerprint, plain
from ct_pipeline.settings.study import Study
from ct_pipeline.steps import base_model
from ct_pipeline.store.artifact_store import Address, Artifact, ArtifactStore, ArtifactWriter
from ct_pipeline.store.file_digests import digest_of
from ct_pipeline.store.locks import locked
from ct_pipeline.store.node import find

NAME = "capability_scores"
VERSION = 1
WEIGHTS = ("*.safetensors", "*.json", "*.jinja", "tokenizer.model")


def base_content(store: ArtifactStore, study: Study, model: str) -> dict[str, object]:
    """What tells a base model from all others: the hash of its files, or a Hub id with its commit; type, engine."""
    place, settings = base_model.model_of(store, study, model), study.models[model]
    named: object
    if not isinstance(settings, HuggingFaceModel):
        named = find(store, base_model.node(study, model)).digest
    elif Path(place.base).is_dir():
        files = sorted({file for pattern in WEIGHTS for file in Path(place.base).glob(pattern)})
        named = {file.name: digest_of(file) for file in files}
    else:
        named = f"{place.base}@{place.revision}"
    window = context_window(place.base, place.revision)
    return {"base": named, "dtype": getattr(settings, "dtype", None), "engine": settings.engine, "window": window}


def content_key(base: Mapping[str, object], template: str, adapters: Adapters) -> str:
    """Twenty hex digits of a base model, its chat format and the content of an adapter stack, wherever its folders lie."""
    text = json.dumps([base, template, content_of(adapters)], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


def measured_once(
    store: ArtifactStore,
    model: str,
    name: str,
    settings: Mapping[str, object],
    measure: Callable[[ArtifactWriter], None],
) -> Artifact:
    """The artifact that holds the rows of a model (by its content key) under a name; measured where it is not there.

    Processes that want the same rows at once measure them once: the others wait.
    """
    address = Address(NAME, model, name, fingerprint(version=VERSION, settings=settings))
    with locked(store.root / ".locks" / f"{address.subject}-{address.variant}-{address.fingerprint}"):
        found = store.find(address, {})
        if found is None:
            with store.write(address, plain(settings), {}) as draft:
                measure(draft)
            found = store.read(address)
    return found
