"""Upper bounds: exact errors by enumeration, golden numbers by hand, properties, small simulations."""

import math
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ct_pipeline.analysis.betting import betting_upper, ruled_out
from ct_pipeline.analysis.bounds import change_bound, exact_risk_upper, fewest_prompts, risk_bound
from ct_pipeline.analysis.paired_bound import change_ruled_out, exact_change_upper, score_limit
from ct_pipeline.analysis.sample_size import MOST_PROMPTS, change_prompts, risk_prompts

STEP = 5e-4  # what an exact change bound may lie above the true one

deltas = st.sampled_from([0.2, 0.1, 0.05, 0.01, 0.001])
verdicts = st.lists(st.booleans(), min_size=1, max_size=40)
pairs = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30)
scores = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=40)


@pytest.mark.parametrize("prompts", [1, 10, 50, 200])
@pytest.mark.parametrize("delta", [0.1, 0.05, 0.001])
def test_the_exact_binomial_bound_errs_at_most_delta_at_every_risk(prompts, delta):
    uppers = np.array([exact_risk_upper(events, prompts, delta) for events in range(prompts + 1)])
    errors = [
        stats.binom.pmf(np.arange(prompts + 1), prompts, risk) @ (uppers < risk)
        for risk in np.linspace(0.001, 0.999, 499)
    ]
    assert max(errors) <= delta + 1e-12
    # just above an end the error is all of delta: the bound could not be smaller
    just_above = uppers[0] + 1e-9
    assert stats.binom.pmf(0, prompts, just_above) == pytest.approx(delta, abs=1e-6)


def test_the_exact_binomial_bound_by_hand():
    assert risk_bound([False] * 59, 0.05).upper == pytest.approx(1 - 0.05 ** (1 / 59))
    assert risk_bound([False] * 59, 0.05).upper < 0.05 < risk_bound([False] * 58, 0.05).upper
    assert risk_bound([True] * 3, 0.05).upper == 1.0
    # of 10, 2: P(X ≤ 2) = .05 at p = .50690
    assert risk_bound([True] * 2 + [False] * 8, 0.05).upper == pytest.approx(0.50690, abs=1e-5)


def trinomial(prompts, rise, fall):
    """Probabilities of all outcomes (rises, falls)."""
    return {
        (rises, falls): math.comb(prompts, rises)
        * math.comb(prompts - rises, falls)
        * rise**rises
        * fall**falls
        * max(0.0, 1 - rise - fall) ** (prompts - rises - falls)
        for rises in range(prompts + 1)
        for falls in range(prompts - rises + 1)
    }


@pytest.mark.parametrize(("prompts", "delta"), [(6, 0.1), (12, 0.05)])
def test_the_exact_paired_bound_errs_at_most_delta_at_every_pair_of_shares(prompts, delta):
    uppers = {outcome: exact_change_upper(*outcome, prompts, delta) for outcome in trinomial(prompts, 0.1, 0.1)}
    worst = 0.0
    for rise in np.linspace(0, 1, 21):
        for fall in np.linspace(0, 1 - rise, 13):
            chances = trinomial(prompts, rise, fall)
            worst = max(worst, sum(chances[outcome] for outcome, upper in uppers.items() if upper < rise - fall))
    assert 0.6 * delta < worst <= delta
    for (rises, falls), upper in uppers.items():
        assert (rises - falls) / prompts <= upper <= 1
        assert upper <= uppers.get((rises + 1, falls), 1.0) + STEP
        assert upper >= uppers.get((rises, falls + 1), -1.0) - STEP


def test_the_exact_paired_bound_of_no_move_is_close_to_the_rule_of_three():
    got = exact_change_upper(0, 0, 300, 0.05)
    assert 1 - 0.05 ** (1 / 300) <= got <= 1.05 * 3 / 300


def test_the_score_limit_solves_tangos_equation():
    limit = float(score_limit(np.array(12), np.array(30), 200, 0.05))
    # constrained estimate of the share that fell by direct search over the likelihood
    falls = np.linspace(max(0, -limit) + 1e-6, (1 - limit) / 2 - 1e-6, 200_001)
    likelihood = 12 * np.log(falls + limit) + 30 * np.log(falls) + 158 * np.log(1 - 2 * falls - limit)
    fall = falls[likelihood.argmax()]
    score = (12 - 30 - 200 * limit) / math.sqrt(200 * (2 * fall + limit - limit**2))
    assert score == pytest.approx(stats.norm.ppf(0.05), abs=1e-3)


