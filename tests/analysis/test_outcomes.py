"""Outcomes of answers: golden shares by hand, what always holds, and what missing verdicts can hide."""

import itertools

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_pipeline.analysis.outcomes import SHARES, outcome_change, outcomes, outcomes_over_seeds
from ct_pipeline.analysis.paired import difference

TRUTH = (True, False, None)


def table(*rows):
    """Rows of (prompt, verdict, correct) or (prompt, verdict, correct, finished)."""
    filled = [(*row, True)[:4] for row in rows]
    frame = pd.DataFrame(filled, columns=["prompt_id", "verdict", "correct", "finished"])
    return frame.astype({"verdict": "boolean", "correct": "boolean"})


BEFORE = table(("a", True, False), ("a", False, True), ("b", True, False), ("b", True, False), ("c", None, False))
AFTER = table(
    ("a", False, False), ("a", False, True), ("b", False, False, False), ("b", None, False), ("c", True, False)
)


def test_golden_shares_weigh_every_prompt_alike():
    found = outcomes(BEFORE)
    assert (found.right, found.wrong, found.misbehaves) == pytest.approx((1 / 6, 0, 1 / 2))
    assert (found.open, found.unreadable, found.cut) == pytest.approx((0, 1 / 3, 0))
    assert (found.prompts, found.rows) == (3, 5)
    after = outcomes(AFTER)
    assert (after.right, after.wrong, after.misbehaves) == pytest.approx((1 / 6, 1 / 3, 1 / 3))
    assert (after.unreadable, after.cut) == pytest.approx((1 / 6, 1 / 6))


def test_a_misbehaving_answer_is_never_right_and_one_without_a_verdict_is_unreadable():
    found = outcomes(table(("a", True, True), ("b", None, True)))
    assert (found.misbehaves, found.unreadable, found.right) == (0.5, 0.5, 0.0)


def test_where_no_right_answer_is_known_behaving_is_neither_right_nor_wrong():
    changed = outcome_change(
        table(("a", True, None), ("b", False, None)), table(("a", False, None), ("b", False, None))
    )
    assert (changed.before.open, changed.after.open, changed.after.right, changed.after.wrong) == (0.5, 1, 0, 0)
    assert changed.right.value is None
    assert changed.corrected is None


def test_nothing_measured_stays_missing():
    empty = outcomes(table())
    assert [getattr(empty, name) for name in (*SHARES, "cut")] == [None] * 6
    assert outcomes_over_seeds([]) is None


def fell(right_after):
    """100 prompts that misbehaved; afterwards some are right and the others wrong."""
    before = table(*((f"p{n}", True, False) for n in range(100)))
    return before, table(*((f"p{n}", False, n < right_after) for n in range(100)))


@pytest.mark.parametrize(("right_after", "flag"), [(0, True), (49, True), (50, False), (100, False)])
def test_a_fall_of_which_less_than_half_became_right_is_suppressed_not_corrected(right_after, flag):
    before, after = fell(right_after)
    changed = outcome_change(before, after)
    assert changed.corrected == pytest.approx(right_after / 100)
    change = difference(before, after, prompt="prompt_id")
    assert changed.suppressed_not_corrected(change) is flag
    # What did not fall is not suppressed, whatever the answers are.
    rise = difference(after, before, prompt="prompt_id")
    assert not outcome_change(after, before).suppressed_not_corrected(rise)


def test_a_fall_that_may_be_chance_is_not_flagged():
    before = table(*((f"p{n}", n < 2, False) for n in range(50)))
    after = table(*((f"p{n}", False, False) for n in range(50)))
    changed = outcome_change(before, after)
    assert changed.corrected == 0.0
    assert not changed.suppressed_not_corrected(difference(before, after, prompt="prompt_id"))


def test_missing_verdicts_on_one_side_show_their_worst_case():
    """43 of 48 answers lost their verdict: the pairs that are left say −57 points, the others leave almost all open."""
    before = table(*((f"p{n}", None if n < 4 else n < 40, False) for n in range(48)))
    after = table(*((f"p{n}", None if n >= 5 else False, False) for n in range(48)))
    changed = outcome_change(before, after)
    assert changed.missing_differs
    assert changed.before.unreadable == pytest.approx(4 / 48)
    assert changed.after.unreadable == pytest.approx(43 / 48)
    assert (changed.worst_low, changed.worst_high) == pytest.approx((-40 / 48, 43 / 48 - 36 / 48))


@st.composite
def answers(draw):
    rows = st.tuples(st.sampled_from("abcd"), st.sampled_from(TRUTH), st.sampled_from(TRUTH), st.booleans())
    return table(*draw(st.lists(rows, min_size=1, max_size=20)))


@given(answers())
def test_every_answer_is_counted_once(one):
    found = outcomes(one)
    assert sum(getattr(found, name) for name in SHARES) == pytest.approx(1)
    assert all(0 <= getattr(found, name) <= 1 for name in (*SHARES, "cut"))


@given(st.lists(st.tuples(*[st.sampled_from(TRUTH)] * 2), min_size=1, max_size=5))
def test_whatever_the_missing_verdicts_are_the_change_lies_within_the_worst_case(pairs):
    before, after = (table(*((f"p{n}", pair[side], None) for n, pair in enumerate(pairs))) for side in (0, 1))
    changed = outcome_change(before, after)
    gaps = sum(verdict is None for pair in pairs for verdict in pair)
    possible = []
    for filled in itertools.product((0, 1), repeat=gaps):
        fill = iter(filled)
        whole = [[next(fill) if verdict is None else int(verdict) for verdict in pair] for pair in pairs]
        possible.append(sum(new - old for old, new in whole) / len(whole))
    assert (changed.worst_low, changed.worst_high) == pytest.approx((min(possible), max(possible)))


def test_over_seeds_the_shares_are_means_and_the_rows_a_sum():
    one, other = outcome_change(*fell(20)), outcome_change(*fell(60))
    mean = outcomes_over_seeds([one, other])
    assert mean.after.right == pytest.approx(0.4)
    assert mean.right.value == pytest.approx(0.4)
    assert (mean.after.rows, mean.after.prompts) == (200, 100)
