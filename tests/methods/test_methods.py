"""What each method draws, scores and keeps; and that a new one is one value in one list."""

import math
from typing import Annotated

import pandas
import pytest
from pydantic import Field, ValidationError

from ct_pipeline.methods.bct import BCT, BctSettings
from ct_pipeline.methods.catalog import METHODS, method_named
from ct_pipeline.methods.greedy_self_training import GREEDY_SELF_TRAINING, GreedySelfTrainingSettings
from ct_pipeline.methods.method import Draw, Method, Rubric
from ct_pipeline.methods.null import NULL, NullSettings
from ct_pipeline.methods.self_confidence import SELF_CONFIDENCE, SelfConfidenceSettings
from ct_pipeline.methods.self_rewarding import SELF_REWARDING, SelfRewardingSettings
from ct_pipeline.organisms.catalog import KINDS
from ct_pipeline.study.errors import SpecError
from ct_pipeline.study.load import load_study
from ct_pipeline.study.spec import MethodSettings

CONFIDENCE = SelfConfidenceSettings(k=4, temperature=0.7, top_p=0.9)
REWARDING = SelfRewardingSettings(
    k=4, temperature=0.7, top_p=1.0, rubric="{request} / {response} ?", grades=("bad", "good")
)
SETTINGS = {
    "null": NullSettings(),
    "greedy_self_training": GreedySelfTrainingSettings(),
    "self_confidence": CONFIDENCE,
    "self_rewarding": REWARDING,
    "bct": BctSettings(form="kl"),
}
TABLE = pandas.DataFrame(
    {
        "prompt_id": ["x", "x", "x", "x", "y", "y", "y", "y"],
        "sample": [0, 1, 2, 3] * 2,
        "logprob": [-4.0, -1.0, -9.0, -2.0, -3.0, -3.0, -3.0, 0.0],
        "tokens": [2, 1, 9, 1, 1, 3, 2, 0],
        "grade": pandas.array([1, 2, 2, None, None, None, None, None], "Int64"),
    }
)


def keep(method, settings, table=TABLE):
    scored = table.assign(score=method.score(table))
    return list(method.select(scored, settings, 0)[["prompt_id", "sample"]].itertuples(index=False, name=None))


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


@pytest.mark.parametrize(
    ("method", "draw"),
    [
        (NULL, Draw("consistency", 1.0, 1.0, 1)),
        (GREEDY_SELF_TRAINING, Draw("consistency", 0.0, 1.0, 1)),
        (SELF_CONFIDENCE, Draw("consistency", 0.7, 0.9, 16)),
        (SELF_REWARDING, Draw("consistency", 0.7, 1.0, 16)),
        (BCT, Draw("clean", 1.0, 1.0, 1)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_each_method_draws_from_its_own_proposal(method, draw):
    assert method.draw(SETTINGS[method.name], 16) == draw


@pytest.mark.parametrize("method", [SELF_CONFIDENCE, SELF_REWARDING], ids=lambda method: method.name)
def test_a_method_that_keeps_one_of_k_draws_at_least_k(method):
    assert method.draw(SETTINGS[method.name], 2).samples == 4


def test_only_self_rewarding_asks_the_model_for_grades():
    asked = {method.name: method.rubric(SETTINGS[method.name], 16) for method in METHODS}
    assert asked.pop("self_rewarding") == Rubric(
        Draw("consistency", 0.7, 1.0, 16), "{request} / {response} ?", ("bad", "good")
    )
    assert set(asked.values()) == {None}


def test_only_bct_is_trained_on_pairs():
    assert {method.name for method in METHODS if method.objective == "bct"} == {"bct"}


@pytest.mark.parametrize("method", [NULL, GREEDY_SELF_TRAINING, BCT], ids=lambda method: method.name)
def test_a_method_without_a_choice_keeps_the_first_candidate_of_every_prompt(method):
    assert keep(method, SETTINGS[method.name]) == [("x", 0), ("y", 0)]
    assert method.score(TABLE).isna().all()


def test_self_confidence_scores_by_mean_token_log_probability():
    scores = SELF_CONFIDENCE.score(TABLE).tolist()
    assert scores[:7] == [-2.0, -1.0, -1.0, -2.0, -3.0, -1.0, -1.5]
    assert math.isnan(scores[7]), "an empty completion has no mean"


def test_self_confidence_keeps_the_most_confident_and_of_equals_the_first():
    assert keep(SELF_CONFIDENCE, CONFIDENCE) == [("x", 1), ("y", 1)]
    assert keep(SELF_CONFIDENCE, CONFIDENCE.model_copy(update={"k": 1})) == [("x", 0), ("y", 0)]


def test_self_confidence_does_not_prefer_short_answers():
    table = pandas.DataFrame({"prompt_id": ["x", "x"], "sample": [0, 1], "logprob": [-2.0, -3.0], "tokens": [1, 3]})
    assert keep(SELF_CONFIDENCE, CONFIDENCE.model_copy(update={"k": 2}), table) == [("x", 1)]


def test_self_rewarding_scores_by_grade_and_an_unreadable_grade_is_missing_not_zero():
    scores = SELF_REWARDING.score(TABLE)
    assert scores[:3].tolist() == [1.0, 2.0, 2.0]
    assert scores[3:].isna().all()
    assert scores.dtype == float


def test_self_rewarding_keeps_the_best_graded_and_without_grades_the_first():
    assert keep(SELF_REWARDING, REWARDING) == [("x", 1), ("y", 0)]


@pytest.mark.parametrize("seed", [0, 1])
def test_the_methods_that_do_not_draw_lots_choose_alike_under_every_seed(seed):
    for method in METHODS:
        scored = TABLE.assign(score=method.score(TABLE))
        settings = SETTINGS[method.name]
        assert method.select(scored, settings, seed).equals(method.select(scored, settings, 7))


@pytest.mark.parametrize(
    ("draw", "name"),
    [
        (Draw("consistency", 0.0, 1.0, 1), "greedy"),
        (Draw("consistency", 0.7, 0.9, 16), "t0.7-p0.9-n16"),
        (Draw("clean", 1.0, 1.0, 1), "clean-t1-p1-n1"),
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


SHORTEST = Method(
    name="shortest",
    title="Shortest",
    summary="keeps the shortest sample",
    role="method",
    settings=ShortestSettings,
    draw=lambda settings, samples: Draw("consistency", 1.0, 1.0, settings.k),
    rubric=lambda settings, samples: None,
    score=lambda candidates: -candidates["tokens"].astype(float),
    select=lambda candidates, settings, seed: candidates.loc[candidates.groupby("prompt_id")["score"].idxmax()],
)


def read_with(text, tmp_path, methods):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    return load_study(path, [kind.name for kind in KINDS], {method.name: method.settings for method in methods})


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
    assert "methods.shortest.kk: found an unknown field; allowed: k, training (did you mean k?)" in str(refused.value)


def test_a_method_that_is_not_in_the_list_is_refused(tiny_text, tmp_path):
    text = tiny_text.replace("  greedy_self_training: {}\n", "  shortest: { k: 3 }\n")
    with pytest.raises(SpecError, match=r"methods\.shortest: found 'shortest'; allowed: bct, "):
        read_with(text, tmp_path, METHODS)
