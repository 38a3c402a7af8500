"""A model of several devices: which keys it concerns, which devices workers get, and that its training is not run alone."""

import os

import pytest

from ct_pipeline.measurement import language_model
from ct_pipeline.measurement.language_model import LanguageModel
from ct_pipeline.runner.making import made_or_found
from ct_pipeline.runner.workers import Work, Workers
from ct_pipeline.settings.devices import device_groups, devices_of
from ct_pipeline.settings.errors import UserError
from ct_pipeline.steps import preflight
from ct_pipeline.steps.base_model import node
from ct_pipeline.steps.catalog import STUDY_STEPS, step_named
from ct_pipeline.steps.step import Context
from ct_pipeline.store.artifact_store import ArtifactStore
from ct_pipeline.store.node import find
from tests.fakes import light_work
from tests.measurement.test_language_model import FakeVllm


def on(study, devices):
    models = {name: model.model_copy(update={"devices": devices}) for name, model in study.models.items()}
    return study.model_copy(update={"models": models})


def test_a_key_takes_the_devices_of_its_model(small_study):
    for stage in (stage for stage in STUDY_STEPS if stage.wanted(small_study)):
        assert {devices_of(on(small_study, 4), key) for key in stage.keys(small_study)} == {4}
        assert {devices_of(small_study, key) for key in stage.keys(small_study)} == {1}
    assert devices_of(None, "my-model") == 1, "audits"


def test_devices_change_no_fingerprint(small_study):
    for stage in STUDY_STEPS:
        for key in stage.keys(small_study):
            nodes = [
                [node.fingerprint for node in stage.places(study, key)] for study in (small_study, on(small_study, 4))
            ]
            assert nodes[0] == nodes[1]
    assert node(on(small_study, 2), "tiny").fingerprint == node(small_study, "tiny").fingerprint


def test_devices_are_grouped_without_overlap():
    assert device_groups((), 4) == ()
    assert device_groups(("0", "1", "2"), 1) == ("0", "1", "2")
    assert device_groups(("3", "5", "6", "7", "8"), 2) == ("3,5", "6,7")
    with pytest.raises(UserError, match=r"a model takes 4 devices, and this process may use 2 \(3, 5\): lower"):
        device_groups(("3", "5"), 4)


def of_name(context, key):
    return int(key.rpartition(".")[2])


def make(context, key):
    """Writes down which devices the worker sees."""
    with light_work.making(context.store, light_work.node(None, key)) as (draft, _):
        draft.write_json("made", {"devices": os.environ["CUDA_VISIBLE_DEVICES"], "process": os.getpid()})


def seeing(name):
    return light_work.Step(name, name, "Sees devices.", 1, "model", (), light_work.one(light_work.node), make)


def test_workers_of_a_stage_see_as_many_devices_as_each_model_takes(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3,4,5,6")
    workers = Workers(tmp_path, None, Work(seeing, light_work.begin, light_work.use_threads, of_name))
    keys = ["a.1", "b.2", "c.2", "d.1", "e.4"]
    try:
        outcomes = workers.make("seeing", None, keys)
        with pytest.raises(UserError, match="a model takes 8 devices"):
            workers.make("seeing", None, ["f.8"])
    finally:
        workers.stop()
    assert sorted(outcome.key for outcome in outcomes) == keys
    seen = {key: find(ArtifactStore(tmp_path), light_work.node(None, key)).json("made")["devices"] for key in keys}
    assert {seen["a.1"], seen["d.1"]} <= set("23456")
    assert {seen["b.2"], seen["c.2"]} <= {"2,3", "4,5"}
    assert seen["e.4"] == "2,3,4,5"


@pytest.mark.parametrize("stage", ["misaligned_organism", "control_organism", "retrained_model"])
def test_one_process_alone_does_not_train_a_model_of_several_devices(small_study, store, stage):
    key = step_named(stage).keys(small_study)[0]
    with pytest.raises(RuntimeError, match="tiny is trained by 4 processes together, and here are 1: materialize"):
        made_or_found(step_named(stage), Context(store, on(small_study, 4)), key)


@pytest.mark.parametrize(("device", "shared"), [("cuda", 4), ("cpu", 1)])
def test_vllm_splits_the_model_over_its_gpus(monkeypatch, tmp_path, device, shared):
    monkeypatch.setattr("ct_pipeline.engine.vllm_engine.VllmEngine", FakeVllm)
    monkeypatch.setattr(language_model, "default_device", lambda: device)
    assert LanguageModel(tmp_path, None, None, "vllm", 32, devices=4).engine.devices == shared


def test_a_batch_that_the_devices_do_not_divide_is_refused_before_anything_is_computed(small_study):
    assert not preflight.faults(on(small_study, 2))
    (fault, *_) = preflight.faults(on(small_study, 7))
    assert fault.startswith("models.tiny.devices: induction.training: the effective batch of ")
    assert "cannot be divided by 7 processes: change `accumulation`" in fault
