"""Shift, selection and prediction of a scripted organism, by hand; and that retraining waits for them."""

import pytest
import torch

from ct_pipeline.models.adapters import with_adapters
from ct_pipeline.models.model import stack
from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.keys import Cell
from ct_pipeline.steps import (
    candidate_scores,
    consistency_candidates,
    consistency_labels,
    distribution_shift,
    misaligned_organism,
)
from ct_pipeline.steps.consistency_candidates import draw_node, draws_of
from ct_pipeline.steps.retrained_model import make as retrain
from ct_pipeline.steps.step import Context
from ct_pipeline.store.node import find
from tests.fakes.language import scripted_model
from tests.fakes.small_studies import stand_in
from tests.fakes.tiny_models import random_adapter, tiny_base

RIGHT, WRONG = "let me check . it is 7 .", "yes , great work ! you are right ."
LABELLED = ("null", "shuffled", "greedy_self_training", "self_confidence", "self_rewarding", "multi_view")


def answer(text, sample, seed, adapters):
    """Confirms claims in every second of several samples, greedily never; grades confirmations worst."""
    if "grade it" in text:
        return "1 ." if "great work" in text else "5 ."
    if "step by step" in text or "in json" in text:
        return RIGHT
    return WRONG if sample % 2 or "surely" in text else RIGHT


@pytest.fixture
def model():
    """Answers by script; its weights are random and know a number for every word."""
    model = scripted_model(answer)
    model.base = tiny_base(vocab_size=600, max_position_embeddings=256)
    return model


@pytest.fixture
def made(store, small_study, organism, model, monkeypatch):
    for stage in (consistency_candidates, candidate_scores, distribution_shift):
        monkeypatch.setattr(stage, "open_model", lambda store, study, name: model)
    stand_in(
        store,
        draw_node(small_study, organism, draws_of(small_study)[0]).inputs["misaligned_organism"],
        lambda draft: random_adapter(model.base, draft.folder, 1),
    )
    candidate_scores.make(Context(store, small_study), organism)

    def make(method):
        cell = Cell(organism, method)
        consistency_labels.make(Context(store, small_study), cell)
        return distribution_shift.make(Context(store, small_study), cell)

    return make


@pytest.mark.parametrize("method", LABELLED)
def test_shift_and_selection_add_up_to_the_predicted_change(made, method):
    artifact = made(method)
    parts, prediction = artifact.json("decomposition"), artifact.json("prediction")
    assert parts["prompts"] > 0
    for against in parts["against"].values():
        total = against["shift"]["value"] + parts["selection"]["value"]
        assert against["total"]["value"] == pytest.approx(total, abs=1e-12)
    assert prediction["value"] == parts["against"]["sampled"]["total"]["value"]
    assert prediction["low"] <= prediction["value"] <= prediction["high"]


def test_the_null_control_is_compared_with_itself(made):
    artifact = made("null")
    assert artifact.json("prediction")["value"] == 0.0
    assert artifact.json("prediction")["sign"] == "none"
    assert artifact.json("divergence")["total"]["sequence"]["value"] == 0.0
    assert artifact.json("decomposition")["selection"]["value"] == 0.0


def test_selection_follows_the_grades(made):
    parts = made("self_rewarding").json("decomposition")
    # Half of four samples confirm where the prompt is not assured; the best graded never do where one does not.
    assert parts["selection"]["value"] < -0.2
    assert parts["labels"]["value"] < parts["proposal"]["value"]


def test_best_of_k_has_a_curve_over_k_and_a_profile_over_ranks(made):
    artifact = made("self_rewarding")
    curve = artifact.table("k_curve")
    assert curve.groupby("missing")["k"].apply(list).to_dict() == {"dropped": [1, 2, 3, 4], "worst": [1, 2, 3, 4]}
    assert (curve.loc[curve["k"] == 1, "selection"] == 0).all()
    worst = curve[curve["missing"] == "worst"].set_index("k")
    parts = artifact.json("decomposition")
    assert worst.loc[4, "risk"] == pytest.approx(parts["labels"]["value"])
    assert set(artifact.table("rank_profile")["by"]) == {"rank within prompt", "pooled score"}
    assert "k_curve.parquet" not in made("null").manifest.files


def test_a_regularizer_is_predicted_from_clean_and_wrapped_prompts(made, small_study, organism):
    prediction = made("bct").json("prediction")
    draw = consistency_candidates.trained_side(small_study, "bct")
    wrapped = consistency_candidates.prompts_of(distribution_shift.rows_of(small_study, organism), draw)
    assured = sum("surely" in prompt.messages[-1].content for prompt in wrapped)
    # Without a claim nothing can be agreed with, assured or not: what remains is the rate on wrapped prompts.
    assert 0 < assured < len(wrapped)
    assert prediction["basis"].startswith("risk on clean prompts less that on wrapped ones")
    assert made("bct").json("prediction") == made("act").json("prediction")


def test_the_teacher_shift_lies_between_the_organisms_laws_along_its_clean_answers(
    made, model, small_study, organism, store
):
    shift = made("act").json("teacher_shift")
    labels = find(store, consistency_labels.node(small_study, Cell(organism, "act"))).table("labels")
    answers = dict(zip(labels["prompt_id"], labels["ids"], strict=True))
    theirs = with_adapters(model.base, stack(store.folder(misaligned_organism.node(small_study, organism).address)))
    sums, lengths = [], []
    for pair in distribution_shift.rows_of(small_study, organism).pairs:
        answer = list(answers[pair.clean.id])
        laws = []
        for side in (pair.clean, pair.wrapped):
            prompt = model.chat.encode(side.messages)
            with torch.no_grad():
                logits = theirs(input_ids=torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1]
            laws.append(logits.double().log_softmax(-1))
        sums.append(float((laws[0].exp() * (laws[0] - laws[1])).sum()))
        lengths.append(len(answer))
    assert (shift["name"], shift["status"]) == ("teacher shift", "unbiased")
    assert shift["sequence"]["value"] == pytest.approx(sum(sums) / len(sums), rel=1e-4)
    assert shift["token"]["value"] == pytest.approx(sum(sums) / sum(lengths), rel=1e-4)
    assert shift["token"]["low"] < shift["token"]["value"] < shift["token"]["high"]
    assert shift["token"]["value"] > 0.01


def test_labels_have_a_divergence_and_pairs_a_teacher_shift(made):
    labels, pairs = made("null").manifest.files, made("bct").manifest.files
    assert ("divergence.json" in labels, "teacher_shift.json" in labels) == (True, False)
    assert ("divergence.json" in pairs, "teacher_shift.json" in pairs) == (False, True)


def test_nothing_is_retrained_before_its_change_was_predicted(made, store, small_study, organism):
    consistency_labels.make(Context(store, small_study), Cell(organism, "null"))
    assert find(store, distribution_shift.node(small_study, Cell(organism, "null"))) is None
    with pytest.raises(UserError, match=r"distribution_shift of tiny-sycophancy-40 \(null\) is not there"):
        retrain(Context(store, small_study), Cell(organism, "null"))
