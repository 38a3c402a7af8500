"""Audits with nobody at the keyboard: a live daemon audits again by schedule and by sensor, and survives kill -9."""

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml
from safetensors.numpy import load_file, save_file

from ct_pipeline.automation import DATA_VERSION_TAG, schedule_name
from ct_pipeline.records import audit_runs as audit_records
from ct_pipeline.records.audit_from_cell import write_audit
from tests.e2e.runs import ROOT, Place
from tests.e2e.test_served import free_port, group_members

pytestmark = pytest.mark.slow
NAME = "tiny-sycophancy-40-bct"
PLACE = {"repositoryName": "__repository__", "repositoryLocationName": "ct_pipeline"}
SENSOR = PLACE | {"sensorName": "audit_subjects"}
SCHEDULE = PLACE | {"scheduleName": schedule_name(NAME)}
RUNS = "query { runsOrError { ... on Runs { results { runId status startTime endTime tags { key value } } } } }"
SLOTS = "query { instance { concurrencyLimits { concurrencyKey activeSlotCount } } }"
TICKS = (
    "query Q($s: SensorSelector!) { sensorOrError(sensorSelector: $s) "
    "{ ... on Sensor { sensorState { ticks { status } } } } }"
)
FRESHNESS = (
    'query { assetNodeOrError(assetKey: {path: ["audit_verdict"]}) '
    "{ ... on AssetNode { freshnessStatusInfo { freshnessStatus } } } }"
)
START_SENSOR = (
    "mutation M($s: SensorSelector!) { startSensor(sensorSelector: $s) "
    "{ __typename ... on Sensor { sensorState { id status } } ... on PythonError { message } } }"
)
START_SCHEDULE = (
    "mutation M($s: ScheduleSelector!) { startSchedule(scheduleSelector: $s) "
    "{ __typename ... on ScheduleStateResult { scheduleState { id } } ... on PythonError { message } } }"
)
STOP_SENSOR = "mutation M($i: String!) { stopSensor(id: $i) { __typename ... on PythonError { message } } }"
STOP_SCHEDULE = "mutation M($i: String!) { stopRunningSchedule(id: $i) { __typename ... on PythonError { message } } }"
ENDED = {"SUCCESS", "FAILURE", "CANCELED"}
LONGEST = 420
"""Seconds that anything here may take, on a busy machine; none of them is measured."""


class Site:
    """The UI of one place, which can be killed and started again."""

    def __init__(self, place: Place) -> None:
        self.place, self.audits = place, place.home / "audit-files"
        self.port, self.mlflow = free_port(), free_port()
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        command = self.place.command(
            *("ui", "--spec", str(self.place.spec)),
            *("--dagster-port", str(self.port), "--mlflow-port", str(self.mlflow)),
        )
        environment = self.place.environment | {"CT_PIPELINE_AUDITS": str(self.audits)}
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
        )
        until(self._answers, "the UI answers")

    def stop(self) -> None:
        """As Ctrl-C does."""
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGINT)
            self.process.wait(timeout=60)

    def _answers(self) -> bool:
        assert self.process.poll() is None, "the UI ended"
        try:
            return "data" in json.dumps(self.ask(SLOTS))
        except (urllib.error.URLError, OSError, AssertionError):
            return False

    def ask(self, query: str, **variables: object) -> dict:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql", data=body, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as reply:
            answer = json.load(reply)
        assert "errors" not in answer, answer
        return answer

    def runs(self) -> list[dict]:
        return self.ask(RUNS)["data"]["runsOrError"]["results"]

    def records(self) -> list[audit_records.Record]:
        return audit_records.runs(self.place.home, NAME)

    def record_after(self, count: int) -> audit_records.Record:
        """The first record after so many, once its run has ended."""
        until(lambda: len(self.records()) > count, f"record {count + 1} is written")
        until(lambda: all(run["status"] in ENDED for run in self.runs()), "every run has ended")
        return self.records()[count]

    def slots(self) -> int:
        """Taken slots of all pools."""
        return sum(pool["activeSlotCount"] for pool in self.ask(SLOTS)["data"]["instance"]["concurrencyLimits"])

    def ticks(self, sensor: str) -> list[dict]:
        """Ended ticks of a sensor."""
        found = self.ask(TICKS, s=PLACE | {"sensorName": sensor})["data"]["sensorOrError"]["sensorState"]["ticks"]
        return [tick for tick in found if tick["status"] in ("SUCCESS", "SKIPPED")]

    def freshness(self) -> str:
        return self.ask(FRESHNESS)["data"]["assetNodeOrError"]["freshnessStatusInfo"]["freshnessStatus"]

    def change_adapter(self, factor: float) -> None:
        """Scales the retrained adapter: another model, and another file."""
        path = self.audits / "after" / "adapter_model.safetensors"
        tensors = {name: tensor * factor if "lora_B" in name else tensor for name, tensor in load_file(path).items()}
        save_file(tensors, path, metadata={"format": "pt"})

    def processes(self) -> dict[int, tuple[int, str]]:
        """Process -> parent and command line, of all that the UI started."""
        server = next(
            pid for pid, (parent, line) in all_processes().items() if parent == self.process.pid and "dev" in line
        )
        return {pid: found for pid, found in all_processes().items() if session_of(pid) == server}

    def workers(self) -> list[int]:
        """Processes that a run's process started: they hold the models."""
        found = self.processes()
        spawned = {pid for pid, (_, line) in found.items() if "spawn_main" in line}
        return [pid for pid in spawned if found[pid][0] in spawned]


