"""The command line of audits: exit codes, what is printed, files for CI systems; every mistake is one message."""

import json
import re
import shutil
import sys
from xml.etree import ElementTree

import pytest

from ct_pipeline import cli
from ct_pipeline.commands import audit as audit_command
from ct_pipeline.commands.audit_in_dagster import Unreachable
from ct_pipeline.interventions.files import read_audit
from ct_pipeline.runner.audit_run import run_audit
from ct_pipeline.settings.environment import home
from ct_pipeline.store.artifact_store import ArtifactStore
from tests.conftest import REPOSITORY
from tests.fakes.audits import lines, random_audit
from tests.fakes.tiny_models import random_adapter, tiny_base


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The artifacts of an audit that was run once: one of equal content finds its answers there."""
    place = tmp_path_factory.mktemp("measured")
    store = ArtifactStore(place / "results" / "artifacts")
    run_audit(store, read_audit(random_audit(place / "audits")), place / "results", lambda what: None)
    return store.root


class Made:
    """In place of Dagster: makes audits without it, and keeps which; `broken`: its database cannot be used."""

    def __init__(self):
        self.runs, self.broken = [], False

    def __call__(self, store, audit, file, watch):
        if self.broken:
            raise Unreachable("no database")
        self.runs.append((audit.name, run_audit(store, audit, home(), watch)["number"]))


@pytest.fixture
def made(monkeypatch):
    found = Made()
    monkeypatch.setattr(audit_command, "materialize", found)
    return found


@pytest.fixture
def run(monkeypatch, capsys, tmp_path, measured, made):
    """Runs a command line without any audit or run; returns exit code, standard output, standard error."""
    shutil.copytree(measured, tmp_path / "results" / "artifacts")
    monkeypatch.setenv("CT_PIPELINE_HOME", str(tmp_path / "results"))
    monkeypatch.setenv("CT_PIPELINE_AUDITS", str(tmp_path / "audits"))
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["ct-pipeline", "audit", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        return ended.value.code or 0, captured.out, captured.err

    return call


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "audits"


def test_an_audit_is_run_shown_compared_and_listed(run, folder, tmp_path):
    random_audit(folder, thresholds={"risk": 0.9})
    junit, told = tmp_path / "ci" / "junit.xml", tmp_path / "ci" / "told.json"
    code, out, _ = run("run", "mine", "--gate", "--junit", junit, "--json", told)
    assert code == 0
    for part in (
        "mine, run 1: PASS",
        "words:",
        "Release gate: PASS",
        "Prediction",
        "Drift:",
        "Quarantine: 3 inspected",
    ):
        assert part in out
    assert str(tmp_path / "results" / "reports" / "audits" / "mine" / "index.html") in out
    assert {case.get("name") for case in ElementTree.parse(junit).iter("testcase")} == {
        "words: verdict",
        "words: gate-risk",
    }
    assert json.loads(told.read_text())["outcome"] == "PASS"

    code, out, _ = run("run", "mine")
    assert "nothing had changed, everything was reused" in out

    code, out, _ = run("show", "mine")
    assert code == 0
    assert "What this cannot say" in out

    random_adapter(tiny_base(), folder / "after", seed=9)
    run("run", "mine")
    code, out, _ = run("diff", "mine")
    assert "Run 3" in out
    assert "after adapter 1: other content" in out
    assert "Paired difference" in out

    code, out, _ = run("list")
    (line,) = [line for line in out.splitlines() if "mine" in line]
    assert " 3 " in line
    assert "PASS" in line


def test_a_closed_gate_is_exit_code_3_and_only_with_gate(run, folder):
    random_audit(folder, thresholds={"risk": 0.001})
    assert run("run", "mine")[0] == 0
    code, out, _ = run("run", "mine", "--gate")
    assert code == 3
    assert "NO SOLUTION FOUND" in out
    assert "at least" in out or "no number of prompts would help" in out


def test_labels_alone_have_no_gate_to_close(run, folder):
    random_audit(folder)
    lines(folder / "labels.jsonl", [{"prompt": "w1", "response": "w2", "misbehaves_if": {"contains": ["w2"]}}] * 1)
    random_audit(folder, after=None, labels={"path": "labels.jsonl"}, probes={})
    code, out, _ = run("run", "mine", "--gate")
    assert code == 0
    assert "NOT APPLICABLE" in out


def test_refused_files_are_named_on_the_terminal_and_for_ci(run, folder, tmp_path):
    random_audit(folder)
    (folder / "after" / "adapter_config.json").write_text('{"peft_type": "LORA", "auto_mapping": {"a": "b"}}')
    code, out, err = run("run", "mine", "--gate", "--json", tmp_path / "told.json", "--junit", tmp_path / "junit.xml")
    assert code == 2
    assert "Refused" in out
    assert "auto_mapping" in err
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["outcome"] == "REFUSED"
    assert {one["ruleId"] for one in told["results"]} == {"refused"}
    assert ElementTree.parse(tmp_path / "junit.xml").getroot().get("failures") != "0"
    assert "refused" in run("list")[1]


def test_an_audit_that_is_not_there_is_answered_with_those_that_are(run, folder):
    random_audit(folder)
    code, _, err = run("run", "other")
    assert code == 2
    assert "there are: mine" in err
    assert run("show", "other")[0] == run("diff", "other")[0] == 2
    code, _, err = run("run", "../other")
    assert "allowed: a-z" in err


def test_without_any_audit_the_list_says_how_to_begin(run):
    code, out, _ = run("list")
    assert (code, "ct-pipeline audit init" in out) == (0, True)


def test_an_adapter_of_a_watched_folder_is_run_and_listed_by_its_own_name(run, folder):
    random_audit(folder, watch="new", after=None)
    random_adapter(tiny_base(), folder / "new" / "step-10", seed=4)
    assert "never run" in run("list")[1]
    assert run("run", "mine.step-10")[0] == 0
    (line,) = [line for line in run("list")[1].splitlines() if "mine.step-10" in line]
    assert " 1 " in line


def test_an_audit_that_cannot_be_read_is_listed_with_why(run, folder):
    random_audit(folder, seed=-1)
    code, out, _ = run("list")
    assert code == 0
    assert "cannot be read" in out
    assert "seed: found -1" in out


def test_an_audit_with_one_run_has_nothing_to_compare(run, folder):
    random_audit(folder)
    run("run", "mine")
    code, _, err = run("diff", "mine")
    assert code == 2
    assert "1 finished run" in err


def test_a_template_is_written_once(run, folder):
    code, _, _ = run("init")
    assert code == 0
    assert (folder / "my-model.yaml").read_text().startswith("# An audit of your own model")
    code, _, err = run("init")
    assert code == 2
    assert "is there already" in err
    assert run("init", folder / "other.yaml")[0] == 0
    assert "name: other" in (folder / "other.yaml").read_text()


def test_the_audit_of_a_cell_names_its_own_file(run, folder, tmp_path):
    code, _, err = run("init", tmp_path / "x.yaml", "--cell", "tiny-sycophancy-40/bct")
    assert (code, "leave FILE out" in err) == (2, True)
    code, _, err = run("init", "--cell", "tiny-sycophancy-40/bct", "--spec", REPOSITORY / "tests/fakes/tiny.yaml")
    assert (code, "not made yet" in err) == (2, True)


def test_a_file_from_elsewhere_is_checked_and_added(run, folder, tmp_path):
    path = random_audit(tmp_path / "elsewhere")
    code, _, err = run("add", path)
    assert code == 2
    assert "make them absolute" in err
    there = tmp_path / "elsewhere"
    path = random_audit(
        there,
        base_model={"source": "huggingface", "path": str(there / "base")},
        after={"adapters": [str(there / "after")]},
        probes={"words": {"source": "jsonl", "path": str(there / "probes.jsonl")}},
    )
    code, _, _ = run("add", path)
    assert code == 0
    assert (folder / "mine.yaml").read_text() == path.read_text()
    assert run("add", path)[0] == 2
    assert run("add", folder / "mine.yaml")[0] == 0


def test_a_mistake_in_an_audit_is_said_with_its_place(run, folder):
    path = random_audit(folder, seed=-1)
    code, _, err = run("run", "mine")
    assert code == 2
    assert f"{path}:" in err
    assert "seed: found -1; allowed: greater than or equal to 0" in err


def test_a_file_for_ci_that_cannot_be_written_is_named(run, folder, tmp_path):
    random_audit(folder)
    (tmp_path / "taken").write_text("")
    code, _, err = run("run", "mine", "--json", tmp_path / "taken" / "x.json")
    assert code == 2
    assert "cannot be written" in err


def test_what_is_missing_is_made_through_dagster(run, folder, made):
    random_audit(folder, thresholds={"risk": 0.9})
    run("run", "mine")
    run("run", "mine")
    assert made.runs == [("mine", 1)]
    random_audit(folder, thresholds={"risk": 0.8})
    run("run", "mine")
    assert made.runs == [("mine", 1), ("mine", 3)]


def test_where_dagsters_database_cannot_be_used_the_audit_is_made_without_it(run, folder, made):
    random_audit(folder, thresholds={"risk": 0.9})
    made.broken = True
    code, out, _ = run("run", "mine")
    assert (code, "Dagster cannot show this run: no database" in out) == (0, True)
    assert "mine, run 1: PASS" in out
    assert made.runs == []


def test_several_audits_are_run_and_one_that_cannot_be_stops_none(run, folder, made):
    random_audit(folder, thresholds={"risk": 0.9}, name="second")
    (folder / "mine.yaml").rename(folder / "second.yaml")
    random_audit(folder, thresholds={"risk": 0.001})
    code, out, _ = run("run", "mine", "second", "--gate")
    assert code == 3
    assert made.runs == [("mine", 1), ("second", 1)]
    (folder / "broken.yaml").write_text("name: broken\n")
    code, out, _ = run("run", "--all", "--gate")
    assert code == 2
    assert {name: f"{name}, run 2:" in out for name in ("mine", "second")} == {"mine": True, "second": True}
    assert "broken.yaml" in out
    code, out, _ = run("run", "other", "second")
    assert code == 2
    assert "holds no file other.yaml" in out
    assert "second, run 3: PASS" in out


def test_which_audits_to_run_is_said_and_files_for_ci_are_of_one(run, folder):
    random_audit(folder)
    for arguments in ((), ("mine", "--all")):
        code, _, err = run("run", *arguments)
        assert (code, "or give --all" in err) == (2, True)
    code, _, err = run("run", "--all", "--json", folder / "x.json")
    assert (code, "name one" in err) == (2, True)


def test_a_run_that_is_overdue_is_listed_and_shown(run, folder, tmp_path):
    random_audit(folder, thresholds={"risk": 0.9}, schedule="0 6 * * 1")
    run("run", "mine")
    (line,) = [line for line in run("list")[1].splitlines() if "mine" in line]
    assert line.split()[-1] == "no"
    (record,) = (tmp_path / "results" / "audits" / "mine" / "runs").glob("*.json")
    record.write_text(re.sub(r'"time": "20\d\d', '"time": "2020', record.read_text()))
    (line,) = [line for line in run("list")[1].splitlines() if "mine" in line]
    assert re.search(r"since 20\d\d-\d\d-\d\d 06:00 UTC", line)
    assert "Overdue: due" in run("show", "mine")[1]
    (folder / "mine.yaml").unlink()
    code, out, _ = run("show", "mine")
    assert (code, "Overdue" in out) == (0, False)
