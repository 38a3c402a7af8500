"""Rates against hand-computed intervals, properties, and simulated coverage."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from ct_pipeline.analysis.clusters import nullable, prompt_means
from ct_pipeline.analysis.rates import cluster_interval, rate, score_rate, share_interval

verdict_lists = st.lists(st.sampled_from([True, False, None]), max_size=60)


def test_wilson_interval_of_three_in_ten_matches_the_hand_computed_one():
    got = rate([True] * 3 + [False] * 7)
    # z = 1.959964: (0.3 + z²/20) / (1 + z²/10) = 0.355507; half-width 0.247715
    assert got.value == pytest.approx(0.3)
    assert (got.low, got.high) == pytest.approx((0.107791, 0.603222), abs=1e-5)


def test_exact_interval_of_no_event_in_a_hundred_is_the_rule_of_three():
    got = rate([False] * 100, method="exact")
    assert got.low == 0
    assert got.high == pytest.approx(1 - 0.025**0.01)


@pytest.mark.parametrize(("ours", "theirs"), [("wilson", "wilson"), ("exact", "beta")])
@pytest.mark.parametrize("events", [0, 1, 17, 50])
def test_intervals_agree_with_statsmodels(ours, theirs, events):
    got = rate([True] * events + [False] * (50 - events), method=ours, confidence=0.9)
    assert (got.low, got.high) == pytest.approx(proportion_confint(events, 50, alpha=0.1, method=theirs), abs=1e-9)


def test_missing_verdicts_leave_the_denominator_and_are_counted():
    got = rate([True, None, False, float("nan"), pd.NA])
    assert (got.value, got.prompts, got.rows, got.missing, got.null_rate) == (0.5, 2, 5, 3, 0.6)


def test_without_any_verdict_the_rate_is_missing_and_nothing_is_excluded():
    got = rate([None, None], ["a", "b"])
    assert (got.value, got.low, got.high, got.prompts, got.missing) == (None, 0.0, 1.0, 0, 2)
    assert rate([]).null_rate is None


def test_every_prompt_weighs_alike_however_many_samples_it_has():
    got = rate([True, True, True, True, False], ["a", "a", "a", "a", "b"])
    assert got.value == 0.5
    assert got.prompts == 2


def test_samples_of_one_prompt_do_not_count_as_independent():
    clustered = rate([True] * 400 + [False] * 400, [index // 40 for index in range(800)])
    flat = rate([True] * 400 + [False] * 400)
    assert clustered.high - clustered.low > 4 * (flat.high - flat.low)


def test_equal_prompt_means_give_the_interval_of_as_many_prompts():
    got = rate([False] * 40, [index // 4 for index in range(40)])
    assert (got.low, got.high) == pytest.approx(share_interval(0.0, 10))


def test_a_score_is_refused_as_a_verdict():
    with pytest.raises(TypeError, match=r"not a verdict: 0\.7"):
        rate([True, 0.7])
    with pytest.raises(TypeError, match="not a verdict"):
        rate(["yes"])


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="prompts for"):
        rate([True], ["a", "b"])
    with pytest.raises(ValueError, match="no prompt identifier"):
        rate([True], [None])
    with pytest.raises(ValueError, match="confidence"):
        rate([True], confidence=1)
    with pytest.raises(ValueError, match="confidence"):
        rate([], confidence=0)
    with pytest.raises(ValueError, match="unknown interval"):
        share_interval(0.5, 10, method="wald")
    with pytest.raises(ValueError, match="no interval"):
        share_interval(0.5, 0)


def test_numpy_and_pandas_truth_values_are_verdicts():
    assert nullable([np.True_, 0, 1.0, np.nan]).tolist() == [True, False, True, pd.NA]
    assert prompt_means(["a", "b", "a"], pd.array([True, None, False], dtype="boolean")).tolist()[0] == 0.5


@given(verdict_lists, st.sampled_from(["wilson", "exact"]), st.booleans())
@settings(deadline=None)
def test_interval_holds_the_value_and_stays_within_zero_and_one(verdicts, method, clustered):
    prompts = [index // 3 for index in range(len(verdicts))] if clustered else None
    got = rate(verdicts, prompts, method=method)
    assert 0 <= got.low <= got.high <= 1
    assert got.rows == len(verdicts)
    if got.value is not None:
        assert got.low <= got.value <= got.high
        assert got.low < got.high


@given(verdict_lists)
@settings(deadline=None)
def test_swapping_true_and_false_mirrors_the_interval(verdicts):
    got = rate(verdicts)
    swapped = rate([None if verdict is None else not verdict for verdict in verdicts])
    assert (swapped.low, swapped.high) == pytest.approx((1 - got.high, 1 - got.low))


@given(verdict_lists, st.randoms())
@settings(deadline=None)
def test_order_of_rows_does_not_matter(verdicts, random):
    prompts = [index // 2 for index in range(len(verdicts))]
    order = list(range(len(verdicts)))
    random.shuffle(order)
    got = rate(verdicts, prompts)
    shuffled = rate([verdicts[index] for index in order], [prompts[index] for index in order])
    assert (shuffled.low, shuffled.high) == pytest.approx((got.low, got.high))


@pytest.mark.parametrize("size", [100, 400])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_simulated_coverage_of_single_samples(size, share):
    counts = np.random.default_rng(1).binomial(size, share, 4000)
    intervals = {count: rate([True] * count + [False] * (size - count)) for count in set(counts.tolist())}
    wilson = np.mean([intervals[count].low <= share <= intervals[count].high for count in counts])
    assert 0.92 <= wilson <= 0.985
    exact = {count: share_interval(count / size, size, method="exact") for count in intervals}
    assert np.mean([exact[count][0] <= share <= exact[count][1] for count in counts]) >= 0.945


@pytest.mark.parametrize("size", [100, 400])
@pytest.mark.parametrize("share", [0.02, 0.05, 0.4])
@pytest.mark.parametrize("correlation", [0.3, 0.9])
def test_simulated_coverage_of_clustered_samples(size, share, correlation):
    generator, samples = np.random.default_rng(2), 4
    concentration = (1 - correlation) / correlation
    risks = generator.beta(share * concentration, (1 - share) * concentration, (2000, size))
    ends = [cluster_interval(means) for means in generator.binomial(samples, risks) / samples]
    assert 0.93 <= np.mean([low <= share <= high for low, high in ends]) <= 0.995


def test_the_clustered_interval_by_hand():
    verdicts = [True, False, True, True, False, False, True, False, True, True, True, True]
    got = rate(verdicts, [index // 4 for index in range(12)])
    # means 3/4, 1/4, 1, and 0 and 1 added: variance of the mean of five
    error_squared = np.var([0.75, 0.25, 1.0, 0.0, 1.0]) / 5
    value = 2 / 3
    assert (got.low, got.high) == pytest.approx(share_interval(value, value * (1 - value) / error_squared, degrees=2))


def test_a_mean_score_has_the_interval_of_a_rate_and_missing_ones_leave():
    whole = score_rate([1.0] * 30 + [0.0] * 70 + [float("nan")] * 5)
    binary = rate([True] * 30 + [False] * 70 + [None] * 5)
    assert whole == binary
    bounded = score_rate([0.25, 0.5, 0.75] * 20)
    assert bounded.value == 0.5 and 0.4 < bounded.low < 0.5 < bounded.high < 0.6
    assert score_rate([]).value is None and score_rate([float("nan")]).missing == 1
    with pytest.raises(ValueError, match="rescale"):
        score_rate([1.5])
