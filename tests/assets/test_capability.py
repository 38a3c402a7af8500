"""The asset of capability and safety: there where a study asks for it, with its table and its MLflow run."""

import json
import os
import sqlite3
import subprocess
import sys

import yaml

from tests.conftest import REPOSITORY, TINY
from tests.fakes import tasks


def test_the_asset_shows_the_paired_change_and_has_a_run_of_its_own(tmp_path):
    task = tasks.true_or_false(tmp_path / "task")
    block = {"tasks": {"own": {"path": str(task), "prompts": 4}}}
    spec = tmp_path / "study.yaml"
    spec.write_text(yaml.safe_dump(yaml.safe_load(TINY.read_text()) | {"capability": block}, sort_keys=False))
    environment = os.environ | {
        "CT_PIPELINE_STUDY": str(spec),
        "CT_PIPELINE_ONLY": "sycophancy,bct",
        "CT_PIPELINE_SEEDS": "1",
        "CT_PIPELINE_HOME": str(tmp_path / "home"),
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.assets.capability_asset", str(tmp_path)],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    shown = json.loads(done.stdout.splitlines()[-1])
    assert "capability" in shown["assets"] and "capability" in shown["report_needs"]
    assert shown["change"] == -0.5
    row = shown["row"]
    assert (row["base_model"], row["organism"], row["retrained"], row["change"]) == (
        "75.0 %",
        "75.0 %",
        "25.0 %",
        "−50.0",
    )
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        runs = dict(database.execute("select name, run_uuid from runs where status = 'FINISHED'"))
        key = runs["tiny-sycophancy-40/bct capability and safety"]
        metrics = dict(database.execute("select key, value from latest_metrics where run_uuid = ?", [key]))
        tags = dict(database.execute("select key, value from tags where run_uuid = ?", [key]))
    assert (metrics["own_before"], metrics["own_after"], metrics["own_change"]) == (0.75, 0.25, -0.5)
    assert tags["mlflow.parentRunId"] == runs["tiny-sycophancy-40/bct"]
    assert shown["run"].endswith(key)
