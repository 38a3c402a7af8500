"""The commands of the README, run as they stand there."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from ct_pipeline.cli import app
from tests.e2e.runs import ROOT, Place

LINES = [line.strip() for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("    ")]
COMMANDS = [line.split("#")[0].strip() for line in LINES if line.startswith("ct-pipeline ")]
TARGETS = [line.split("#")[0].split()[1] for line in LINES if line.startswith("make ")]
ELSEWHERE = {"ui", "calibrate"}
"""Served in test_served.py; minutes of training, `make calibrate`."""
WITH_SPEC = {"study", "doctor", "report", "verify", "sync"}
NO_PASS = 3


def test_the_readme_names_every_command() -> None:
    assert TARGETS == ["study", "calibrate", "test", "ui"]
    known = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert {command.split()[1] for command in COMMANDS} == known | {"audit"}


@pytest.mark.parametrize("target", TARGETS)
def test_make_knows_the_target(target: str) -> None:
    # Dry: this suite runs inside `make test`, and the study and the UI have tests of their own.
    outcome = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr
    assert ("pytest" if target == "test" else f"ct-pipeline {target}") in outcome.stdout


@pytest.fixture(scope="module")
def audits(finished: Place) -> Iterator[Path]:
    """The folder of audits with its example, on the base model of the reduced study."""
    folder = finished.home / "readme-audits"
    shutil.copytree(ROOT / "audits", folder)
    example = folder / "example-labels.yaml"
    example.write_text(example.read_text().replace("../studies/tiny.yaml", str(finished.spec)))
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.split()[1] not in ELSEWHERE])
def test_the_command_runs(command: str, finished: Place, audits: Path) -> None:
    arguments = shlex.split(command)[1:]
    arguments = [str(finished.spec) if argument == "studies/tiny.yaml" else argument for argument in arguments]
    if "--spec" not in arguments and (arguments[0] in WITH_SPEC or "--cell" in arguments):
        arguments += ["--spec", str(finished.spec)]
    if arguments[:3] == ["audit", "run", "my-model"]:
        fill_in(audits)

    outcome = finished.run(*arguments, CT_PIPELINE_AUDITS=str(audits), **remote(arguments[0], finished))

    allowed = {"--gate": (0, NO_PASS)}.get(arguments[-1], (0,))
    if arguments[0] == "transcripts" and find_spec("inspect_ai") is None:
        assert "ct-pipeline[inspect]" in outcome.stderr
        allowed = (2,)
    assert outcome.returncode in allowed, outcome.stdout + outcome.stderr


def remote(command: str, finished: Place) -> dict[str, str]:
    return {"CT_PIPELINE_REMOTE": f"file://{finished.home}/remote"} if command == "sync" else {}


def fill_in(audits: Path) -> None:
    """What a person does with the template: here it becomes the audit of a cell."""
    template, filled = audits / "my-model.yaml", audits / "tiny-sycophancy-40-bct.yaml"
    assert template.exists()
    template.write_text(filled.read_text().replace("name: tiny-sycophancy-40-bct", "name: my-model"))


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
