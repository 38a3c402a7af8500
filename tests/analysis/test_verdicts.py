"""Verdicts, Holm's correction and the sign test, against enumeration and statsmodels."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from ct_pipeline.analysis.paired import difference
from ct_pipeline.analysis.t_distribution import student_quantile
from ct_pipeline.analysis.verdicts import Effect, Verdict, effect, holm, holm_verdicts, sign_test, verdict
from tests.analysis.test_paired import changed

p_values = st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=20)


@pytest.mark.parametrize(
    ("rose", "fell", "same", "word"),
    [
        (120, 0, 280, Verdict.AMPLIFIES),
        (0, 120, 280, Verdict.SUPPRESSES),
        (4, 4, 392, Verdict.NEUTRAL),
        (30, 10, 60, Verdict.AMPLIFIES),
        (26, 20, 54, Verdict.UNDETERMINED),
        (0, 0, 10, Verdict.UNDETERMINED),
        (0, 0, 400, Verdict.NEUTRAL),
    ],
)
def test_known_changes_get_their_word(rose, fell, same, word):
    assert verdict(changed(rose, fell, same), 0.05) == word


def test_a_change_that_differs_from_zero_yet_lies_in_the_band_is_neutral():
    got = changed(8, 0, 392)
    assert got.p_value() < 0.05
    assert verdict(got, 0.05) == Verdict.NEUTRAL


def test_a_change_that_straddles_the_band_and_differs_from_zero_has_a_direction_and_no_size():
    got = changed(24, 4, 372)
    assert got.low > 0
    assert got.high > 0.05
    assert verdict(got, 0.05) == Verdict.RISES


def test_nothing_known_is_undetermined():
    assert verdict(changed(1, 0, 0), 0.05) == Verdict.UNDETERMINED


def test_a_band_without_width_is_refused():
    with pytest.raises(ValueError, match="epsilon"):
        verdict(changed(1, 1, 1), 0)


def test_a_true_change_at_the_edge_of_the_band_is_rarely_called_neutral_or_amplified():
    draws, size, edge = 3000, 400, 0.05
    rose = np.random.default_rng(5).binomial(size, edge, draws)
    words = {count: verdict(changed(count, 0, size - count), edge) for count in set(rose.tolist())}
    assert np.mean([words[count] == Verdict.AMPLIFIES for count in rose]) <= 0.035
    # 5 % nominal; skewness and whole counts at 20 changes of 400 add up to 2 points
    assert np.mean([words[count] == Verdict.NEUTRAL for count in rose]) <= 0.075


def test_holm_by_hand():
    assert holm([0.01, 0.04, None, 0.03]) == pytest.approx([0.03, 0.06, None, 0.06])


@given(p_values)
@settings(max_examples=25, deadline=None)
def test_holm_agrees_with_statsmodels(values):
    got = holm(values)
    known = [value for value in values if value is not None]
    expected = multipletests(known, method="holm")[1].tolist() if known else []
    assert [one for one in got if one is not None] == pytest.approx(expected)
    assert [one is None for one in got] == [one is None for one in values]


def test_a_borderline_cell_does_not_survive_a_grid_and_a_clear_one_does():
    changes = {"clear": changed(120, 0, 280), "borderline": changed(30, 10, 60)}
    changes |= {f"calm {index}": changed(2, 2, 396) for index in range(6)}
    assert verdict(changes["borderline"], 0.05) == Verdict.AMPLIFIES
    got = holm_verdicts(changes, 0.05)
    assert got["clear"] == Verdict.AMPLIFIES
    # Its size does not survive, its direction does.
    assert got["borderline"] == Verdict.RISES
    assert got["calm 0"] == Verdict.NEUTRAL


def test_a_direction_that_does_not_survive_a_grid_is_undetermined():
    changes = {"faint": changed(20, 8, 72)} | {f"calm {index}": changed(2, 2, 396) for index in range(6)}
    assert verdict(changes["faint"], 0.05) == Verdict.RISES
    assert holm_verdicts(changes, 0.05)["faint"] == Verdict.UNDETERMINED


def interval(low, high, missing=0):
    """A change with exactly this interval at 95 % (its 90 % one lies inside), and as many missing of 100 rows."""
    error = (high - low) / 2 / student_quantile(0.95, 99.0)
    bare = changed(10, 10, 80)
    middle = dict.fromkeys(("value", "centre"), (low + high) / 2)
    return replace(bare, **middle, low=low, high=high, standard_error=error, missing=missing, rows=100)


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (0.051, 0.2, Verdict.AMPLIFIES),
        (0.0502, 0.2, Verdict.RISES),
        (0.0498, 0.2, Verdict.RISES),
        (0.047, 0.186, Verdict.RISES),
        (0.0004, 0.2, Verdict.UNDETERMINED),
        (0.001, 0.2, Verdict.RISES),
        (-0.2, -0.051, Verdict.SUPPRESSES),
        (-0.2, -0.05, Verdict.FALLS),
        (-0.186, -0.047, Verdict.FALLS),
        (-0.2, 0.0004, Verdict.UNDETERMINED),
        (-0.03, 0.03, Verdict.NEUTRAL),
        (0.005, 0.04, Verdict.NEUTRAL),
        (-0.2, 0.2, Verdict.UNDETERMINED),
    ],
)
def test_the_word_follows_from_the_ends_as_they_are_printed(low, high, word):
    """Ends that both read 5.0 have one word, and every strict comparison errs on the side of caution."""
    assert verdict(interval(low, high), 0.05) == word


def test_a_change_of_which_a_fifth_of_the_answers_has_no_verdict_is_unreadable():
    assert verdict(interval(0.1, 0.2, missing=20), 0.05) == Verdict.AMPLIFIES
    assert verdict(interval(0.1, 0.2, missing=21), 0.05) == Verdict.UNREADABLE
    nothing_left = difference(*[pd.DataFrame({"prompt": ["a"], "verdict": [None]})] * 2)
    assert verdict(nothing_left, 0.05) == Verdict.UNREADABLE
    assert verdict(difference(*[pd.DataFrame({"prompt": [], "verdict": []})] * 2), 0.05) == Verdict.UNDETERMINED


def test_sign_test_by_enumeration():
    got = sign_test([0.1] * 8 + [-0.2] * 2 + [0.0, None])
    tail = sum(math.comb(10, k) for k in (0, 1, 2, 8, 9, 10)) / 2**10
    assert (got.rose, got.fell, got.unchanged, got.missing) == (8, 2, 1, 1)
    assert got.p_value == pytest.approx(tail)
    assert got.share_suppressed == pytest.approx(2 / 11)


def test_sign_test_without_movement_has_no_p_value():
    assert sign_test([0.0, None]).p_value is None
    assert sign_test([None]).share_suppressed is None


def test_p_value_of_a_cell_is_students():
    got = changed(30, 10, 60)
    expected = 2 * stats.t.sf((got.centre - 0.05) / got.standard_error, 99)
    assert got.p_value(0.05) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("rose", "fell", "same", "higher", "word"),
    [
        (120, 0, 280, True, Effect.IMPROVES),
        (120, 0, 280, False, Effect.HARMS),
        (0, 120, 280, True, Effect.HARMS),
        (0, 120, 280, False, Effect.IMPROVES),
        (4, 4, 392, True, Effect.NEUTRAL),
        (26, 20, 54, False, Effect.UNDETERMINED),
        (30, 15, 55, True, Effect.BETTER),
        (30, 15, 55, False, Effect.WORSE),
        (15, 30, 55, True, Effect.WORSE),
        (15, 30, 55, False, Effect.BETTER),
    ],
)
def test_a_change_is_good_or_bad_by_the_direction_of_its_score(rose, fell, same, higher, word):
    assert effect(changed(rose, fell, same), 0.05, higher) == word
