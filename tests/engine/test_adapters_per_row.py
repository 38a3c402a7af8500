"""Adapters of rows, merged and mixed, and what the engine remembers between calls."""

import gc
import weakref

import pytest
import torch

from ct_pipeline.engine import serving
from ct_pipeline.engine.protocol import Sampling
from ct_pipeline.engine.starts import ENGINE_STARTS
from ct_pipeline.engine.transformers_engine import TransformersEngine
from ct_pipeline.models import adapters
from ct_pipeline.models.adapters import read_adapter, with_adapters, with_row_adapters
from ct_pipeline.models.model import Term, stack
from tests.engine.contract import GREEDY, NUCLEUS, prompts_of
from tests.fakes.tiny_models import random_adapter, tiny_base


@pytest.fixture(scope="module")
def base():
    return tiny_base()


@pytest.fixture(scope="module")
def stacks(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapters")
    one, two = random_adapter(base, folder / "one", 1), random_adapter(base, folder / "two", 2, rank=6)
    return [(), stack(one), stack(two), stack(two, one)]


def watch(model):
    """Counts the tokens that a model's forward passes see."""
    seen = []
    model.register_forward_pre_hook(
        lambda _model, _args, inputs: seen.append(inputs["input_ids"].numel()), with_kwargs=True
    )
    return seen


@pytest.mark.parametrize("sampling", [GREEDY, NUCLEUS])
def test_mixed_rows_equal_merged_ones(base, stacks, sampling):
    rows = prompts_of(20)
    merged = TransformersEngine(base).generate(rows, sampling, range(20), stacks * 5)
    mixed = TransformersEngine(base, mixing="mixed").generate(rows, sampling, range(20), stacks * 5)
    for a, b in zip(mixed, merged, strict=True):
        assert [c.ids for c in a] == [c.ids for c in b]
        assert [c.logprob for c in a] == pytest.approx([c.logprob for c in b], abs=1e-4)


def test_merged_rows_equal_separate_calls_bit_for_bit(base, stacks):
    engine, rows = TransformersEngine(base), prompts_of(20)
    together = engine.generate(rows, NUCLEUS, range(20), stacks * 5)
    for i, terms in enumerate(stacks):
        assert engine.generate(rows[i::4], NUCLEUS, list(range(20))[i::4], terms) == together[i::4]


def test_base_rows_of_a_mixed_batch_get_exactly_nothing_added(base, stacks):
    mixed, ids = with_row_adapters(base, stacks), torch.tensor([[8, 9, 10], [8, 9, 10], [11, 12, 13]])
    with torch.inference_mode():
        mixed.choose(torch.tensor([0, 3, 0]))
        logits, plain = mixed.model(ids).logits, base.model(ids).logits
    assert torch.equal(logits[[0, 2]], plain[[0, 2]])
    assert not torch.allclose(logits[1], plain[1], atol=0.1)


def test_rows_that_a_layer_cannot_tell_apart_are_refused(base, stacks):
    mixed = with_row_adapters(base, stacks)
    with pytest.raises(ValueError, match=r'no separate rows.*mixing="merged"'):
        mixed.model(torch.tensor([[8, 9]]))
    mixed.choose(torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match="no separate rows"):
        mixed.model(torch.tensor([[8, 9]]))


def test_an_unknown_way_of_mixing_is_refused(base):
    with pytest.raises(ValueError, match="merged or mixed, not 'apart'"):
        TransformersEngine(base, mixing="apart")


def test_every_adapter_is_checked_before_the_first_row_is_drawn(stacks, tmp_path):
    base = tiny_base()
    seen = watch(base.model)
    with pytest.raises(ValueError, match="absent"):
        TransformersEngine(base).generate(prompts_of(2), GREEDY, [0, 1], [(), stack(tmp_path / "absent")])
    assert seen == []


def test_equal_prompts_are_computed_once_and_not_again_in_the_next_call():
    base = tiny_base()
    seen, engine, prompt = watch(base.model), TransformersEngine(base, stop_ids=()), [8] * 20
    one_step = Sampling(1, 0.0, 1.0, 1)
    first = engine.generate([prompt] * 5, one_step, range(5), ())
    assert seen == [20]
    assert engine.generate([prompt] * 5, one_step, range(5), ()) == first
    engine.generate([prompt] * 5, Sampling(3, 1.0, 1.0, 1), range(5), ())
    assert seen == [20]
    engine.close()
    assert engine.generate([prompt] * 5, one_step, range(5), ()) == first
    assert seen == [20, 20]


def test_a_closed_engine_lets_its_adapted_models_go(base, stacks, monkeypatch):
    made = []

    def watched(*arguments):
        model = with_adapters(*arguments)
        made.append(weakref.ref(model))
        return model

    monkeypatch.setattr(serving, "with_adapters", watched)
    engine = TransformersEngine(base)
    engine.generate([[8]], GREEDY, [0], stacks[1])
    engine.generate([[8]], GREEDY, [0], stacks[1])
    gc.collect()
    assert [reference() is None for reference in made] == [False]
    engine.close()
    gc.collect()
    assert made[0]() is None


def test_engine_starts_are_counted(base):
    before = ENGINE_STARTS.count
    TransformersEngine(base)
    TransformersEngine(base, mixing="mixed")
    assert ENGINE_STARTS.count == before + 2


@pytest.mark.parametrize("mixing", ["merged", "mixed"])
def test_weight_zero_serves_the_base_and_weight_one_the_adapter_bit_for_bit(base, stacks, mixing):
    engine, rows = TransformersEngine(base, mixing=mixing), prompts_of(12)
    (one,) = stacks[1]
    zero, whole = (Term(one.adapter, 0),), (Term(one.adapter, 1), Term(one.adapter, 0))
    for sampling in (GREEDY, NUCLEUS):
        for terms, same in ((zero, ()), (whole, stacks[1])):
            assert engine.generate(rows, sampling, range(12), terms) == engine.generate(rows, sampling, range(12), same)
        together = engine.generate(rows, sampling, range(12), [zero, whole, stacks[3]] * 4)
        assert together == engine.generate(rows, sampling, range(12), [(), stacks[1], stacks[3]] * 4)


def test_one_adapter_at_many_weights_is_read_from_its_folder_once(base, stacks, monkeypatch):
    read = []
    monkeypatch.setattr(
        adapters, "read_adapter", lambda folder, base: read.append(folder) or read_adapter(folder, base)
    )
    with_row_adapters(base, [(Term(stacks[1][0].adapter, weight),) for weight in (0, 0.5, 1, 2)])
    assert read == [stacks[1][0].adapter]
