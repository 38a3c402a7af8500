"""A device that has no memory for a batch: the transformers engine computes it in parts, with the same results."""

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from ct_pipeline.engine.protocol import Sampling
from ct_pipeline.engine.transformers_engine import TransformersEngine
from ct_pipeline.settings.errors import UserError
from tests.fakes.tiny_models import tiny_base

PROMPTS = [(9, 10, 11), (12, 13), (14, 15, 16, 17), (18,), (19, 20)]
COMPLETIONS = [(21, 22), (23,), (24, 25, 26), (27, 28), (29,)]


@pytest.fixture
def memory_for(monkeypatch):
    """Lets the device have memory for so many rows at once from now on; returns the sizes that it is asked for."""

    def limit(most):
        asked = []
        forward = LlamaForCausalLM.forward

        def limited(model, *args, input_ids=None, **options):
            asked.append(len(input_ids))
            if asked[-1] > most:
                raise torch.OutOfMemoryError(f"{asked[-1]} rows")
            return forward(model, *args, input_ids=input_ids, **options)

        monkeypatch.setattr(LlamaForCausalLM, "forward", limited)
        return asked

    return limit


SEEDS = list(range(len(PROMPTS)))
CALLS = {
    "greedy": lambda engine: engine.generate(PROMPTS, Sampling(1, 0.0, 1.0, 4), SEEDS, ()),
    "sampled": lambda engine: engine.generate(PROMPTS, Sampling(3, 1.0, 1.0, 4), SEEDS, ()),
    "beams": lambda engine: engine.generate(PROMPTS, Sampling(1, 0.0, 1.0, 4, beams=2), SEEDS, ()),
}


@pytest.mark.parametrize("name", CALLS)
def test_completions_drawn_in_parts_are_the_same(memory_for, name):
    whole = CALLS[name](TransformersEngine(tiny_base()))
    asked = memory_for(4)
    parts = CALLS[name](TransformersEngine(tiny_base()))
    assert max(asked) > 4 >= min(asked)
    assert [[c.ids for c in row] for row in parts] == [[c.ids for c in row] for row in whole]
    for one, other in zip(parts, whole, strict=True):
        assert [c.logprob for c in one] == pytest.approx([c.logprob for c in other], abs=1e-4)


def test_scores_in_parts_are_the_same(memory_for):
    def scored():
        engine = TransformersEngine(tiny_base())
        return engine.score(PROMPTS, COMPLETIONS, ()), engine.choice_logprobs(PROMPTS, [9, 10], ())

    scores, choices = scored()
    asked = memory_for(2)
    scores_in_parts, choices_in_parts = scored()
    assert max(asked) == len(PROMPTS)
    assert all(np.allclose(*pair, atol=1e-5) for pair in zip(scores, scores_in_parts, strict=True))
    assert np.allclose(choices, choices_in_parts, atol=1e-5)


@pytest.mark.parametrize("name", CALLS)
def test_no_memory_for_a_single_row_is_said_with_what_to_do(memory_for, name):
    memory_for(0)
    with pytest.raises(UserError, match="no memory for a single row: take engine: vllm with more `devices`"):
        CALLS[name](TransformersEngine(tiny_base()))
