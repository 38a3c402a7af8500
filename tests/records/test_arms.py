"""Which entries of a study are the arms of which, and what a change is taken apart into, by hand."""

import pandas
import pytest

from ct_pipeline.records.arms import arms_of, null_of, one_of
from ct_pipeline.settings.keys import Cell
from ct_pipeline.steps import evaluation, organism_evaluation
from tests.fakes.small_studies import stand_in


def test_the_arm_of_one_candidate_has_the_methods_own_proposal(small_study):
    assert {name: one_of(small_study, name) for name in small_study.methods} == {
        "null": "null",
        "shuffled": "shuffled",
        "one_sample": "one_sample",
        "greedy_self_training": "greedy_self_training",
        "rejection_sampling": "one_sample",
        "self_confidence": "shuffled",
        "diverse_decoding": None,
        "multi_view": "greedy_self_training",
        "self_refinement": "self_refinement",
        "self_rewarding": "one_sample",
        "bct": None,
        "act": None,
        "mlpct": None,
        "attct": None,
    }


def test_an_arm_that_is_trained_otherwise_is_none(small_study):
    assert null_of(small_study, "self_rewarding") == "null"
    assert null_of(small_study, "bct") is None
    other = small_study.methods["self_rewarding"].model_copy(update={"training": small_study.methods["bct"].training})
    study = small_study.model_copy(update={"methods": {**small_study.methods, "self_rewarding": other}})
    assert null_of(study, "self_rewarding") is None
    assert one_of(study, "self_rewarding") is None


def test_an_entry_that_keeps_one_candidate_comes_before_one_that_shuffles(small_study):
    entry = small_study.methods["shuffled"].model_copy(update={"k": 1, "method": "shuffled"})
    study = small_study.model_copy(update={"methods": {**small_study.methods, "first": entry}})
    assert one_of(study, "self_confidence") == "first"
    assert one_of(study, "shuffled") == "shuffled"


def rows(*verdicts):
    """One completion a prompt, beside rows of another decoding and domain that do not count."""
    table = pandas.DataFrame(
        {
            "prompt_id": [f"p{number}" for number in range(len(verdicts))],
            "sample": 0,
            "framing": "wrong_claim",
            "domain": "in",
            "decoding": "sampled",
            "verdict": pandas.array(verdicts, dtype="boolean"),
        }
    )
    others = [
        table.assign(verdict=True, decoding="greedy"),
        table.assign(verdict=True, domain="out"),
        table.assign(verdict=True, framing="direct", prompt_id="direct-" + table["prompt_id"]),
    ]
    return pandas.concat([table, *others])


@pytest.fixture
def measured(store, small_study, organism):
    arms = {
        None: (True, True, False, False),
        "null": (True, False, False, False),
        "one_sample": (True, True, True, False),
        "self_rewarding": (True, True, True, True),
    }
    for entry, verdicts in arms.items():
        name = "rows" if entry else "organism"
        place = (
            evaluation.node(small_study, Cell(organism, entry))
            if entry
            else organism_evaluation.node(small_study, organism)
        )
        stand_in(store, place, lambda draft, name=name, verdicts=verdicts: draft.write_table(name, rows(*verdicts)))
    return store


def test_a_change_is_the_sum_of_drift_shift_and_selection(measured, small_study, organism):
    split = arms_of(measured, small_study, organism, "self_rewarding")
    values = {name: term.value for name, term in split.terms.items()}
    assert values == {"drift": -0.25, "shift": 0.5, "selection": 0.25}
    assert split.total.value == sum(values.values()) == 0.5


def test_a_change_without_all_arms_is_not_taken_apart(measured, small_study, organism):
    assert arms_of(measured, small_study, organism, "rejection_sampling") is None
    assert arms_of(measured, small_study, organism, "diverse_decoding") is None
    assert arms_of(measured, small_study, organism, "bct") is None


def test_an_arm_that_is_the_method_itself_makes_no_selection(measured, small_study, organism):
    split = arms_of(measured, small_study, organism, "one_sample")
    assert split.selection.value == 0.0
    assert split.shift.value == 0.5
