"""A study on a machine that lets it down: too old a Python, a full disk, a folder that cannot be written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_make_refuses_a_python_that_is_too_old(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2" && exit 0\nexit 1\n')
    old.chmod(0o755)
    outcome = subprocess.run(
        ["make", "setup", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode != 0
    assert "needs Python 3.11, 3.12 or 3.13" in outcome.stderr and "3.9.2" in outcome.stderr
    assert not (tmp_path / "venv").exists()


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of one megabyte; skipped where this user may not mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("this user may not mount a file system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def run_study(home: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "ct_pipeline.cli", "study", "--spec", "studies/tiny.yaml"],
        cwd=ROOT,
        env=os.environ | {"CT_PIPELINE_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_full_disk_is_said_at_once(small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(b"\0" * (1 << 20))
    outcome = run_study(small_disk / "results")
    assert outcome.returncode == 2
    assert "the disk is full" in outcome.stderr and "Traceback" not in outcome.stderr


def test_a_read_only_disk_is_said_at_once(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    outcome = run_study(small_disk / "results")
    assert outcome.returncode == 2
    assert "cannot be written" in outcome.stderr and "CT_PIPELINE_HOME" in outcome.stderr
    assert "Traceback" not in outcome.stderr
