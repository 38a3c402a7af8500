"""Δ over seeds crossed with prompts: golden numbers by hand, what always holds, and simulated coverage."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ct_pipeline.analysis.estimate import bonett_price
from ct_pipeline.analysis.power import shared_of
from ct_pipeline.analysis.seeds import crossed_level, over_seeds
from ct_pipeline.analysis.t_distribution import student_quantile, two_source_error
from tests.analysis.test_paired import changed


def named(changes):
    return [{f"p{number}": float(value) for number, value in enumerate(one)} for one in changes]


def of(changes):
    """The differences of seeds that rose, fell and stayed as these changes say."""
    return [changed(int((one > 0).sum()), int((one < 0).sum()), int((one == 0).sum())) for one in changes]


CHANGES = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, -1.0]])


def test_the_parts_of_the_variance_by_hand():
    """With the two added prompts: seeds 1/4, 2/4, -1/4; prompts 2/3, 0, 1, -1; squares of the rest sum to 13/6."""
    whole = np.array([[1, 0, 1, -1], [1, 1, 1, -1], [0, -1, 1, -1]])
    mean = whole.mean()
    assert mean == pytest.approx(1 / 6)
    spread = np.var([1 / 4, 2 / 4, -1 / 4], ddof=1) / 3
    of_prompts = 3 * sum((value - mean) ** 2 for value in (2 / 3, 0, 1, -1)) / 3
    rest = sum(
        (whole[seed, prompt] - whole[seed].mean() - whole[:, prompt].mean() + mean) ** 2
        for seed in range(3)
        for prompt in range(4)
    ) / (2 * 3)
    error, degrees = two_source_error(spread, 2.0, max(of_prompts - rest, 2 * 3 / 3) / 12, 3.0, 0.95)
    got = crossed_level(CHANGES.mean(axis=1), CHANGES, 0.95)
    assert [float(each) for each in got] == pytest.approx([1 / 3 * 2 / 4, float(error), float(degrees)])
    mean_of_seeds = over_seeds(of(CHANGES), by_prompt=named(CHANGES))
    assert (mean_of_seeds.value, mean_of_seeds.seeds, mean_of_seeds.unit) == (pytest.approx(1 / 3), 3, "seed")
    assert (mean_of_seeds.standard_error, mean_of_seeds.degrees) == pytest.approx((float(error), float(degrees)))


def test_seeds_that_are_copies_know_no_more_than_one_of_them():
    one = np.random.default_rng(1).choice([-1.0, 0.0, 1.0], 300, p=[0.1, 0.6, 0.3])
    got = over_seeds(of([one] * 4), by_prompt=named([one] * 4))
    _, error = bonett_price(one, 1.0)
    assert got.standard_error == pytest.approx(float(error), rel=0.01)


def test_seeds_that_all_stand_still_keep_a_width():
    still = np.zeros((3, 100))
    got = over_seeds(of(still), by_prompt=named(still))
    assert got.low < -0.01 and got.high > 0.01
    assert got.value == 0


def test_only_prompts_that_every_seed_has_say_what_is_common_and_all_count_in_the_mean():
    changes = np.random.default_rng(2).choice([-1.0, 0.0, 1.0], (3, 50))
    tables = named(changes)
    del tables[1]["p7"]
    got = over_seeds(of(changes), by_prompt=tables)
    rest = np.delete(changes, 7, axis=1)
    assert got.value == pytest.approx(changes.mean())
    assert got.standard_error == pytest.approx(float(crossed_level(changes.mean(axis=1), rest, 0.95)[1]))
    apart = [{f"{number} {prompt}": value for prompt, value in each.items()} for number, each in enumerate(tables)]
    assert over_seeds(of(changes), by_prompt=apart) == over_seeds(of(changes))


def test_one_and_two_seeds_speak_of_themselves_and_other_seeds_are_refused():
    changes = np.random.default_rng(3).choice([-1.0, 0.0, 1.0], (2, 50))
    assert over_seeds(of(changes), by_prompt=named(changes)) == over_seeds(of(changes))
    with pytest.raises(ValueError, match="changes by prompt of 1 seeds beside 2"):
        over_seeds(of(changes), by_prompt=named(changes)[:1])


@given(
    arrays(
        float, st.tuples(st.integers(3, 5), st.integers(2, 8)), elements=st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0])
    )
)
@settings(deadline=None, max_examples=60)
def test_the_interval_holds_the_mean_whatever_the_order_of_seeds_and_prompts(changes):
    got = [
        crossed_level(each.mean(axis=1), each, 0.95) for each in (changes, changes[::-1], changes[:, ::-1], -changes)
    ]
    for centre, error, degrees in got:
        assert error > 0 and degrees >= 1
        assert abs(abs(centre) - abs(got[0][0])) < 1e-12
        assert error == pytest.approx(got[0][1])


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("seed_sd", [0.0, 0.05])
@pytest.mark.parametrize("common", [0.0, 0.3])
def test_simulated_coverage_is_nominal_with_and_without_prompt_effects(seeds, seed_sd, common):
    generator, truth, draws = np.random.default_rng(4), 0.1, 4000
    shape = (draws, seeds, 150)
    seen = (
        truth
        + generator.normal(0, seed_sd, (draws, seeds, 1))
        + generator.normal(0, common, (draws, 1, shape[2]))
        + generator.normal(0, 0.4, shape)
    )
    centre, error, degrees = crossed_level(seen.mean(axis=-1), seen, 0.95)
    covered = np.mean(np.abs(centre - truth) <= student_quantile(0.95, degrees) * error)
    assert 0.935 <= covered <= 0.985


def test_what_prompts_share_is_seen_in_the_changes_by_prompt():
    generator = np.random.default_rng(5)
    common, rest = 0.2, 0.4
    cells = [
        named(
            generator.normal(0, common, (1, 400))
            + generator.normal(0, rest, (3, 400))
            + generator.normal(0, 0.1, (3, 1))
        )
        for _ in range(20)
    ]
    assert shared_of(cells) == pytest.approx(common**2 / (common**2 + rest**2), abs=0.02)
    assert shared_of([named(np.ones((2, 5)))]) is None
    assert shared_of([cells[0][:1]]) is None
    assert shared_of([named(np.array([[1.0, -1.0], [-1.0, 1.0]]))]) == 0.0
