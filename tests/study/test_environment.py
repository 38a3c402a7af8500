"""Where results lie and what is run, by environment variables."""

from pathlib import Path

import pytest

from ct_pipeline.study import environment
from ct_pipeline.study.errors import UserError


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
