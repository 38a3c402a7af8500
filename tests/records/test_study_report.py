"""The report's record of a finished store: what is read, what is missing, what makes a report whole."""

import shutil

import pytest

from ct_pipeline.records import study_report
from ct_pipeline.records.study_record import method_record, study_record
from ct_pipeline.settings.keys import Cell
from ct_pipeline.settings.study import Study
from ct_pipeline.steps import distribution_shift, evaluation, organism_evaluation, uptake
from ct_pipeline.store.artifact_store import ArtifactStore
from ct_pipeline.store.node import StoreSnapshot, find
from tests.fakes.finished import finish
from tests.fakes.small_studies import small
from tests.report.pages import Page

METHODS = ("null", "one_sample", "self_confidence", "bct")


@pytest.fixture(scope="module")
def study(tiny_study):
    """One organism under four methods; `one_sample` is self-confidence with one candidate."""
    part = small(tiny_study, ["sycophancy"])
    confident = part.methods["self_confidence"]
    one = confident.model_copy(update={"method": "self_confidence", "k": 1})
    entries = {**part.methods, "one_sample": one}
    return part.model_copy(update={"methods": {name: entries[name] for name in METHODS}})


@pytest.fixture(scope="module")
def finished_store(study, tmp_path_factory):
    store = ArtifactStore(tmp_path_factory.mktemp("finished") / "artifacts")
    finish(store, study, prompts=12)
    return store


@pytest.fixture
def store(finished_store, tmp_path):
    shutil.copytree(finished_store.root, tmp_path / "artifacts")
    return ArtifactStore(tmp_path / "artifacts")


@pytest.fixture(scope="module")
def cells(finished_store, study):
    return {cell.method: cell for cell in study_record(StoreSnapshot(finished_store), study).cells}


def folder_of(store, place):
    return store.folder(place.address)


def test_labels_are_read_with_their_parts_curves_and_divergence(cells):
    shift = cells["self_confidence"].shift
    assert {"proposal", "labels", "selection", "shift_from_greedy", "total_from_sampled"} <= set(shift.terms)
    assert {point.missing for point in shift.curve} == {"worst", "dropped"}
    assert {point.by for point in shift.profile} == {"rank within prompt", "pooled score"}
    assert shift.simpson_warning is not None
    assert shift.kl.name == "best of k"
    assert shift.teacher is None


def test_a_regularizer_has_a_teacher_shift_and_a_dose_curve_and_no_labels(cells):
    cell = cells["bct"]
    assert cell.shift.teacher.name == "teacher shift"
    assert (cell.shift.kl, cell.shift.terms, cell.shift.curve, cell.arms) == (None, {}, (), None)
    assert [dose.step for dose in cell.doses] == [1, 2, 3]
    assert cell.doses[-1].change.value == cell.differences["in", "sampled"].value


def test_arms_and_uptake_are_read_where_they_are(cells):
    for name in ("null", "one_sample", "self_confidence"):
        arms = cells[name].arms
        assert sum(term.value for term in arms.terms.values()) == pytest.approx(arms.total.value)
    assert cells["one_sample"].arms.selection.value == 0
    assert all(cell.uptake.forward.status == "unbiased" for cell in cells.values())


def test_a_variant_is_titled_by_its_own_name_and_names_its_arm(study):
    record = method_record(study, "one_sample")
    assert (record.title, record.k) == ("Self-confidence: one sample", 1)
    assert method_record(study, "self_confidence").one == "one_sample"
    assert method_record(study, "bct").one is None


def test_a_report_is_made_once_and_is_whole(store, study, tmp_path):
    assert not study_report.is_whole(store, study, study)
    page = study_report.make(store, study, tmp_path / "reports")
    assert study_report.is_whole(store, study, study)
    assert "Why: shift and selection" in Page(page).text
    assert (page.parent / "figures" / "shift_and_selection.png").is_file()
    written = folder_of(store, study_report.node(store, study)).stat().st_mtime_ns
    study_report.make(store, study, tmp_path / "reports")
    assert folder_of(store, study_report.node(store, study)).stat().st_mtime_ns == written
    shutil.rmtree(folder_of(store, uptake.node(study, Cell(study.organisms[0], "bct"))))
    assert not study_report.is_whole(store, study, study)


@pytest.mark.parametrize(("stage", "name"), [(uptake, "uptake"), (distribution_shift, "shift")])
def test_what_is_missing_is_not_read_and_no_input(store, study, stage, name):
    cell = Cell(study.organisms[0], "self_confidence")
    assert f"{stage.NAME} {cell.key}" in study_report.node(store, study).inputs
    shutil.rmtree(folder_of(store, stage.node(study, cell)))
    inputs = study_report.node(store, study).inputs
    assert f"{stage.NAME} {cell.key}" not in inputs
    assert f"evaluation {cell.key}" in inputs
    (found,) = (one for one in study_record(store, study).cells if one.method == "self_confidence")
    assert getattr(found, name) is None


def test_an_organism_is_used_if_it_passed_or_the_gate_only_reports(store, study):
    place = organism_evaluation.node(study, study.organisms[0])
    gate = find(store, place).json("gate")
    assert gate["passed"]
    (one,) = study_record(store, study).organisms
    assert one.used
    reporting = study.model_copy(update={"induction": study.induction.model_copy(update={"gate": "report"})})
    assert isinstance(reporting, Study)
    assert organism_evaluation.usable(reporting, FailedGate())
    assert not organism_evaluation.usable(study, FailedGate())


class FailedGate:
    """An artifact whose organism did not pass."""

    def json(self, name):
        return {"passed": False}


def test_a_look_reads_a_table_once_and_sees_what_it_saw_first(store, study):
    place = evaluation.node(study, Cell(study.organisms[0], "null"))
    look = StoreSnapshot(store)
    first = find(look, place)
    assert find(look, evaluation.node(study, Cell(study.organisms[0], "null"))) is first
    assert first.table("rows") is find(StoreSnapshot(look), place).table("rows")
    shutil.rmtree(folder_of(store, place))
    assert find(look, place) is first
    assert find(StoreSnapshot(store), place) is None
    assert find(store, place) is None
