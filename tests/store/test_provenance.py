"""By what an artifact was made, without naming the machine or its user."""

import getpass
import json
import socket
from datetime import UTC, datetime

from ct_pipeline.store import provenance


def test_a_description_tells_code_versions_machine_and_time():
    started = provenance.clock()
    said = provenance.describe(started)
    assert datetime.fromisoformat(said["finished"]) <= datetime.now(UTC)
    assert 0 <= said["seconds"] < 60
    assert {"python", "torch", "transformers", "trl", "peft", "dagster", "mlflow"} <= set(said["versions"])
    machine = {"cores", "memory", "system", "processor", "processor_model", "threads", "accelerator", "device"}
    assert set(said["machine"]) == machine
    assert said["machine"]["cores"] >= 1
    assert said["machine"]["memory"] > 2**28


def test_a_description_is_json_without_host_or_user_names():
    text = json.dumps(provenance.describe(provenance.clock()))
    for private in (socket.gethostname(), f"/home/{getpass.getuser()}"):
        assert private not in text


def test_a_checkout_names_its_commit():
    said = provenance.code()
    assert (said["commit"] is None) == (said["dirty"] is None)
    assert said["commit"] is None or len(said["commit"]) == 40


def test_equal_source_is_known_without_a_commit(tmp_path):
    for name in ("here", "there"):
        (tmp_path / name / "room").mkdir(parents=True)
        (tmp_path / name / "room" / "one.py").write_text("x = 1")
        (tmp_path / name / f"{name}.txt").write_text(name)
    here, there = (provenance.source_digest(tmp_path / name) for name in ("here", "there"))
    assert here == there
    (tmp_path / "there" / "room" / "one.py").rename(tmp_path / "there" / "room" / "two.py")
    assert provenance.source_digest(tmp_path / "there") != here
    (tmp_path / "here" / "room" / "one.py").write_text("x = 2")
    assert provenance.source_digest(tmp_path / "here") != here
    assert len(provenance.code()["source"]) == 64


def test_threads_are_those_of_the_moment():
    import torch

    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            assert provenance.describe(provenance.clock())["machine"]["threads"] == threads
    finally:
        torch.set_num_threads(before)
