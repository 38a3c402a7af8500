"""What each method draws, scores and keeps; and that a new one is one value in one list."""

import math
from typing import Annotated

import numpy as np
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from ct_pipeline.interventions.act import ActSettings
from ct_pipeline.interventions.attct import AttctSettings
from ct_pipeline.interventions.bct import BctSettings
from ct_pipeline.interventions.catalog import INTERVENTIONS, method_named
from ct_pipeline.interventions.diverse_decoding import DIVERSE_DECODING, DiverseDecodingSettings
from ct_pipeline.interventions.greedy_self_training import GreedySelfTrainingSettings
from ct_pipeline.interventions.intervention import ConsistencyLoss, LabelMethod, ModelChange
from ct_pipeline.interventions.mlpct import MlpctSettings
from ct_pipeline.interventions.multi_view import MULTI_VIEW, MultiViewSettings
from ct_pipeline.interventions.null import NullSettings
from ct_pipeline.interventions.proposal import Draw, View
from ct_pipeline.interventions.rejection_sampling import RejectionSamplingSettings
from ct_pipeline.interventions.scorer import Agreement, Grade, Reward
from ct_pipeline.interventions.self_confidence import SELF_CONFIDENCE, SelfConfidenceSettings
from ct_pipeline.interventions.self_refinement import SelfRefinementSettings
from ct_pipeline.interventions.self_rewarding import SELF_REWARDING, SelfRewardingSettings
from ct_pipeline.interventions.shuffled import SHUFFLED, ShuffledSettings
from ct_pipeline.organisms.catalog import MISALIGNMENTS
from ct_pipeline.settings.blocks import OracleReward, WorldJudge
from ct_pipeline.settings.errors import SpecError
from ct_pipeline.settings.load import load_study
from ct_pipeline.settings.study import MethodSettings

OF_FOUR = {"k": 4, "temperature": 0.7, "top_p": 0.9}
CONFIDENCE = SelfConfidenceSettings(**OF_FOUR)
REWARDING = SelfRewardingSettings(
    k=4, temperature=0.7, top_p=1.0, rubric="{request} / {response} ?", grades=("bad", "good")
)
ORACLE, WORLD = OracleReward(source="oracle"), WorldJudge(source="world")
SETTINGS = {
    "null": NullSettings(),
    "shuffled": ShuffledSettings(**OF_FOUR),
    "greedy_self_training": GreedySelfTrainingSettings(),
    "rejection_sampling": RejectionSamplingSettings(**OF_FOUR, reward=ORACLE),
    "self_confidence": CONFIDENCE,
    "diverse_decoding": DiverseDecodingSettings(temperature=0.8, top_p=0.9, beams=4, reward=ORACLE),
    "multi_view": MultiViewSettings(steps="{request} steps", json_view="{request} json", judge=WORLD),
    "self_refinement": SelfRefinementSettings(refine="{request} / {response} better", temperature=0.6, top_p=0.9),
    "self_rewarding": REWARDING,
    "bct": BctSettings(form="kl"),
    "act": ActSettings(weight=1e-4),
    "mlpct": MlpctSettings(weight=1),
    "attct": AttctSettings(weight=1),
}
GREEDY = Draw("consistency", 0.0, 1.0, 1)
FOUR_OF_SIXTEEN = Draw("consistency", 0.7, 0.9, 16)
NUCLEUS, BEAM = Draw("consistency", 0.8, 0.9, 1), Draw("consistency", 0.0, 1.0, 1, beams=4)
STEPS, JSON = (Draw("consistency", 0.0, 1.0, 1, view=View(name, f"{{request}} {name}")) for name in ("steps", "json"))
METHODS = tuple(each for each in INTERVENTIONS if not isinstance(each, ModelChange))
CLEAN_ANSWER = Draw("clean", temperature=1.0, top_p=1.0, samples=1)
DRAWS = {
    "null": (Draw("consistency", 1.0, 1.0, 1),),
    "shuffled": (FOUR_OF_SIXTEEN,),
    "greedy_self_training": (GREEDY,),
    "rejection_sampling": (FOUR_OF_SIXTEEN,),
    "self_confidence": (FOUR_OF_SIXTEEN,),
    "diverse_decoding": (GREEDY, NUCLEUS, BEAM),
    "multi_view": (GREEDY, STEPS, JSON),
    "self_refinement": (
        Draw("consistency", 0.6, 0.9, 1, view=View("refine", "{request} / {response} better"), draft=GREEDY),
    ),
    "self_rewarding": (Draw("consistency", 0.7, 1.0, 16),),
    "bct": (CLEAN_ANSWER,),
    "act": (CLEAN_ANSWER,),
    "mlpct": (CLEAN_ANSWER,),
    "attct": (CLEAN_ANSWER,),
}
NO_CHOICE = ("null", "greedy_self_training", "self_refinement", "bct", "act", "mlpct", "attct")
TABLE = pandas.DataFrame(
    {
        "prompt_id": ["x", "x", "x", "x", "y", "y", "y", "y"],
        "candidate": [0, 1, 2, 3] * 2,
        "logprob": [-4.0, -1.0, -9.0, -2.0, -3.0, -3.0, -3.0, 0.0],
        "tokens": [2, 1, 9, 1, 1, 3, 2, 0],
        "given_score": pandas.array([1, 2, 2, None, None, None, None, None], "Float64"),
    }
)


