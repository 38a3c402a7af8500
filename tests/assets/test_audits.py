"""The assets of an audit on a real random model: what each shows and checks, what a refusal and a killed worker do."""

import dagster as dg
import pytest

from ct_pipeline.assets.audit_inputs import audit_inputs
from ct_pipeline.assets.audits import AUDIT_ASSETS, ONE_AUDIT_PER_RUN
from ct_pipeline.definitions import RESOURCES
from ct_pipeline.partitions import audit_subject
from ct_pipeline.records import audit_runs as audit_records
from ct_pipeline.resources.accelerator import AcceleratorResource, ArtifactStoreResource
from ct_pipeline.resources.tracking import TrackingResource
from ct_pipeline.runner.in_process import InProcess
from ct_pipeline.runner.workers import WorkerLost
from ct_pipeline.store.artifact_store import ArtifactStore
from tests.assets.test_definitions import RefusingIOManager
from tests.fakes.audits import lines, random_audit

LOSSES: list[str] = []
STAGES = ["audit_evaluation", "audit_prediction", "audit_shift", "audit_verdict"]


class Here:
    """Workers that do their job in this process; as many calls as LOSSES holds end as if a process had been killed."""

    def __init__(self, root):
        self.root = root

    def make(self, stage, study, keys):
        if LOSSES:
            raise WorkerLost(LOSSES.pop())
        InProcess(ArtifactStore(self.root), lambda what: None).make(stage, study, keys)


class HereAccelerator(AcceleratorResource):
    """Opens no process."""

    def open(self, root):
        return Here(root)


class NoAccelerator(AcceleratorResource):
    """For runs that have nothing to make."""

    def open(self, root):
        raise AssertionError("a process was started")


