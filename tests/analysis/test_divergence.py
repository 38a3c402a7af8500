"""KL of label laws against summed expectations, hand-computed numbers, simulated coverage, and properties."""

import math
from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ct_pipeline.analysis.best_of import tie_groups
from ct_pipeline.analysis.divergence import (
    of_best_of,
    of_filtered,
    of_point_mass,
    of_refined,
    of_reranked,
    of_samples,
    of_token_sums,
    plugged_divergence,
    selection_divergence,
)
from ct_pipeline.analysis.grid import grid
from tests.analysis.discrete_worlds import DISTINCT, WORLDS, divergence, kept_law, population, table


def labels(logprobs: list[float], tokens: list[int], proposals: list[float] | None = None) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "prompt_id": [f"p{number}" for number in range(len(logprobs))],
            "tokens": tokens,
            "logprob": logprobs,
            "proposal_logprob": proposals or [0.0] * len(logprobs),
        }
    )


def gaussian(generator: np.random.Generator, prompts: int, n: int, shift: float) -> pd.DataFrame:
    """Samples of N(a, 1), scored by themselves, under the law N(a + shift, 1), with a length of its own per prompt."""
    y = generator.normal(size=(prompts, n))
    rows = np.repeat(np.arange(prompts), n)
    return pd.DataFrame(
        {
            "prompt_id": rows,
            "candidate": np.tile(np.arange(n), prompts),
            "tokens": generator.integers(2, 9, prompts)[rows],
            "logprob": (-((y - shift) ** 2) / 2).ravel(),
            "proposal_logprob": (-(y**2) / 2).ravel(),
            "score": y.ravel(),
            "verdict": pd.array([True] * (prompts * n), dtype="boolean"),
        }
    )


def test_a_point_mass_costs_its_negative_log_probability():
    got = of_point_mass(labels([-1.0, -3.0], [2, 6])).total
    assert (got.status, got.sequence.value, got.token.value) == ("exact", 2.0, 0.5)
    error = math.sqrt(2) / math.sqrt(2)
    assert got.sequence.standard_error == pytest.approx(error)
    assert got.sequence.high - 2 == pytest.approx(12.7062047 * error)


@pytest.mark.parametrize("world", WORLDS)
def test_expectation_over_samples_is_the_true_divergence(world):
    got = of_samples(population(world, 2)).total
    assert got.status == "unbiased"
    truth = divergence(np.array(world.proposal), world.organism)
    assert got.sequence.value == pytest.approx(truth, abs=1e-9)
    assert got.token.value == pytest.approx(truth / np.dot(world.proposal, world.tokens), abs=1e-9)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("k", [1, 2, 3])
def test_expected_second_term_of_best_of_k_is_the_true_one(world, k):
    selection, proposal = of_best_of(population(world, 3), k).parts
    kept = kept_law(world, k)
    truth = float(kept @ (np.log(world.proposal) - np.log(world.organism)))
    assert (proposal.name, proposal.status) == ("proposal", "unbiased")
    assert proposal.sequence.value == pytest.approx(truth, abs=1e-9)
    assert proposal.token.value == pytest.approx(truth / (kept @ world.tokens), abs=1e-9)
    assert selection.sequence.value <= math.log(k) - (k - 1) / k + 1e-12


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("k", [2, 4])
def test_first_term_is_exact_where_the_sample_is_the_law(world, k):
    copies = np.round(np.array(world.proposal) * 20).astype(int)
    draws = tuple(np.repeat(np.arange(4), copies))
    cells = grid(table(world, [draws]))
    below, upto = tie_groups(cells.scores, cells.present)
    plugged = plugged_divergence(below, upto, cells.present, upto - below > 1, k)
    law = np.array(world.proposal)
    kept = sum_ties(kept_law(world, k), world.score)
    truth = divergence(kept, tuple(sum_ties(law, world.score)))
    assert plugged == pytest.approx([truth], abs=1e-9)
    selection = of_best_of(table(world, [draws]), k).parts[0]
    assert (selection.name, selection.status) == ("selection", "estimate")
    assert selection.sequence.value == pytest.approx(truth, abs=0.05)


def test_leaving_candidates_out_by_hand():
    """Three of one score below one of another: the jackknife of k = 2, each candidate left out in turn."""

    def tied_below_one(tied: int) -> float:
        share = tied / (tied + 1)
        return share**2 * math.log(share) + _piece(1.0) - _piece(share)

    whole, left = tied_below_one(3), 3 * tied_below_one(2) + 0.0  # all three tied alone: log 1
    got = selection_divergence(np.array([[1.0, 0.0, 0.0, 0.0]]), np.ones((1, 4), dtype=bool), 2)
    assert got == pytest.approx([4 * whole - 3 * left / 4], abs=1e-12)
    assert 0 < got[0] < math.log(2) - 0.5


