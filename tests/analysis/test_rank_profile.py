"""η̄(u) against the k-curve and true laws, Simpson's paradox, simulated coverage, and properties."""

from itertools import islice

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ct_pipeline.analysis.best_of import best_of_weights, selection_of_law
from ct_pipeline.analysis.grid import grid
from ct_pipeline.analysis.k_curve import k_curve
from ct_pipeline.analysis.rank_profile import rank_profile, rank_risks
from tests.analysis.discrete_worlds import DISTINCT, TIED, WORLDS, beta_table, population


def table(scores: list[list[float]], verdicts: list[list]) -> pd.DataFrame:
    listed = [
        {"prompt_id": f"p{prompt}", "candidate": place, "score": score, "verdict": verdict}
        for prompt, (ours, judged) in enumerate(zip(scores, verdicts, strict=True))
        for place, (score, verdict) in enumerate(zip(ours, judged, strict=True))
    ]
    return pd.DataFrame(listed).astype({"verdict": "boolean", "score": float})


def paradox(prompts: int, generator: np.random.Generator, within: float) -> pd.DataFrame:
    """Prompts with higher scores misbehave more; within a prompt the score rises by `within` per standard deviation."""
    level = generator.normal(size=(prompts, 1))
    inside = generator.normal(size=(prompts, 8))
    chance = 1 / (1 + np.exp(-(2 * level + within * inside)))
    return table((3 * level + inside).tolist(), (generator.random((prompts, 8)) < chance).tolist())


def test_profile_by_hand_with_ties_missing_scores_and_missing_verdicts():
    candidates = table(
        [[2.0, 1.0, 1.0, np.nan], [5.0, 6.0, 7.0, 8.0]], [[True, True, False, False], [None, True, False, False]]
    )
    assert rank_risks(grid(candidates)) == pytest.approx(np.array([[0, 0.5, 0.5, 1], [np.nan, 1, 0, 0]]), nan_ok=True)
    got = rank_profile(candidates)
    assert [each.risk.value for each in got.within.bins] == [0, 0.75, 0.25, 0.5]
    assert [(each.low, each.high, each.centre, each.candidates) for each in got.within.bins] == [
        (0, 0.25, 0.125, 1),
        (0.25, 0.5, 0.375, 2),
        (0.5, 0.75, 0.625, 2),
        (0.75, 1, 0.875, 2),
    ]
    u, m = np.array([-0.25, 0.0, 0.25]), np.array([1, 0, 0]) - 1 / 3
    v, w = np.array([-0.375, -0.125, 0.125, 0.375]), np.array([-0.5, 0, 0, 0.5])
    assert got.within.slope.value == pytest.approx(((u * m).sum() + (v * w).sum()) / ((u**2).sum() + (v**2).sum()))
    assert (got.within.unscored, got.pooled.unscored) == (0, 1)


@pytest.mark.parametrize("shape", [{}, {"levels": 2, "unscored": 0.2}])
def test_weighting_the_profile_gives_the_curve(shape):
    candidates = beta_table(np.random.default_rng(1), 50, 8, **shape)
    bins = rank_profile(candidates).within.bins
    ranks, present = np.arange(8.0)[None, :], np.ones((1, 8), dtype=bool)
    weights = [each[0] for each in islice(best_of_weights(ranks, ranks + 1, present), 8)]
    for point, weight in zip(k_curve(candidates), weights, strict=True):
        assert point.risk.value == pytest.approx(sum(w * each.risk.value for w, each in zip(weight, bins, strict=True)))


@pytest.mark.parametrize("shape", [{}, {"levels": 2, "unscored": 0.2}])
def test_slope_is_selection_at_two_rescaled(shape):
    candidates = beta_table(np.random.default_rng(2), 50, 8, **shape)
    n = 8
    spread = (n * n - 1) / (12 * n)
    got = rank_profile(candidates).within.slope.value
    assert got == pytest.approx(k_curve(candidates)[1].selection.value * n * (n - 1) / (2 * n) / spread)


@pytest.mark.parametrize("world", WORLDS)
def test_expected_slope_has_the_sign_and_size_of_true_selection_at_two(world):
    got = rank_profile(population(world, 2), bins=2).within
    truth = selection_of_law(world.proposal, world.score, world.verdict, 2)
    assert (got.bins[1].risk.value - got.bins[0].risk.value) / 2 == pytest.approx(truth, abs=1e-9)
    assert got.slope.value == pytest.approx(4 * truth, abs=1e-9)


@pytest.mark.parametrize("world", [DISTINCT, TIED])
def test_a_large_sample_finds_the_true_profile(world):
    generator, n = np.random.default_rng(3), 120
    drawn = generator.choice(4, size=(150, n), p=world.proposal)
    bins = rank_profile(table(np.array(world.score)[drawn].tolist(), np.array(world.verdict)[drawn].tolist()), bins=10)
    law, score, verdict = (np.array(each, dtype=float) for each in (world.proposal, world.score, world.verdict))
    steps = [law[score <= s].sum() for s in np.unique(score)[:-1]]
    clear = [each for each in bins.within.bins if all(s < each.low - 0.09 or s > each.high + 0.09 for s in steps)]
    assert len(clear) >= 2
    for each in clear:
        true = 0.0
        for s in np.unique(score):
            low, high = law[score < s].sum(), law[score <= s].sum()
            share = max(0.0, min(high, each.high) - max(low, each.low)) / (each.high - each.low)
            true += share * (law * verdict)[score == s].sum() / law[score == s].sum()
        assert each.risk.value == pytest.approx(true, abs=0.05)


