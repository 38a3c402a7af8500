"""Paired changes against hand-computed numbers, properties, and simulated coverage."""

import dataclasses
import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ct_pipeline.analysis.paired import Difference, difference, score_difference
from ct_pipeline.analysis.seeds import over_seeds, seed_level
from tests.analysis.tables import singles, table

sides = st.lists(st.tuples(st.sampled_from([True, False, None]), st.sampled_from([True, False, None])), max_size=40)


def pair(sides_: list) -> Difference:
    return difference(singles([before for before, _ in sides_]), singles([after for _, after in sides_]))


def changed(rose: int, fell: int, same: int, **options) -> Difference:
    before = [False] * rose + [True] * fell + [False] * same
    after = [True] * rose + [False] * fell + [False] * same
    return difference(singles(before), singles(after), **options)


def test_change_of_thirty_up_ten_down_in_a_hundred_by_hand():
    got = changed(30, 10, 60)
    centre = 20 / 102
    error = math.sqrt((42 / 102 - centre**2) / 102)
    quantile = stats.t.ppf(0.975, 99)
    assert got.value == pytest.approx(0.2)
    assert (got.before, got.after) == pytest.approx((0.1, 0.3))
    assert got.standard_error == pytest.approx(error)
    assert (got.low, got.high) == pytest.approx((centre - quantile * error, centre + quantile * error))
    assert stats.nct.sf(quantile, 99, got.minimum_detectable / error) == pytest.approx(0.8)
    assert got.smallest_called(0.05) == pytest.approx(0.05 + got.minimum_detectable)
    assert got.smallest_called(0.05, power=0.9) > got.smallest_called(0.05)
    assert (got.prompts, got.unit, got.seeds, got.dropped) == (100, "prompt", 1, 0)


def test_pairing_is_by_prompt_and_not_by_order():
    before = table({"a": [True], "b": [False], "c": [None]})
    after = table({"c": [True], "b": [True], "a": [True]})
    got = difference(before, after)
    assert (got.value, got.prompts, got.dropped, got.missing, got.rows) == (0.5, 2, 1, 1, 6)


def test_a_prompt_of_one_side_alone_leaves_the_pairing():
    got = difference(table({"a": [True], "b": [True]}), table({"b": [False], "x": [True], "c": [True]}))
    assert (got.value, got.prompts, got.dropped) == (-1.0, 1, 3)
    assert (got.low, got.high) == (-1.0, 1.0)


def test_samples_are_averaged_within_their_prompt():
    got = difference(table({"a": [True, False, None], "b": [False, False]}), table({"a": [True], "b": [True, False]}))
    assert got.value == pytest.approx((0.5 + 0.5) / 2)
    assert got.missing == 1


def test_no_change_at_all_has_a_width_near_the_rule_of_three():
    got = changed(0, 0, 100)
    assert got.value == 0
    assert got.low == -got.high
    assert 0.02 < got.high < 1 - 0.025**0.01


def test_a_change_in_every_prompt_keeps_a_width():
    got = changed(100, 0, 0)
    assert got.value == got.high == 1
    assert 0.9 < got.low < 0.97


def test_nothing_paired_says_nothing():
    got = difference(singles([None, None]), singles([True, True]))
    assert (got.value, got.low, got.high, got.standard_error, got.minimum_detectable) == (None, -1.0, 1.0, None, None)
    assert got.smallest_called(0.05) is None
    assert (got.before, got.after, got.prompts, got.null_rate, got.p_value()) == (None, None, 0, 0.5, None)
    assert difference(singles([]), singles([])).null_rate is None


def test_one_pair_says_nothing_about_others():
    got = changed(1, 0, 0)
    assert (got.value, got.low, got.high, got.standard_error) == (1.0, -1.0, 1.0, None)


def test_p_value_crosses_the_error_rate_where_the_interval_leaves_the_band():
    got = changed(30, 10, 60)
    assert got.p_value(got.low) == pytest.approx(0.05)
    assert got.p_value(0.0) < 0.05 < got.p_value(0.1)


def test_a_confidence_outside_zero_and_one_is_refused():
    with pytest.raises(ValueError, match="confidence"):
        changed(1, 1, 1, confidence=1.0)
    with pytest.raises(ValueError, match="confidence"):
        over_seeds([changed(1, 1, 1)], confidence=0.0)
    with pytest.raises(ValueError, match="no seeds"):
        over_seeds([])


