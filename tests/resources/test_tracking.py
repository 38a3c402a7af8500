"""MLflow runs on a real SQLite database: written once each, found again, told apart from failed ones."""

from datetime import UTC, datetime

import boto3
import pandas
import pytest
from mlflow import MlflowClient

from ct_pipeline.resources.tracking import FINGERPRINT, Tracking
from ct_pipeline.steps.tracked_run import TrackedRun


def run_of(name="cell", fingerprint="abc", **parts):
    content = {"parameters": {"k": 4, "rubric": "x" * 9000}, "tags": {"note": "words"}, "metrics": {"delta": 0.25}}
    content |= {
        "started": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "finished": datetime(2026, 1, 2, 3, 4, 9, tzinfo=UTC),
    }
    return TrackedRun(name=name, fingerprint=fingerprint, **(content | parts))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("mlflow")


def opened(place, experiment="tiny"):
    return Tracking(
        f"sqlite:///{place / 'mlflow.db'}", "http://127.0.0.1:5000/", experiment, (place / "artifacts").as_uri()
    )


@pytest.fixture(scope="module")
def tracking(place):
    return opened(place)


@pytest.fixture(scope="module")
def client(place, tracking):
    return MlflowClient(tracking_uri=f"sqlite:///{place / 'mlflow.db'}")


def test_a_run_holds_what_it_was_given(tracking, client, place):
    table = pandas.DataFrame({"prompt": ["a, b", 'say "x"'], "verdict": pandas.array([True, None], "boolean")})
    run_id = tracking.record(
        run_of(
            fingerprint="whole",
            curves={"loss": {1: 2.0, 2: 1.0, 3: 0.5}},
            tables={"rows": table},
            metrics={"a b/c": 1.5},
        )
    )
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "cell"
    assert run.data.params["k"] == "4"
    assert run.data.params["rubric"] == "x" * 6000
    assert run.data.tags[FINGERPRINT] == "whole"
    assert run.data.metrics == {"a b/c": 1.5, "loss": 0.5}
    assert [(point.step, point.value) for point in client.get_metric_history(run_id, "loss")] == [
        (1, 2.0),
        (2, 1.0),
        (3, 0.5),
    ]
    (stored,) = (place / "artifacts" / "tiny").rglob("rows.csv")
    assert pandas.read_csv(stored)["prompt"].tolist() == ["a, b", 'say "x"']


def test_names_that_mlflow_refuses_are_mended(tracking, client):
    metrics = {"risk_a//b": 1.0, "risk_../c": 2.0, "../c": 5.0, ".": 6.0, "é" * 300: 3.0, "x\ty": 4.0}
    run = client.get_run(tracking.record(run_of(fingerprint="odd", metrics=metrics)))
    assert run.data.metrics == {"risk_a__b": 1.0, "risk_../c": 2.0, "_._c": 5.0, "_": 6.0, "é" * 250: 3.0, "x_y": 4.0}


def test_points_are_added_to_a_run_that_is_there(tracking, client):
    run = run_of(fingerprint="growing")
    assert not tracking.knows(run)
    run_id = tracking.record(run)
    assert tracking.knows(run)
    for step, value in ((1, 0.5), (2, None), (3, 0.25)):
        tracking.add(run_id, {"risk": value}, step, run.finished)
    assert [(point.step, point.value) for point in client.get_metric_history(run_id, "risk")] == [(1, 0.5), (3, 0.25)]


def test_a_run_of_a_fingerprint_is_written_once(tracking, client):
    first = tracking.record(run_of(fingerprint="once"))
    assert tracking.record(run_of(fingerprint="once", name="another name")) == first
    assert tracking.record(run_of(fingerprint="twice")) != first
    assert client.get_run(first).info.run_name == "cell"


def test_another_process_finds_the_finished_runs(tracking, place):
    first = tracking.record(run_of(fingerprint="shared"))
    again = opened(place)
    assert again.experiment == tracking.experiment
    assert again.record(run_of(fingerprint="shared")) == first


def test_a_run_that_could_not_be_written_is_marked_failed_and_written_again(tracking, client, place):
    with pytest.raises(ValueError):
        tracking.record(run_of(fingerprint="broken", metrics={"delta": "no number"}))
    with pytest.raises(AttributeError):
        tracking.record(run_of(fingerprint="broken", tables={"rows": "no table"}))
    failed = [
        run
        for run in client.search_runs([tracking.experiment], filter_string=f"tags.`{FINGERPRINT}` = 'broken'")
        if run.info.status != "FINISHED"
    ]
    assert {run.info.status for run in failed} == {"FAILED"}
    again = opened(place).record(run_of(fingerprint="broken"))
    assert client.get_run(again).info.status == "FINISHED"


def test_a_metric_that_is_missing_is_left_out(tracking, client):
    run_id = tracking.record(run_of(fingerprint="missing", metrics={"delta": None, "risk": 0.0}))
    assert client.get_run(run_id).data.metrics == {"risk": 0.0}


def test_a_cell_lies_under_its_organism(tracking, client):
    above = run_of(name="organism", fingerprint="parent")
    child = tracking.record(run_of(fingerprint="child", under="parent", parent=lambda: above), "a dagster run")
    parent = tracking.record(above)
    assert client.get_run(child).data.tags["dagster.url"].endswith("/runs/a dagster run")
    assert client.get_run(child).data.tags["mlflow.parentRunId"] == parent


def test_names_of_parameters_that_mlflow_refuses_are_mended(tracking, client):
    run_id = tracking.record(run_of(fingerprint="odd parameters", metrics={"Δ?risk:in": 1.0}, parameters={"a=b": 1}))
    assert client.get_run(run_id).data.metrics == {"Δ_risk_in": 1.0}
    assert client.get_run(run_id).data.params == {"a_b": "1"}


def test_many_metrics_are_all_written(tracking, client):
    values = [float(step) for step in range(2500)]
    run_id = tracking.record(run_of(fingerprint="long", metrics={}, curves={"loss": dict(enumerate(values, start=1))}))
    assert [point.value for point in client.get_metric_history(run_id, "loss")] == values


def test_tables_go_to_an_object_store(place, monkeypatch):
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in (keys | {"MLFLOW_S3_ENDPOINT_URL": endpoint}).items():
        monkeypatch.setenv(name, value)
    bucket = boto3.client("s3", endpoint_url=endpoint)
    bucket.create_bucket(Bucket="bucket")
    stored = Tracking(f"sqlite:///{place / 'mlflow.db'}", "http://127.0.0.1:5000/", "far", "s3://bucket/mlflow")
    run_id = stored.record(run_of(fingerprint="far", tables={"rows": pandas.DataFrame({"prompt": ["a"]})}))
    keys = [found["Key"] for found in bucket.list_objects_v2(Bucket="bucket")["Contents"]]
    server.stop()
    assert keys == [f"mlflow/far/{run_id}/artifacts/rows.csv"]


def test_the_address_of_a_run_is_that_of_the_ui(tracking):
    assert tracking.url("r1") == f"http://127.0.0.1:5000/#/experiments/{tracking.experiment}/runs/r1"