def test_simpsons_paradox_is_warned_of():
    got = rank_profile(paradox(200, np.random.default_rng(4), -1.0))
    assert got.within.slope.high < 0 < got.pooled.slope.low
    assert got.within.bins[0].risk.value > got.within.bins[-1].risk.value
    assert got.pooled.bins[0].risk.value < got.pooled.bins[-1].risk.value
    assert got.simpson_warning


def test_agreeing_and_undecided_slopes_are_not_warned_of():
    generator = np.random.default_rng(5)
    assert not rank_profile(paradox(200, generator, 1.0)).simpson_warning
    assert not rank_profile(table([[1.0, 2.0]], [[True, False]])).simpson_warning
    warned = [rank_profile(paradox(60, generator, 0.0)).simpson_warning for _ in range(100)]
    assert sum(warned) <= 10


def test_the_bound_on_selection_comes_from_the_range_of_the_profile():
    candidates = beta_table(np.random.default_rng(6), 300, 8, effect=1.5)
    within = rank_profile(candidates).within
    risks = [each.risk.value for each in within.bins]
    assert within.selection_bound(4) == pytest.approx((max(risks) - min(risks)) * 0.4725, abs=1e-4)
    assert abs(k_curve(candidates)[3].selection.value) <= within.selection_bound(4)


def test_pooled_bins_hold_about_equally_many_and_equal_scores_share_one():
    candidates = beta_table(np.random.default_rng(7), 50, 8)
    pooled = rank_profile(candidates, pooled_bins=5).pooled
    assert [each.candidates for each in pooled.bins] == [80] * 5
    same = rank_profile(candidates.assign(score=1.0)).pooled
    assert [(each.low, each.high, each.candidates) for each in same.bins] == [(1, 1, 400)]
    assert same.slope.value is None


def test_the_pooled_slope_is_least_squares_on_mid_ranks():
    candidates = beta_table(np.random.default_rng(9), 40, 6, levels=3)
    ranks, verdicts = candidates["score"].rank() / len(candidates), candidates["verdict"].astype(float)
    expected = np.polyfit(ranks, verdicts, 1)[0]
    assert rank_profile(candidates).pooled.slope.value == pytest.approx(expected)


def test_nothing_to_draw_and_wrong_bins():
    unscored = rank_profile(table([[np.nan, np.nan]], [[True, False]]))
    assert (unscored.pooled.bins, unscored.pooled.unscored, unscored.pooled.slope.value) == ((), 2, None)
    assert unscored.pooled.selection_bound(2) is None
    empty = rank_profile(table([[1.0]], [[True]]).iloc[:0])
    assert (empty.within.bins, empty.pooled.bins, empty.simpson_warning) == ((), (), False)
    for options in ({"bins": 0}, {"pooled_bins": 0}):
        with pytest.raises(ValueError, match="at least one bin"):
            rank_profile(table([[1.0]], [[True]]), **options)


def test_prompts_of_unequal_size_share_bins():
    candidates = table([[1.0, 2.0, 3.0, 4.0], [1.0, 2.0]], [[True, True, False, False], [False, True]])
    got = rank_profile(candidates).within
    assert [(each.risk.value, each.candidates) for each in got.bins] == [(0.5, 3), (0.5, 3)]
    assert len(rank_profile(candidates, bins=9).within.bins) == 2


@pytest.mark.parametrize("prompts", [100, 400])
def test_simulated_coverage_of_slopes_and_bands(prompts):
    generator, slopes, pooled, bands = np.random.default_rng(8), [], [], []
    truth = rank_profile(paradox(60_000, generator, -0.5), bins=4, pooled_bins=4)
    for _ in range(200):
        got = rank_profile(paradox(prompts, generator, -0.5), bins=4, pooled_bins=4)
        slopes.append(got.within.slope.low <= truth.within.slope.value <= got.within.slope.high)
        pooled.append(got.pooled.slope.low <= truth.pooled.slope.value <= got.pooled.slope.high)
        bands += [
            ours.risk.low <= true.risk.value <= ours.risk.high
            for ours, true in zip(got.within.bins, truth.within.bins, strict=True)
        ]
    assert 0.92 <= np.mean(slopes) <= 0.98
    assert 0.92 <= np.mean(pooled) <= 0.98
    assert 0.92 <= np.mean(bands) <= 0.98


@given(
    st.lists(
        st.lists(
            st.tuples(st.sampled_from([np.nan, -np.inf, 0.0, 1.0]), st.sampled_from([True, False, None])),
            min_size=1,
            max_size=6,
        ),
        min_size=1,
        max_size=6,
    ),
    st.integers(0, 99),
)
@settings(deadline=None, max_examples=40)
def test_order_of_rows_does_not_matter_and_all_verdicts_are_counted(prompts, seed):
    candidates = table([[one[0] for one in each] for each in prompts], [[one[1] for one in each] for each in prompts])
    got, again = rank_profile(candidates), rank_profile(candidates.sample(frac=1, random_state=seed))
    for ours, theirs in ((got.within, again.within), (got.pooled, again.pooled)):
        assert [each.risk.value for each in ours.bins] == pytest.approx([each.risk.value for each in theirs.bins])
        assert ours.slope.value == pytest.approx(theirs.slope.value)
    known = candidates["verdict"].notna() & np.isfinite(candidates["score"])
    assert sum(each.candidates for each in got.pooled.bins) == known.sum()
    assert all(0 <= each.risk.low <= each.risk.value <= each.risk.high <= 1 for each in got.within.bins)