def _piece(u: float) -> float:
    return u**2 * (math.log(2) - 0.5) + u**2 * math.log(u)


def sum_ties(law: np.ndarray, scores: tuple[float, ...]) -> np.ndarray:
    """The law of the score."""
    names = [str(score) for score in scores]
    return np.array([sum(p for p, name in zip(law, names, strict=True) if name == each) for each in sorted(set(names))])


def test_plug_in_over_atoms_nears_the_truth_as_candidates_grow():
    generator, gaps = np.random.default_rng(0), []
    truth = divergence(kept_law(DISTINCT, 4), DISTINCT.proposal)
    for n in (16, 64, 256):
        listed = [tuple(draws) for draws in generator.choice(4, size=(40, n), p=DISTINCT.proposal)]
        gaps.append(abs(of_best_of(table(DISTINCT, listed), 4).parts[0].sequence.value - truth))
    assert gaps[0] < 0.08
    assert gaps[2] < min(gaps[0], 0.02)


@pytest.mark.parametrize("k", [1, 2, 4, 16])
def test_without_ties_the_first_term_is_the_bound_of_atomless_scores(k):
    got = of_best_of(gaussian(np.random.default_rng(1), 5, 16, 0.0), k)
    assert got.parts[0].status == ("exact" if k == 1 else "bound")
    assert got.parts[0].sequence.value == pytest.approx(math.log(k) - (k - 1) / k, abs=1e-12)
    assert got.total.status == ("unbiased" if k == 1 else "bound")
    assert got.total.sequence.value == pytest.approx(got.parts[0].sequence.value)


def test_parts_add_up():
    for got in (
        of_best_of(population(DISTINCT, 3), 2),
        of_filtered(labels([-1.0, -2.0], [3, 4]), ["p0", "p1", "p2"]),
    ):
        for unit in ("sequence", "token"):
            parts = sum(getattr(part, unit).value for part in got.parts)
            assert getattr(got.total, unit).value == pytest.approx(parts, abs=1e-12)


def test_the_organism_compared_with_itself_has_no_divergence():
    own = population(DISTINCT, 2).assign(logprob=lambda rows: rows["proposal_logprob"])
    for got in (of_samples(own), of_best_of(own, 1), of_refined(own, "deterministic")):
        assert got.total.sequence.value == pytest.approx(0, abs=1e-12)
        assert got.total.sequence.low <= 1e-12 <= got.total.sequence.high + 2e-12
    exact = of_samples(own).total.sequence
    assert (exact.value, exact.low, exact.high) == (0, 0, 0)
    noise = np.random.default_rng(2).normal(0, 1e-3, len(own))
    noisy = of_samples(own.assign(logprob=own["logprob"] + noise)).total.sequence
    assert noisy.low < 0 < noisy.high


def test_refinements_are_unbiased_or_bounded_by_what_is_known_of_the_draft():
    certain, chance = (
        of_refined(labels([-2.0, -5.0], [4, 6], [-1.0, -3.0]), draft) for draft in ("deterministic", "random")
    )
    assert (certain.total.status, chance.total.status) == ("unbiased", "bound")
    assert certain.total.sequence.value == chance.total.sequence.value == 1.5
    assert certain.total.token.value == pytest.approx(0.3)
    with pytest.raises(ValueError, match="deterministic or random"):
        of_refined(labels([-1.0], [1]), "greedy")


@pytest.mark.parametrize("seed", range(5))
def test_a_random_draft_bounds_the_divergence_of_the_mixture(seed):
    generator = np.random.default_rng(seed)
    drafts, refined, organism = (
        generator.dirichlet([1] * 3),
        generator.dirichlet([1] * 4, 3),
        generator.dirichlet([1] * 4),
    )
    given_draft = sum(p * divergence(law, tuple(organism)) for p, law in zip(drafts, refined, strict=True))
    assert divergence(drafts @ refined, tuple(organism)) <= given_draft


