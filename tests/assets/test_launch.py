"""Training of a model that takes several devices: one launch through Dagster Pipes, and what is done when it fails."""

import json
import os

import dagster as dg
import pytest

from ct_pipeline.assets import launch, launched
from ct_pipeline.assets.from_steps import assets_of
from ct_pipeline.assets.launched import Failure, Onlooker, Task, first_failure
from ct_pipeline.interventions.files import study_of_process
from ct_pipeline.resources.accelerator import AcceleratorResource, ArtifactStoreResource
from ct_pipeline.resources.tracking import TrackingResource
from ct_pipeline.settings.errors import UserError
from ct_pipeline.steps import base_model
from ct_pipeline.steps.catalog import step_named
from ct_pipeline.store.artifact_store import ArtifactStore
from ct_pipeline.store.node import find, making
from tests.conftest import TINY
from tests.fakes import light_work
from tests.fakes.small_studies import stand_in
from tests.fakes.tiny_models import tiny_model, word_tokenizer
from tests.runner.test_workers import Diary

STAGE = step_named("misaligned_organism")
STUDY = study_of_process()[0]
KEY = STUDY.organisms[0]


class StoppedWorkers:
    """Workers of which nothing is wanted but that they end."""

    def __init__(self, root):
        self.root, self.stopped, self.watchers = root, 0, [Diary()]

    def make(self, stage, study, keys, on_done):
        raise AssertionError(f"{keys} are not for workers")

    def stop(self):
        self.stopped += 1


class StoppedAccelerator(AcceleratorResource):
    """Opens those workers."""

    def open(self, root):
        WORKERS.append(StoppedWorkers(root))
        return WORKERS[-1]


WORKERS = []


def write_base(draft):
    tiny_model(max_position_embeddings=256).save_pretrained(draft.folder)
    word_tokenizer().save_pretrained(draft.folder)


def materialized(folder, accelerator=StoppedAccelerator):
    resources = {
        "artifacts": ArtifactStoreResource(folder=str(folder)),
        "accelerator": accelerator(),
        "tracking": TrackingResource(),
    }
    misaligned_organism = assets_of(study_of_process()[0])[1]
    return dg.materialize([misaligned_organism], resources=resources, partition_key=KEY.key, raise_on_error=False)


@pytest.fixture
def two_devices(monkeypatch, tmp_path):
    """The study of the tests whose model takes two devices, for this process and for those that are launched."""
    file = tmp_path / "two.yaml"
    text = TINY.read_text()
    assert text.count("source: tinyworld }") == 1
    file.write_text(text.replace("source: tinyworld }", "source: tinyworld, devices: 2 }"))
    monkeypatch.setenv("CT_PIPELINE_STUDY", str(file))
    return tmp_path / "artifacts"


def test_an_organism_is_trained_by_two_processes_and_shown_in_dagster(two_devices):
    store = ArtifactStore(two_devices)
    stand_in(store, base_model.node(STUDY, KEY.model), write_base)
    result = materialized(two_devices)
    assert result.success
    artifact = find(store, STAGE.places(STUDY, KEY)[0])
    settings = STUDY.induction.training
    assert artifact.record["processes"] == 2
    assert artifact.record["micro_batch"] * artifact.record["accumulation"] * 2 == settings.micro_batch
    assert len(artifact.record["losses"]) == settings.steps
    (event,) = result.asset_materializations_for_node("misaligned_organism")
    assert event.metadata["processes"].value == 2
    assert event.metadata["last_loss"].value == artifact.record["losses"][-1]
    (diary,) = WORKERS[-1].watchers
    steps = [entry[2] for entry in diary.entries if entry[0] == "stepped"]
    assert [step.loss for step in steps] == artifact.record["losses"], "each step is told of as it comes"
    assert WORKERS[-1].stopped == 1, "engines and models of workers make room"
    assert len(list(two_devices.glob("misaligned_organism/*/*/*"))) == 1
    assert not list((two_devices / ".partial").iterdir())


def test_what_is_there_is_not_trained_again(two_devices, monkeypatch):
    monkeypatch.setattr(launch, "_launch", lambda *task: pytest.fail("launched"))
    store = ArtifactStore(two_devices)
    record = {"steps": 1, "losses": [1.0], "tokens": 1, "moved_parameters": 1, "trainable_parameters": 1}
    stand_in(store, STAGE.places(STUDY, KEY)[0], lambda draft: draft.record.update(record))
    result = materialized(two_devices)
    assert result.success
    (event,) = result.asset_materializations_for_node("misaligned_organism")
    assert event.metadata["reused"].value is True


