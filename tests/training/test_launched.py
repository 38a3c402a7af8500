"""Two processes of `accelerate launch` train as one does: the same losses, adapters and checks, with sharded weights."""

import json
import os
import subprocess
import sys

import pytest

from ct_pipeline.training import sharding
from tests.conftest import REPOSITORY
from tests.training.launched import OBJECTIVES, train
from tests.training.test_sft import largest_difference, weights

CONFIG = REPOSITORY / "ct_pipeline" / "training" / sharding.FSDP_CONFIG


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What one process, and each of two, trained."""
    folder = tmp_path_factory.mktemp("launched")
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", CONFIG, "--num_processes", "2"]
    done = subprocess.run(
        [*launch, "--main_process_port", "0", "-m", "tests.training.launched", folder],
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for name in OBJECTIVES:
        train(name, folder / "alone")
    return folder


@pytest.mark.parametrize("name", OBJECTIVES)
def test_two_processes_train_as_one(folder, name):
    alone, first, second = (json.loads((folder / who / f"{name}.json").read_text()) for who in ("alone", "0", "1"))
    assert alone["steps"] == 6
    assert first["losses"] == second["losses"] == pytest.approx(alone["losses"], abs=1e-4, rel=1e-6)
    assert (alone["micro_batch"], alone["accumulation"], alone["processes"]) == (2, 4, 1)
    assert (first["micro_batch"], first["accumulation"], first["processes"]) == (2, 2, 2)
    for what in ("steps", "rows", "tokens", "trainable_parameters", "moved_parameters"):
        assert first[what] == alone[what], what
    assert first["checks"] == pytest.approx(alone["checks"], rel=1e-4)
    assert first["checks"].get("drop_difference", first["checks"].get("frozen_difference")) == 0.0


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_process_saves_the_adapter_of_one(folder, name):
    alone, first, second = (folder / who / name for who in ("alone", "0", "1"))
    assert largest_difference(weights(first), weights(alone)) < 1e-4
    assert sorted(file.name for file in first.iterdir()) == sorted(file.name for file in alone.iterdir())
    assert all((first / file.name).read_bytes() == (second / file.name).read_bytes() for file in first.iterdir())


def test_each_process_holds_its_share_of_the_weights(folder):
    shares = [json.loads((folder / who / "share.json").read_text()) for who in "01"]
    assert shares == pytest.approx([0.5, 0.5], abs=0.01)
