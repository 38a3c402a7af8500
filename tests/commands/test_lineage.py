"""`lineage` and `verify` on the command line: every way to name an artifact, exit codes, what is said of broken chains."""

import json
import re
import sys

import pytest

from ct_pipeline import cli
from ct_pipeline.records import study_report
from ct_pipeline.settings.narrow import narrowed
from ct_pipeline.steps import evaluation
from ct_pipeline.store.artifact_store import ArtifactStore
from ct_pipeline.store.node import Node
from tests.conftest import TINY
from tests.fakes.small_studies import stand_in
from tests.store.forging import reseal

PLACE = "evaluation/tiny-sycophancy-40/bct"


@pytest.fixture
def study(tiny_study):
    return narrowed(tiny_study, ["sycophancy", "bct", "act", "40"], None)


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(tmp_path / "results" / "artifacts")


@pytest.fixture
def found(store, study):
    """The evaluation of BCT, with everything that it is made from, and that of ACT beside it."""
    act, bct = sorted(study.cells)
    stand_in(store, evaluation.node(study, act), lambda draft: draft.write_json("changes", "act"))
    return stand_in(store, evaluation.node(study, bct), lambda draft: draft.write_json("changes", "bct"))


@pytest.fixture
def run(monkeypatch, capsys, store):
    monkeypatch.setenv("CT_PIPELINE_HOME", str(store.root.parent))
    monkeypatch.setenv("COLUMNS", "400")

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["ct-pipeline", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        return ended.value.code or 0, captured.out, captured.err

    return call


def test_the_whole_chain_is_shown(run, found):
    code, out, _ = run("lineage", PLACE)
    assert code == 0
    stages = {"evaluation", "organism_evaluation", "misaligned_organism", "control_organism", "base_model"}
    stages |= {"retrained_model", "consistency_labels", "consistency_candidates"}
    for stage in stages:
        assert re.search(rf"\b{stage} tiny", out), stage
    for told in ("seeds: seed=0", "pretraining.seed=11", "training.learning_rate=0.001", "form=kl", "torch 2."):
        assert told in out
    assert found.manifest.provenance["source"][:12] in out
    assert found.digest[:12] in out
    assert "see above" in out
    assert f"Unbroken: {len(stages)} artifacts" in out


@pytest.mark.parametrize("how", ["folder", "file", "fingerprint", "prefix", "place", "cell", "whole address"])
def test_an_artifact_is_named_in_many_ways(run, found, how, tmp_path):
    fingerprint = found.manifest.fingerprint
    named = {
        "folder": found.folder,
        "file": found.folder / "changes.json",
        "fingerprint": fingerprint,
        "prefix": fingerprint[:8],
        "place": PLACE,
        "cell": "tiny-sycophancy-40/bct",
        "whole address": f"{PLACE}/{fingerprint[:5]}",
    }[how]
    code, out, _ = run("lineage", named)
    assert code == 0
    assert out.startswith(f"evaluation tiny-sycophancy-40 bct {fingerprint}")


def test_a_report_s_page_leads_to_the_numbers_of_its_cell(run, store, study, found, tmp_path):
    nodes = {f"cell {cell.key}": evaluation.node(study, cell) for cell in study.cells}
    place = Node("study_report", 3, study.name, "-", {"study": study}, nodes)
    page = "cells/tiny-sycophancy-40/bct.html"

    def fill(draft):
        (draft.folder / page).parent.mkdir(parents=True)
        (draft.folder / page).write_text("the page")
        draft.write_json("numbers", {})

    report = stand_in(store, place, fill)
    published = study_report.publish(report, tmp_path / "results" / "reports" / "tiny").parent
    code, out, _ = run("lineage", published / page)
    assert (code, out.split("\n")[0]) == (0, f"evaluation tiny-sycophancy-40 bct {found.manifest.fingerprint}")
    code, out, _ = run("lineage", published / "numbers.json")
    assert (code, out.split("\n")[0]) == (0, f"study_report tiny {report.manifest.fingerprint}")
    (published / page).write_text("another page")
    code, _, err = run("lineage", published / page)
    assert code == 2
    assert "wrote a file of this name and content" in err


def test_the_newest_of_several_is_meant(run, store, study, found):
    (bct,) = (cell for cell in study.cells if cell.method == "bct")
    again = study.model_copy(update={"evaluation": study.evaluation.model_copy(update={"samples": 9})})
    newer = stand_in(store, evaluation.node(again, bct))
    _, out, _ = run("lineage", PLACE)
    assert newer.manifest.fingerprint in out and found.manifest.fingerprint not in out


@pytest.mark.parametrize(
    "name", ["evaluation/tiny-sycophancy-40/null", "abc", "ffffffffff", "", "nowhere/at/all/really"]
)
def test_what_is_not_there_is_said_with_what_may_be_given(run, found, name):
    code, _, err = run("lineage", name)
    assert code == 2
    assert "no artifact" in err or "a folder that is no artifact" in err
    assert "stage/subject/variant" in err


def test_all_of_it_goes_into_json(run, found, tmp_path):
    run("lineage", PLACE, "--json", tmp_path / "chain.json")
    told = json.loads((tmp_path / "chain.json").read_text())
    assert told["artifact"]["fingerprint"] == found.manifest.fingerprint
    assert told["broken"] == []
    assert told["steps"][0]["manifest"]["settings"] == found.manifest.settings
    assert {link["name"]: link["digest"] for link in told["steps"][0]["inputs"]} == dict(found.manifest.inputs)
    assert {step["address"]["stage"] for step in told["steps"]} >= {"base_model", "consistency_labels"}


@pytest.mark.parametrize("command", ["lineage", "verify"])
def test_a_broken_chain_ends_with_one(run, store, found, command):
    (labels,) = (store.root / "consistency_labels" / "tiny-sycophancy-40" / "bct").iterdir()
    (labels / "stand_in.json").write_text("{ }")
    code, out, _ = run(command, PLACE)
    assert code == 1
    assert "broken consistency_labels/tiny-sycophancy-40/bct" in out
    assert "was changed or truncated" in out
    assert "Unbroken" not in out
    assert (labels / "stand_in.json").exists()


def test_versions_that_differ_between_steps_are_marked(run, store, found):
    (labels,) = (store.root / "consistency_labels" / "tiny-sycophancy-40" / "bct").iterdir()
    provenance = json.loads((labels / "manifest.json").read_text())["provenance"]
    reseal(labels, lambda _: None, provenance=provenance | {"versions": provenance["versions"] | {"trl": "0.1"}})
    _, out, _ = run("lineage", PLACE)
    (line,) = [line for line in out.splitlines() if "other versions" in line]
    assert re.search(r"other versions: trl 0\.1 \(not [\d.]+\)$", line.strip())


def test_a_whole_chain_verifies(run, found):
    code, out, _ = run("verify", PLACE)
    assert code == 0
    assert "Unbroken: 8 artifacts" in out


@pytest.mark.parametrize("option", ["--reexecute", "--reexecute-all"])
def test_nothing_to_train_again_is_not_passed_over(run, found, option):
    code, _, err = run("verify", PLACE, option, "--spec", TINY)
    assert code == 2
    assert "nothing was trained again" in err
    assert "--spec" in err


def test_a_broken_chain_without_a_training_is_a_fault_and_no_mistake_of_the_user(run, store, found):
    (labels,) = (store.root / "consistency_labels" / "tiny-sycophancy-40" / "bct").iterdir()
    (labels / "stand_in.json").unlink()
    code, out, _ = run("verify", PLACE, "--reexecute", "--spec", TINY)
    assert code == 1
    assert "broken consistency_labels" in out


def test_files_are_shown_and_those_of_an_artifact_lead_on_to_it(run, store, found, tmp_path):
    (tmp_path / "labels.jsonl").write_text("{}")
    place = Node("audit_evaluation", 1, "release", "-", {"labels": "digest"}, {})

    def fill(draft):
        draft.note_external("labels", tmp_path / "labels.jsonl")
        draft.note_external("after adapter 1", found.folder)

    stand_in(store, place, fill)
    code, out, _ = run("lineage", "audit_evaluation/release")
    assert code == 0
    assert f"file labels: {tmp_path / 'labels.jsonl'}, 2 bytes, SHA-256 44136fa355b3" in out
    assert f"files after adapter 1: evaluation tiny-sycophancy-40 bct {found.manifest.fingerprint}" in out
    assert "Unbroken: 9 artifacts" in out
    (tmp_path / "labels.jsonl").write_text("[]")
    code, out, _ = run("verify", "audit_evaluation/release")
    assert code == 1
    assert "has other content now than when it was read" in out
