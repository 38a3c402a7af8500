"""The command line: every mistake is one message and an exit code, never a traceback; numbers are those of the plan."""

import re
import socket
import subprocess
import sys

import pytest

from ct_pipeline import cli
from ct_pipeline.planning.plan import plan_of
from ct_pipeline.settings.blocks import TinyWorldModel
from ct_pipeline.settings.narrow import narrowed
from ct_pipeline.store.artifact_store import ArtifactStore
from tests.conftest import REPOSITORY, TINY


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Runs a command line on an empty results folder; returns exit code, standard output, standard error."""
    monkeypatch.setenv("CT_PIPELINE_HOME", str(tmp_path / "results"))
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["ct-pipeline", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return ended.value.code or 0, captured.out, captured.err

    return call


@pytest.fixture
def taken():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        yield held.getsockname()[1]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def free():
    return free_port()


def edited(tiny_text, tmp_path, old, new):
    assert old in tiny_text
    path = tmp_path / "edited.yaml"
    path.write_text(tiny_text.replace(old, new, 1))
    return path


@pytest.mark.parametrize("command", [["study", "--spec"], ["plan"], ["report", "--spec"], ["ui", "--spec"]])
def test_a_study_file_that_is_missing_is_named_by_every_command(run, command):
    code, out, err = run(*command, "nowhere/study.yaml")
    assert code == 2
    assert "nowhere/study.yaml: no such file" in err
    assert "Traceback" not in out + err


@pytest.mark.parametrize("command", [["study", "--spec"], ["plan"], ["report", "--spec"], ["ui", "--spec"]])
def test_a_mistake_in_a_study_file_is_said_by_every_command(run, command, tiny_text, tmp_path):
    path = edited(tiny_text, tmp_path, "rows: 150", "rows: -1")
    code, _, err = run(*command, path)
    assert code == 2
    assert re.search(r"edited\.yaml:\d+: induction\.rows: found -1; allowed: greater than or equal to 1", err)


@pytest.mark.parametrize("command", [["study", "--spec", TINY], ["plan", TINY]])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--only", "sycofancy"],
            "--only: sycofancy not in study tiny. It has models: tiny; misalignments: sycophancy",
        ),
        (["--only", "bct,nil"], "--only: nil not in study tiny"),
        (["--seeds", "0"], "--seeds: found 0; allowed: 1 to 3"),
        (["--seeds", "-2"], "--seeds: found -2; allowed: 1 to 3"),
        (["--seeds", "1000000000000"], "--seeds: found 1000000000000; allowed: 1 to 3"),
        (["--seeds", "two"], "Invalid value for '--seeds'"),
    ],
)
def test_a_part_that_the_study_lacks_is_refused(run, command, options, said, tmp_path):
    code, out, err = run(*command, *options)
    assert code == 2
    assert said in err
    assert "Traceback" not in out + err
    assert not (tmp_path / "results" / "artifacts").exists(), "refused before anything is written"


def test_more_prompts_than_the_world_has_are_refused_before_anything_runs(run, tiny_text, tmp_path):
    path = edited(tiny_text, tmp_path, "in_domain: 200", "in_domain: 999999")
    code, out, err = run("plan", path)
    assert code == 2
    assert "evaluation.in_domain: 999999" in err
    assert "Traceback" not in out + err


def test_a_negative_number_of_workers_is_refused(run):
    code, _, err = run("study", "--spec", TINY, "--workers", "-1")
    assert code == 2
    assert "--workers" in err


def test_an_unknown_command_is_refused(run):
    code, _, err = run("studdy")
    assert code == 2
    assert "No such command 'studdy'" in err


@pytest.mark.parametrize("command", ["study", "report", "ui"])
def test_results_that_cannot_be_written_are_said(run, monkeypatch, tmp_path, command):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CT_PIPELINE_HOME", str(tmp_path / "file"))
    ports = ["--dagster-port", free_port(), "--mlflow-port", free_port()] if command == "ui" else []
    code, out, err = run(command, "--spec", TINY, *ports)
    assert code == 2
    assert "set CT_PIPELINE_HOME to a folder that can be" in err
    assert "Traceback" not in out + err


def numbers(text):
    return [int(number.replace(",", "")) for number in re.findall(r"[\d,]*\d", text)]


def row(out, words):
    (line,) = [line for line in out.splitlines() if words in line]
    return numbers(line.split(words)[1])[-1]


def test_the_printed_plan_is_the_counted_one(run, tiny_study):
    code, out, _ = run("plan", TINY, "--only", "sycophancy,bct,self_rewarding", "--seeds", "2")
    assert code == 0
    part = narrowed(tiny_study, ["sycophancy", "bct", "self_rewarding"], 2)
    size = plan_of(part, 1)
    assert row(out, "organisms (models x misalignments x seeds)") == size.organisms == 2
    assert row(out, "cells (organisms x methods)") == size.cells == 4
    assert row(out, "adapters to train") == size.trainings == 2 * 2 + 4
    assert row(out, "distinct draws per organism") == size.draws == 5
    assert row(out, "candidate tokens, at most") == size.candidate_tokens
    assert row(out, "evaluation tokens, at most") == size.evaluation_tokens
    assert row(out, "response tokens trained on, at most") == size.trained_tokens
    assert row(out, "pretraining tokens") == size.pretraining_tokens == 0
    here = part.pretraining.model_copy(update={"source": "here"})
    assert plan_of(part.model_copy(update={"pretraining": here}), 1).pretraining_tokens == part.pretraining.tokens


def test_a_plan_of_an_empty_store_has_nothing_finished_and_writes_nothing(run, tmp_path):
    code, out, _ = run("plan", TINY, "--seeds", "1")
    assert code == 0
    assert len(re.findall(r"\b0 of \d+", out)) == 10
    assert not (tmp_path / "results").exists()


def test_a_plan_by_hand(tiny_study):
    part = narrowed(tiny_study, ["sycophancy", "null", "self_confidence"], 1)
    size = plan_of(part, 3)
    # 128 consistency prompts; probes are among them or beside them. Null draws 1 of each, self-confidence 16, and a greedy
    # answer to each is what both are compared with.
    prompts = size.candidate_tokens / ((1 + 16 + 1) * part.candidates.max_new_tokens)
    assert prompts == int(prompts)
    assert 128 <= prompts <= 228
    # Three arms and two cells; 500 prompts, greedy and once at random, 24 tokens at most.
    assert size.evaluation_tokens == (3 + 2) * 500 * 2 * 24
    # 40 steps of 16 rows for organism and control, 24 steps of 16 for each method.
    assert size.trained_tokens == (2 * 40 + 2 * 24) * 16 * 24
    assert size.model_loads == size.engine_starts == 3


def test_a_dose_curve_is_planned_for(tiny_study):
    with_doses, without = (narrowed(tiny_study, ["sycophancy", method], 1) for method in ("act", "null"))
    # 128 pairs are 8 steps of 16: five checkpoints of 40 steps, the last of which is the cell's own measurement.
    assert plan_of(with_doses, 1).evaluation_tokens - plan_of(without, 1).evaluation_tokens == 4 * 200 * 24


def test_openings_by_hand(tiny_study):
    def openings(**engines):
        models = {name: TinyWorldModel(source="tinyworld", engine=engine) for name, engine in engines.items()}
        size = plan_of(tiny_study.model_copy(update={"models": models}), 2)
        return size.model_loads, size.engine_starts

    # One model stays open in each of two processes, whatever the number of cells.
    assert openings(tiny="transformers") == (2, 2)
    # vLLM takes turns with the base model: loads for the organisms, for the teacher shift and Phase 3, and for the uptake;
    # starts between them.
    assert openings(tiny="vllm") == (6, 4)
    # Several models come one after another.
    assert openings(one="transformers", other="transformers") == (2 * (1 + 1), 2 * (1 + 1))
    assert openings(one="transformers", other="vllm") == (2 * (1 + 3), 2 * (1 + 2))


def test_sharing_draws_saves_what_methods_have_in_common(tiny_study):
    same = tiny_study.methods["self_confidence"].model_copy(update={"top_p": 1.0})
    part = narrowed(tiny_study, ["sycophancy", "self_confidence", "self_rewarding"], 1)
    part = part.model_copy(update={"methods": part.methods | {"self_confidence": same}})
    size = plan_of(part, 1)
    # One for both methods, and two that they are compared with.
    assert (size.draws, size.draws_unshared) == (1 + 2, 2 + 2)
    assert size.candidate_tokens < size.candidate_tokens_unshared


def test_the_doctor_finds_this_machine_fit_for_the_default_study(run):
    code, out, _ = run("doctor", "--spec", TINY)
    assert '".[vllm]"' in out or "vllm               0" in out
    assert code == 0
    assert "12 organisms, 168 cells" in out
    assert f"Study {TINY} can run here." in out


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("rows: 150", "rows: -1", "induction.rows: found -1"),
        ('grade it from 1 to 5 ."\n    grades', 'give it a grade ."\n    grades', "the tiny model knows no other"),
        (
            "source: tinyworld }",
            "source: huggingface, path: /nowhere/model }",
            "there is no model folder at /nowhere/model",
        ),
    ],
)
def test_the_doctor_names_what_is_missing_and_exits_with_one(run, tiny_text, tmp_path, old, new, said):
    code, out, err = run("doctor", "--spec", edited(tiny_text, tmp_path, old, new))
    assert code == 1
    assert said in out
    assert "cannot run here yet" in out
    assert "Traceback" not in out + err


def test_the_doctor_exits_with_one_for_a_missing_study_and_for_a_results_folder_it_cannot_write(
    run, monkeypatch, tmp_path
):
    code, out, _ = run("doctor", "--spec", "nowhere.yaml")
    assert code == 1
    assert "nowhere.yaml: no such file" in out
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CT_PIPELINE_HOME", str(tmp_path / "file"))
    code, out, _ = run("doctor", "--spec", TINY)
    assert code == 1
    assert "cannot be written" in out


def test_a_report_of_an_empty_store_is_refused_in_words(run):
    code, out, err = run("report", "--spec", TINY)
    assert code == 2
    assert err.strip()
    assert "Traceback" not in out + err


@pytest.mark.parametrize("option", ["--dagster-port", "--mlflow-port"])
def test_a_port_in_use_is_named_with_another_to_try(run, taken, free, option, tmp_path):
    other = "--mlflow-port" if option == "--dagster-port" else "--dagster-port"
    code, out, err = run("ui", "--spec", TINY, option, taken, other, free)
    assert code == 2
    assert f"{option} {taken}: the port is in use; end what uses it or give another, e.g. {taken + 1}" in err
    assert "Traceback" not in out + err
    assert not (tmp_path / "results").exists()


def test_two_equal_ports_are_refused(run, free):
    code, _, err = run("ui", "--spec", TINY, "--dagster-port", free, "--mlflow-port", free)
    assert code == 2
    assert f"--dagster-port and --mlflow-port are both {free}" in err


@pytest.mark.parametrize("port", [0, -1, 70000])
def test_a_port_that_cannot_be_is_refused(run, port):
    code, _, err = run("ui", "--spec", TINY, "--dagster-port", port)
    assert code == 2
    assert "--dagster-port" in err


def test_another_study_that_is_running_is_named(run, tmp_path):
    import fcntl

    ArtifactStore(tmp_path / "results" / "artifacts").prepare()
    with (tmp_path / "results" / ".study.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("4711")
        lock.flush()
        code, _, err = run("study", "--spec", TINY)
    assert code == 2
    assert "another study is running" in err
    assert "process 4711" in err


def test_brackets_in_a_message_are_shown_as_they_are(run, tmp_path):
    code, _, err = run("plan", tmp_path / "[bold]study[/bold].yaml")
    assert code == 2
    assert "[bold]study[/bold].yaml: no such file" in err


def test_an_interrupted_command_says_how_to_go_on(run, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", interrupted)
    code, _, err = run("study")
    assert code == 130
    assert "Finished work is kept" in err


def test_the_installed_command_ends_with_its_exit_code():
    done = subprocess.run(
        [sys.executable, "-m", "ct_pipeline.cli", "plan", "nowhere.yaml"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("ct-pipeline: nowhere.yaml: no such file")
    assert done.stdout == ""


def test_help_names_every_command(run):
    code, out, _ = run("--help")
    assert code == 0
    for command in ("study", "plan", "doctor", "report", "ui"):
        assert command in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--executor", "slurm"], "--executor: found 'slurm'; allowed: in_process, ray"),
        (["--executor", "ray", "--workers", "2"], "--workers: only in this process"),
        (["--executor", "ray"], "RAY_ADDRESS: no Ray cluster answers at"),
    ],
)
def test_a_study_that_cannot_run_on_ray_says_so(run, free, monkeypatch, arguments, message):
    monkeypatch.setenv("CT_PIPELINE_EXECUTOR", "in_process")
    monkeypatch.setenv("RAY_ADDRESS", f"http://127.0.0.1:{free}")
    code, _, told = run("study", "--spec", TINY, *arguments)
    assert code == 2
    assert message in told and "Traceback" not in told
