"""What a name means: an audit, an organism or a cell, with both sides' rows, rates, weights and links."""

import shutil

import pytest

from ct_pipeline.interventions.files import read_audit
from ct_pipeline.measurement.asking import risk
from ct_pipeline.measurement.condition import MAIN_VIEW
from ct_pipeline.records.transcripts import transcripts
from ct_pipeline.report.inspect_logs import document
from ct_pipeline.runner.audit_run import run_audit
from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.keys import Cell
from ct_pipeline.settings.narrow import narrowed
from ct_pipeline.steps import evaluation, misaligned_organism, organism_evaluation
from ct_pipeline.store.artifact_store import ArtifactStore
from ct_pipeline.store.node import find
from tests.fakes.audits import lines, random_audit
from tests.fakes.finished import finish
from tests.fakes.small_studies import stand_in

ORGANISM, CELL = "tiny-sycophancy-40", "tiny-sycophancy-40/bct"


@pytest.fixture(scope="module")
def study(tiny_study):
    return narrowed(tiny_study, ["sycophancy", "bct", "40"], None)


@pytest.fixture(scope="module")
def home(study, tmp_path_factory):
    """A finished study of one cell, whose adapters are files that say what they are."""
    folder = tmp_path_factory.mktemp("results")
    store, organism = ArtifactStore(folder / "artifacts"), study.organisms[0]

    def weights(text):
        return lambda draft: (draft.folder / "adapter_model.safetensors").write_text(text)

    # The second time everything is made from the organisms with weights.
    finish(store, study)
    stand_in(store, misaligned_organism.node(study, organism), weights("organism"))
    stand_in(store, misaligned_organism.control_node(study, organism), weights("control"))
    finish(store, study)
    return folder


def test_a_cell_is_told_before_and_after(home, study):
    before, after = transcripts(home, CELL)
    store = ArtifactStore(home / "artifacts")
    stored = find(store, evaluation.node(study, Cell(study.organisms[0], "bct"))).table("rows")
    assert (before.side, after.side, after.base) == ("before", "after", "tiny")
    assert list(after.rows["completion"]) == list(stored["completion"])
    assert after.rates["in/sampled"] == risk(stored, MAIN_VIEW, study.evaluation.confidence)
    assert set(after.rates) == {"in/sampled", "in/greedy", "out/sampled", "out/greedy"}
    assert list(before.rows["prompt_id"]) == list(after.rows["prompt_id"])
    assert set(before.provenance["weights"]) == {"misaligned_organism/adapter_model.safetensors"}
    assert after.provenance["seeds"] == {"seed": study.seed}
    assert after.provenance["broken"] == []
    assert after.decoding["greedy"]["temperature"] == 0
    assert after.decoding["sampled"]["max_new_tokens"] == study.evaluation.max_new_tokens
    ids = [{sample["id"] for sample in document(each)["samples"]} for each in (before, after)]
    assert ids[0] == ids[1]
    assert len(ids[0]) == len(stored)


def test_an_organism_is_told_beside_its_base_and_its_control(home):
    found = {each.side: each for each in transcripts(home, ORGANISM)}
    assert list(found) == ["base", "control", "organism"]
    weights = {side: each.provenance["weights"] for side, each in found.items()}
    assert weights["base"] == {}
    assert weights["control"].keys() == {"control_organism/adapter_model.safetensors"}
    assert set(weights["organism"].values()) & set(weights["control"].values()) == set()


def test_a_broken_link_is_told(home, study, tmp_path):
    shutil.copytree(home, tmp_path / "results")
    copy = ArtifactStore(tmp_path / "results" / "artifacts")
    shutil.rmtree(copy.folder(misaligned_organism.node(study, study.organisms[0]).address))
    before, after = transcripts(tmp_path / "results", CELL)
    for side in (before, after):
        assert any("its input misaligned_organism" in fault for fault in side.provenance["broken"])
    place = copy.folder(organism_evaluation.node(study, study.organisms[0]).address)
    (place / "organism.parquet").write_bytes(b"x")
    with pytest.raises(UserError, match="side before, is damaged"):
        transcripts(tmp_path / "results", CELL)


@pytest.mark.parametrize("name", ["nobody", "tiny-sycophancy-40/act", "../..", "", "/"])
def test_what_is_not_there_is_said_with_what_is(home, name):
    with pytest.raises(
        UserError, match=f"nothing finished is called so; audits: none; organisms: {ORGANISM}; cells: {CELL}"
    ):
        transcripts(home, name)


def test_an_audit_is_told_as_its_last_run_measured_it(tmp_path):
    home = tmp_path / "results"
    audit = read_audit(random_audit(tmp_path / "audits"))
    record = run_audit(ArtifactStore(home / "artifacts"), audit, home, lambda what: None)
    before, after = transcripts(home, "mine")
    assert [each.side for each in (before, after)] == ["before", "after"]
    assert after.rates["in/sampled"].value == record["probes"]["words"]["risk"]["after"]["value"]
    assert after.provenance["run"] == 1
    assert {name.rsplit("/", 1)[1] for name in after.provenance["weights"]} >= {"adapter_model.safetensors"}
    assert before.provenance["weights"] == {}
    assert after.provenance["template"] == before.provenance["template"]
    samples = document(after)["samples"]
    assert len(samples) == len({sample["id"] for sample in samples}) == len(after.rows)
    assert {sample["metadata"]["framing"] for sample in samples} == {"wrapped", "plain"}
    assert all(sample["metadata"]["logprob_nats"] < 0 for sample in samples)


def test_an_audit_of_labels_alone_has_no_transcript(tmp_path):
    home, folder = tmp_path / "results", tmp_path / "audits"
    lines(
        folder / "labels.jsonl",
        [{"prompt": f"w{n}", "response": "w1", "misbehaves_if": {"equals": "w2"}} for n in range(9)],
    )
    audit = read_audit(random_audit(folder, after=None, probes={}, labels={"path": "labels.jsonl"}))
    run_audit(ArtifactStore(home / "artifacts"), audit, home, lambda what: None)
    with pytest.raises(UserError, match="audit mine asked its model nothing"):
        transcripts(home, "mine")