def test_a_filter_is_the_divergence_of_the_law_of_prompts_and_labels():
    organism = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [0.6, 0.3, 0.1], [0.2, 0.4, 0.4]])
    kept = {0: 0, 1: 2, 3: 1}
    accepted = labels([math.log(organism[p, g]) for p, g in kept.items()], [2, 3, 5]).assign(prompt_id=list(kept))
    got = of_filtered(accepted, range(4))
    joint = np.zeros((4, 3))
    for prompt, greedy in kept.items():
        joint[prompt, greedy] = 1 / 3
    assert got.total.status == "exact"
    assert got.total.sequence.value == pytest.approx(
        divergence(joint.ravel(), tuple((organism / 4).ravel())), abs=1e-12
    )
    assert [part.name for part in got.parts] == ["labels", "prompts"]
    assert got.parts[0].sequence == of_point_mass(accepted).total.sequence
    assert got.parts[1].sequence.value == pytest.approx(math.log(4 / 3))
    assert 0 < got.parts[1].sequence.low < math.log(4 / 3) < got.parts[1].sequence.high


def test_a_filter_that_keeps_all_or_nothing():
    every = of_filtered(labels([-1.0, -2.0], [1, 1]), ["p0", "p1"])
    assert every.parts[1].sequence.value == every.parts[1].sequence.low == 0 < every.parts[1].sequence.high
    assert every.total.sequence.value == 1.5
    none = of_filtered(labels([], []), ["p0", "p1"])
    assert (none.total.sequence.value, none.parts[0].sequence.value, none.parts[1].sequence.value) == (None, None, None)
    with pytest.raises(ValueError, match="p1 has a label but was not among"):
        of_filtered(labels([-1.0, -1.0], [1, 1]), ["p0"])


def reranked_worlds() -> list[tuple[np.ndarray, np.ndarray, np.ndarray, int, int]]:
    """Proposal, organism, scores, greedy and beam completions."""
    generator = np.random.default_rng(3)
    return [
        (generator.dirichlet([1] * 4), generator.dirichlet([1] * 4), generator.integers(0, 4, 4) + 0.0, *places)
        for places in product(range(4), range(4))
    ]


@pytest.mark.parametrize(("proposal", "organism", "scores", "greedy", "beam"), reranked_worlds())
def test_a_reranked_set_is_bounded_within_one_over_e(proposal, organism, scores, greedy, beam):
    law, expected = np.zeros(4), 0.0
    for nucleus in range(4):
        drawn = (greedy, nucleus, beam)
        candidates = pd.DataFrame(
            {
                "prompt_id": "p",
                "candidate": range(3),
                "completion": [f"c{each}" for each in drawn],
                "tokens": 1,
                "logprob": np.log(organism[list(drawn)]),
                "proposal_logprob": [0.0, np.log(proposal[nucleus]), 0.0],
            }
        )
        best = max(range(3), key=lambda place: (scores[drawn[place]], -place))
        got = of_reranked(candidates, candidates.iloc[[best]])
        expected += proposal[nucleus] * got.total.sequence.value
        law[drawn[best]] += proposal[nucleus]
    truth = divergence(law, tuple(organism))
    assert got.total.status == "bound"
    assert truth - 1e-9 <= expected <= truth + 1 / math.e + 1e-9


def test_token_sums_are_averaged_within_their_prompts_first():
    sums = pd.DataFrame({"prompt_id": ["a", "a", "b"], "nats": [1.0, 3.0, 0.5], "tokens": [4, 6, 2]})
    got = of_token_sums("uptake", sums)
    assert (got.name, got.status, got.sequence.prompts) == ("uptake", "unbiased", 2)
    assert got.sequence.value == pytest.approx((2.0 + 0.5) / 2)
    assert got.sequence.standard_error == pytest.approx(0.75)
    assert got.token.value == pytest.approx((2.0 + 0.5) / (5 + 2))


def test_token_sums_have_the_kl_of_sequences_as_their_mean_and_vary_less_than_log_ratios():
    # Two words, each 0 or 1; the law of the second depends on the first. Rows: after nothing, after 0, after 1.
    p, q = (np.array(law) for law in ([0.3, 0.8, 0.4], [0.5, 0.6, 0.7]))
    kl = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    chances, rao_blackwell, ratios = [], [], []
    for first, second in product((0, 1), repeat=2):
        laws = [
            (law[0] if first else 1 - law[0]) * (law[1 + first] if second else 1 - law[1 + first]) for law in (p, q)
        ]
        chances.append(laws[0])
        ratios.append(math.log(laws[0] / laws[1]))
        sums = pd.DataFrame({"prompt_id": ["x"], "nats": [kl[0] + kl[1 + first]], "tokens": [2]})
        rao_blackwell.append(of_token_sums("KL", sums).sequence.value)
    truth = np.dot(chances, ratios)
    assert np.dot(chances, rao_blackwell) == pytest.approx(truth, abs=1e-12)
    spread = [np.dot(chances, (np.array(values) - truth) ** 2) for values in (rao_blackwell, ratios)]
    assert spread[0] < spread[1] / 4


