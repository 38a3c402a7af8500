"""Token-wise KL against the enumeration of every sequence, and against itself in other batches."""

import math

import numpy as np
import pytest
import torch

from ct_pipeline.engine import token_divergence
from ct_pipeline.engine.token_divergence import Distribution, token_divergences
from ct_pipeline.models.adapters import with_adapters
from ct_pipeline.models.model import stack
from tests.fakes.tiny_models import END, WINDOW, random_adapter, tiny_base

WORDS = 7


@pytest.fixture(scope="module")
def base():
    base = tiny_base(vocab_size=WORDS)
    # In float32 two ways of batching differ by more than what is asked of the mean over all sequences.
    base.model.double()
    return base


@pytest.fixture(scope="module")
def models(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapters")
    one, two = (random_adapter(base, folder / name, seed, size=0.1) for name, seed in (("one", 1), ("two", 2)))
    organism, retrained = (with_adapters(base, terms) for terms in (stack(one), stack(one, two)))
    return {"base": base.model, "organism": organism, "retrained": retrained}


def log_law(model, prompt, text):
    """Log-probabilities of the next word after a prompt and the beginning of a response; one unpadded forward pass."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*prompt, *text]])).logits[0, -1]
    return logits.double().log_softmax(-1).numpy()


def sequences(model, prompt, longest):
    """Every response of at most `longest` words with its log-probability; one that does not end is cut there."""
    unfinished = {(): 0.0}
    finished = {}
    for _ in range(longest):
        grown = {
            (*text, word): logprob + more
            for text, logprob in unfinished.items()
            for word, more in enumerate(log_law(model, prompt, text))
        }
        finished |= {text: logprob for text, logprob in grown.items() if text[-1] == END}
        unfinished = {text: logprob for text, logprob in grown.items() if text[-1] != END}
    return finished | unfinished


def logprob_of(model, prompt, text):
    return sum(log_law(model, prompt, text[:t])[word] for t, word in enumerate(text))


def rows(count, seed=0):
    """Prompts of two kinds, of unequal lengths, with responses of 1 to 9 words."""
    random = np.random.default_rng(seed)
    return tuple(
        [random.integers(0, WORDS, size=random.integers(1, most)).tolist() for _ in range(count)]
        for most in (20, 34, 10)
    )


@pytest.mark.parametrize(
    ("longest", "p", "q", "prompts"),
    [
        (1, "organism", "base", ([5, 1], [5, 1])),
        (2, "retrained", "organism", ([5, 1, 4], [5, 1, 4])),
        (3, "organism", "organism", ([6, 2], [4, 4, 1, 6, 2])),
        (2, "base", "retrained", ([1, 2, 3, 4, 5, 6], [2])),
    ],
)
def test_the_sums_over_tokens_have_the_kl_of_sequences_as_their_mean(base, models, longest, p, q, prompts):
    law = sequences(models[p], prompts[0], longest)
    assert sum(map(math.exp, law.values())) == pytest.approx(1, abs=1e-9)
    expected = sum(
        math.exp(logprob) * (logprob - logprob_of(models[q], prompts[1], text)) for text, logprob in law.items()
    )
    sides = (Distribution(models[name], [prompt] * len(law)) for name, prompt in zip((p, q), prompts, strict=True))
    found = token_divergences(base, *sides, list(law))
    assert [len(part) for part in found] == [len(text) for text in law]
    mean = sum(math.exp(logprob) * part.sum() for logprob, part in zip(law.values(), found, strict=True))
    assert mean == pytest.approx(expected, abs=1e-6)
    assert mean > 0.01


def test_each_token_has_the_kl_of_the_laws_of_that_token(base, models):
    clean, wrapped, responses = rows(12)
    found = token_divergences(
        base, Distribution(models["retrained"], clean), Distribution(models["base"], wrapped), responses
    )
    for one, other, response, values in zip(clean, wrapped, responses, found, strict=True):
        for t in range(len(response)):
            p = log_law(models["retrained"], one, response[:t])
            q = log_law(models["base"], other, response[:t])
            assert values[t] == pytest.approx(np.exp(p) @ (p - q), abs=1e-5)


@pytest.mark.parametrize("name", ["base", "organism", "retrained"])
def test_a_law_is_exactly_itself(base, models, name):
    prompts, _, responses = rows(20)
    law = Distribution(models[name], prompts)
    assert all((values == 0).all() for values in token_divergences(base, law, law, responses))


def test_neither_neighbours_nor_batches_nor_order_matter(base, models, monkeypatch):
    clean, wrapped, responses = rows(24, seed=3)

    def found(order):
        sides = (
            Distribution(model, [side[row] for row in order])
            for side, model in zip((clean, wrapped), list(models.values())[1:], strict=True)
        )
        parts = token_divergences(base, *sides, [responses[row] for row in order])
        return dict(zip(order, parts, strict=True))

    together = found(range(24))
    assert [len(together[row]) for row in range(24)] == [len(response) for response in responses]
    others = [found(range(23, -1, -1)), {row: found([row])[row] for row in range(24)}]
    for limit, size in (("_POSITIONS", 60), ("_LOGITS", 8 * WORDS), ("_FLOATS", 3 * WORDS)):
        with monkeypatch.context() as patch:
            patch.setattr(token_divergence, limit, {base.device.type: size})
            others.append(found(range(24)))
    for other in others:
        for row, values in together.items():
            assert other[row] == pytest.approx(values, abs=1e-5)


def test_half_of_the_rows_may_say_nothing(base, models):
    prompts, _, responses = rows(4)
    p, q = Distribution(base.model, prompts), Distribution(models["organism"], prompts)
    whole = token_divergences(base, p, q, responses)
    found = token_divergences(base, p, q, [responses[0], [], responses[2], []])
    assert [len(part) for part in found] == [len(responses[0]), 0, len(responses[2]), 0]
    assert found[2] == pytest.approx(whole[2], abs=1e-5)
    assert token_divergences(base, Distribution(base.model, []), Distribution(base.model, []), []) == []


def test_rows_that_make_no_sense_are_refused(base):
    one = Distribution(base.model, [[4, 5]])
    with pytest.raises(ValueError, match="1 responses need as many prompts of Q, not 2"):
        token_divergences(base, one, Distribution(base.model, [[4], [5]]), [[3]])
    with pytest.raises(ValueError, match="row 0: the prompt is empty"):
        token_divergences(base, one, Distribution(base.model, [[]]), [[3]])
    with pytest.raises(ValueError, match=f"context window of {WINDOW}"):
        token_divergences(base, one, Distribution(base.model, [[4] * WINDOW]), [[3]])
