"""What is kept of a store: studies that are given, audits, and all that their lineage leads to."""

import pytest

from ct_pipeline.records import retention, study_report
from ct_pipeline.steps import evaluation, organism_evaluation
from ct_pipeline.store.ancestry import Index, trace
from ct_pipeline.store.artifact_store import Address
from ct_pipeline.store.node import StoreSnapshot, find
from tests.fakes.finished import finish
from tests.fakes.small_studies import small, stand_in


@pytest.fixture(scope="module")
def study(tiny_study):
    return small(tiny_study, ["sycophancy", "null", "bct"])


@pytest.fixture(scope="module")
def other(study):
    """The same organisms measured on more prompts."""
    return study.model_copy(
        update={"name": "other", "evaluation": study.evaluation.model_copy(update={"in_domain": 9})}
    )


@pytest.fixture
def full(store, study, other):
    """A store with both studies."""
    finish(store, study, prompts=6)
    # Of other content, because what is equal may be what was read.
    gate = {"passed": False, "reasons": ["other"]}
    for organism in other.organisms:
        stand_in(store, organism_evaluation.node(other, organism), lambda draft: draft.write_json("gate", gate))
    for cell in other.cells:
        stand_in(store, evaluation.node(other, cell), lambda draft, cell=cell: draft.write_json("other", cell.key))
    return store


def stale(store, studies, audits):
    index = Index(store.root)
    keep = retention.kept(index.entries.values(), retention.wanted(store, studies), studies, audits)
    return retention.stale(index.entries, keep)


def test_a_given_study_is_kept_and_what_only_another_needs_is_not(full, study, other, tmp_path):
    old = stale(full, [study], tmp_path)
    assert {address.stage for address in old} == {"organism_evaluation", "evaluation"}
    of_other = {evaluation.node(other, cell).address for cell in other.cells}
    assert set(old) == of_other | {organism_evaluation.node(other, each).address for each in other.organisms}


def test_with_all_studies_given_nothing_is_stale(full, study, other, tmp_path):
    assert stale(full, [study, other], tmp_path) == ()


def test_what_is_kept_has_its_whole_lineage(full, study, tmp_path):
    index = Index(full.root)
    keep = retention.kept(index.entries.values(), retention.wanted(full, [study]), [study], tmp_path)
    for cell in study.cells:
        chain = trace(index, evaluation.node(study, cell).address)
        assert chain.faults == ()
        assert set(chain.steps) <= keep


def test_the_last_report_and_what_it_shows_stay_when_the_study_has_changed(full, study, other, tmp_path):
    study_report.make(full, study, tmp_path / "reports")
    page = study_report.node(StoreSnapshot(full), study).address
    changed = other.model_copy(update={"name": study.name})
    index = Index(full.root)
    keep = retention.kept(index.entries.values(), retention.wanted(full, [changed]), [changed], tmp_path)
    assert {page, *(evaluation.node(study, cell).address for cell in study.cells)} <= keep


def test_audits_and_the_adapters_that_they_read_stay(full, study, other, tmp_path):
    (cell, *_) = study.cells
    read = find(full, evaluation.node(study, cell))
    name = next(iter(read.manifest.files))
    with full.write(Address("audit_inputs", "mine", "-", "0" * 20), {}, {}) as draft:
        draft.note_external("adapter", read.folder / name)
    old = stale(full, [other], tmp_path)
    assert evaluation.node(study, cell).address not in old
    assert "evaluation" in {address.stage for address in old}, "that of the other cell"
    assert "audit_inputs" not in {address.stage for address in old}


def test_an_audit_file_that_names_an_artifact_keeps_it(full, study, other, tmp_path):
    wanted = evaluation.node(other, other.cells[0]).address
    (tmp_path / "mine.yaml").write_text(f"after: {{ adapters: [../artifacts/x/y/z/{wanted.fingerprint}] }}")
    assert wanted not in stale(full, [study], tmp_path)


def test_a_folder_without_a_manifest_is_not_known_and_stays(full, study, tmp_path):
    folder = full.root / "evaluation" / "mine" / "-" / "notes"
    folder.mkdir(parents=True)
    known = [entry.address for entry in Index(full.root).entries.values() if entry.manifest is not None]
    assert Address("evaluation", "mine", "-", "notes") not in known
