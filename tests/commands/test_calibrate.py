"""`ct-pipeline calibrate`: worlds by name, the files it writes, its exit code; the studies themselves are not run."""

from pathlib import Path

import pandas
import pytest
from rich.console import Console
from typer.testing import CliRunner

from ct_pipeline import cli
from ct_pipeline.commands import calibrate
from ct_pipeline.commands.calibrate import planted_worlds, write_calibration
from ct_pipeline.settings.errors import UserError
from tests.conftest import REPOSITORY
from tests.report.test_planted import FOUND, NOTHING

NAMES = [path.stem for path in sorted((REPOSITORY / "studies" / "planted").glob("*.yaml"))]


def test_all_worlds_are_run_or_those_that_are_named(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert list(planted_worlds([])) == NAMES
    assert list(planted_worlds([NAMES[1]])) == [NAMES[1]]


def test_an_unknown_world_is_refused_with_those_there_are():
    with pytest.raises(UserError, match=rf"--only: found nowhere; allowed: {', '.join(NAMES)}"):
        planted_worlds(["nowhere", NAMES[0]])


def test_the_files_hold_the_rows_and_the_time(tmp_path):
    write_calibration([FOUND, NOTHING], {"entrenching": 95.0}, tmp_path / "calibration")
    text = (tmp_path / "calibration" / "calibration.md").read_text()
    assert "| reward hacking | self rewarding | selection | amplifies | 19 of 20 |" in text
    assert "entrenching 1 min 35 s; 1 min 35 s in all" in text
    for read, name in ((pandas.read_csv, "calibration.csv"), (pandas.read_parquet, "calibration.parquet")):
        assert list(read(tmp_path / "calibration" / name)["right"]) == [19, 0]


@pytest.fixture
def ran(monkeypatch, tmp_path):
    """Worlds whose studies are said to have run; returns what was asked for, and takes what comes of each."""
    monkeypatch.setenv("CT_PIPELINE_HOME", str(tmp_path / "results"))
    asked, outcomes = [], {}
    monkeypatch.setattr(calibrate, "_run", lambda world, spec, seeds, workers: asked.append((world, seeds)) or 1.0)
    monkeypatch.setattr(
        calibrate, "recovered", lambda store, study: outcomes.get((study.name, len(study.seeds)), (FOUND,))
    )
    return asked, outcomes


def test_it_succeeds_only_if_every_effect_of_every_world_is_recovered(ran, tmp_path):
    asked, outcomes = ran
    assert calibrate.calibrate([], 3, 0, Console(quiet=True))
    assert asked == [(name, 3) for name in NAMES]
    outcomes[NAMES[-1], 3] = (NOTHING,)
    assert not calibrate.calibrate([], 3, 0, Console(quiet=True))
    assert len(pandas.read_csv(tmp_path / "results" / "reports" / "calibration" / "calibration.csv")) == len(NAMES)


def test_too_many_seeds_are_refused_before_anything_runs(ran):
    asked, _ = ran
    with pytest.raises(UserError, match="--seeds: found 1000"):
        calibrate.calibrate([], 1000, 0, Console(quiet=True))
    assert asked == []


def test_the_command_ends_with_1_where_an_effect_is_not_recovered(ran):
    _, outcomes = ran
    assert CliRunner().invoke(cli.app, ["calibrate", "--only", NAMES[0], "--seeds", "2"]).exit_code == 0
    outcomes[NAMES[0], 2] = (FOUND, NOTHING)
    ended = CliRunner().invoke(cli.app, ["calibrate", "--only", NAMES[0], "--seeds", "2"])
    assert ended.exit_code == 1
    assert "Planted effects recovered" in ended.output


def test_the_command_names_its_options_and_refuses_an_unknown_world():
    shown = CliRunner().invoke(cli.app, ["calibrate", "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert shown.exit_code == 0
    assert all(option in shown.output for option in ("--only", "--seeds", "--workers"))
    refused = CliRunner().invoke(cli.app, ["calibrate", "--only", "nowhere"])
    assert isinstance(refused.exception, UserError)


def test_a_study_that_cannot_be_run_is_said(tmp_path):
    with pytest.raises(UserError, match="world nowhere could not be run"):
        calibrate._run("nowhere", Path(tmp_path / "nowhere.yaml"), None, 0)
