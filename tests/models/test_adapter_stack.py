"""Stacks of adapters as one LoRA folder: the exact sum, readable by PEFT, named by content."""

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from ct_pipeline.models.adapter_stack import adaptable_modules, write_stack
from ct_pipeline.models.adapters import WEIGHTS_FILE, read_adapter, with_adapters
from ct_pipeline.models.model import Term, stack
from tests.fakes.tiny_models import random_adapter, tiny_base, tiny_model

IDS = torch.tensor([[5, 9, 12, 33, 6, 40]])


@pytest.fixture(scope="module")
def base():
    return tiny_base()


@pytest.fixture
def adapters(base, tmp_path):
    return stack(
        random_adapter(base, tmp_path / "one", seed=1),
        random_adapter(base, tmp_path / "two", seed=2, rank=3, use_rslora=True),
    )


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS, use_cache=False).logits


def only_attention(folder):
    tensors = load_file(folder / WEIGHTS_FILE)
    save_file({name: tensor for name, tensor in tensors.items() if "self_attn" in name}, folder / WEIGHTS_FILE)


def test_one_folder_computes_the_sum_of_all_deltas(base, adapters, tmp_path):
    assert write_stack(base, adapters, tmp_path / "stack") == 4 + 3
    wanted = logits(with_adapters(base, adapters))
    assert (wanted - logits(base.model)).abs().max() > 0.1
    assert (logits(with_adapters(base, stack(tmp_path / "stack"))) - wanted).abs().max() < 1e-5 * wanted.abs().max()


def test_adapters_of_different_modules_and_ranks_are_one_lora_for_peft(base, adapters, tmp_path):
    only_attention(adapters[0].adapter)
    assert write_stack(base, adapters, tmp_path / "stack") == 7
    wanted = logits(with_adapters(base, adapters))
    peft = PeftModel.from_pretrained(tiny_model(), tmp_path / "stack").eval()
    assert (logits(peft) - wanted).abs().max() < 1e-5 * wanted.abs().max()
    assert {delta.a.shape[0] for delta in read_adapter(tmp_path / "stack", base).values()} == {7}


@pytest.mark.parametrize("weights", [(1.0, 0.5), (-1.0, 2.0), (0.3, -0.7), (0.0, 1.5)])
def test_weights_are_folded_into_the_second_factors(base, adapters, tmp_path, weights):
    terms = [Term(term.adapter, weight) for term, weight in zip(adapters, weights, strict=True)]
    rank = write_stack(base, terms, tmp_path / "stack")
    ranks = [each for each, weight in zip((4, 3), weights, strict=True) if weight]
    assert rank == sum(ranks)
    written, plain = (
        load_file(tmp_path / "stack" / WEIGHTS_FILE),
        [load_file(t.adapter / WEIGHTS_FILE) for t in adapters],
    )
    scales = (2.0, 2 * 3**0.5)
    for name, tensor in written.items():
        parts = [(tensors[name], w * s) for tensors, w, s in zip(plain, weights, scales, strict=True) if w]
        expected = torch.cat([t for t, _ in parts]) if "lora_A" in name else torch.cat([f * t for t, f in parts], dim=1)
        assert (tensor - expected).abs().max() <= 1e-6 * expected.abs().max()
    wanted = logits(with_adapters(base, terms))
    assert (logits(with_adapters(base, stack(tmp_path / "stack"))) - wanted).abs().max() < 1e-5 * wanted.abs().max()


def test_a_stack_of_weights_one_is_written_bit_for_bit_as_without_weights(base, adapters, tmp_path):
    write_stack(base, adapters, tmp_path / "stack")
    deltas = [read_adapter(term.adapter, base) for term in adapters]
    for name, tensor in load_file(tmp_path / "stack" / WEIGHTS_FILE).items():
        module, _, factor = name.removeprefix("base_model.model.").rpartition(".lora_")
        found = [delta[module] for delta in deltas]
        by_hand = (
            torch.cat([d.a for d in found]) if factor[0] == "A" else torch.cat([d.scale * d.b for d in found], dim=1)
        )
        assert torch.equal(tensor, by_hand)


def test_adapters_of_weight_zero_make_a_lora_that_changes_nothing(base, adapters, tmp_path):
    assert write_stack(base, [Term(term.adapter, 0) for term in adapters], tmp_path / "zero") == 1
    assert torch.equal(logits(with_adapters(base, stack(tmp_path / "zero"))), logits(base.model))


def test_no_adapters_make_a_lora_on_every_inner_layer_that_changes_nothing(base, tmp_path):
    assert write_stack(base, (), tmp_path / "zero") == 1
    deltas = read_adapter(tmp_path / "zero", base)
    assert set(deltas) == set(adaptable_modules(base))
    assert all(not delta.b.any() for delta in deltas.values())


def test_the_output_embedding_is_not_adaptable():
    untied = tiny_base(tie_word_embeddings=False)
    assert len(adaptable_modules(untied)) == 14
    assert "lm_head" not in adaptable_modules(untied)


def test_shapes_alone_are_enough(adapters, tmp_path):
    with torch.device("meta"):
        shapes = tiny_base()
    assert write_stack(shapes, adapters, tmp_path / "stack") == 7


def test_adapters_that_are_refused_leave_no_folder_behind(base, adapters, tmp_path):
    foreign = random_adapter(tiny_base(hidden=48, head_dim=32), tmp_path / "foreign", 1)
    for terms in (stack(foreign), (*adapters, *stack(foreign))):
        with pytest.raises(ValueError, match="foreign"):
            write_stack(base, terms, tmp_path / "stack")
        assert not (tmp_path / "stack").exists()
