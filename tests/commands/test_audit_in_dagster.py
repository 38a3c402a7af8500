"""An audit on the command line, made by the assets in this process; Dagster and MLflow are real, on a disk of their own."""

import dagster as dg
import pytest
from mlflow import MlflowClient

from ct_pipeline.commands.audit_in_dagster import Unreachable, materialize
from ct_pipeline.commands.dagster_home import CLI_TAG
from ct_pipeline.interventions.files import read_audit
from ct_pipeline.records import audit_runs as audit_records
from ct_pipeline.steps.catalog import AUDIT_STEPS
from ct_pipeline.store.artifact_store import ArtifactStore
from tests.fakes.audits import random_audit

STAGES = ["audit_evaluation", "audit_prediction", "audit_shift", "audit_verdict"]
CHECKS = [
    dg.AssetCheckKey(dg.AssetKey("audit_verdict"), name) for name in ("release_gate", "drift", "missing_verdicts")
]


class Place:
    """An audit in a results folder, run as the command line does."""

    def __init__(self, folder):
        self.folder, self.home = folder / "audits", folder / "results"
        self.store = ArtifactStore(self.home / "artifacts")
        self.watched = []

    def run(self, **changes):
        file = random_audit(self.folder, **changes)
        self.failure = materialize(self.store, read_audit(file), file, self.watched.append)
        return audit_records.runs(self.home, "mine")[-1]

    def instance(self):
        return dg.DagsterInstance.from_config(str(self.home / "dagster"))

    def tracked(self):
        """Name -> run of the experiment."""
        client = MlflowClient(f"sqlite:///{self.home / 'mlflow' / 'mlflow.db'}")
        experiment = client.get_experiment_by_name("audits").experiment_id
        return client, {run.data.tags["mlflow.runName"]: run for run in client.search_runs([experiment])}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two runs: one on the limits of a gate that is passed, one whose gate is not."""
    with pytest.MonkeyPatch.context() as patch:
        found = Place(tmp_path_factory.mktemp("audited"))
        patch.setenv("CT_PIPELINE_HOME", str(found.home))
        patch.delenv("DAGSTER_HOME", raising=False)
        found.runs = [found.run(thresholds={"risk": 0.99}), found.run(thresholds={"risk": 0.001})]
        yield found


def test_each_stage_is_shown_on_the_subjects_partition(place):
    with place.instance() as instance:
        assert instance.get_dynamic_partitions("audit_subject") == ["mine"]
        for stage in STAGES:
            second, first = instance.fetch_materializations(dg.AssetKey(stage), limit=10).records
            assert {first.partition_key, second.partition_key} == {"mine"}
            shown = first.asset_materialization.metadata
            assert shown["reused"].value is False
            assert round(shown["seconds"].value, 3) == place.runs[0]["took"][stage]
            assert second.asset_materialization.metadata["reused"].value is (stage not in place.runs[1]["made"])
        assert place.runs[1]["made"] == ["audit_verdict"]
        assert [shown["gate"].value, shown["run"].value] == ["PASS", 1]
        assert shown["trend: words"].value.startswith("![Risk of words over runs]")


def test_checks_are_told_run_by_run(place):
    with place.instance() as instance:
        storage = instance.event_log_storage
        found = {key.name: storage.get_asset_check_execution_history(key, limit=10) for key in CHECKS}
        assert {name: len(told) for name, told in found.items()} == {
            "release_gate": 2,
            "drift": 2,
            "missing_verdicts": 2,
        }
        assert [each.status.value for each in found["release_gate"]] == ["FAILED", "SUCCEEDED"]
        runs = instance.get_runs(dg.RunsFilter(tags={CLI_TAG: "audit"}))
        assert [run.status.value for run in runs] == ["FAILURE", "SUCCESS"]


def test_mlflow_has_a_run_for_each_under_one_for_the_subject(place):
    client, runs = place.tracked()
    assert set(runs) == {"mine", "mine 1", "mine 2"}
    parent, last = runs["mine"], runs["mine 2"]
    assert last.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert (last.data.tags["gate"], last.data.tags["verdict"]) == ("NO SOLUTION FOUND", place.runs[1]["overall"])
    risk = place.runs[1]["probes"]["words"]["risk"]["after"]
    metrics = last.data.metrics
    assert [metrics[f"risk_after{which}_words"] for which in ("", "_low", "_high")] == [
        risk[which] for which in ("value", "low", "high")
    ]
    assert metrics["change_words"] == place.runs[1]["probes"]["words"]["change"]["value"]
    assert [point.step for point in client.get_metric_history(parent.info.run_id, "risk_after_words")] == [1, 2]


def test_a_gate_that_is_not_passed_is_what_the_run_said_and_all_steps_were_watched(place):
    assert place.failure is not None
    assert place.watched == [step.title for step in AUDIT_STEPS] + [AUDIT_STEPS[-1].title]


def test_a_database_that_is_broken_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("CT_PIPELINE_HOME", str(tmp_path / "results"))
    broken = Place(tmp_path)
    (broken.home / "dagster" / "history").mkdir(parents=True)
    (broken.home / "dagster" / "history" / "runs.db").write_text("not a database")
    with pytest.raises(Unreachable, match="database"):
        broken.run()
    assert audit_records.runs(broken.home, "mine") == []
