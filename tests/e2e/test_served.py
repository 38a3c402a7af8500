"""The UIs as a person meets them: served, asked over GraphQL, a cell and a whole backfill materialized, stopped."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ct_pipeline.interventions.files import read_study
from ct_pipeline.steps.catalog import STUDY_STEPS
from ct_pipeline.store.artifact_store import ArtifactStore
from tests.e2e.runs import ROOT, Place

LAUNCH = """mutation Launch($p: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $p) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
STATUS = """query Status($id: String!) { partitionBackfillOrError(backfillId: $id) {
  __typename ... on PartitionBackfill { status } } }"""
WORKSPACE = """query { workspaceOrError { ... on Workspace { locationEntries {
  name loadStatus displayMetadata { key value } locationOrLoadError { __typename ... on PythonError { message } } } } } }"""
RUNS = "query { runsOrError { ... on Runs { results { runId status tags { key value } } } } }"
CELL = "bct|tiny-sycophancy-40"


@dataclass(frozen=True)
class Served:
    """Both servers of a place."""

    place: Place
    process: subprocess.Popen
    dagster: str
    mlflow: str

    def ask(self, query: str, **variables: object) -> dict:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"{self.dagster}/graphql", data=body, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as reply:
            answer = json.load(reply)
        assert "errors" not in answer, answer
        return answer["data"]

    def backfill(self, **parameters: object) -> None:
        """Launches a backfill and waits until it is over; an assertion fails where it did not succeed."""
        launched = self.ask(LAUNCH, p={"tags": []} | parameters)["launchPartitionBackfill"]
        assert launched["__typename"] == "LaunchBackfillSuccess", launched
        deadline = time.monotonic() + 300
        status = "REQUESTED"
        while status in ("REQUESTED", "COMPLETING") and time.monotonic() < deadline:
            time.sleep(1)
            status = self.ask(STATUS, id=launched["backfillId"])["partitionBackfillOrError"]["status"]
        assert status == "COMPLETED_SUCCESS", status


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def served(finished: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    place = finished.copy(tmp_path_factory.mktemp("served") / "results")
    dagster, mlflow = free_port(), free_port()
    process = subprocess.Popen(
        place.command("ui", "--spec", str(place.spec), "--dagster-port", str(dagster), "--mlflow-port", str(mlflow)),
        cwd=ROOT,
        env=place.environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    lines = []
    while not any(line.startswith("Ctrl-C") for line in lines):
        line = process.stdout.readline()
        assert line, lines
        lines.append(line)
    assert f"Dagster: http://127.0.0.1:{dagster}\n" in lines
    assert f"MLflow: http://127.0.0.1:{mlflow}\n" in lines
    yield Served(place, process, f"http://127.0.0.1:{dagster}", f"http://127.0.0.1:{mlflow}")
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(timeout=60) == 0
    assert not group_members(process.pid)


def group_members(session: int) -> list[str]:
    """Command lines of processes that still belong to a session."""
    members = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(folder.name)) == session:
                members.append((folder / "cmdline").read_text())
        except OSError:
            continue
    return members


def test_both_servers_answer(served: Served) -> None:
    for address in (served.dagster, served.mlflow):
        with urllib.request.urlopen(address, timeout=30) as page:
            assert page.status == 200


def test_the_workspace_names_the_code_location_and_dagster_has_loaded_it(served: Served) -> None:
    deadline = time.monotonic() + 120
    (location,) = served.ask(WORKSPACE)["workspaceOrError"]["locationEntries"]
    while location["loadStatus"] != "LOADED" and time.monotonic() < deadline:
        time.sleep(0.5)
        (location,) = served.ask(WORKSPACE)["workspaceOrError"]["locationEntries"]
    assert location["name"] == "ct_pipeline"
    assert {"key": "module_name", "value": "ct_pipeline.definitions"} in location["displayMetadata"]
    assert location["locationOrLoadError"] == {"__typename": "RepositoryLocation"}


@pytest.mark.slow
def test_one_cell_is_materialized_from_the_ui(served: Served) -> None:
    artifacts = served.place.home / "artifacts"
    made = ("retrained_model", "evaluation")
    for stage in made:
        shutil.rmtree(artifacts / stage / "tiny-sycophancy-40" / "bct")

    served.backfill(assetSelection=[{"path": [stage]} for stage in made], partitionNames=[CELL])

    for stage in made:
        assert list((artifacts / stage / "tiny-sycophancy-40" / "bct").glob("*/manifest.json"))


@pytest.mark.slow
def test_one_backfill_runs_the_whole_study(served: Served) -> None:
    artifacts = served.place.home / "artifacts"
    for folder in artifacts.iterdir():
        if folder.name not in ("base_model", ".partial"):
            shutil.rmtree(folder)

    study, store = read_study(served.place.spec), ArtifactStore(artifacts)
    every = [*(stage.name for stage in STUDY_STEPS if stage.wanted(study)), "study_report"]
    served.backfill(assetSelection=[{"path": [name]} for name in every], allPartitions=True)

    missing = [
        (stage.name, key) for stage in STUDY_STEPS for key in stage.keys(study) if not stage.find(store, study, key)
    ]
    assert missing == []
    assert (served.place.home / "reports" / "reduced" / "index.html").is_file()
    runs = served.ask(RUNS)["runsOrError"]["results"]
    assert {run["status"] for run in runs} == {"SUCCESS"}