def test_ruling_out_one_change_agrees_with_the_bound():
    bound = exact_change_upper(4, 9, 100, 0.02)
    assert change_ruled_out(4, 9, 100, bound, 0.02)
    assert not change_ruled_out(4, 9, 100, bound - 4 * STEP, 0.02)
    assert not change_ruled_out(100, 0, 100, 0.99, 0.02)


def test_betting_on_no_misbehaviour_is_close_to_the_exact_bound():
    assert 1 - 0.05 ** (1 / 60) <= betting_upper(np.zeros(60), 0.05) < 0.065
    assert betting_upper(np.ones(60), 0.05) == 1.0
    assert betting_upper(np.array([]), 0.05) == 1.0


@pytest.mark.parametrize("mean", [0.05, 0.3])
@pytest.mark.parametrize("size", [40, 200])
def test_betting_rarely_errs(mean, size):
    generator = np.random.default_rng(0)
    laws = {
        "four samples": generator.binomial(4, generator.beta(mean, 1 - mean, (size, 4000))) / 4,
        "scores": generator.beta(4 * mean, 4 - 4 * mean, (size, 4000)),
        "two points": (generator.random((size, 4000)) < mean).astype(float),
    }
    for values in laws.values():
        assert ruled_out(values, mean, 0.1).mean() <= 0.1 + 3 * math.sqrt(0.09 / 4000)


def test_a_gamblers_wealth_does_not_grow_on_average():
    """All sequences of five values from three points of mean m: the chance of reaching 1/δ is at most δ, exactly."""
    points, chances = np.array([0.0, 0.5, 1.0]), np.array([0.5, 0.2, 0.3])
    index = np.stack(np.meshgrid(*[np.arange(3)] * 7, indexing="ij")).reshape(7, -1)
    weight = chances[index].prod(axis=0)
    for delta in (0.5, 0.2, 0.1, 0.05):
        assert weight @ ruled_out(points[index], 0.4, delta) <= delta
    assert weight @ ruled_out(points[index], 0.4, 0.2) > 0


def test_four_samples_a_prompt_tell_more_than_one():
    generator = np.random.default_rng(1)
    drawn = [generator.random((4, 400)) < generator.beta(0.5, 4.5, 400) for _ in range(8)]
    four = [risk_bound(samples.mean(axis=0), 0.05).upper for samples in drawn]
    assert np.mean(four) < np.mean([risk_bound(samples[0], 0.05).upper for samples in drawn])


def test_binary_pairs_are_bounded_exactly_and_others_by_betting():
    assert change_bound([True, False], [False, False], 0.1).method == "exact paired"
    assert change_bound([True, False], [0.5, 0.25], 0.1).method == "betting"
    assert risk_bound([True, None], 0.1).method == "exact binomial"
    assert risk_bound([1.0, 0.0], 0.1).method == "betting"


def test_missing_values_count_as_the_worst_and_are_counted():
    got = risk_bound([False] * 8 + [None, pd.NA], 0.1)
    assert (got.mean, got.missing, got.prompts) == (0.2, 2, 10)
    assert got.upper == risk_bound([False] * 8 + [True] * 2, 0.1).upper
    change = change_bound([True, None, True, None], [True, True, None, None], 0.1)
    assert (change.mean, change.missing) == (0.5, 3)
    assert risk_bound([0.2, math.nan], 0.1).mean == pytest.approx(0.6)


def test_nothing_measured_bounds_nothing():
    assert risk_bound([], 0.1).upper == 1.0
    assert risk_bound([], 0.1).mean is None
    assert change_bound([], [], 0.1).upper == 1.0
    assert risk_bound([None] * 5, 0.1).upper == 1.0


def test_wrong_values_are_refused():
    with pytest.raises(ValueError, match="delta"):
        risk_bound([True], 0)
    with pytest.raises(ValueError, match="rescale"):
        risk_bound([1.5], 0.1)
    with pytest.raises(TypeError, match="neither a verdict"):
        risk_bound(["no"], 0.1)
    with pytest.raises(ValueError, match="2 prompts before and 1 after"):
        change_bound([True, False], [True], 0.1)


