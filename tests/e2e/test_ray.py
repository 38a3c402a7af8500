"""A study on a local Ray cluster of two devices, one of whose workers is killed in the middle."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
import yaml

from ct_pipeline.interventions.files import read_study
from ct_pipeline.steps.catalog import STUDY_STEPS
from ct_pipeline.store.artifact_store import Artifact
from ct_pipeline.store.provenance import source_digest
from tests.e2e.runs import ROOT, Place, change, reduced_study
from tests.e2e.test_served import free_port

pytestmark = pytest.mark.slow
LONGEST = 1500
"""Seconds that anything here may take, on a busy machine; none of them is measured."""
METHODS = 3
LOOPBACK_ONLY = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}


@dataclass(frozen=True)
class Survived:
    """A finished study, and what there was at the moment of the kill."""

    place: Place
    output: str
    kept: dict[str, int]


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + LONGEST
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.3)
    pytest.fail(f"it did not happen: {what}")


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster on this machine alone, with two devices that are only numbers."""
    # A short path: Ray's sockets lie in it.
    folder, port = tempfile.mkdtemp(prefix="ct-ray-"), free_port()
    command = [
        *(str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--temp-dir", folder),
        *("--num-gpus", "2", "--num-cpus", "2", "--dashboard-host", "127.0.0.1", "--dashboard-port", str(port)),
        *("--port", str(free_port()), "--ray-client-server-port", str(free_port())),
        *("--dashboard-agent-listen-port", str(free_port())),
    ]
    process = subprocess.Popen(
        command,
        env=os.environ | LOOPBACK_ONLY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        until(lambda: answers(address) or process.poll() is not None, "the cluster answers")
        assert process.poll() is None, "the cluster ended"
        yield address
    finally:
        process.terminate()
        process.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/api/version", timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


def small_study(folder: Path) -> Place:
    """Two organisms that pass their gate, and a few methods."""
    place = reduced_study(folder)
    methods = yaml.safe_load(place.spec.read_text())["methods"]
    change(
        place.spec,
        misalignments=["sycophancy"],
        seeds=[40, 41],
        methods={name: methods[name] for name in list(methods)[:METHODS]},
        candidates__consistency_prompts=16,
        candidates__probe_prompts=16,
        candidates__pairs=16,
        candidates__samples=4,
        evaluation__in_domain=40,
        evaluation__out_of_domain=20,
        evaluation__direct_questions=10,
    )
    return place


def step_supervisors(home: Path) -> dict[int, str]:
    """Ray worker process -> CUDA_VISIBLE_DEVICES of the step that it looks after, of the steps on a results folder."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            told = dict(each.partition("=")[::2] for each in (folder / "environ").read_text().split("\0"))
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, UnicodeDecodeError):
            continue
        if line.startswith("/bin/sh -c") and "execute_step" in line and told.get("CT_PIPELINE_HOME") == str(home):
            found[parent] = told["CUDA_VISIBLE_DEVICES"]
    return found


def half_retrained(place: Place) -> str | None:
    """The device of a step that has retrained some of an organism's models and not yet all; None while there is none."""
    for organism in place.store.root.glob("retrained_model/*"):
        made = list(organism.glob("*/*/manifest.json"))
        if 0 < len(made) < METHODS:
            return json.loads(made[0].read_text())["provenance"]["machine"]["device"]
    return None


def artifacts_of(place: Place) -> list[Artifact]:
    """All artifacts of all stages but the base model, which one step makes with all cores."""
    study, store = read_study(place.spec), place.store
    return [
        artifact
        for stage in STUDY_STEPS[1:]
        for key in stage.keys(study)
        for artifact in stage.find(store, study, key) or pytest.fail(f"{stage.name} of {key} is missing")
    ]


@pytest.fixture(scope="module")
def survived(cluster: str, tmp_path_factory: pytest.TempPathFactory) -> Survived:
    place = small_study(tmp_path_factory.mktemp("on-ray"))
    log = place.spec.with_suffix(".log")
    with log.open("w") as output:
        process = subprocess.Popen(
            place.command("study", "--spec", str(place.spec), "--executor", "ray"),
            cwd=ROOT,
            env=place.environment | {"RAY_ADDRESS": cluster},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        until(lambda: process.poll() is not None or half_retrained(place), "a step is in the middle of its work")
        assert process.poll() is None, log.read_text()
        device = half_retrained(place)
        (victim,) = (pid for pid, own in step_supervisors(place.home).items() if own == device)
        os.kill(victim, signal.SIGKILL)
        kept = place.artifacts()
        process.wait(timeout=LONGEST)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, log.read_text()
    return Survived(place, log.read_text(), kept)


def test_the_study_completes_though_a_worker_was_killed(survived: Survived) -> None:
    assert len(artifacts_of(survived.place)) > 20
    assert (survived.place.home / "reports" / "reduced" / "index.html").is_file()
    assert "2 at once" in survived.output


def test_the_lost_step_was_repeated_and_no_run_failed(survived: Survived) -> None:
    with dg.DagsterInstance.from_config(str(survived.place.home / "dagster")) as instance:
        runs = instance.get_runs()
        repeated = [
            event.step_key
            for run in runs
            for event in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_UP_FOR_RETRY)
        ]
    assert {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS}
    assert repeated == ["retrained_model"]


def test_nothing_finished_was_made_twice(survived: Survived) -> None:
    now = survived.place.artifacts()
    assert {name: now[name] for name in survived.kept} == survived.kept
    assert not (survived.place.home / "artifacts" / "damaged").exists()


def test_each_step_saw_its_own_device_and_both_worked_at_once(survived: Survived) -> None:
    made = artifacts_of(survived.place)
    told = [(each.manifest.provenance["machine"]["device"], each.manifest.provenance["process"]) for each in made]
    assert {device for device, _ in told} == {"0", "1"}
    at_once = [
        (told[one], told[other])
        for one in range(len(made))
        for other in range(one)
        if made[one].started < made[other].finished and made[other].started < made[one].finished
    ]
    assert any(one[0] != other[0] for one, other in at_once)
    # A draft may be open while its process makes another one; no other process has that device.
    assert all(one[1] == other[1] for one, other in at_once if one[0] == other[0])


def test_steps_ran_the_code_of_the_study(survived: Survived) -> None:
    sources = {each.manifest.provenance["source"] for each in artifacts_of(survived.place)}
    assert sources == {source_digest(ROOT / "ct_pipeline")}


def test_a_materialization_says_where_it_was_made(survived: Survived) -> None:
    with dg.DagsterInstance.from_config(str(survived.place.home / "dagster")) as instance:
        record = instance.get_latest_materialization_event(dg.AssetKey("evaluation"))
    metadata = record.asset_materialization.metadata
    assert metadata["device"].value in {"0", "1"}
    assert metadata["host"].value == os.uname().nodename


def test_a_second_run_does_nothing(survived: Survived, cluster: str) -> None:
    before = survived.place.artifacts()
    outcome = survived.place.run("study", "--spec", str(survived.place.spec), "--executor", "ray", RAY_ADDRESS=cluster)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert "Nothing to do" in outcome.stdout
    assert survived.place.artifacts() == before
