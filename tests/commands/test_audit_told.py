"""What Dagster and MLflow show of an audit that was run on the command line; both are real, on a disk of their own."""

import dagster as dg
import pytest
from mlflow import MlflowClient

from ct_pipeline.commands.audit_told import tell
from ct_pipeline.commands.dagster_home import CLI_TAG
from ct_pipeline.interventions.files import read_audit
from ct_pipeline.records import audit_runs as audit_records
from ct_pipeline.runner.audit_run import run_audit
from ct_pipeline.settings.errors import UserError
from ct_pipeline.store.artifact_store import ArtifactStore
from tests.fakes.audits import random_audit

STAGES = ["audit_evaluation", "audit_prediction", "audit_shift", "audit_verdict"]
CHECKS = [
    dg.AssetCheckKey(dg.AssetKey("audit_verdict"), name) for name in ("release_gate", "drift", "missing_verdicts")
]


class Place:
    """An audit in a results folder, run and told of as the command line does."""

    def __init__(self, folder):
        self.folder, self.home = folder / "audits", folder / "results"
        self.store = ArtifactStore(self.home / "artifacts")

    def run(self, **changes):
        audit = read_audit(random_audit(self.folder, **changes))
        return audit, run_audit(self.store, audit, self.home, lambda what: None)

    def told(self, **changes):
        audit, run = self.run(**changes)
        tell(self.store, audit, run)
        return run

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
        found = Place(tmp_path_factory.mktemp("told"))
        patch.setenv("CT_PIPELINE_HOME", str(found.home))
        patch.delenv("DAGSTER_HOME", raising=False)
        found.runs = [found.told(thresholds={"risk": 0.99}), found.told(thresholds={"risk": 0.001})]
        yield found


def test_each_stage_is_shown_on_the_subjects_partition(place):
    with place.instance() as instance:
        assert instance.get_dynamic_partitions("audit_subject") == ["mine"]
        for stage in STAGES:
            second, first = instance.fetch_materializations(dg.AssetKey(stage), limit=10).records
            assert {first.partition_key, second.partition_key} == {"mine"}
            shown = first.asset_materialization.metadata
            assert shown["reused"].value is False
            assert shown["seconds"].value == place.runs[0]["took"][stage]
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


def test_to_tell_makes_no_record_and_no_second_run_in_mlflow(place):
    audit = read_audit(place.folder / "mine.yaml")
    assert not audit_records.is_untold(place.home, "mine")
    tell(place.store, audit, place.runs[1])
    assert len(audit_records.runs(place.home, "mine")) == 2
    client, runs = place.tracked()
    assert len(runs) == 3
    assert len(client.get_metric_history(runs["mine"].info.run_id, "risk_after_words")) == 2


def test_a_database_that_is_broken_is_named_and_the_record_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("CT_PIPELINE_HOME", str(tmp_path / "results"))
    broken = Place(tmp_path)
    audit, run = broken.run()
    (broken.home / "dagster" / "history").mkdir(parents=True)
    (broken.home / "dagster" / "history" / "runs.db").write_text("not a database")
    with pytest.raises(UserError, match="were not told of run 1 of audit mine"):
        tell(broken.store, audit, run)
    assert audit_records.is_untold(broken.home, "mine")
