"""The commands of the README, run as they stand there."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.e2e.runs import ROOT, Place

LINES = [line.strip() for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("    ")]
COMMANDS = [line.split("#")[0].strip() for line in LINES if line.startswith("ct-pipeline ")]
TARGETS = [line.split("#")[0].split()[1] for line in LINES if line.startswith("make ")]
SERVED = "ui"


def test_the_readme_names_the_three_commands_of_a_newcomer() -> None:
    assert TARGETS == ["study", "test", "ui"]
    assert {command.split()[1] for command in COMMANDS} == {"study", "plan", "doctor", "report", "ui"}


@pytest.mark.parametrize("target", TARGETS)
def test_make_knows_the_target(target: str) -> None:
    # Dry: this suite runs inside `make test`, and the study and the UI have tests of their own.
    outcome = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr
    assert ("pytest" if target == "test" else f"ct-pipeline {target}") in outcome.stdout


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.split()[1] != SERVED])
def test_the_command_runs(command: str, finished: Place) -> None:
    arguments = shlex.split(command)[1:]
    arguments = [str(finished.spec) if argument == "studies/tiny.yaml" else argument for argument in arguments]
    if "--spec" not in arguments and arguments[0] != "plan":
        arguments += ["--spec", str(finished.spec)]

    outcome = finished.run(*arguments)

    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def test_every_file_that_the_readme_lists_is_there() -> None:
    tree = (ROOT / "README.md").read_text().split("## Files")[1].split("## ")[0]
    rooms = re.findall(r"^      (\S+)", tree, flags=re.MULTILINE)
    missing = [name for name in rooms if not (ROOT / "ct_pipeline" / name).exists()]
    top = re.findall(r"^    (\S+?),? ", tree, flags=re.MULTILINE)
    missing += [name for name in top if not (ROOT / Path(name)).exists()]
    assert missing == []
    listed = {name.rstrip("/") for name in rooms}
    present = {path.name for path in (ROOT / "ct_pipeline").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert present - listed - {"__pycache__"} == {"__init__.py"}
