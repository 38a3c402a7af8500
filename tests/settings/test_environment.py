"""Where results lie and what is run, by environment variables."""

from pathlib import Path

import pytest

from ct_pipeline.settings import environment
from ct_pipeline.settings.errors import UserError


def test_results_lie_in_the_named_folder_else_beside_the_caller(monkeypatch, tmp_path):
    monkeypatch.setenv("CT_PIPELINE_HOME", str(tmp_path / "elsewhere"))
    assert environment.home() == tmp_path / "elsewhere"
    monkeypatch.setenv("CT_PIPELINE_HOME", "")
    monkeypatch.chdir(tmp_path)
    assert environment.home() == tmp_path / "results"


def test_what_the_user_set_stays(monkeypatch):
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "debug")
    monkeypatch.delenv("DO_NOT_TRACK", raising=False)
    environment.prepare_environment()
    assert environment.os.environ["TRANSFORMERS_VERBOSITY"] == "debug"
    assert environment.os.environ["DO_NOT_TRACK"] == "1"


def test_names_are_separated_by_commas(monkeypatch):
    monkeypatch.setenv("CT_PIPELINE_ONLY", " bct, ,sycophancy,")
    assert environment.narrowing() == ("bct", "sycophancy")


@pytest.mark.parametrize(("text", "seeds"), [("", None), ("2", 2)])
def test_seeds_are_a_number_or_nothing(monkeypatch, text, seeds):
    monkeypatch.setenv("CT_PIPELINE_SEEDS", text)
    assert environment.seed_limit() == seeds


@pytest.mark.parametrize("text", ["two", "-1", "1.5"])
def test_anything_else_for_seeds_is_refused(monkeypatch, text):
    monkeypatch.setenv("CT_PIPELINE_SEEDS", text)
    with pytest.raises(UserError, match=r"CT_PIPELINE_SEEDS: found .*; allowed: a number"):
        environment.seed_limit()


def test_the_default_study_is_the_tiny_one(monkeypatch):
    monkeypatch.delenv("CT_PIPELINE_STUDY")
    assert environment.study_file() == Path("studies/tiny.yaml")


def test_steps_run_in_process_unless_ray_is_chosen(monkeypatch):
    monkeypatch.delenv("CT_PIPELINE_EXECUTOR", raising=False)
    environment.choose_executor("")
    assert environment.executor() == "in_process"
    monkeypatch.setenv("CT_PIPELINE_EXECUTOR", "in_process")
    environment.choose_executor("ray")
    assert environment.executor() == "ray"


def test_an_unknown_executor_is_refused_and_not_kept(monkeypatch):
    monkeypatch.setenv("CT_PIPELINE_EXECUTOR", "slurm")
    with pytest.raises(UserError, match="CT_PIPELINE_EXECUTOR: found 'slurm'; allowed: in_process, ray"):
        environment.executor()
    monkeypatch.setenv("CT_PIPELINE_EXECUTOR", "ray")
    with pytest.raises(UserError, match="--executor: found 'slurm'; allowed: in_process, ray"):
        environment.choose_executor("slurm")
    assert environment.executor() == "ray"


@pytest.mark.parametrize(("text", "cores"), [("", None), ("4", 4)])
def test_a_step_has_so_many_cores_or_a_gpu(monkeypatch, text, cores):
    monkeypatch.setenv("CT_PIPELINE_STEP_CORES", text)
    assert environment.step_cores() == cores


@pytest.mark.parametrize("text", ["0", "-1", "all"])
def test_anything_else_for_cores_is_refused(monkeypatch, text):
    monkeypatch.setenv("CT_PIPELINE_STEP_CORES", text)
    with pytest.raises(UserError, match=r"CT_PIPELINE_STEP_CORES: found .*; allowed: a number of cores"):
        environment.step_cores()


def test_a_step_begins_in_the_folder_of_its_run(monkeypatch, tmp_path):
    monkeypatch.chdir("/")
    monkeypatch.setenv("CT_PIPELINE_FOLDER", str(tmp_path))
    environment.enter_folder()
    assert Path.cwd() == tmp_path
    monkeypatch.setenv("CT_PIPELINE_FOLDER", str(tmp_path / "not-shared"))
    with pytest.raises(
        UserError, match=r"not-shared cannot be entered on this machine .*shared folders on all machines"
    ):
        environment.enter_folder()


def test_ray_reports_no_usage(monkeypatch):
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    environment.prepare_environment()
    assert environment.os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
