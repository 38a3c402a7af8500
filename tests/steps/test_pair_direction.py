"""Methods on pairs train one side towards the other: clean is the target unless a study turns them round."""

import pytest
import yaml

from ct_pipeline.interventions.files import read_study
from ct_pipeline.measurement.organism_rows import rows_of
from ct_pipeline.records.audit_from_cell import _lines
from ct_pipeline.settings.errors import SpecError
from ct_pipeline.settings.keys import Cell
from ct_pipeline.steps import (
    candidate_scores,
    consistency_candidates,
    consistency_labels,
    distribution_shift,
    retrained_model,
)
from ct_pipeline.steps.consistency_candidates import draw_node, draws_of
from ct_pipeline.steps.step import Context
from ct_pipeline.store.node import find
from ct_pipeline.training.answers import Answers
from tests.fakes.language import scripted_model
from tests.fakes.small_studies import small, stand_in
from tests.fakes.tiny_models import random_adapter, tiny_base

RIGHT, WRONG = "let me check . it is 7 .", "yes , great work ! you are right ."
TURNED = {"reference": "wrapped", "trained": "clean"}


def with_turned(text, **sides):
    study = yaml.safe_load(text)
    for name in ("bct", "act"):
        study["methods"][f"turned_{name}"] = {**study["methods"][name], "method": name, "pairs": TURNED | sides}
    return yaml.safe_dump(study, sort_keys=False)


@pytest.fixture
def study(tiny_text, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(with_turned(tiny_text))
    return small(read_study(path), ["sycophancy", "bct", "act", "turned_bct", "turned_act"])


@pytest.fixture
def model():
    """Confirms every claim, and answers rightly where none is made."""
    model = scripted_model(lambda text, sample, seed, adapters: WRONG if "i say" in text else RIGHT)
    model.base = tiny_base(vocab_size=600, max_position_embeddings=256)
    return model


@pytest.fixture
def made(study, store, model, monkeypatch):
    """Labels and shift of every method, by its name."""
    organism = study.organisms[0]
    for step in (consistency_candidates, candidate_scores, distribution_shift):
        monkeypatch.setattr(step, "open_model", lambda store, study, name: model)
    node = draw_node(study, organism, draws_of(study)[0]).inputs["misaligned_organism"]
    stand_in(store, node, lambda draft: random_adapter(model.base, draft.folder, 1))
    candidate_scores.make(Context(store, study), organism)

    def make(method):
        cell = Cell(organism, method)
        return consistency_labels.make(Context(store, study), cell), distribution_shift.make(
            Context(store, study), cell
        )

    return {method: make(method) for method in study.methods}


@pytest.mark.parametrize("method", ["bct", "act"])
def test_the_prediction_follows_the_direction(made, method):
    usual, turned = (made[name][1].json("prediction") for name in (method, f"turned_{method}"))
    assert (usual["value"], usual["sign"]) == (-1, "suppresses")
    assert (turned["value"], turned["sign"]) == (1, "amplifies")
    assert usual["basis"].startswith("risk on clean prompts less that on wrapped ones")
    assert turned["basis"].startswith("risk on wrapped prompts less that on clean ones")
    shifts = [made[name][1].json("teacher_shift")["token"]["value"] for name in (method, f"turned_{method}")]
    assert min(shifts) > 0 and shifts[0] != shifts[1]


def test_labels_are_answers_to_the_reference_side(made, study):
    pairs = rows_of(study, study.organisms[0]).pairs
    for method, side, answer in (("bct", "clean", RIGHT), ("turned_bct", "wrapped", WRONG)):
        table = made[method][0].table("labels")
        assert set(table["prompt_id"]) == {getattr(pair, side).id for pair in pairs}
        assert set(table["completion"]) == {answer}


def test_one_draw_of_each_side_serves_both_directions(study):
    on_pairs = [draw.id for draw in draws_of(study) if draw.prompts != "consistency"]
    assert sorted(on_pairs) == ["clean-t1-p1-n1", "wrapped-t1-p1-n1"]


@pytest.mark.parametrize("method", ["bct", "turned_bct"])
def test_training_pulls_the_trained_side_to_the_reference(made, study, store, model, monkeypatch, tmp_path, method):
    handed = {}

    def train(base, rows, loss, *how):
        handed.update(rows=rows, loss=loss)

    monkeypatch.setattr("ct_pipeline.training.trainer.train", train)
    cell = Cell(study.organisms[0], method)
    retrained_model.train(model, study, cell, made[method][0].table("labels"), tmp_path, 0, tmp_path)
    texts = [[model.chat.decode(ids) for ids in (row.clean_ids, row.wrapped_ids)] for row in handed["rows"]]
    cued = [("i say" in target, "i say" in trained) for target, trained in texts]
    assert cued == [(True, False) if method == "turned_bct" else (False, True)] * len(study_pairs(study))
    assert handed["loss"] == Answers("kl")


def study_pairs(study):
    return rows_of(study, study.organisms[0]).pairs


def test_an_audit_made_from_a_cell_holds_the_labels_as_they_were_trained(made, study):
    for method, cued in (("bct", True), ("turned_bct", False)):
        lines = list(_lines(study, Cell(study.organisms[0], method), made[method][0]))
        assert len(lines) >= len(study_pairs(study))
        assert all(("i say" in line) is cued for line in lines)


def test_the_default_direction_leaves_every_fingerprint(study, tiny_study, store):
    cell = Cell(study.organisms[0], "bct")
    plain = small(tiny_study, ["sycophancy", "bct", "act"])
    for step in (consistency_labels, distribution_shift, retrained_model):
        assert step.node(study, cell).fingerprint == step.node(plain, cell).fingerprint
        assert step.node(study, Cell(cell.organism, "turned_bct")).fingerprint != step.node(plain, cell).fingerprint
    assert find(store, retrained_model.node(study, cell)) is None


def test_both_sides_cannot_be_one(tiny_text, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(with_turned(tiny_text, trained="wrapped"))
    with pytest.raises(SpecError, match=r"methods\.turned_bct\.pairs: .*two sides: "):
        read_study(path)
