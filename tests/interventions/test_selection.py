"""Selections against hand-worked cases and against a slow one written out plainly."""

import math

import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_pipeline.interventions.selection import best_of, first, no_score
from ct_pipeline.settings.study import MethodSettings

MISSING = float("nan")
NOTHING = MethodSettings()


def candidates(scores_by_prompt):
    """One row per score, prompts and samples in the order given."""
    rows = [
        {"prompt_id": prompt, "candidate": number, "score": score, "completion": f"{prompt}{number}"}
        for prompt, scores in scores_by_prompt.items()
        for number, score in enumerate(scores)
    ]
    return pandas.DataFrame(rows, columns=["prompt_id", "candidate", "score", "completion"])


def kept(table):
    return table["completion"].tolist()


def test_the_highest_score_is_kept():
    assert kept(best_of(candidates({"x": [1, 3, 2], "y": [5, 4, 0]}), 3)) == ["x1", "y0"]


def test_only_the_first_k_compete():
    table = candidates({"x": [1, 3, 9], "y": [1, 2, 9]})
    assert kept(best_of(table, 2)) == ["x1", "y1"]
    assert kept(best_of(table, 3)) == ["x2", "y2"]


def test_ties_go_to_the_candidate_drawn_first():
    assert kept(best_of(candidates({"x": [1, 2, 2, 2], "y": [3, 3, 3, 3]}), 4)) == ["x1", "y0"]


def test_a_missing_score_is_worse_than_any_other():
    assert kept(best_of(candidates({"x": [MISSING, -math.inf], "y": [-1e300, MISSING]}), 2)) == ["x1", "y0"]


def test_where_all_scores_are_missing_the_first_is_kept():
    assert kept(best_of(candidates({"x": [MISSING] * 3, "y": [MISSING, 1, MISSING]}), 3)) == ["x0", "y1"]


def test_best_of_one_is_the_proposal_itself():
    table = candidates({"x": [0, 9], "y": [MISSING, 9]})
    assert kept(best_of(table, 1)) == kept(first(table, NOTHING)) == ["x0", "y0"]


def test_fewer_candidates_than_k_are_refused_by_name():
    with pytest.raises(ValueError, match="best of 3 needs 3 candidates per prompt; y has 2"):
        best_of(candidates({"x": [1, 2, 3], "y": [1, 2]}), 3)


def test_the_order_of_the_prompts_is_kept_whatever_their_names_and_scores():
    assert kept(best_of(candidates({"z": [1], "a": [9], "m": [5]}), 1)) == ["z0", "a0", "m0"]


def test_rows_in_any_order_give_the_same_choice():
    table = candidates({"x": [1, 2, 2], "y": [3, 1, 3]})
    turned = table.iloc[::-1]
    assert set(kept(best_of(turned, 3))) == set(kept(best_of(table, 3))) == {"x1", "y0"}


def test_all_columns_are_kept_and_none_is_added():
    table = candidates({"x": [1, 2]})
    assert list(best_of(table, 2).columns) == list(table.columns)


def test_an_empty_table_gives_an_empty_table():
    assert len(best_of(candidates({}), 4)) == 0
    assert len(first(candidates({}), NOTHING)) == 0


def test_a_method_that_does_not_choose_scores_every_candidate_as_missing():
    table = candidates({"x": [1, 2], "y": [3, 4]}).iloc[[2, 0]]
    scores = no_score(table, 0)
    assert scores.isna().all()
    assert scores.index.equals(table.index)


def slow_best_of(scores_by_prompt, k):
    chosen = []
    for prompt, scores in scores_by_prompt.items():
        best = 0
        for sample in range(1, k):
            challenger, champion = scores[sample], scores[best]
            if math.isnan(challenger):
                continue
            if math.isnan(champion) or challenger > champion:
                best = sample
        chosen.append(f"{prompt}{best}")
    return chosen


SCORES = st.sampled_from([-math.inf, -1.0, 0.0, 0.5, 1.0, math.inf, MISSING]) | st.floats()


@given(
    scores=st.integers(1, 5).flatmap(
        lambda n: st.dictionaries(
            st.text("abc", min_size=1, max_size=3), st.lists(SCORES, min_size=n, max_size=n), min_size=1, max_size=4
        )
    ),
    share=st.floats(0, 1),
)
def test_the_choice_is_that_of_a_plain_loop(scores, share):
    n = len(next(iter(scores.values())))
    k = max(1, round(share * n))
    assert kept(best_of(candidates(scores), k)) == slow_best_of(scores, k)