def failing(monkeypatch, *failures):
    """Lets launches end so, one after another; returns the micro-batches that each is told were too large."""
    asked, left = [], [*failures]

    def end(context, stage, study, key, store, too_large, on_step):
        asked.append(tuple(too_large))
        failure = left.pop(0)
        if failure is None:
            stand_in(store, stage.places(STUDY, key)[0], lambda draft: draft.record.update(RECORD))
        return failure

    monkeypatch.setattr(launch, "_launch", end)
    return asked


RECORD = {"steps": 1, "losses": [1.0], "tokens": 1, "moved_parameters": 1, "trainable_parameters": 1}
NO_MEMORY = Failure("CUDA out of memory", out_of_memory=True)


def test_after_lack_of_memory_all_processes_start_anew_with_smaller_micro_batches(two_devices, monkeypatch):
    assert STUDY.induction.training.micro_batch == 16
    asked = failing(monkeypatch, NO_MEMORY, NO_MEMORY, None)
    assert materialized(two_devices).success
    assert asked == [(), (8,), (8, 4)]


def test_no_memory_for_a_single_row_is_said_with_what_to_do(two_devices, monkeypatch):
    asked = failing(monkeypatch, *[NO_MEMORY] * 4)
    text = failure_of(materialized(two_devices))
    assert "no memory to train on a single row at a time: give the model more `devices`" in text
    assert asked[-1] == (8, 4, 2)


def test_what_a_person_can_mend_is_said_and_other_failures_are_errors(two_devices, monkeypatch):
    failing(monkeypatch, Failure("the rows are missing", for_user=True))
    assert failure_of(materialized(two_devices)) == f"misaligned_organism of {KEY.key}: the rows are missing"
    failing(monkeypatch, Failure("shapes differ"))
    result = materialized(two_devices)
    (failed,) = [event for event in result.all_events if event.is_step_failure]
    assert "shapes differ" in failed.step_failure_data.error.cause.message


def failure_of(result):
    (failed,) = [event for event in result.all_events if event.is_step_failure]
    return failed.step_failure_data.user_failure_data.description


def test_too_few_devices_are_said_before_anything_is_launched(two_devices, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert "a model takes 2 devices, and this process may use 1 (3)" in failure_of(materialized(two_devices))


def test_the_failure_that_explains_the_others_is_found(tmp_path):
    def put(rank, failure, time):
        file = tmp_path / f"failure-{rank}.json"
        file.write_text(json.dumps(vars(failure)))
        os.utime(file, (time, time))

    assert first_failure(tmp_path) is None
    put(0, Failure("connection closed by peer"), 5)
    put(1, Failure("broken"), 2)
    assert first_failure(tmp_path).text == "broken"
    put(2, Failure("not so", for_user=True), 7)
    assert first_failure(tmp_path).for_user
    put(3, NO_MEMORY, 9)
    assert first_failure(tmp_path) == NO_MEMORY


def task(root, fingerprint):
    return Task("light", "a", str(root), fingerprint, (8, 4), str(root), os.getpid())


def test_a_task_survives_the_command_line(tmp_path):
    assert Task.of_argument(task(tmp_path, "f").as_argument()) == task(tmp_path, "f")


def test_all_but_the_first_process_write_nothing(tmp_path):
    stage, place = light_work.stage("light"), light_work.node(None, "a")
    launched.train(task(tmp_path, place.fingerprint), stage, None, "a", None)
    assert find(ArtifactStore(tmp_path), place) is None
    with making(Onlooker(tmp_path), place) as (draft, _):
        draft.write_json("made", {})
        assert not draft.folder.is_relative_to(tmp_path)
    assert not draft.folder.exists()


def test_a_study_that_changed_since_dagster_read_it_is_not_trained(tmp_path):
    with pytest.raises(UserError, match="the study's file was changed after Dagster had read it: reload"):
        launched.train(task(tmp_path, "another"), light_work.stage("light"), None, "a", None)


def test_another_configuration_is_taken_if_it_is_there(monkeypatch, tmp_path):
    assert launch._command(3)[4].endswith("ct_pipeline/training/fsdp.yaml")
    assert launch._command(3)[5:7] == ["--num_processes", "3"]
    file = tmp_path / "own.yaml"
    monkeypatch.setenv("CT_PIPELINE_FSDP_CONFIG", str(file))
    with pytest.raises(UserError, match="CT_PIPELINE_FSDP_CONFIG: there is no file at"):
        launch._command(3)
    file.write_text("{}")
    assert launch._command(3)[4] == str(file)
