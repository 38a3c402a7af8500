"""A study of few prompts, a store in a folder of its own, and stand-ins for artifacts that need a model."""

import pytest

from ct_pipeline.settings.narrow import narrowed
from ct_pipeline.store.artifact_store import ArtifactStore
from ct_pipeline.store.node import find, making


def small(study, names, seeds=1):
    """A part of a study with few prompts."""
    part = narrowed(study, names, seeds)
    candidates = {"consistency_prompts": 12, "probe_prompts": 10, "pairs": 6, "samples": 4}
    evaluation = {"in_domain": 8, "out_of_domain": 6, "direct_questions": 5, "samples": 2}
    return part.model_copy(
        update={
            "candidates": part.candidates.model_copy(update=candidates),
            "evaluation": part.evaluation.model_copy(update=evaluation),
        }
    )


def stand_in(store, node, fill=lambda draft: draft.write_json("stand_in", {})):
    """Puts an artifact at a node, and empty ones wherever it is made from something that is not there."""
    for each in node.inputs.values():
        if find(store, each) is None:
            stand_in(store, each)
    with making(store, node) as (draft, _):
        fill(draft)
    return find(store, node)


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(tmp_path / "artifacts")


@pytest.fixture(scope="session")
def small_study(tiny_study):
    return small(tiny_study, ["sycophancy"])


@pytest.fixture(scope="session")
def organism(small_study):
    return small_study.organisms[0]