def test_three_seeds_add_their_spread_to_the_error_of_the_prompts_by_hand():
    seeds = [changed(30, 10, 60), changed(50, 0, 50), changed(10, 20, 70)]
    got = over_seeds(seeds)
    between = np.array([0.2, 0.5, -0.1]).var(ddof=1) / 3
    within = np.mean([one.standard_error for one in seeds]) ** 2
    quantile = (between * stats.t.ppf(0.975, 2) + within * stats.t.ppf(0.975, 99)) / (between + within)
    half = quantile * math.sqrt(between + within)
    assert got.value == pytest.approx(0.2)
    centre = 0.2 * 100 / 102
    assert (got.low, got.high) == pytest.approx((centre - half, centre + half))
    assert got.standard_error == pytest.approx(math.sqrt(between + within))
    assert 2 < got.degrees < 3
    assert stats.nct.sf(quantile, got.degrees, got.minimum_detectable / got.standard_error) == pytest.approx(0.8)
    assert (got.unit, got.seeds, got.prompts) == ("seed", 3, 100)


def test_three_seeds_that_agree_exactly_keep_the_width_their_prompts_allow():
    one = changed(0, 0, 100)
    got = over_seeds([one, one, one])
    assert got.value == 0
    assert got.high == pytest.approx(stats.t.ppf(0.975, 99) * one.standard_error)
    assert got.degrees == pytest.approx(99)


def test_a_change_survives_being_stored_as_json():
    for got in (changed(30, 10, 60), over_seeds([changed(30, 10, 60), changed(20, 10, 70), changed(9, 1, 90)])):
        assert Difference(**json.loads(json.dumps(dataclasses.asdict(got)))) == got


def test_two_seeds_are_never_narrower_than_one():
    one, other = changed(30, 10, 60), changed(35, 10, 55)
    got = over_seeds([one, other])
    assert got.unit == "prompt"
    assert got.high - got.low >= min(one.high - one.low, other.high - other.low)


def test_seeds_without_a_value_are_left_out():
    empty = difference(singles([None]), singles([None]))
    assert over_seeds([changed(3, 1, 6), empty]).seeds == 1
    nothing = over_seeds([empty, empty, empty])
    assert (nothing.value, nothing.low, nothing.high, nothing.seeds) == (None, -1.0, 1.0, 0)


def test_seeds_of_one_prompt_each_rest_on_the_seeds_alone():
    got = over_seeds([changed(1, 0, 0), changed(0, 0, 1), changed(0, 1, 0)])
    assert (got.value, got.unit) == (0.0, "seed")
    assert (got.low, got.high) == (-1.0, 1.0)
    same = over_seeds([changed(1, 0, 0)] * 3)
    assert (same.value, same.low, same.high) == (1.0, -1.0, 1.0)


@given(sides)
@settings(deadline=None)
def test_interval_holds_the_value_inside_minus_one_and_one(sides_):
    got = pair(sides_)
    assert -1 <= got.low <= got.high <= 1
    assert got.low < got.high
    if got.value is not None:
        assert got.low <= got.value <= got.high
        assert got.value == pytest.approx(got.after - got.before)


@given(sides)
@settings(deadline=None)
def test_swapping_before_and_after_mirrors_the_change(sides_):
    got, swapped = pair(sides_), pair([(after, before) for before, after in sides_])
    assert (swapped.low, swapped.high) == pytest.approx((-got.high, -got.low))


@given(sides, st.floats(0.5, 0.9))
@settings(deadline=None)
def test_a_lower_confidence_gives_a_nested_interval(sides_, confidence):
    got = pair(sides_)
    low, high = got.interval(confidence)
    assert got.low <= low <= high <= got.high


@given(st.lists(sides, min_size=1, max_size=5))
@settings(deadline=None)
def test_the_mean_over_seeds_holds_its_value(seeds):
    got = over_seeds([pair(one) for one in seeds])
    assert -1 <= got.low <= got.high <= 1
    if got.value is not None:
        assert got.low <= got.value <= got.high


