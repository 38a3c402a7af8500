"""`sync`, `prune` and what `doctor` says of a remote, on the command line."""

import os
import sys

import pytest

from ct_pipeline import cli
from ct_pipeline.settings.narrow import narrowed
from ct_pipeline.steps import evaluation
from ct_pipeline.store.artifact_store import Address, ArtifactStore
from ct_pipeline.store.node import find
from ct_pipeline.store.sharing import open_store
from tests.conftest import TINY
from tests.e2e.runs import change
from tests.fakes.small_studies import stand_in

OLD = Address("evaluation", "tiny-sycophancy-40", "bct", "0" * 20)


@pytest.fixture
def spec(tmp_path):
    """The default study with one organism."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY.read_text())
    change(path, misalignments=["sycophancy"], seeds=[40])
    return path


@pytest.fixture
def study(tiny_study):
    return narrowed(tiny_study, ["sycophancy", "bct", "40"], None)


@pytest.fixture
def node(study):
    return evaluation.node(study, study.cells[0])


@pytest.fixture
def store(tmp_path, node):
    """Results with one finished evaluation, an older one, and a damaged one."""
    store = ArtifactStore(tmp_path / "results" / "artifacts")
    measured, gate = node.inputs["organism_evaluation"], {"passed": False, "reasons": ["a stand-in"]}
    stand_in(store, measured, lambda draft: draft.write_json("gate", gate))
    stand_in(store, node, lambda draft: (draft.folder / "rows").write_bytes(bytes(5000)))
    with store.write(OLD, {}, {}) as draft:
        (draft.folder / "rows").write_bytes(bytes(100_000))
    damaged = store.root / "damaged" / "evaluation--x"
    damaged.mkdir(parents=True)
    (damaged / "rows").write_bytes(bytes(30_000))
    return store


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("CT_PIPELINE_AUDITS", str(tmp_path / "audits"))
    monkeypatch.delenv("CT_PIPELINE_REMOTE", raising=False)

    def call(*arguments, home="results", remote=None):
        monkeypatch.setenv("CT_PIPELINE_HOME", str(tmp_path / home))
        if remote is not None:
            monkeypatch.setenv("CT_PIPELINE_REMOTE", remote)
        monkeypatch.setattr(sys, "argv", ["ct-pipeline", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return ended.value.code or 0, captured.out, captured.err

    return call


def test_sync_needs_a_remote(run, store):
    assert run("sync")[0] == 2
    assert "CT_PIPELINE_REMOTE is not set; set it to an address such as s3://bucket/prefix" in run("sync")[2]


def test_sync_uploads_what_is_missing_once_and_fetches_a_study(run, store, node, tmp_path, spec):
    remote = f"file://{tmp_path}/remote"
    code, told, _ = run("sync", remote=remote)
    assert code == 0 and "finished artifacts that file://" in told and "Uploaded" in told
    assert "Everything that is finished here is in file://" in run("sync", remote=remote)[1]
    code, told, _ = run("sync", "--fetch", "--spec", spec, home="elsewhere", remote=remote)
    assert code == 0 and "artifacts of study tiny: " in told
    there = ArtifactStore(tmp_path / "elsewhere" / "artifacts")
    assert there.here(node.address) is not None
    assert there.here(OLD) is None, "it is of no study"


def test_prune_says_what_it_would_delete_and_deletes_nothing(run, store, node, spec):
    before = sorted(path for path in store.root.rglob("*") if path.is_file())
    code, told, _ = run("prune", "--spec", spec, "--dry-run")
    assert code == 0 and "Artifacts that nothing kept needs: 1 evaluation." in told
    freed = float(told.split("Would free ")[1].split(" kB")[0])
    assert 130 <= freed < 135
    assert sorted(path for path in store.root.rglob("*") if path.is_file()) == before


def test_prune_deletes_old_work_and_damaged_copies_and_keeps_the_study(run, store, node, spec):
    assert run("prune", "--spec", spec)[0] == 0
    assert store.read(OLD) is None and not (store.root / "damaged").exists()
    assert find(ArtifactStore(store.root), node) is not None
    assert "nothing kept needs: none" in run("prune", "--spec", spec)[1]


def test_prune_stores_equal_files_once(run, store, node, spec):
    folder = store.folder(OLD).with_name("1" * 20)
    with store.write(Address("audit_inputs", "mine", "-", "1" * 20), {}, {}) as draft:
        for name in ("epoch-2", "last"):
            (draft.folder / name).write_bytes(bytes(50_000))
    folder = store.root / "audit_inputs" / "mine" / "-" / ("1" * 20)
    (folder / "copy").write_bytes(bytes(50_000))
    os.replace(folder / "copy", folder / "last")
    assert not (folder / "last").samefile(folder / "epoch-2")
    run("prune", "--spec", spec)
    assert (folder / "last").samefile(folder / "epoch-2")
    assert ArtifactStore(store.root).read(Address("audit_inputs", "mine", "-", "1" * 20)) is not None


def test_prune_of_a_remote_is_asked_for(run, store, node, tmp_path, monkeypatch, spec):
    remote = f"file://{tmp_path}/remote"
    assert run("prune", "--spec", spec, "--remote")[0] == 2
    run("sync", remote=remote)
    run("prune", "--spec", spec, remote=remote)
    there = open_store(tmp_path / "elsewhere" / "artifacts")
    assert there.read(OLD) is not None, "only this machine's was pruned"
    code, told, _ = run("prune", "--spec", spec, "--remote", remote=remote)
    assert code == 0 and f"In {remote}: 1 evaluation." in told
    there.sharing.remote.forget()
    assert there.read(OLD) is None
    assert find(there, node) is not None


def test_prune_needs_to_be_told_what_stays(run, store):
    code, _, told = run("prune")
    assert code == 2 and "--spec" in told
    assert store.read(OLD) is not None


def test_doctor_tries_the_remote(run, store, tmp_path, spec):
    assert " remote " not in run("doctor", "--spec", spec)[1]
    told = run("doctor", "--spec", spec, remote=f"file://{tmp_path}/remote")[1]
    assert f"file://{tmp_path}/remote: written, listed and read" in told.replace("\n", "")
    assert not [path for path in (tmp_path / "remote").rglob("*") if path.is_file()]
    code, told, _ = run("doctor", "--spec", spec, remote="gs://bucket")
    assert code == 1 and "pip install gcsfs" in told


def test_a_remote_that_cannot_be_opened_is_one_sentence(run, store, spec):
    for command in (["study", "--spec", spec], ["plan", spec], ["report", "--spec", spec]):
        code, _, told = run(*command, remote="bucket/prefix")
        assert code == 2 and "found bucket/prefix; allowed: an address such as" in told and "Traceback" not in told
