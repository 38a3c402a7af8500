"""Stacks of adapters as one LoRA folder: the exact sum, readable by PEFT, named by content."""

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from ct_pipeline.models.adapter_stack import adaptable_modules, content_of, write_stack
from ct_pipeline.models.adapters import CONFIG_FILE, WEIGHTS_FILE, read_adapter, with_adapters
from tests.fakes.tiny_models import random_adapter, tiny_base, tiny_model

IDS = torch.tensor([[5, 9, 12, 33, 6, 40]])


@pytest.fixture(scope="module")
def base():
    return tiny_base()


@pytest.fixture
def adapters(base, tmp_path):
    return (
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
    assert (logits(with_adapters(base, [tmp_path / "stack"])) - wanted).abs().max() < 1e-5 * wanted.abs().max()


def test_adapters_of_different_modules_and_ranks_are_one_lora_for_peft(base, adapters, tmp_path):
    only_attention(adapters[0])
    assert write_stack(base, adapters, tmp_path / "stack") == 7
    wanted = logits(with_adapters(base, adapters))
    peft = PeftModel.from_pretrained(tiny_model(), tmp_path / "stack").eval()
    assert (logits(peft) - wanted).abs().max() < 1e-5 * wanted.abs().max()
    assert {delta.a.shape[0] for delta in read_adapter(tmp_path / "stack", base).values()} == {7}


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


def test_a_stack_is_named_by_what_its_files_hold(base, adapters, tmp_path):
    name = content_of(adapters)
    random_adapter(base, tmp_path / "copy", seed=1)
    assert content_of((tmp_path / "copy", adapters[1])) == name
    others = {content_of(stack) for stack in ((), adapters[:1], adapters[1:], adapters[::-1])}
    random_adapter(base, tmp_path / "one", seed=3)
    others.add(content_of(adapters))
    assert len(others) == 5
    assert name not in others


@pytest.mark.parametrize("file", [CONFIG_FILE, WEIGHTS_FILE])
def test_a_folder_without_one_of_its_files_is_refused_by_name(adapters, file):
    (adapters[1] / file).unlink()
    with pytest.raises(ValueError, match=rf"two holds no {file}"):
        content_of(adapters)