@dg.asset(deps=["audit_verdict"], partitions_def=audit_subject, backfill_policy=ONE_AUDIT_PER_RUN)
def release(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """What somebody does with a model that passed."""
    return dg.MaterializeResult()


class Place:
    """An audits folder, a results folder and a Dagster instance."""

    def __init__(self, folder, instance, tracking):
        self.folder, self.home, self.instance = folder / "audits", folder / "results", instance
        self.tracking = tracking

    def run(self, accelerator=None, name="mine"):
        self.instance.add_dynamic_partitions(audit_subject.name, [name])
        resources = RESOURCES | {
            "artifacts": ArtifactStoreResource(folder=str(self.home / "artifacts")),
            "accelerator": accelerator or HereAccelerator(),
            "tracking": self.tracking,
            "io_manager": RefusingIOManager(),
        }
        return dg.materialize(
            [*AUDIT_ASSETS, release, audit_inputs],
            partition_key=name,
            instance=self.instance,
            resources=resources,
            raise_on_error=False,
        )

    @property
    def records(self):
        return audit_records.runs(self.home, "mine")


@pytest.fixture(scope="module")
def tracking(tmp_path_factory):
    """One MLflow database for all tests here: a new one takes seconds."""
    return TrackingResource(uri=f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}")


@pytest.fixture
def place(tmp_path, monkeypatch, tracking):
    monkeypatch.setenv("CT_PIPELINE_AUDITS", str(tmp_path / "audits"))
    monkeypatch.setenv("CT_PIPELINE_HOME", str(tmp_path / "results"))
    with dg.DagsterInstance.ephemeral() as instance:
        yield Place(tmp_path, instance, tracking)


def shown(result, name):
    (event,) = result.asset_materializations_for_node(name)
    assert event.partition == "mine"
    return event.metadata


def checks(result):
    return {found.check_name: found for found in result.get_asset_check_evaluations()}


def failures(result):
    return {event.step_key: event.step_failure_data for event in result.all_events if event.is_step_failure}


def test_an_audit_is_shown_checked_and_recorded_and_costs_nothing_a_second_time(place):
    random_audit(place.folder, thresholds={"risk": 0.99, "change": 0.99}, after={"adapters": []})
    first = place.run()
    assert first.success
    found = checks(first)
    assert {name: check.passed for name, check in found.items()} == {
        "quarantine": True,
        "release_gate": True,
        "drift": True,
        "missing_verdicts": True,
    }
    assert {check.partition for check in found.values()} == {"mine"}
    assert found["drift"].severity is dg.AssetCheckSeverity.WARN
    verdict = shown(first, "audit_verdict")
    assert verdict["gate"].value == "PASS"
    assert verdict["change: words"].value == 0
    assert verdict["report"].value == str(place.home / "reports" / "audits" / "mine" / "index.html")
    assert verdict["trend: words"].value.startswith("![Risk of words over runs](data:image/png;base64,")
    assert shown(first, "audit_shift")["KL(after‖before) per answer: words"].value == 0
    assert {stage: shown(first, stage)["reused"].value for stage in STAGES} == dict.fromkeys(STAGES, False)
    assert place.records[0]["made"] == STAGES
    assert len(first.asset_materializations_for_node("release")) == 1
    assert "experiments" in verdict["mlflow"].value

    second = place.run(NoAccelerator())
    assert second.success
    assert {stage: shown(second, stage)["reused"].value for stage in STAGES} == dict.fromkeys(STAGES, True)
    assert [run["made"] for run in place.records] == [STAGES, []]
    assert checks(second)["drift"].metadata["compared with run"].value == 1
    assert place.records[1]["seconds"] < 5


def test_a_gate_that_is_not_passed_stops_what_comes_after(place):
    random_audit(place.folder, thresholds={"risk": 0.001})
    result = place.run()
    assert not result.success
    gate = checks(result)["release_gate"]
    assert not gate.passed
    assert gate.description.startswith("NO SOLUTION FOUND")
    assert "audit_verdict" in failures(result)
    assert not result.asset_materializations_for_node("release")
    assert place.records[0]["gate"] == "NO SOLUTION FOUND"


def test_refused_files_are_named_once_and_nothing_of_them_is_used(place):
    random_audit(place.folder)
    (place.folder / "after" / "adapter_config.json").write_text('{"auto_mapping": {"x": "y"}, "peft_type": "LORA"}')
    result = place.run()
    (step,) = failures(result)
    assert step == "audit_evaluation"
    data = failures(result)[step]
    assert data.user_failure_data.description.startswith("refused:\n")
    assert "auto_mapping" in data.user_failure_data.description
    check = checks(result)["quarantine"]
    assert not check.passed
    assert any("auto_mapping" in str(record.data) for record in check.metadata["refusals"].records)
    (record,) = place.records
    assert record["status"] == "refused"
    assert any(not each["accepted"] for each in record["quarantine"])


def test_before_any_training_the_gate_does_not_apply(place):
    rule = {"contains": ["w5"]}
    labels = [{"prompt": f"w{n} w{n + 1}", "response": f"w{n}", "misbehaves_if": rule} for n in range(10)]
    path = random_audit(place.folder, after=None, probes={}, labels={"path": "labels.jsonl"})
    lines(path.parent / "labels.jsonl", labels)
    result = place.run()
    assert result.success, failures(result)
    assert checks(result)["release_gate"].description == "Not applicable: nothing was trained yet."
    assert shown(result, "audit_verdict")["gate"].value == "not applicable"
    assert any(name.startswith("predicted change from labels") for name in shown(result, "audit_prediction"))


def test_a_killed_worker_is_followed_by_another(place):
    random_audit(place.folder, thresholds={"risk": 0.99})
    LOSSES.append("killed")
    result = place.run()
    assert result.success
    assert any(event.is_step_up_for_retry for event in result.all_events)
    assert place.records[0]["made"] == STAGES


def test_a_worker_that_is_killed_again_and_again_is_a_failure(place):
    random_audit(place.folder)
    LOSSES.extend(["killed", "killed"])
    assert not place.run().success
    assert not LOSSES


def test_a_subject_without_a_file_fails_in_words(place):
    random_audit(place.folder)
    result = place.run(name="other")
    told = failures(result)["audit_evaluation"].user_failure_data.description
    assert "holds no file other.yaml" in told
    assert "there are: mine" in told
