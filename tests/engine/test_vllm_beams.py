"""The beam search of the vLLM engine, on tables instead of a model."""

import itertools

import numpy as np
import pytest

from ct_pipeline.engine.vllm_beams import search

VOCABULARY = 7
STOPS = (2, 5)
NEW = 4


def table_of(row, ids, spread):
    """Next-token log-probabilities that depend on the row and all tokens so far."""
    generator = np.random.default_rng([row, len(ids), *ids])
    logits = spread * generator.standard_normal(VOCABULARY)
    return logits - np.log(np.exp(logits).sum())


class Model:
    """Likeliest tokens of the tables; remembers what it was asked for."""

    def __init__(self, spread=2.0, stop_penalty=0.0):
        self.spread, self.stop_penalty = spread, stop_penalty
        self.expanded, self.asked_stops = [], []

    def logprobs(self, row, ids):
        logprobs = table_of(row, ids, self.spread)
        logprobs[list(STOPS)] -= self.stop_penalty
        return logprobs

    def expand(self, pairs, count):
        self.expanded += pairs
        found = []
        for row, ids in pairs:
            logprobs = self.logprobs(row, ids)
            found.append({int(token): float(logprobs[token]) for token in np.argsort(-logprobs)[:count]})
        return found

    def stop_logprobs(self, pairs):
        self.asked_stops += pairs
        return np.array([self.logprobs(row, ids)[list(STOPS)] for row, ids in pairs])

    def search(self, rows, beams, new=NEW):
        return search(rows, beams, new, STOPS, VOCABULARY, self.expand, self.stop_logprobs)


def all_sequences(model, row):
    """Every sequence that ends with its first stop or at the limit, with its log-probability."""
    for length in range(1, NEW + 1):
        for ids in itertools.product(range(VOCABULARY), repeat=length):
            if set(ids[:-1]) & set(STOPS) or (length < NEW and ids[-1] not in STOPS):
                continue
            yield ids, sum(model.logprobs(row, ids[:i])[token] for i, token in enumerate(ids))


def plain_search(model, row, beams):
    """The same search without any saving."""
    running, ended = [((), 0.0)], []
    for _ in range(NEW):
        longer = [
            ((*ids, token), total + model.logprobs(row, ids)[token])
            for ids, total in running
            for token in range(VOCABULARY)
        ]
        ended += [hypothesis for hypothesis in longer if hypothesis[0][-1] in STOPS]
        going = [hypothesis for hypothesis in longer if hypothesis[0][-1] not in STOPS]
        running = sorted(going, key=lambda hypothesis: -hypothesis[1])[:beams]
    return max(ended + running, key=lambda hypothesis: hypothesis[1] / len(hypothesis[0]))


def test_beams_as_wide_as_all_sequences_find_the_best_mean():
    model = Model()
    for row, found in enumerate(model.search(3, beams=VOCABULARY**NEW)):
        ids, logprob = max(all_sequences(model, row), key=lambda sequence: sequence[1] / len(sequence[0]))
        assert found.ids == ids
        assert found.logprob == pytest.approx(logprob)


@pytest.mark.parametrize("spread", [0.5, 2.0])
@pytest.mark.parametrize("beams", [1, 2, 3])
def test_a_narrow_search_finds_what_a_search_without_savings_finds(beams, spread):
    model = Model(spread, stop_penalty=1.0)
    for row, found in enumerate(model.search(30, beams)):
        ids, logprob = plain_search(model, row, beams)
        assert (found.ids, found.logprob) == (ids, pytest.approx(logprob))


def test_a_stop_beyond_the_candidates_is_asked_for_only_where_it_may_win():
    likely, flat = Model(spread=3.0, stop_penalty=2.0), Model(spread=0.01, stop_penalty=0.02)
    for model in (likely, flat):
        for row, found in enumerate(model.search(20, beams=1)):
            ids, _ = plain_search(model, row, beams=1)
            assert found.ids == ids
    assert len(likely.asked_stops) < len(likely.expanded) / 4


def test_a_search_ends_when_no_longer_hypothesis_can_win():
    model = Model(spread=1.0, stop_penalty=-8.0)
    model.search(20, beams=2, new=50)
    assert max(len(ids) for _, ids in model.expanded) < 10