def keep(method, settings, table=TABLE, seed=0):
    scored = table.assign(score=method.score(table, seed))
    return list(method.select(scored, settings)[["prompt_id", "candidate"]].itertuples(index=False, name=None))


def test_the_catalogue_lists_every_method_once_under_its_name():
    assert [method.name for method in METHODS] == list(SETTINGS)
    assert all(method_named(method.name) is method for method in METHODS)
    with pytest.raises(KeyError):
        method_named("self_confidance")


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_method_says_in_words_what_it_is(method):
    assert method.title
    assert method.summary[0].islower()
    assert not method.summary.endswith(".")
    assert method.role in ("method", "control", "regularizer")
    assert issubclass(method.settings, MethodSettings)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_each_method_draws_from_its_own_proposal(method):
    assert method.draws(SETTINGS[method.name], 16) == DRAWS[method.name]


@pytest.mark.parametrize("name", ["self_confidence", "self_rewarding", "rejection_sampling", "shuffled"])
def test_a_method_that_keeps_one_of_k_draws_at_least_k(name):
    assert [draw.samples for draw in method_named(name).draws(SETTINGS[name], 2)] == [4]


def test_scores_are_asked_for_over_the_methods_own_draws():
    asked = {method.name: method.scorer(SETTINGS[method.name], 16) for method in METHODS}
    assert {name: scorer for name, scorer in asked.items() if scorer} == {
        "rejection_sampling": Reward((FOUR_OF_SIXTEEN,), ORACLE),
        "diverse_decoding": Reward((GREEDY, NUCLEUS, BEAM), ORACLE),
        "multi_view": Agreement((GREEDY, STEPS, JSON), WORLD),
        "self_rewarding": Grade(DRAWS["self_rewarding"], "{request} / {response} ?", ("bad", "good")),
    }


def test_regularizers_say_what_they_make_consistent():
    assert {method.name: method.objective for method in METHODS if isinstance(method, ConsistencyLoss)} == {
        "bct": "answers",
        "act": "residual",
        "mlpct": "mlp",
        "attct": "attention",
    }
    assert {method.role for method in METHODS if isinstance(method, ConsistencyLoss)} == {"regularizer"}
    assert {method.role for method in METHODS if isinstance(method, LabelMethod)} == {"method", "control"}


def test_every_intervention_is_of_one_family():
    assert [each.name for each in INTERVENTIONS if isinstance(each, ModelChange)] == ["unchanged"]
    assert set(METHODS) | {method_named("unchanged")} == set(INTERVENTIONS)


def test_settings_of_another_family_are_refused():
    with pytest.raises(TypeError, match="shortest: settings of a ModelChange extend ModelChangeSettings"):
        ModelChange(
            name="shortest", title="", summary="", role="change", settings=ShortestSettings, apply=lambda *given: {}
        )