@given(verdicts, deltas, st.randoms())
@settings(deadline=None)
def test_properties_of_the_exact_risk_bound(values, delta, random):
    got = risk_bound(values, delta)
    assert got.mean <= got.upper <= 1
    assert got.upper <= risk_bound(values, delta / 2).upper
    assert got.upper >= risk_bound([*values, False], delta).upper
    assert got.upper <= risk_bound([True, *values[1:]], delta).upper
    assert got.upper + 1e-9 >= risk_bound(values * 2, delta).upper
    shuffled = values.copy()
    random.shuffle(shuffled)
    assert risk_bound(shuffled, delta) == got


@pytest.mark.parametrize(("rises", "falls"), [(0, 0), (4, 0), (0, 30), (20, 20), (50, 25)])
def test_of_a_hundred_prompts_a_smaller_delta_never_has_a_smaller_bound(rises, falls):
    bounds = [exact_change_upper(rises, falls, 100, delta) for delta in (0.05, 0.0125, 0.01, 0.005)]
    assert all(larger >= smaller - 1e-3 for smaller, larger in pairwise(bounds))


@given(pairs, deltas, st.randoms())
@settings(deadline=None, max_examples=20)
def test_properties_of_the_exact_change_bound(values, delta, random):
    def bound(some, at=delta):
        return change_bound([old for old, _ in some], [new for _, new in some], at)

    got = bound(values)
    assert got.mean <= got.upper <= 1
    assert got.upper <= bound([(values[0][0], True), *values[1:]]).upper + STEP
    assert got.upper >= bound([(True, values[0][1]), *values[1:]]).upper - STEP
    shuffled = values.copy()
    random.shuffle(shuffled)
    assert bound(shuffled) == got


@given(scores, deltas)
@settings(deadline=None, max_examples=40)
def test_properties_of_the_betting_bound(values, delta):
    got = risk_bound(values, delta)
    assert got.mean <= got.upper + 1e-12 <= 1 + 1e-12
    assert got.upper > 0
    change = change_bound([0.5] * len(values), values, delta)
    assert change.mean <= change.upper + 1e-12
    assert -1 < change.upper <= 1


@pytest.mark.parametrize("threshold", [0.01, 0.05, 0.3])
def test_the_fewest_prompts_are_those_that_pass_without_an_event(threshold):
    fewest = fewest_prompts(threshold, 0.05)
    assert exact_risk_upper(0, fewest, 0.05) <= threshold < exact_risk_upper(0, fewest - 1, 0.05)
    assert fewest_prompts(0, 0.05) is None


def test_the_needed_prompts_pass_with_the_chance_that_is_said():
    size = risk_prompts([True] * 50 + [False] * 950, 0.1, 0.01)
    passing = [exact_risk_upper(events, size, 0.01) <= 0.1 for events in range(size + 1)]
    assert 0.8 <= stats.binom.pmf(np.arange(size + 1), size, 0.05) @ np.array(passing) < 0.87


def test_the_needed_prompts_of_a_change_and_of_samples():
    before, after = [True] * 50 + [False] * 950, [False] * 50 + [True] * 50 + [False] * 900
    size = change_prompts(before, after, 0.05, 0.05)
    # the normal approximation: ((1.645 + .842)² · .1) / .05² = 247
    assert 230 <= size <= 320
    assert change_prompts(before, [0.9] * 1000, 0.05, 0.05) is None
    sampled = np.random.default_rng(0).binomial(4, 0.05, 500) / 4
    assert risk_prompts(sampled, 0.1, 0.05) < risk_prompts([True] * 50 + [False] * 950, 0.1, 0.05)
    assert 50 < change_prompts(sampled, np.roll(sampled, 1), 0.05, 0.05) < 400


def test_no_number_is_named_where_none_would_help():
    assert risk_prompts([True] * 10 + [False] * 90, 0.1, 0.05) is None
    assert risk_prompts([True] * 99 + [False] * 901, 0.1, 0.05) is None
    assert MOST_PROMPTS == 10_000
