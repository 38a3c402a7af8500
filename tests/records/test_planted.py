"""Planted effects read from artifacts; and that every planted study finds enough prompts in its world."""

import dataclasses

import pandas
import pytest

from ct_pipeline.analysis.estimate import Estimate
from ct_pipeline.analysis.paired import difference
from ct_pipeline.analysis.verdicts import Verdict
from ct_pipeline.interventions.files import read_study
from ct_pipeline.measurement.organism_rows import rows_of
from ct_pipeline.planning.plan import plan_of
from ct_pipeline.records.planted import recovered
from ct_pipeline.settings.keys import Cell
from ct_pipeline.settings.study import PlantedEffect
from ct_pipeline.steps import distribution_shift, evaluation
from tests.conftest import REPOSITORY
from tests.fakes.small_studies import small, stand_in

PLANTED = sorted((REPOSITORY / "studies" / "planted").glob("*.yaml"))


@pytest.fixture
def study(tiny_study):
    planted = {
        "self_rewarding": PlantedEffect(change="suppresses", selection="suppresses"),
        "null": PlantedEffect(change="none"),
    }
    return small(tiny_study, ["sycophancy", "null", "self_rewarding"], 3).model_copy(update={"planted": planted})


def changed(fallen, prompts=200):
    """The file of changes of a cell in which so many prompts fell from 1 to 0 in domain at T = 1."""
    before, after = (
        pandas.DataFrame(
            {"prompt": range(prompts), "verdict": pandas.array([place < count for place in range(prompts)])}
        )
        for count in (fallen, 0)
    )
    return {"changes": {"in/sampled": dataclasses.asdict(difference(before, after))}}


def selected(value, curve):
    """What fills the artifact of a shift: its decomposition and its k-curve."""

    def fill(draft):
        terms = {
            name: Estimate(risk, risk - 0.02, risk + 0.02, 0.01, 100)
            for name, risk in (("proposal", 0.5), ("labels", 0.2))
        }
        terms["selection"] = Estimate(value, value - 0.02, value + 0.02, 0.01, 100)
        draft.write_json("decomposition", {name: dataclasses.asdict(term) for name, term in terms.items()})
        rows = [{"missing": "worst", "k": k, "selection": effect} for k, effect in curve.items()]
        draft.write_table("k_curve", pandas.DataFrame([*rows, {"missing": "dropped", "k": 2, "selection": 0.9}]))

    return fill


FALLING, LEVEL = {1: 0.0, 2: -0.1, 4: -0.3}, {1: 0.0, 2: -0.3, 4: -0.3}


def test_what_was_planted_is_compared_with_the_artifacts_of_every_seed(store, study):
    first, second, _ = (Cell(organism, "self_rewarding") for organism in study.organisms)
    for cell, curve in ((first, FALLING), (second, LEVEL)):
        stand_in(store, distribution_shift.node(study, cell), selected(-0.3, curve))
    stand_in(store, evaluation.node(study, first), lambda draft: draft.write_json("changes", changed(100)))
    stand_in(store, evaluation.node(study, second), lambda draft: draft.write_json("changes", changed(0)))
    control = Cell(study.organisms[2], "null")
    stand_in(store, evaluation.node(study, control), lambda draft: draft.write_json("changes", changed(0)))

    rows = {(row.method, row.quantity): row for row in recovered(store, study)}

    assert list(rows) == [("null", "change"), ("self_rewarding", "change"), ("self_rewarding", "selection")]
    assert {(row.world, row.kind) for row in rows.values()} == {(study.name, "sycophancy")}
    change = rows["self_rewarding", "change"]
    assert (change.runs, change.missing, change.right) == (2, 1, 1)
    assert change.mean == pytest.approx(-0.25)
    assert change.verdicts[Verdict.NEUTRAL] == 1
    selection = rows["self_rewarding", "selection"]
    assert (selection.runs, selection.missing, selection.right, selection.growing) == (2, 1, 2, 1)
    assert selection.mean == pytest.approx(-0.3)
    null = rows["null", "change"]
    assert (null.runs, null.missing, null.right, null.growing) == (1, 2, 1, None)


def test_a_study_without_planted_effects_has_no_rows(store, tiny_study):
    assert recovered(store, tiny_study) == ()


def test_there_are_worlds_that_amplify_that_suppress_and_that_do_nothing():
    signs = {effect.change for path in PLANTED for effect in read_study(path).planted.values()}
    assert signs >= {"amplifies", "suppresses", "none"}


@pytest.mark.parametrize("path", PLANTED, ids=lambda path: path.stem)
def test_a_planted_study_says_what_every_method_must_do_over_twenty_seeds_or_more(path):
    study = read_study(path)
    assert set(study.planted) == set(study.methods)
    assert study.planted["null"] == PlantedEffect(change="none")
    assert study.planted["shuffled"].selection == "none"
    assert len(study.seeds) >= 20


@pytest.mark.parametrize("path", PLANTED, ids=lambda path: path.stem)
def test_the_world_of_a_planted_study_has_prompts_enough(path):
    study = read_study(path)
    for organism in study.organisms[:2]:
        rows = rows_of(study, organism)
        assert len(rows.consistency) == study.candidates.consistency_prompts
        assert len(rows.probe) == study.candidates.probe_prompts
    assert plan_of(study, 2).cells == len(study.cells)
