"""Adapters: what is accepted, and that adding them changes nothing but the copy."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel

from ct_pipeline.models.adapters import CONFIG_FILE, read_adapter, share_weights, with_adapters, with_row_adapters
from ct_pipeline.models.model import Term, stack
from tests.fakes.tiny_models import random_adapter, tiny_base, tiny_model

IDS = torch.tensor([[5, 9, 12, 33, 6, 40]])


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS, use_cache=False).logits.float()


def test_a_stack_of_two_adapters_equals_peft_with_both_active(tmp_path):
    base = tiny_base()
    one = random_adapter(base, tmp_path / "one", seed=1)
    two = random_adapter(base, tmp_path / "two", seed=2, rank=3, use_rslora=True)
    ours = logits(with_adapters(base, stack(one, two)))
    peft = PeftModel.from_pretrained(tiny_model(), one, adapter_name="one")
    peft.load_adapter(two, adapter_name="two")
    peft.base_model.set_adapter(["one", "two"])
    assert (ours - logits(base.model)).abs().max() > 0.1
    assert (ours - logits(peft.eval())).abs().max() < 1e-5 * ours.abs().max()


WEIGHTS = st.floats(-4, 4, allow_nan=False)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    base, folder = tiny_base(), tmp_path_factory.mktemp("pair")
    two = random_adapter(base, folder / "two", seed=2, rank=3, use_rslora=True)
    return base, random_adapter(base, folder / "one", seed=1), two


@settings(max_examples=25, deadline=None)
@given(chosen=st.lists(st.tuples(st.integers(0, 1), WEIGHTS), max_size=4))
def test_a_model_is_its_base_and_the_weighted_sum_of_its_deltas(pair, chosen):
    base, *folders = pair
    model = with_adapters(base, [Term(folders[number], weight) for number, weight in chosen])
    layers, plain = dict(model.named_modules()), dict(base.model.named_modules())
    read = [read_adapter(folder, base) for folder in folders]
    for name in read[0]:
        deltas = [(weight, read[number][name]) for number, weight in chosen]
        wanted = plain[name].weight.double() + sum(w * d.scale * (d.b.double() @ d.a.double()) for w, d in deltas)
        assert (layers[name].weight - wanted).abs().max() < 1e-5
        if not any(weight for weight, _ in deltas):
            assert layers[name].weight is plain[name].weight


def test_weight_one_adds_bit_for_bit_what_an_unweighted_sum_does(pair):
    base, one, two = pair
    layers = dict(with_adapters(base, [Term(one, 1), Term(two, 1.0)]).named_modules())
    for name, first in read_adapter(one, base).items():
        second, by_hand = read_adapter(two, base)[name], base.model.get_submodule(name).weight.clone()
        by_hand += first.scale * (first.b @ first.a)
        by_hand += second.scale * (second.b @ second.a)
        assert torch.equal(layers[name].weight, by_hand)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_zero_and_one_are_exact_in_every_precision_merged_and_mixed(tmp_path, dtype):
    base = tiny_base()
    one = random_adapter(base, tmp_path / "one", seed=1)
    base.model.to(dtype)
    plain, whole = logits(base.model), logits(with_adapters(base, stack(one)))
    assert torch.equal(logits(with_adapters(base, [Term(one, 0)])), plain)
    assert torch.equal(logits(with_adapters(base, [Term(one, 1), Term(one, 0)])), whole)
    assert not torch.equal(logits(with_adapters(base, [Term(one, 2)])), whole)
    mixed = with_row_adapters(base, [[Term(one, 0)], stack(one), [Term(one, 0.5)], [Term(one, -1)]])
    alone = with_row_adapters(base, [stack(one)])
    rows = []
    for number in range(4):
        mixed.choose(torch.tensor([number]))
        rows.append(logits(mixed.model))
    alone.choose(torch.tensor([0]))
    assert torch.equal(rows[0], plain)
    tolerance = 1e-5 if dtype == torch.float32 else 0.02
    assert (rows[1] - logits(alone.model)).abs().max() <= tolerance * whole.abs().max()
    for row, weight in ((rows[2], 0.5), (rows[3], -1)):
        expected = logits(with_adapters(base, [Term(one, weight)]))
        assert (row - expected).abs().max() <= tolerance * expected.abs().max()
        assert (row - plain).abs().max() > 0.1


def test_the_base_stays_bit_for_bit(tmp_path):
    base = tiny_base()
    before = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}
    expected = logits(base.model)
    with_adapters(base, stack(random_adapter(base, tmp_path / "one", seed=1)))
    assert all(torch.equal(before[name], tensor) for name, tensor in base.model.state_dict().items())
    assert torch.equal(expected, logits(base.model))
    assert torch.equal(expected, logits(with_adapters(base, [])))


def test_a_copy_shares_the_weights():
    base = tiny_base()
    copied = share_weights(base.model)
    assert copied is not base.model
    pairs = zip(copied.parameters(), base.model.parameters(), strict=True)
    assert all(a.data_ptr() == b.data_ptr() for a, b in pairs)


def test_a_delta_below_half_precision_rounding_is_not_lost(tmp_path):
    base = tiny_base()
    exact = tiny_base()
    base.model.to(torch.bfloat16)
    # A change of a tenth of a rounding step per weight: merged into bfloat16 weights it would vanish.
    adapter = random_adapter(base, tmp_path / "small", seed=1, size=0.005)
    merged = with_adapters(base, stack(adapter))
    unmerged = logits(merged) - logits(base.model)
    wanted = logits(with_adapters(exact, stack(adapter))) - logits(exact.model)
    assert all(torch.equal(a, b) for a, b in zip(merged.parameters(), base.model.parameters(), strict=True)), (
        "weights of half precision are never added to"
    )
    assert unmerged.abs().max() > 0
    assert wanted.abs().max() > 0


def test_another_bases_adapter_is_refused(tmp_path):
    adapter = random_adapter(tiny_base(), tmp_path / "one", seed=1)
    with pytest.raises(ValueError, match="adapter for another base"):
        read_adapter(adapter, tiny_base(hidden=48))
    deeper = random_adapter(tiny_base(num_hidden_layers=3), tmp_path / "deep", seed=1)
    with pytest.raises(ValueError, match=r"no linear layer model\.layers\.2"):
        read_adapter(deeper, tiny_base())


@pytest.mark.parametrize(
    "feature",
    [
        {"modules_to_save": ["lm_head"]},
        {"auto_mapping": {"parent_library": "os"}},
        {"use_dora": True},
        {"bias": "all"},
        {"alpha_pattern": {"(q|v)_proj": 3}},
        {"alpha_pattern": {"q_proj": "3"}},
        {"layer_replication": [[0, 2], [1, 2]]},
        {"init_lora_weights": "pissa"},
        {"megatron_core": "os"},
        {"some_future_feature": 1},
        {"peft_type": "IA3"},
    ],
    ids=lambda feature: next(iter(feature)),
)
def test_features_beyond_plain_lora_are_refused_by_name(tmp_path, feature):
    base = tiny_base()
    adapter = random_adapter(base, tmp_path / "one", seed=1, **feature)
    with pytest.raises(ValueError, match="|".join([*feature, "IA3"])) as refused:
        read_adapter(adapter, base)
    # Without the key it would be another model.
    assert "left out" not in str(refused.value)


def test_a_class_of_transformers_itself_is_harmless(tmp_path):
    base = tiny_base()
    named = {"base_model_class": "LlamaForCausalLM", "parent_library": "transformers.models.llama.modeling_llama"}
    adapter = random_adapter(base, tmp_path / "one", seed=1, auto_mapping=named)
    assert (
        read_adapter(adapter, base).keys() == read_adapter(random_adapter(base, tmp_path / "two", seed=1), base).keys()
    )


@pytest.mark.parametrize("rslora", [False, True])
def test_ranks_and_alphas_of_single_modules_are_those_of_peft(tmp_path, rslora):
    from peft import LoraConfig, PeftModel, get_peft_model

    torch.manual_seed(3)
    settings = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=["q_proj", "v_proj", "down_proj"],
        rank_pattern={"down_proj": 2},
        alpha_pattern={"v_proj": 32, "layers.1.self_attn.q_proj": 3.5, "down_proj": 1},
        use_rslora=rslora,
        init_lora_weights=False,
    )
    get_peft_model(tiny_model(), settings).save_pretrained(tmp_path / "adapter")
    merged = PeftModel.from_pretrained(tiny_model(), tmp_path / "adapter").merge_and_unload()
    ours = with_adapters(tiny_base(), (Term(tmp_path / "adapter"),))
    ids = torch.arange(3, 20)[None]
    with torch.no_grad():
        expected, found, plain = (model(ids).logits for model in (merged, ours, tiny_model().eval()))
    assert torch.allclose(expected, found, atol=1e-5)
    assert not torch.allclose(plain, found, atol=1e-2)


def test_pickled_or_missing_weights_are_refused(tmp_path):
    base = tiny_base()
    adapter = random_adapter(base, tmp_path / "one", seed=1)
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(ValueError, match=r"adapter_model\.safetensors"):
        read_adapter(adapter, base)


def test_what_the_configuration_says_of_its_base_is_ignored(tmp_path):
    base = tiny_base()
    adapter = random_adapter(base, tmp_path / "one", seed=1, base_model_name_or_path="/etc/passwd")
    assert json.loads((adapter / CONFIG_FILE).read_text())["base_model_name_or_path"] == "/etc/passwd"
    assert len(read_adapter(adapter, base)) == 14