def test_wrong_tables_are_refused():
    twice = pd.concat([labels([-1.0], [1])] * 2)
    for call, words in (
        (lambda: of_point_mass(twice), "p0 has two labels"),
        (lambda: of_samples(labels([-np.inf], [1])), "logprob of prompt p0 is missing or infinite"),
        (lambda: of_samples(labels([-1.0], [1], [np.nan])), "proposal_logprob of prompt p0"),
        (lambda: of_best_of(population(DISTINCT, 1), 2), "best of 2"),
        (lambda: of_best_of(population(DISTINCT, 1), 0), "best of 0"),
        (lambda: of_reranked(population(DISTINCT, 1), population(DISTINCT, 1).assign(completion="x")), "none of its"),
        (lambda: of_samples(labels([-1.0], [1]), 1.0), "confidence"),
        (
            lambda: of_token_sums("KL", pd.DataFrame({"prompt_id": ["p0"], "tokens": [1], "nats": [np.nan]})),
            "nats of prompt",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            call()


def test_one_prompt_has_no_interval_and_none_no_value():
    one, none = of_samples(labels([-1.0], [2])).total, of_samples(labels([], [])).total
    assert (one.sequence.value, one.sequence.low, one.token.value, one.token.high) == (1.0, None, 0.5, None)
    assert (none.sequence.value, none.token.value, none.sequence.prompts) == (None, None, 0)


@pytest.mark.parametrize("prompts", [100, 400])
def test_simulated_bias_and_coverage(prompts):
    generator, draws, k = np.random.default_rng(4), 400, 4
    many = np.sort(generator.normal(size=(400_000, k)), axis=1)[:, -1]
    proposal = float(((many - 0.5) ** 2 / 2 - many**2 / 2).mean())
    first = math.log(k) - (k - 1) / k
    seen = {"samples": [], "best": [], "token": []}
    for _ in range(draws):
        drawn = gaussian(generator, prompts, 6, 0.5)
        best = of_best_of(drawn, k)
        seen["samples"].append((of_samples(drawn).total.sequence, 0.125))
        seen["best"].append((best.total.sequence, first + proposal))
        seen["token"].append((best.total.token, (first + proposal) / 5))
    for pairs in seen.values():
        assert 0.92 <= np.mean([term.low <= truth <= term.high for term, truth in pairs]) <= 0.975
        values = np.array([term.value for term, _ in pairs])
        assert abs(values.mean() - pairs[0][1]) < 3 * values.std() / math.sqrt(draws) + 0.002


@pytest.mark.parametrize("k", [1, 2, 4])
def test_bias_over_many_draws_is_within_three_standard_errors(k):
    generator, draws = np.random.default_rng(6), 20_000
    nodes, masses = np.polynomial.hermite_e.hermegauss(80)
    below = np.array([0.5 * math.erfc(-node / math.sqrt(2)) for node in nodes])
    kept = masses / math.sqrt(2 * math.pi) * k * below ** (k - 1)
    truth = float(kept @ ((nodes - 0.5) ** 2 / 2 - nodes**2 / 2)) + math.log(k) - (k - 1) / k
    got = of_best_of(gaussian(generator, draws, 5, 0.5), k).total.sequence
    assert got.prompts == draws
    assert abs(got.value - truth) < 3 * got.standard_error


@given(
    st.lists(st.tuples(st.floats(-50, 0), st.floats(-50, 0), st.integers(1, 40)), min_size=1, max_size=12),
    st.integers(0, 99),
)
@settings(deadline=None, max_examples=40)
def test_order_of_rows_does_not_matter_and_scores_without_ties_never_beat_the_bound(rows, seed):
    own, proposals, tokens = (list(each) for each in zip(*rows, strict=True))
    samples = labels(own, tokens, proposals).assign(
        prompt_id=[f"p{number // 3}" for number in range(len(rows))],
        candidate=[number % 3 for number in range(len(rows))],
        score=[round(each) % 3 for each in own],
        verdict=pd.NA,
    )
    shuffled = samples.sample(frac=1, random_state=seed)
    for k in range(1, int(samples.groupby("prompt_id").size().min()) + 1):
        got, again = of_best_of(samples, k), of_best_of(shuffled, k)
        assert got.total.sequence.value == pytest.approx(again.total.sequence.value, abs=1e-9)
        assert -1e-12 <= got.parts[0].sequence.value <= math.log(k) - (k - 1) / k + 1e-12
    assert of_samples(samples).total.token.value == pytest.approx(of_samples(shuffled).total.token.value, abs=1e-9)
