"""The k-curve against summed expectations, exact ratios, simulated coverage, and properties."""

from fractions import Fraction
from itertools import islice
from math import comb

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ct_pipeline.analysis.best_of import (
    best_of_weights,
    selection_bound,
    selection_of_law,
    tie_groups,
    tilt,
    total_variation,
)
from ct_pipeline.analysis.estimate import bonett_price, change_term, mean_term, share_term
from ct_pipeline.analysis.grid import grid
from ct_pipeline.analysis.k_curve import k_curve, prompt_risks
from ct_pipeline.analysis.paired import difference
from ct_pipeline.analysis.rates import rate
from tests.analysis.discrete_worlds import DISTINCT, TIED, WORLDS, World, beta_table, kept_law, risk, table, tuples

score_lists = st.lists(st.sampled_from([float("nan"), -1.0, 0.0, 0.5, 3.0]), min_size=1, max_size=8)


def weights_of(scores: list[float], largest: int) -> np.ndarray:
    """(largest, candidates) of one prompt."""
    matrix, present = np.array([scores]), np.ones((1, len(scores)), dtype=bool)
    return np.array([each[0] for each in islice(best_of_weights(*tie_groups(matrix, present), present), largest)])


def one_prompt(scores: list[float], verdicts: list) -> pd.DataFrame:
    return pd.DataFrame(
        {"prompt_id": "p", "candidate": range(len(scores)), "score": scores, "verdict": verdicts}
    ).astype({"verdict": "boolean"})


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_expectation_over_all_tuples_of_draws_is_the_true_risk_of_best_of_j(world, n):
    listed, chances = tuples(world, n)
    expected = chances @ prompt_risks(grid(table(world, listed)), n)
    assert expected == pytest.approx([risk(world, kept_law(world, j)) for j in range(1, n + 1)], abs=1e-12)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_tilt_and_covariance_are_those_of_the_enumerated_law(world, k):
    law, kept = np.array(world.proposal), kept_law(world, k)
    ties = {}
    for place, score in enumerate(world.score):
        ties.setdefault(str(score), []).append(place)
    weights = tilt(law, world.score, k)
    for places in ties.values():
        assert (law * weights)[places].sum() == pytest.approx(kept[places].sum(), abs=1e-12)
    assert selection_of_law(law, world.score, world.verdict, k) == pytest.approx(
        risk(world, kept) - risk(world, law), abs=1e-12
    )


@pytest.mark.parametrize("world", WORLDS)
def test_selection_at_two_is_p_q_times_two_auc_minus_one(world):
    law, verdicts = np.array(world.proposal), np.array(world.verdict, dtype=bool)
    p = law[verdicts].sum()
    rank = pd.Series(world.score).fillna(-np.inf).to_numpy()
    bad, good = np.flatnonzero(verdicts), np.flatnonzero(~verdicts)
    wins = sum(law[i] * law[j] * ((rank[i] > rank[j]) + (rank[i] == rank[j]) / 2) for i in bad for j in good)
    auc = wins / (p * (1 - p))
    assert selection_of_law(law, world.score, verdicts, 2) == pytest.approx(p * (1 - p) * (2 * auc - 1))