def _covered(changes: np.ndarray, truth: float) -> float:
    """Coverage of the bonett_price t interval over rows of `changes` (draws × prompts)."""
    size = changes.shape[1]
    centre = changes.sum(1) / (size + 2)
    error = np.sqrt((((changes**2).sum(1) + 2) / (size + 2) - centre**2) / (size + 2))
    return float(np.mean(np.abs(centre - truth) <= stats.t.ppf(0.975, size - 1) * error))


def test_the_simulated_formula_is_the_implemented_one():
    changes = np.array([[1.0] * 30 + [-1.0] * 10 + [0.0] * 60])
    got = changed(30, 10, 60)
    assert _covered(changes, got.low + 1e-9) == 1
    assert _covered(changes, got.low - 1e-9) == 0


@pytest.mark.parametrize("size", [100, 400])
@pytest.mark.parametrize("flipped", [0.0, 0.03, 0.3])
@pytest.mark.parametrize("samples", [1, 4])
def test_simulated_coverage_where_some_prompts_flip(size, flipped, samples):
    generator = np.random.default_rng(3)
    before = generator.beta(0.3, 0.7, (2000, size))
    after = np.where(generator.random((2000, size)) < flipped, 1.0, before)
    changes = (generator.binomial(samples, after) - generator.binomial(samples, before)) / samples
    truth = flipped * (1 - 0.3)
    assert _covered(changes, truth) >= 0.935


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("spread", [0.0, 0.06, 0.3])
@pytest.mark.parametrize("shared", [0.0, 1.0])
def test_simulated_coverage_over_seeds(seeds, spread, shared):
    """Never below nominal whatever the prompts share, and nominal where the seeds' spread outweighs the prompts."""
    generator, error, truth, draws = np.random.default_rng(4), 0.02, 0.1, 20_000
    alike = generator.normal(0, error * math.sqrt(shared), (draws, 1))
    values = truth + alike + generator.normal(0, math.hypot(spread, error * math.sqrt(1 - shared)), (draws, seeds))
    centre, standard_error, degrees = seed_level(values, values, np.full(values.shape, error), 299, 0.95)
    covered = np.mean(np.abs(centre - truth) <= stats.t.ppf(0.975, degrees) * standard_error)
    assert 0.944 <= covered <= (0.96 if spread == 0.3 or (shared and not spread) else 1)
    one = over_seeds([_known(value, error) for value in values[0]])
    assert (one.standard_error, one.degrees) == pytest.approx((standard_error[0], degrees[0]))


def _known(value: float, error: float) -> Difference:
    return Difference(value, -1.0, 1.0, 300, 0.3, 0.3 + value, error, 0.05, 0.95, value, 299.0, "prompt", 1, 0, 600, 0)


def test_scores_of_zero_and_one_give_what_verdicts_give():
    before, after = [True] * 10 + [False] * 90, [False] * 30 + [True] * 70
    verdicts = difference(singles(before), singles(after))
    scores = score_difference(*(pd.Series(side, dtype=float) for side in (before, after)))
    assert dataclasses.asdict(scores) == dataclasses.asdict(verdicts)


def test_scores_are_paired_by_document_whatever_their_order_and_missing_ones_leave():
    before = pd.Series({"a": 0.2, "b": 0.5, "c": math.nan, "d": 0.1})
    after = pd.Series({"d": 0.3, "a": 0.6, "b": 0.5, "c": 0.9})
    got = score_difference(before, after)
    assert got.value == pytest.approx((0.4 + 0.0 + 0.2) / 3)
    assert (got.prompts, got.dropped, got.missing, got.rows) == (3, 1, 1, 8)


@pytest.mark.parametrize("wrong", [pd.Series([1.2]), pd.Series([-0.1]), pd.Series([0.1, 0.2], index=[0, 0])])
def test_scores_off_the_scale_or_twice_are_refused(wrong):
    with pytest.raises(ValueError, match=r"outside \[0, 1\]|two scores"):
        score_difference(pd.Series([0.5]), wrong)


def test_the_interval_of_bounded_scores_covers_as_often_as_it_says():
    generator = np.random.default_rng(3)
    truth, inside = 0.05, 0
    for _ in range(400):
        before = np.where(generator.random(100) < 0.9, 0.0, generator.random(100) / 2)
        after = np.clip(before + np.where(generator.random(100) < 0.1, 0.5, 0.0), 0, 1)
        got = score_difference(pd.Series(before), pd.Series(after))
        inside += got.low <= truth <= got.high
    assert inside / 400 >= 0.94
