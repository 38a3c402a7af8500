"""Planned power against simulated studies, and the error rates of the verdicts that it plans for."""

import math
from collections.abc import Iterable, Iterator

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from ct_pipeline.analysis.paired import Difference
from ct_pipeline.analysis.power import (
    Design,
    Spread,
    guessed_prompt_variance,
    planning_table,
    power_of_neutral,
    power_table,
    power_to_call,
    prompts_needed,
    smallest_called,
    spread_of,
)
from ct_pipeline.analysis.seeds import crossed_level, over_seeds
from ct_pipeline.analysis.t_distribution import minimum_detectable_effect
from ct_pipeline.analysis.verdicts import sign_test, verdict
from tests.analysis.test_paired import changed

SEEDS, PROMPTS, EPSILON = 3, 200, 0.05
PART = 500
"""Studies that are drawn at once."""
WORDS = ("amplifies", "suppresses", "neutral")


def counts(
    generator: np.random.Generator,
    shape: tuple[int, int],
    prompts: int,
    *,
    moved: float,
    effect: float,
    tau: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Prompts that rose and that fell, draws × seeds: a share `moved` of them, seeds' true changes spread by `tau`."""
    true = np.clip(generator.normal(effect, tau, shape), -moved, moved)
    rose = generator.binomial(prompts, (moved + true) / 2)
    return rose, generator.binomial(prompts - rose, (moved - true) / (2 - moved - true))


def drawn(
    generator: np.random.Generator,
    shape: tuple[int, int, int],
    *,
    moved: float,
    effect: float,
    tau: float = 0.0,
) -> Iterator[np.ndarray]:
    """Changes -1, 0, 1 of prompts, draws × seeds × prompts in parts: `moved` of them, seeds' true changes spread by `tau`."""
    draws, seeds, prompts = shape
    for _ in range(0, draws, PART):
        true = np.clip(generator.normal(effect, tau, (PART, seeds, 1)), -moved, moved)
        number = generator.random((PART, seeds, prompts), dtype=np.float32)
        yield (number < (moved + true) / 2).astype(float) - (number > 1 - (moved - true) / 2)


def words(parts: Iterable[np.ndarray], epsilon: float) -> dict[str, np.ndarray]:
    """Which draws get which word: `over_seeds` and `verdict` at 95 %, for all draws of a part at once."""
    found = [_words(seen, epsilon) for seen in parts]
    return {name: np.concatenate([one[name] for one in found]) for name in WORDS}


def _words(seen: np.ndarray, epsilon: float) -> dict[str, np.ndarray]:
    centre, error, degrees = crossed_level(seen.mean(axis=-1), seen, 0.95)
    call, inside = (stats.t.ppf(tail, degrees) * error for tail in (0.975, 0.95))
    return {
        "amplifies": np.round(centre - call, 3) > epsilon,
        "suppresses": np.round(centre + call, 3) < -epsilon,
        "neutral": np.round(np.abs(centre) + inside, 3) < epsilon,
    }


def tolerance(share: float, draws: int) -> float:
    return 4 * math.sqrt(share * (1 - share) / draws)


def test_the_simulated_verdicts_are_those_of_the_package():
    generator = np.random.default_rng(1)
    sets = [next(drawn(generator, (8, SEEDS, PROMPTS), moved=moved, effect=effect))[:8] for moved, effect in MIXED]
    seen = np.concatenate(sets)
    simulated = _words(seen, EPSILON)
    found = set()
    for number, each in enumerate(seen):
        seeds = [changed(int((one > 0).sum()), int((one < 0).sum()), int((one == 0).sum())) for one in each]
        prompts = [dict(enumerate(one.tolist())) for one in each]
        word = verdict(over_seeds(seeds, by_prompt=prompts), EPSILON)
        found.add(word)
        assert [name for name in WORDS if simulated[name][number]] == ([word] if word in WORDS else [])
    assert {*WORDS, "undetermined"} <= found


MIXED = [(0.02, 0.0), (0.2, 0.0), (0.5, 0.3), (0.5, -0.3)]


@pytest.mark.parametrize("degrees", [2, 4, 199])
def test_the_detectable_effect_is_that_of_the_t_test(degrees):
    expected = TTestPower().solve_power(nobs=degrees + 1, alpha=0.05, power=0.8) * math.sqrt(degrees + 1)
    assert minimum_detectable_effect(0.02, degrees) == pytest.approx(0.02 * expected, rel=1e-3)


def test_the_detectable_effect_of_a_known_error_by_hand():
    assert minimum_detectable_effect(0.02) == pytest.approx(0.02 * (1.959964 + 0.841621), rel=1e-6)
    assert minimum_detectable_effect(0.02, epsilon=0.05) == pytest.approx(0.05 + 0.02 * 2.801585, rel=1e-6)
    assert minimum_detectable_effect(0.0, 2) == 0
    assert minimum_detectable_effect(0.02, 1e6) == pytest.approx(minimum_detectable_effect(0.02), rel=1e-4)
    assert minimum_detectable_effect(0.02, 1) > 0.2


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_where_seeds_decide_power_is_the_noncentral_t(seeds):
    spread, design = Spread(0.05**2, 0.0), Design(seeds, 10**9, EPSILON)
    critical, shift = stats.t.ppf(0.975, seeds - 1), 0.1 / (0.05 / math.sqrt(seeds))
    assert power_to_call(0.15, spread, design) == pytest.approx(stats.nct.sf(critical, seeds - 1, shift), abs=1e-3)
    assert power_to_call(-0.15, spread, design) == power_to_call(0.15, spread, design)


CASES = [
    # seeds, prompts, share moved, true change, spread of seeds
    (3, 200, 0.4, 0.25, 0.03),
    (3, 200, 0.4, 0.3, 0.08),
    (3, 1000, 0.3, 0.12, 0.0),
    (5, 200, 0.4, 0.15, 0.03),
    (10, 400, 0.4, 0.1, 0.05),
    (3, 1000, 0.1, 0.0, 0.0),
    (5, 600, 0.1, 0.0, 0.02),
    (5, 600, 0.1, 0.01, 0.01),
]


@pytest.mark.parametrize(("seeds", "prompts", "moved", "effect", "tau"), CASES)
def test_power_is_what_simulated_studies_attain(seeds, prompts, moved, effect, tau):
    draws, generator = 4000, np.random.default_rng(2)
    spread, design = Spread(tau**2, moved - effect**2 - tau**2), Design(seeds, prompts, EPSILON)
    got = words(drawn(generator, (draws, seeds, prompts), moved=moved, effect=effect, tau=tau), EPSILON)
    for planned, attained in (
        (power_to_call(effect, spread, design), got["amplifies"].mean()),
        (power_of_neutral(effect, spread, design), got["neutral"].mean()),
    ):
        # 1.5 points for whole counts and skewness, which the normal law leaves out
        assert attained == pytest.approx(planned, abs=tolerance(planned, draws) + 0.015)


@pytest.mark.parametrize("seeds", [1, 2])
def test_power_of_one_and_two_seeds(seeds):
    draws, generator, effect, prompts = 3000, np.random.default_rng(3), 0.3, 40
    rose, fell = counts(generator, (draws, seeds), prompts, moved=0.5, effect=effect, tau=0.02)
    found = np.empty(draws, dtype=bool)
    for draw in range(draws):
        each = [single(*pair, prompts) for pair in zip(rose[draw], fell[draw], strict=True)]
        found[draw] = over_seeds(each).low > EPSILON
    planned = power_to_call(effect, Spread(0.02**2, 0.5 - effect**2), Design(seeds, prompts, EPSILON))
    assert found.mean() == pytest.approx(planned, abs=tolerance(planned, draws))
    assert 0.3 < planned < 0.95


def single(rose: int, fell: int, prompts: int = PROMPTS) -> Difference:
    """The difference of one seed, from its counts."""
    centre = (rose - fell) / (prompts + 2)
    error = math.sqrt(((rose + fell + 2) / (prompts + 2) - centre**2) / (prompts + 2))
    return Difference(
        value=(rose - fell) / prompts,
        low=-1.0,
        high=1.0,
        prompts=prompts,
        before=0.5,
        after=0.5 + (rose - fell) / prompts / 2,
        standard_error=error,
        minimum_detectable=None,
        confidence=0.95,
        centre=centre,
        degrees=prompts - 1.0,
        unit="prompt",
        seeds=1,
        dropped=0,
        rows=2 * prompts,
        missing=0,
    )


def test_planned_prompts_attain_the_power_and_no_fewer_do():
    draws, generator, effect, spread = 4000, np.random.default_rng(4), 0.15, Spread(0.02**2, 0.3)
    prompts = prompts_needed(effect, spread, seeds=3, epsilon=EPSILON)
    moved = 0.3 + effect**2 + 0.02**2
    got = words(drawn(generator, (draws, 3, prompts), moved=moved, effect=effect, tau=0.02), EPSILON)
    assert got["amplifies"].mean() == pytest.approx(0.8, abs=tolerance(0.8, draws) + 0.01)
    assert power_to_call(effect, spread, Design(3, prompts, EPSILON)) >= 0.8
    assert power_to_call(effect, spread, Design(3, prompts - 1, EPSILON)) < 0.8


def test_planned_prompts_for_neutrality_attain_the_power():
    draws, generator, spread = 4000, np.random.default_rng(5), Spread(0.01**2, 0.2)
    prompts = prompts_needed(0.0, spread, seeds=5, epsilon=EPSILON, neutral=True)
    got = words(drawn(generator, (draws, 5, prompts), moved=0.2, effect=0.0, tau=0.01), EPSILON)
    assert got["neutral"].mean() == pytest.approx(0.8, abs=tolerance(0.8, draws) + 0.01)


def test_seeds_that_differ_too_much_cannot_be_bought_off_with_prompts():
    spread = Spread(0.06**2, 0.2)
    assert prompts_needed(0.1, spread, seeds=3, epsilon=EPSILON) is None
    more = prompts_needed(0.1, spread, seeds=20, epsilon=EPSILON)
    assert more is not None
    assert prompts_needed(0.04, Spread(0.0, 0.2), seeds=20, epsilon=EPSILON) is None
    assert prompts_needed(0.9, Spread(0.0, 0.01), seeds=3, epsilon=EPSILON) == 20


def test_what_prompts_share_does_not_shrink_with_seeds():
    alone, together = (power_table(Spread(0.0, 0.2, shared), [Design(10, 400, EPSILON)]) for shared in (0.0, 1.0))
    assert together["standard_error"][0] == pytest.approx(math.sqrt(0.2 / 400))
    assert alone["standard_error"][0] == pytest.approx(math.sqrt(0.2 / 4000))


def test_the_smallest_called_change_is_called_with_that_power():
    spread, design = Spread(0.03**2, 0.3), Design(3, 200, EPSILON)
    effect = smallest_called(spread, design)
    assert power_to_call(effect, spread, design) == pytest.approx(0.8, abs=1e-3)
    assert smallest_called(Spread(0.5**2, 0.3), design) is None


def test_tables_for_a_plan():
    spread = Spread(0.03**2, 0.3)
    got = power_table(spread, [Design(3, 200, EPSILON), Design(5, 800, EPSILON)])
    assert got["smallest_called"].tolist() == [
        smallest_called(spread, Design(*one, EPSILON)) for one in ((3, 200), (5, 800))
    ]
    assert (got["smallest_difference"] < got["smallest_called"]).all()
    assert got["power_of_neutral"].is_monotonic_increasing
    plan = planning_table(spread, [0.1, 0.2], [3, 5, 10], epsilon=EPSILON)
    assert plan["goal"].tolist() == ["call"] * 6 + ["neutral"] * 3
    reached = plan["prompts"].notna()
    assert (plan.loc[reached, "power"] >= 0.8).all()
    assert (plan.loc[~reached, "power"] < 0.8).all()
    assert reached.any()
    assert not reached.all()
    assert power_table(Spread(0.5**2, 0.3), [Design(3, 200, EPSILON)])["smallest_called"].isna().all()


def test_the_spread_is_read_from_the_cells_of_a_study():
    generator, tau, moved = np.random.default_rng(6), 0.06, 0.3
    rose, fell = counts(generator, (300, SEEDS), PROMPTS, moved=moved, effect=0.1, tau=tau)
    cells = [[single(*pair) for pair in zip(*one, strict=True)] for one in zip(rose, fell, strict=True)]
    got = spread_of(cells)
    assert got.prompt_variance == pytest.approx(moved - 0.1**2 - tau**2, rel=0.02)
    assert got.seed_variance == pytest.approx(tau**2, rel=0.2)


def test_the_variance_of_one_change_by_hand():
    got = spread_of([[changed(30, 10, 60), changed(30, 10, 60)]])
    assert (got.seed_variance, got.prompt_variance) == (0.0, pytest.approx(0.4 - 0.2**2))
    one = spread_of([[changed(30, 10, 60)]], seed_variance=0.01)
    assert (one.seed_variance, one.prompt_variance) == (0.01, got.prompt_variance)


def test_the_guessed_variance_is_that_of_independent_answers():
    generator = np.random.default_rng(7)
    changes = (generator.random(200_000) < 0.6).astype(float) - (generator.random(200_000) < 0.2)
    assert guessed_prompt_variance(0.2, 0.6) == pytest.approx(changes.var(), rel=0.01)


def test_impossible_plans_are_refused():
    for wrong, said in (
        (lambda: Spread(-0.1, 0.1), "negative"),
        (lambda: Spread(0.1, 0.1, 2.0), "shared"),
        (lambda: Design(3, 5, EPSILON), "20 prompts"),
        (lambda: Design(3, 200, -0.1), "epsilon"),
        (lambda: Design(3, 200, EPSILON, 0.4), "confidence"),
        (lambda: prompts_needed(0.1, Spread(0, 0.1), seeds=3, epsilon=0.05, power=0.3), "power"),
        (lambda: minimum_detectable_effect(-1.0), "standard error"),
        (lambda: guessed_prompt_variance(1.2, 0.1), "rates"),
        (lambda: spread_of([[changed(3, 1, 96)]]), "two seeds"),
        (lambda: spread_of([[]], seed_variance=0.01), "no change is known"),
        (lambda: spread_of([[over_seeds([changed(3, 1, 96), changed(9, 1, 90), changed(1, 9, 90)])]]), "several seeds"),
    ):
        with pytest.raises(ValueError, match=said):
            wrong()


@pytest.mark.parametrize("moved", [0.08, 0.2, 0.5])
@pytest.mark.parametrize("tau", [0.0, 0.02, 0.04, 0.1])
@pytest.mark.parametrize("prompts", [PROMPTS, 800])
def test_verdicts_of_three_seeds_keep_their_error_rates(moved, tau, prompts):
    draws, generator = 10_000, np.random.default_rng(8)
    tau = min(tau, (moved - EPSILON) / 2)
    still = words(drawn(generator, (draws, SEEDS, prompts), moved=moved, effect=0.0, tau=tau), EPSILON)
    assert (still["amplifies"] | still["suppresses"]).mean() <= 0.05
    edge = words(drawn(generator, (draws, SEEDS, prompts), moved=moved, effect=EPSILON, tau=tau), EPSILON)
    assert edge["amplifies"].mean() <= 0.025 + tolerance(0.025, draws)
    assert edge["neutral"].mean() <= 0.05 + tolerance(0.05, draws)


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("shared", [0.0, 0.5, 1.0])
def test_verdicts_keep_their_error_rates_whatever_seeds_share(seeds, shared):
    """Neutral at the edge, calls of both signs where nothing changes; at worst .0503, seeds ten times their prompts' error."""
    for prompts in (100, 400, 4000):
        spreads = [Spread(ratio * 0.2 / prompts, 0.2, shared) for ratio in (0, *np.geomspace(0.01, 300, 20))]
        assert max(power_of_neutral(0.05, one, Design(seeds, prompts, 0.05)) for one in spreads) <= 0.0503
        assert max(2 * power_to_call(0.0, one, Design(seeds, prompts, 0.0)) for one in spreads) <= 0.0503
        assert max(2 * power_to_call(0.05, one, Design(seeds, prompts, 0.05)) for one in spreads) <= 0.0503


def _rejected(rose: np.ndarray, fell: np.ndarray) -> float:
    """Share of draws (rows of cells' signs) in which the sign test rejects at 5 %."""
    pairs, places = np.unique(np.stack([rose, fell], axis=1), axis=0, return_inverse=True)
    p = [sign_test([1.0] * up + [-1.0] * down).p_value for up, down in pairs.tolist()]
    return float(np.mean([p[place] is not None and p[place] <= 0.05 for place in places.ravel()]))


def test_the_sign_test_keeps_its_error_over_organisms_and_not_over_cells_that_share_one():
    """Four kinds × three seeds × nine methods, nothing changes: the methods of an organism share the rate before."""
    draws, generator, rate = 3000, np.random.default_rng(9), 0.3
    before = generator.binomial(PROMPTS, rate, (draws, 12, 1))
    change = generator.binomial(PROMPTS, rate, (draws, 12, 9)) - before
    means = change.sum(2)
    assert _rejected((means > 0).sum(1), (means < 0).sum(1)) <= 0.05
    own = generator.binomial(PROMPTS, rate, (draws, 108)) - generator.binomial(PROMPTS, rate, (draws, 108))
    assert _rejected((own > 0).sum(1), (own < 0).sum(1)) <= 0.05
    cells = change.reshape(draws, -1)
    assert _rejected((cells > 0).sum(1), (cells < 0).sum(1)) > 0.2
