"""A study whose model is served by vLLM, from the base model to a cell, and what is opened for it."""

import pytest

from ct_pipeline.engine.starts import ENGINE_STARTS
from ct_pipeline.models.loading import BASE_MODELS
from ct_pipeline.planning.plan import plan_of
from ct_pipeline.settings.blocks import TinyWorldModel
from ct_pipeline.settings.keys import Cell
from ct_pipeline.steps import (
    base_model,
    candidate_scores,
    consistency_labels,
    distribution_shift,
    evaluation,
    misaligned_organism,
    organism_evaluation,
    retrained_model,
    uptake,
)
from ct_pipeline.steps.step import Context
from ct_pipeline.store.node import find
from tests.fakes.small_studies import small

METHODS = ["null", "diverse_decoding", "multi_view", "self_refinement", "self_rewarding", "bct", "act"]


@pytest.fixture
def study(tiny_study):
    part = small(tiny_study, ["sycophancy", *METHODS])
    pretraining = part.pretraining.model_copy(update={"tokens": 150_000, "gate_accuracy": 0.0})
    models = {"tiny": TinyWorldModel(source="tinyworld", engine="vllm")}
    return part.model_copy(update={"models": models, "pretraining": pretraining})


@pytest.mark.vllm
def test_a_study_on_vllm_opens_what_its_plan_says(study, store, monkeypatch):
    organism = study.organisms[0]
    # A model of so little pretraining makes no organism worth the name, and agrees with itself by chance alone.
    monkeypatch.setattr(organism_evaluation, "passed", lambda artifact: True)
    loads, starts = BASE_MODELS.loads, ENGINE_STARTS.count

    base_model.make(Context(store, study, 2), "tiny")
    misaligned_organism.make(Context(store, study), organism)
    misaligned_organism.make_control(Context(store, study), organism)
    organism_evaluation.make(Context(store, study), organism)
    candidate_scores.make(Context(store, study), organism)
    cells = [Cell(organism, method) for method in METHODS if method != "multi_view"]
    for stage in (consistency_labels, distribution_shift, retrained_model, evaluation, uptake):
        for cell in cells:
            stage.make(Context(store, study), cell)

    size = plan_of(study, 1)
    assert (BASE_MODELS.loads - loads, ENGINE_STARTS.count - starts) == (size.model_loads, size.engine_starts) == (3, 2)
    tables = {cell.method: find(store, evaluation.node(study, cell)).table("rows") for cell in cells}
    assert all(len(table) == len(tables["null"]) > 0 for table in tables.values())
    greedy = {name: table[table["decoding"] == "greedy"]["completion"].tolist() for name, table in tables.items()}
    assert greedy["bct"] != greedy["null"]