@pytest.mark.parametrize("n", [5, 16, 256])
def test_weights_are_exact_ratios_of_binomials(n):
    got = weights_of(list(np.random.default_rng(0).permutation(n).astype(float)), n)
    ascending = np.sort(got, axis=1)
    for j in {1, 2, 3, n // 2, n - 1, n}:
        exact = [float(Fraction(comb(i - 1, j - 1), comb(n, j))) for i in range(1, n + 1)]
        np.testing.assert_allclose(ascending[j - 1], exact, rtol=1e-12, atol=1e-300 if n < 20 else 1e-15)
    assert got.sum(axis=1) == pytest.approx(np.ones(n), abs=1e-12)


def test_tie_groups_share_their_weight_by_hand():
    got = weights_of([1.0, float("nan"), 1.0, 5.0, float("nan")], 3)
    assert got[1] == pytest.approx([(comb(4, 2) - comb(2, 2)) / 10 / 2, 1 / 20, 2.5 / 10, 4 / 10, 1 / 20])
    assert got[2] == pytest.approx([4 / 10 / 2, 0, 2 / 10, 6 / 10, 0])


def test_infinitely_bad_is_still_better_than_missing():
    assert weights_of([float("nan"), -np.inf], 2)[1] == pytest.approx([0, 1])


def test_total_variation_in_closed_form():
    assert [round(total_variation(k), 3) for k in (1, 2, 4, 8, 16)] == [0, 0.25, 0.472, 0.65, 0.779]
    u = (np.arange(200_000) + 0.5) / 200_000
    for k in (2, 4, 7):
        assert np.abs(k * u ** (k - 1) - 1).mean() / 2 == pytest.approx(total_variation(k), abs=1e-6)


def test_wrong_arguments_are_refused():
    for call in (lambda: total_variation(0), lambda: tilt([1.0], [0.0], 0)):
        with pytest.raises(ValueError, match="k is 1 or more"):
            call()
    for law in ([0.5, 0.6], [1.0, 0.0]):
        with pytest.raises(ValueError, match="sum to 1"):
            tilt(law, [0.0, 1.0], 2)
    with pytest.raises(ValueError, match="confidence"):
        k_curve(one_prompt([1.0], [True]), 1.0)
    with pytest.raises(ValueError, match="two candidates number 0"):
        k_curve(pd.concat([one_prompt([1.0], [True])] * 2))
    with pytest.raises(ValueError, match="no prompt_id"):
        k_curve(one_prompt([1.0], [True]).assign(prompt_id=None))
    with pytest.raises(TypeError, match="not a verdict"):
        k_curve(one_prompt([1.0], [True]).assign(verdict=0.3))


def test_risk_at_one_is_the_clustered_rate_of_all_candidates():
    candidates = beta_table(np.random.default_rng(1), 40, 6, unjudged=0.1)
    point, expected = k_curve(candidates)[0], rate(candidates["verdict"], candidates["prompt_id"])
    assert point.risk.value == pytest.approx(expected.value, abs=1e-12)
    assert (point.risk.low, point.risk.high) == pytest.approx((expected.low, expected.high), abs=0.005)
    assert (point.selection.value, point.selection.low, point.selection.high) == (0, 0, 0)


def test_risk_of_single_candidates_is_their_rate():
    candidates = beta_table(np.random.default_rng(1), 40, 1)
    got, expected = k_curve(candidates)[0].risk, rate(candidates["verdict"], candidates["prompt_id"])
    assert (got.value, got.low, got.high) == pytest.approx((expected.value, expected.low, expected.high))


def test_one_odd_prompt_does_not_make_the_interval_wide_or_narrow():
    got = share_term(np.array([0.0625] + [0.0] * 99), 0.95)
    none = share_term(np.zeros(100), 0.95)
    assert none.high <= got.high < 1.1 * none.high


def test_a_candidate_without_a_verdict_leaves_numerator_and_denominator_but_keeps_its_rank():
    points = k_curve(one_prompt([3.0, 2.0, 1.0], [None, True, False]))
    assert [point.risk.value for point in points[:2]] == [0.5, 1.0]
    assert (points[2].risk.value, points[2].risk.prompts, points[2].selection.value) == (None, 0, None)


def test_dropping_candidates_without_score_is_the_curve_of_the_others():
    candidates = beta_table(np.random.default_rng(2), 30, 5, unscored=0.3)
    scored = candidates[candidates["score"].notna()]
    assert k_curve(candidates, missing="dropped") == k_curve(scored)
    assert k_curve(candidates, missing="dropped") != k_curve(candidates)
    fewest = [sum(scored.groupby("prompt_id").size() >= j) for j in range(1, len(k_curve(scored)) + 1)]
    assert [point.risk.prompts for point in k_curve(scored)] == fewest


def test_an_empty_table_has_no_curve_and_one_prompt_no_interval():
    assert k_curve(one_prompt([1.0], [True]).iloc[:0]) == ()
    point = k_curve(one_prompt([1.0, 2.0], [True, False]))[1]
    assert (point.risk.value, point.selection.value, point.selection.low, point.selection.high) == (0, -0.5, -1, 1)
    assert point.selection.standard_error is None


def test_the_largest_k_can_be_given():
    candidates = beta_table(np.random.default_rng(3), 10, 6)
    assert k_curve(candidates, largest=3) == k_curve(candidates)[:3]
    assert k_curve(candidates, largest=7)[6].risk.value is None


def test_whole_changes_have_the_interval_of_paired_differences():
    before = pd.DataFrame({"prompt": range(60), "verdict": [False] * 40 + [True] * 20})
    after = before.assign(verdict=[True] * 10 + [False] * 30 + [True] * 16 + [False] * 4)
    expected = difference(before, after)
    got = change_term((after["verdict"].astype(int) - before["verdict"].astype(int)).to_numpy(), 0.95)
    assert (got.value, got.low, got.high, got.standard_error) == pytest.approx(
        (expected.value, expected.low, expected.high, expected.standard_error)
    )


def test_terms_of_nothing_and_of_one_prompt():
    nothing = np.array([np.nan])
    assert (share_term(nothing, 0.9).low, share_term(nothing, 0.9).high) == (0, 1)
    assert (change_term(nothing, 0.9).low, change_term(nothing, 0.9).high) == (-1, 1)
    assert (mean_term(nothing, 0.9).low, mean_term(np.array([2.0]), 0.9).high) == (None, None)
    assert change_term(np.zeros(1), 0.9, 0.0).high == 0


def test_simulated_bias_is_within_three_standard_errors():
    generator, n = np.random.default_rng(5), 6
    for world in (DISTINCT, TIED):
        listed = [tuple(each) for each in generator.choice(4, size=(4000, n), p=world.proposal)]
        risks = prompt_risks(grid(table(world, listed)), n)
        error = risks.std(axis=0, ddof=1) / np.sqrt(len(risks))
        truth = np.array([risk(world, kept_law(world, j)) for j in range(1, n + 1)])
        assert (np.abs(risks.mean(axis=0) - truth) < 3 * error).all()


LAW = 20
"""Completions of the worlds that coverage is simulated in."""


def covered(prompts: int, draws: int, rate_: float, spread: float, levels: int, unscored: float, k: int) -> tuple:
    """Coverage of the intervals of risk and selection over prompts drawn from a finite population of laws."""
    generator, n, population = np.random.default_rng(6), 12, 3000
    chance = generator.beta(rate_ / spread, (1 - rate_) / spread, population)
    count = np.round(chance * LAW + generator.random(population) - 0.5).astype(int).clip(0, LAW)
    verdicts = np.arange(LAW)[None, :] < count[:, None]
    scores = generator.normal(size=(population, LAW)) + 0.6 * verdicts
    scores = np.round(scores * levels / 3) if levels else scores
    scores[generator.random((population, LAW)) < unscored] = np.nan
    below, upto = tie_groups(scores, np.ones(scores.shape, dtype=bool))
    tilts = ((upto / LAW) ** k - (below / LAW) ** k) / (upto - below)
    true_risk, true_selection = (tilts * verdicts).sum(1).mean(), ((tilts - 1 / LAW) * verdicts).sum(1).mean()
    prompt = generator.integers(population, size=(draws * prompts, 1))
    drawn = generator.integers(LAW, size=(draws * prompts, n))
    present = np.ones(drawn.shape, dtype=bool)
    every = islice(best_of_weights(*tie_groups(scores[prompt, drawn], present), present), k)
    sums = [(weight * verdicts[prompt, drawn]).sum(1).reshape(draws, prompts) for weight in every]
    centre, error = bonett_price(sums[-1] - sums[0], total_variation(k))
    selection = np.mean(np.abs(centre - true_selection) <= stats.t.ppf(0.975, prompts - 1) * error)
    terms = [share_term(each, 0.95) for each in sums[-1]]
    return np.mean([term.low <= true_risk <= term.high for term in terms]), selection


@pytest.mark.parametrize(("prompts", "draws"), [(100, 1000), (400, 400)])
@pytest.mark.parametrize(("levels", "unscored"), [(0, 0.0), (3, 0.1)])
@pytest.mark.parametrize("k", [2, 4])
def test_simulated_coverage(prompts, draws, levels, unscored, k):
    risk_, selection = covered(prompts, draws, 0.35, 0.5, levels, unscored, k)
    assert 0.93 <= risk_ <= 0.97
    assert 0.93 <= selection <= 0.98


@pytest.mark.parametrize(("prompts", "draws"), [(100, 1000), (400, 400)])
@pytest.mark.parametrize("rate_", [0.02, 0.98])
def test_simulated_coverage_near_zero_and_one(prompts, draws, rate_):
    risk_, selection = covered(prompts, draws, rate_, 0.5, 3, 0.05, 4)
    assert risk_ >= 0.95
    assert selection >= 0.95


def test_the_simulated_interval_is_the_implemented_one():
    candidates = beta_table(np.random.default_rng(7), 30, 6)
    risks = prompt_risks(grid(candidates), 4)
    centre, error = bonett_price(risks[:, 3] - risks[:, 0], total_variation(4))
    got, half = k_curve(candidates)[3].selection, stats.t.ppf(0.975, 29) * error
    assert (got.low, got.high) == pytest.approx((centre - half, centre + half))


@given(score_lists, st.data())
@settings(deadline=None, max_examples=60)
def test_curve_properties(scores, data):
    verdicts = data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores)))
    candidates = one_prompt(scores, verdicts)
    points = k_curve(candidates)
    shuffled = k_curve(candidates.sample(frac=1, random_state=data.draw(st.integers(0, 99))))
    misbehaves = np.array(verdicts, dtype=float)
    for point, other in zip(points, shuffled, strict=True):
        weights = weights_of(scores, point.k)[-1]
        distance = np.abs(weights - 1 / len(scores)).sum() / 2
        assert point.risk.value == pytest.approx(other.risk.value, abs=1e-12)
        assert point.selection.value == pytest.approx(
            np.cov(misbehaves, weights, ddof=0)[0, 1] * len(scores), abs=1e-12
        )
        assert abs(point.selection.value) <= np.ptp(misbehaves) * distance + 1e-12
        assert 0 <= point.risk.low <= point.risk.value <= point.risk.high <= 1
    assert points[0].selection.value == points[0].selection.low == points[0].selection.high == 0


@given(st.lists(st.tuples(st.integers(1, 9), st.sampled_from([0.0, 1.0, 2.0]), st.booleans()), min_size=1, max_size=6))
@settings(deadline=None, max_examples=60)
def test_selection_of_a_law_is_within_its_bound(rows):
    mass = np.array([row[0] for row in rows], dtype=float)
    law, scores, verdicts = mass / mass.sum(), [row[1] for row in rows], [row[2] for row in rows]
    world = World(tuple(law), tuple(law), tuple(scores), tuple(verdicts), (1,) * len(rows))
    by_score = [risk(world, law * (np.array(scores) == s)) / law[np.array(scores) == s].sum() for s in set(scores)]
    for k in (1, 2, 4, 16):
        limit = selection_bound(min(by_score), max(by_score), k)
        assert abs(selection_of_law(law, scores, verdicts, k)) <= limit + 1e-12