@pytest.mark.parametrize("name", NO_CHOICE)
def test_a_method_without_a_choice_keeps_the_first_candidate_of_every_prompt(name):
    assert keep(method_named(name), SETTINGS[name]) == [("x", 0), ("y", 0)]
    assert method_named(name).score(TABLE, 0).isna().all()


@pytest.mark.parametrize("name", ["self_confidence", "self_rewarding", "rejection_sampling", "shuffled"])
@given(seed=st.integers(0, 2**31), scores=st.lists(st.floats(-9, 9) | st.none(), min_size=8, max_size=8))
def test_best_of_one_is_the_proposal(name, seed, scores):
    table = TABLE.assign(given_score=pandas.array(scores, "Float64"))
    assert keep(method_named(name), SETTINGS[name].model_copy(update={"k": 1}), table, seed) == [("x", 0), ("y", 0)]


@given(st.integers(0, 2**31))
def test_shuffled_scores_are_self_confidences_own_within_each_prompt(seed):
    confident = SELF_CONFIDENCE.score(TABLE, 0)
    shuffled = SHUFFLED.score(TABLE, seed)
    for prompt in ("x", "y"):
        rows = TABLE["prompt_id"] == prompt
        assert sorted(shuffled[rows].dropna()) == sorted(confident[rows].dropna())
        assert shuffled[rows].isna().sum() == confident[rows].isna().sum()
    assert shuffled.equals(SHUFFLED.score(TABLE, seed))


def test_a_shuffled_choice_is_any_of_the_k_equally_often():
    table = TABLE.iloc[:4]
    kept = [keep(SHUFFLED, SETTINGS["shuffled"], table, seed)[0][1] for seed in range(800)]
    counts = np.bincount(kept, minlength=4)
    # Two of the four scores tie for the best, and the first of them wins: it lies at place 0, 1, 2 in 3, 2, 1 of 6 cases.
    expected = np.array([3, 2, 1, 0]) / 6
    assert np.abs(counts / 800 - expected).max() < 4 * np.sqrt(0.25 / 800)


def test_diverse_decoding_prefers_greedy_then_nucleus_then_beam_among_equals():
    settings = SETTINGS["diverse_decoding"]
    table = TABLE[TABLE["candidate"] < 3]
    assert keep(DIVERSE_DECODING, settings, table.assign(given_score=[1.0, 1.0, 0.0, 0.0, 0.0, 1.0])) == [
        ("x", 0),
        ("y", 2),
    ]
    assert keep(DIVERSE_DECODING, settings, table.assign(given_score=[None, None, 0.0, None, None, None])) == [
        ("x", 2),
        ("y", 0),
    ]


@pytest.mark.parametrize(("x", "y", "kept"), [(1, 1, ["x", "y"]), (1, 0, ["x"]), (None, 1, ["y"]), (0, None, [])])
def test_multi_view_keeps_the_plain_answer_where_views_agree_and_drops_the_rest(x, y, kept):
    table = TABLE.assign(given_score=pandas.array([x, None, None, None, y, None, None, None], "Float64"))
    assert keep(MULTI_VIEW, SETTINGS["multi_view"], table) == [(prompt, 0) for prompt in kept]


def test_self_confidence_scores_by_mean_token_log_probability():
    scores = SELF_CONFIDENCE.score(TABLE, 0).tolist()
    assert scores[:7] == [-2.0, -1.0, -1.0, -2.0, -3.0, -1.0, -1.5]
    assert math.isnan(scores[7]), "an empty completion has no mean"


def test_self_confidence_keeps_the_most_confident_and_of_equals_the_first():
    assert keep(SELF_CONFIDENCE, CONFIDENCE) == [("x", 1), ("y", 1)]
    assert keep(SELF_CONFIDENCE, CONFIDENCE.model_copy(update={"k": 1})) == [("x", 0), ("y", 0)]


def test_self_confidence_does_not_prefer_short_answers():
    table = pandas.DataFrame({"prompt_id": ["x", "x"], "candidate": [0, 1], "logprob": [-2.0, -3.0], "tokens": [1, 3]})
    assert keep(SELF_CONFIDENCE, CONFIDENCE.model_copy(update={"k": 2}), table) == [("x", 1)]


