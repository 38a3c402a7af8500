"""Worker processes: they share the keys, survive failures, and end with their parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ct_pipeline.runner.workers import StepProgress, WorkerLost, Workers, accelerators, cores
from ct_pipeline.settings.errors import CannotWrite, Refused, UserError
from ct_pipeline.store.artifact_store import ArtifactStore
from ct_pipeline.store.node import find
from tests.conftest import REPOSITORY
from tests.fakes.light_work import LIGHT_WORK, node


class Diary:
    """A watcher that writes everything down."""

    def __init__(self):
        self.entries = []

    def started(self, stage, keys):
        self.entries.append(("started", stage, keys))

    def stepped(self, stage, progress):
        self.entries.append(("stepped", stage, progress))

    def finished(self, stage, outcome):
        self.entries.append(("finished", stage, outcome.key, outcome.reused))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("workers")


@pytest.fixture(scope="module")
def workers(root):
    pool = Workers(root, 2, LIGHT_WORK)
    yield pool
    pool.stop()


@pytest.fixture
def diary(workers):
    watcher = Diary()
    workers.watchers.append(watcher)
    yield watcher
    workers.watchers.remove(watcher)


def made(root, key):
    return find(ArtifactStore(root), node(None, key))


def test_no_keys_are_an_error_that_says_why():
    with pytest.raises(UserError, match="light: no keys to make; a range whose ends are swapped selects nothing"):
        Workers(Path("nowhere"), 1, LIGHT_WORK).make("light", None, [])


def test_every_key_is_made_and_told_of_once(workers, root, diary):
    told = []
    outcomes = workers.make("light", None, ["a", "b", "c"], told.append)
    assert sorted(outcome.key for outcome in outcomes) == ["a", "b", "c"]
    assert sorted(outcome.key for outcome in told) == ["a", "b", "c"]
    assert not any(outcome.reused for outcome in outcomes)
    assert all(made(root, key) for key in "abc")
    assert diary.entries[0] == ("started", "light", 3)
    assert sorted(entry for entry in diary.entries if entry[0] == "finished") == [
        ("finished", "light", key, False) for key in "abc"
    ]


def test_steps_of_a_long_job_are_told_before_the_stage_ends(workers, diary):
    workers.make("light", None, ["stepping"])
    steps = [entry[2] for entry in diary.entries if entry[0] == "stepped"]
    assert steps == [StepProgress(1, 3, 1.0), StepProgress(2, 3, 0.5), StepProgress(3, 3, 1 / 3)]


def test_what_is_there_is_left_as_it_is(workers, root):
    workers.make("light", None, ["again"])
    before = made(root, "again").manifest
    (outcome,) = workers.make("light", None, ["again"])
    assert outcome.reused
    assert made(root, "again").manifest == before


def test_a_worker_has_one_thread_and_a_stage_that_runs_alone_has_all_cores(workers, root):
    workers.make("light", None, ["one"])
    workers.make("alone", None, ["many"])
    assert made(root, "one").json("made")["threads"] == 1
    assert made(root, "many").json("made")["threads"] == os.cpu_count()


def test_work_without_a_model_loads_no_torch(workers, root):
    workers.make("light", None, ["plain"])
    assert made(root, "plain").json("made")["torch"] is False


@pytest.mark.parametrize("stage", ["light", "alone"])
def test_a_failing_key_does_not_stop_the_others_and_all_failed_keys_are_named(workers, root, stage):
    keys = [f"break.1.{stage}", f"x.{stage}", f"break.2.{stage}", f"y.{stage}"]
    with pytest.raises(RuntimeError) as failed:
        workers.make(stage, None, keys)
    assert made(root, f"x.{stage}")
    assert made(root, f"y.{stage}")
    assert f"break.1.{stage}" in str(failed.value)
    assert f"break.2.{stage}" in str(failed.value)
    assert str(failed.value).endswith("the first: OddError: this and that")


def test_a_refusal_stays_a_refusal_and_does_not_stop_the_others(workers, root):
    with pytest.raises(UserError, match=r"^light of refuse\.1: refuse\.1 is refused$"):
        workers.make("light", None, ["refuse.1", "p", "q", "r", "s", "t"])
    assert all(made(root, key) for key in "pqrst")


def test_refused_files_keep_their_list_across_processes(workers):
    with pytest.raises(Refused) as refused:
        workers.make("light", None, ["hostile.1", "v"])
    assert [each.what for each in refused.value.refusals] == ["hostile.1"]


def test_a_full_disk_stops_the_keys_that_have_not_begun(workers, root):
    keys = ["full.1", *(f"late.{i}" for i in range(20))]
    with pytest.raises(CannotWrite, match=r"^light of full\.1: the disk is full$"):
        workers.make("light", None, keys)
    assert sum(made(root, key) is not None for key in keys) < 20


def test_a_killed_worker_is_said_and_the_next_stage_works_again(workers, root):
    with pytest.raises(WorkerLost, match="a worker process ended without a word: most often the machine had no memory"):
        workers.make("light", None, ["die.1", "u", "v"])
    workers.make("light", None, ["u", "v"])
    assert made(root, "u")
    assert made(root, "v")


def test_a_worker_killed_between_stages_is_replaced(workers, root):
    workers.make("light", None, ["before"])
    os.kill(made(root, "before").json("made")["process"], signal.SIGKILL)
    wait_until(lambda: workers._pool._broken)
    workers.make("light", None, ["after"])
    assert made(root, "after")


PARENT = """
import sys
from pathlib import Path
from ct_pipeline.runner.workers import Workers
from tests.fakes.light_work import LIGHT_WORK
if __name__ == "__main__":
    Workers(Path(sys.argv[1]), 2, LIGHT_WORK).make("light", None, ["wait.1", "wait.2"])
"""


def start_waiting_parent(folder):
    script = folder / "parent.py"
    script.write_text(PARENT)
    (folder / "store").mkdir()
    parent = subprocess.Popen(
        [sys.executable, script, folder / "store"],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stderr=subprocess.DEVNULL,
        # A shell that started the tests in the background had SIGINT ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait_until(lambda: len(list((folder / "store").glob("wait.*"))) == 2)
    return parent, [int(path.suffix[1:]) for path in (folder / "store").glob("wait.*")]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent_whatever_they_are_doing(tmp_path, how):
    parent, children = start_waiting_parent(tmp_path)
    parent.send_signal(how)
    assert parent.wait() != 0
    wait_until(lambda: not any(alive(child) for child in children))


def alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition):
    """Fails after a minute; how long it takes is no part of any test."""
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("it did not happen")


@pytest.mark.parametrize(
    ("allowed", "names"), [("", ()), ("-1", ()), ("0", ("0",)), ("0,2", ("0", "2")), ("GPU-abc", ("GPU-abc",))]
)
def test_only_the_gpus_that_the_user_allows_are_used(monkeypatch, allowed, names):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", allowed)
    assert accelerators() == names


def test_there_is_one_worker_per_allowed_gpu(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,7")
    assert Workers(tmp_path).count == 3
    assert Workers(tmp_path, 1).count == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert Workers(tmp_path).count == os.cpu_count()


def test_a_step_with_cores_instead_of_a_gpu_has_as_many_workers(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("CT_PIPELINE_STEP_CORES", "3")
    assert Workers(tmp_path).count == cores() == 3