def all_processes() -> dict[int, tuple[int, str]]:
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            found[int(folder.name)] = (parent, (folder / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + LONGEST
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.5)
    pytest.fail(f"it did not happen: {what}")


def subject_in(place: Place, folder: Path) -> None:
    """The audit of a finished cell, its adapters copied so that they can be changed."""
    path = write_audit(place.store, place.spec, "tiny-sycophancy-40/bct", folder)
    told = yaml.safe_load(path.read_text())
    for name, given in zip(("organism", "after"), told["after"]["adapters"], strict=True):
        (folder / name).mkdir()
        for file in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copyfile(folder / given / file, folder / name / file)
    told |= {"before": {"adapters": ["organism"]}, "after": {"adapters": ["organism", "after"]}}
    # A gate that is not passed fails the run, as it should; here it is to pass.
    told |= {"schedule": "* * * * *", "thresholds": {"risk": 0.99}}
    told["probes"]["sycophancy"]["prompts"] = 100
    path.write_text(yaml.safe_dump(told))


@pytest.fixture(scope="module")
def site(finished: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    found = Site(finished.copy(tmp_path_factory.mktemp("audited") / "results"))
    subject_in(found.place, found.audits)
    found.start()
    session = found.process.pid
    yield found
    found.stop()
    assert not group_members(session)


@pytest.fixture
def sensor(site: Site) -> Iterator[None]:
    """The sensor, switched on as the UI does."""
    state = site.ask(START_SENSOR, s=SENSOR)["data"]["startSensor"]["sensorState"]
    yield
    site.ask(STOP_SENSOR, i=state["id"])


def tags(run: dict) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in run["tags"]}


def test_the_sensor_audits_what_is_new_and_what_changed(site: Site, sensor: None) -> None:
    first = site.record_after(0)
    assert first["status"] == "done"
    assert len(first["made"]) == 4
    site.change_adapter(0.3)
    second = site.record_after(1)
    assert [line.split(":")[0] for line in second["changed"]] == ["after adapter 2"]
    assert "audit_evaluation" in second["made"]
    assert {run["status"] for run in site.runs()} == {"SUCCESS"}
    assert {tags(run)["dagster/sensor_name"] for run in site.runs()} == {"audit_subjects"}


def test_a_tick_of_the_schedule_audits_again_and_unchanged_inputs_cost_seconds(site: Site) -> None:
    count = len(site.records())
    state = site.ask(START_SCHEDULE, s=SCHEDULE)["data"]["startSchedule"]["scheduleState"]
    record = site.record_after(count)
    site.ask(STOP_SCHEDULE, i=state["id"])
    assert record["reused"]
    assert record["drift"]["raised"] is False
    until(lambda: all(run["status"] in ENDED for run in site.runs()), "every run has ended")
    (run, *_) = (run for run in site.runs() if "dagster/schedule_name" in tags(run))
    assert run["status"] == "SUCCESS"
    assert record["seconds"] <= 5
    print(f"unchanged: {record['seconds']} s of stages, {run['endTime'] - run['startTime']:.1f} s of a run")


def test_a_changed_data_version_alone_audits_again_where_automation_is_on(site: Site) -> None:
    count, home = len(site.records()), site.place.home / "dagster"
    state = site.ask(START_SENSOR, s=PLACE | {"sensorName": "audit_automation"})["data"]["startSensor"]["sensorState"]
    # Its first tick looks at nothing: it has nothing to compare with.
    until(lambda: bool(site.ticks("audit_automation")), "the first tick of the automation sensor")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        tags = {DATA_VERSION_TAG: "another"}
        instance.report_runless_asset_event(dg.AssetObservation("audit_inputs", partition=NAME, tags=tags))
    assert site.record_after(count)["reused"]
    site.ask(STOP_SENSOR, i=state["id"])


def test_the_last_verdict_is_fresh(site: Site) -> None:
    until(lambda: site.freshness() == "HEALTHY", "the freshness policy was evaluated")


def test_a_killed_worker_costs_a_retry_and_no_audit(site: Site, sensor: None) -> None:
    count = len(site.records())
    site.change_adapter(0.9)
    until(lambda: bool(site.workers()), "a worker process is at work")
    os.kill(site.workers()[0], signal.SIGKILL)
    record = site.record_after(count)
    assert record["status"] == "done"
    assert "audit_evaluation" in record["made"]
    assert site.runs()[0]["status"] == "SUCCESS"
    until(lambda: site.slots() == 0, "the pool's slot is free")


def test_after_kill_nine_of_the_daemon_and_all_runs_the_next_start_completes_the_audit(
    site: Site, sensor: None
) -> None:
    count = len(site.records())
    finished = site.place.artifacts()
    site.change_adapter(1.1)
    until(lambda: bool(site.workers()), "a worker process is at work")
    daemon = next(pid for pid, (_, line) in site.processes().items() if "dagster._daemon" in line)
    others = [pid for pid in site.processes() if pid != daemon]
    for pid in (daemon, *others):
        os.kill(pid, signal.SIGKILL)
    site.process.wait(timeout=60)
    assert len(site.records()) == count, "the audit was not finished when its processes were killed"

    site.start()

    record = site.record_after(count)
    assert record["status"] == "done"
    assert "audit_evaluation" in record["made"]
    until(lambda: site.slots() == 0, "the pool's slot is free")
    assert {path: written for path, written in site.place.artifacts().items() if path in finished} == finished