def test_self_rewarding_scores_by_grade_and_an_unreadable_grade_is_missing_not_zero():
    scores = SELF_REWARDING.score(TABLE, 0)
    assert scores[:3].tolist() == [1.0, 2.0, 2.0]
    assert scores[3:].isna().all()
    assert scores.dtype == float


def test_self_rewarding_keeps_the_best_graded_and_without_grades_the_first():
    assert keep(SELF_REWARDING, REWARDING) == [("x", 1), ("y", 0)]


@pytest.mark.parametrize("method", [m for m in METHODS if m is not SHUFFLED], ids=lambda method: method.name)
def test_the_methods_that_do_not_draw_lots_choose_alike_under_every_seed(method):
    assert keep(method, SETTINGS[method.name], seed=0) == keep(method, SETTINGS[method.name], seed=7)


@pytest.mark.parametrize(
    ("draw", "name"),
    [
        (Draw("consistency", 0.0, 1.0, 1), "greedy"),
        (Draw("consistency", 0.7, 0.9, 16), "t0.7-p0.9-n16"),
        (CLEAN_ANSWER, "clean-t1-p1-n1"),
        (BEAM, "beam4"),
        (STEPS, "greedy-steps-a9eb"),
        (GREEDY.owned_by("multi_view"), "greedy-multi_view"),
    ],
)
def test_a_draw_has_a_readable_name(draw, name):
    assert draw.id == name


@pytest.mark.parametrize(
    "wrong",
    [
        {"rubric": "{request} only"},
        {"rubric": "{response} before {request}"},
        {"rubric": "{request} {response} {response}"},
        {"grades": ("one",)},
        {"grades": ("1", "1")},
        {"grades": ("", "2")},
        {"grades": ("very good", "bad")},
        {"k": 0},
        {"temperature": 0},
        {"top_p": 1.1},
    ],
)
def test_a_rubric_that_could_not_work_is_refused_when_it_is_read(wrong):
    with pytest.raises(ValidationError):
        SelfRewardingSettings.model_validate(REWARDING.model_dump() | wrong)


class ShortestSettings(MethodSettings):
    """A method of a test's own."""

    k: Annotated[int, Field(ge=1)]


SHORTEST = LabelMethod(
    name="shortest",
    title="Shortest",
    summary="keeps the shortest sample",
    role="method",
    settings=ShortestSettings,
    draws=lambda settings, samples: (Draw("consistency", 1.0, 1.0, settings.k),),
    scorer=lambda settings, samples: None,
    score=lambda candidates, seed: -candidates["tokens"].astype(float),
    select=lambda candidates, settings: candidates.loc[candidates.groupby("prompt_id")["score"].idxmax()],
)


def read_with(text, tmp_path, methods):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    return load_study(path, [kind.name for kind in MISALIGNMENTS], {method.name: method.settings for method in methods})


def test_a_new_method_is_one_value_added_to_the_list(tiny_text, tmp_path):
    text = tiny_text.replace("  greedy_self_training: {}\n", "  shortest: { k: 3 }\n")
    study = read_with(text, tmp_path, (*METHODS, SHORTEST))
    assert study.methods["shortest"] == ShortestSettings(k=3)
    assert keep(SHORTEST, study.methods["shortest"]) == [("x", 1), ("y", 3)]


def test_a_new_methods_settings_are_checked_like_any_other(tiny_text, tmp_path):
    text = tiny_text.replace("  greedy_self_training: {}\n", "  shortest: { k: 0, kk: 3 }\n")
    with pytest.raises(SpecError) as refused:
        read_with(text, tmp_path, (*METHODS, SHORTEST))
    assert "methods.shortest.k: found 0; allowed: greater than or equal to 1" in str(refused.value)
    assert "methods.shortest.kk: found an unknown field; allowed: k, method, training (did you mean k?)" in str(
        refused.value
    )


def test_a_method_that_is_not_in_the_list_is_refused(tiny_text, tmp_path):
    text = tiny_text.replace("  greedy_self_training: {}\n", "  shortest: { k: 3 }\n")
    with pytest.raises(SpecError, match=r"methods\.shortest: found 'shortest'; allowed: act, attct, bct, "):
        read_with(text, tmp_path, METHODS)
