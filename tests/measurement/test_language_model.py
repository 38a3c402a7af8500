"""What is opened of a base model, when, and how often."""

import pytest

from ct_pipeline.engine.starts import ENGINE_STARTS
from ct_pipeline.engine.token_divergence import Distribution
from ct_pipeline.measurement import language_model
from ct_pipeline.measurement.language_model import LanguageModel
from ct_pipeline.measurement.token_sums import token_sums
from ct_pipeline.models.loading import BASE_MODELS
from ct_pipeline.models.model import Model
from ct_pipeline.planning.plan import DRAWING_STAGES, TRAINING_STAGES, plan_of
from ct_pipeline.steps import base_model
from ct_pipeline.steps.base_model import open_model
from ct_pipeline.steps.catalog import STUDY_STEPS
from tests.fakes.tiny_models import tiny_folder


@pytest.fixture
def counted(small_study, store, tmp_path, monkeypatch):
    """Opens the study's model from a folder; returns how often weights were read and engines started since."""
    folder = tiny_folder(tmp_path / "model")
    monkeypatch.setattr(base_model, "model_of", lambda store, study, model: Model(folder))
    language_model.close_models()
    loads, starts = BASE_MODELS.loads, ENGINE_STARTS.count
    yield lambda: (BASE_MODELS.loads - loads, ENGINE_STARTS.count - starts)
    language_model.close_models()


def test_text_is_encoded_without_weights(small_study, store, counted):
    assert open_model(store, small_study, "tiny").chat.stop_ids
    assert counted() == (0, 0)


def test_weights_are_read_once_for_training_and_drawing(small_study, store, counted):
    for _ in range(3):
        model = open_model(store, small_study, "tiny")
        assert model.engine.base is model.base
    assert counted() == (1, 1)


def test_laws_of_tokens_are_compared_without_an_engine(small_study, store, counted):
    base = open_model(store, small_study, "tiny").base
    law = Distribution(base.model, [[8, 9]])
    assert token_sums(base, law, law, ["x"], [[10, 3]])["nats"].tolist() == [0.0]
    assert counted() == (1, 0)


def walk(store, study):
    """Asks for what each stage needs of each model, one model after another, as a study does."""
    on_pairs = ["distribution_shift"] if "bct" in study.methods else []
    for name in study.models:
        for stage in STUDY_STEPS:
            model = open_model(store, study, name)
            if stage.name in DRAWING_STAGES:
                assert model.engine
            elif stage.name in (*TRAINING_STAGES, "uptake", *on_pairs):
                assert model.base


@pytest.mark.parametrize("methods", [("null", "bct"), ("null",)])
def test_a_plan_of_several_models_counts_what_a_worker_opens(
    small_study, store, counted, tmp_path, monkeypatch, methods
):
    folders = {"one": tiny_folder(tmp_path / "one"), "two": tiny_folder(tmp_path / "two", seed=1)}
    monkeypatch.setattr(base_model, "model_of", lambda store, study, model: Model(folders[model]))
    models = dict.fromkeys(folders, small_study.models["tiny"])
    kept = {name: small_study.methods[name] for name in methods}
    study = small_study.model_copy(update={"models": models, "methods": kept})
    walk(store, study)
    size = plan_of(study, 1)
    assert counted() == (size.model_loads, size.engine_starts)


def test_another_model_takes_the_place_of_the_first(small_study, store, counted, tmp_path, monkeypatch):
    first = open_model(store, small_study, "tiny").base
    other = tiny_folder(tmp_path / "other", seed=1)
    monkeypatch.setattr(base_model, "model_of", lambda store, study, model: Model(other))
    second = open_model(store, small_study, "tiny").base
    assert second is not first
    assert list(BASE_MODELS.held.values()) == [second]
    assert counted() == (2, 0)


class FakeVllm:
    """An engine that holds weights of its own while it is open."""

    def __init__(self, path, revision, dtype, max_lora_rank, tensor_parallel_size):
        self.devices = tensor_parallel_size
        self.open, self.rank = True, max_lora_rank

    def close(self):
        self.open = False


def test_vllm_and_training_do_not_hold_weights_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("ct_pipeline.engine.vllm_engine.VllmEngine", FakeVllm)
    model = LanguageModel(tiny_folder(tmp_path / "model"), None, None, "vllm", 32)
    engine = model.engine
    assert engine.rank == 32
    assert model.base is not None
    assert not engine.open
    assert model.engine is engine
    assert not BASE_MODELS.held


@pytest.mark.parametrize("methods", [("null", "bct"), ("null",)])
def test_a_plan_of_one_model_on_vllm_counts_what_a_worker_loads(small_study, store, counted, monkeypatch, methods):
    monkeypatch.setattr("ct_pipeline.engine.vllm_engine.VllmEngine", FakeVllm)
    models = {"tiny": small_study.models["tiny"].model_copy(update={"engine": "vllm"})}
    kept = {name: small_study.methods[name] for name in methods}
    study = small_study.model_copy(update={"models": models, "methods": kept})
    walk(store, study)
    assert counted()[0] == plan_of(study, 1).model_loads == 3


def test_vllm_opens_for_the_largest_stack_of_a_study(small_study):
    assert base_model._largest_rank(small_study) == 16 + 16
    continued = small_study.retraining.model_copy(update={"adapter": "continued"})
    methods = {"null": small_study.methods["null"]}
    assert base_model._largest_rank(small_study.model_copy(update={"retraining": continued, "methods": methods})) == 16
