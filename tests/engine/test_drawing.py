"""Drawing one token: the right distribution, the right log-probabilities."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ct_pipeline.engine.drawing import draw, uniform_numbers

GRID = torch.linspace(0, 1, 20_001, dtype=torch.float64)[:-1]


def shares(logits, temperature, top_p):
    """The share of uniform numbers that draw each token: exact up to the grid."""
    tokens, raw, proposal = draw(logits.expand(len(GRID), -1), GRID, temperature, top_p)
    return torch.bincount(tokens, minlength=logits.shape[-1]) / len(GRID), tokens, raw, proposal


def nucleus(probabilities, top_p):
    """By enumeration: the likeliest tokens until their sum reaches top_p."""
    kept, total = [], 0.0
    for token in sorted(range(len(probabilities)), key=lambda t: -probabilities[t]):
        kept.append(token)
        total += probabilities[token]
        if total >= top_p:
            break
    return {token: probabilities[token] / total for token in kept}


def test_greedy_takes_the_likeliest_token_with_its_untempered_log_probability():
    tokens, raw, proposal = draw(torch.tensor([[0.0, 2.0, 1.0]]), GRID[:1], 0, 0.9)
    assert tokens.tolist() == [1]
    assert raw.item() == pytest.approx(2 - math.log(1 + math.e**2 + math.e), abs=1e-6)
    assert proposal.item() == 0


def test_a_nucleus_is_cut_where_the_sum_reaches_top_p():
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    found, tokens, raw, proposal = shares(logits, 1.0, 0.8 - 1e-6)
    assert found.tolist() == pytest.approx([0.625, 0.375, 0, 0], abs=2e-4)
    assert proposal[tokens == 0][0].item() == pytest.approx(math.log(0.625), abs=1e-6)
    assert raw[tokens == 0][0].item() == pytest.approx(math.log(0.5), abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(-4, 4), min_size=2, max_size=12, unique_by=lambda x: round(x, 2)),
    st.sampled_from([0.3, 0.7, 1.0, 1.5]),
    st.sampled_from([0.05, 0.5, 0.9, 1.0]),
)
def test_draws_follow_the_tempered_nucleus_and_report_its_log_probabilities(values, temperature, top_p):
    logits = torch.tensor(values)
    found, tokens, raw, proposal = shares(logits, temperature, top_p)
    tempered = torch.softmax(logits.double() / temperature, -1).tolist()
    # A nucleus that ends within rounding of top_p may hold one token more or less; a whole one holds all.
    wanted = nucleus(tempered, top_p if top_p == 1 else top_p - 1e-7)
    untempered = torch.log_softmax(logits.double(), -1)
    for token in range(len(values)):
        assert found[token].item() == pytest.approx(wanted.get(token, 0.0), abs=2e-3)
        if (tokens == token).any():
            assert proposal[tokens == token][0].item() == pytest.approx(math.log(wanted[token]), abs=1e-4)
            assert raw[tokens == token][0].item() == pytest.approx(untempered[token].item(), abs=1e-4)


def test_a_flat_nucleus_larger_than_the_first_candidates_is_exact():
    found, *_ = shares(torch.zeros(500), 1.0, 0.5)
    assert (found > 0).sum().item() == 250


def test_uniform_numbers_depend_on_the_seed_alone():
    few, many = uniform_numbers(7, 2, 5), uniform_numbers(7, 9, 5)
    assert np.array_equal(few, many[:2])
    assert not np.array_equal(few, uniform_numbers(8, 2, 5))
