"""Adapters: what is accepted, and that adding them changes nothing but the copy."""

import json

import pytest
import torch
from peft import PeftModel

from ct_pipeline.models.adapters import CONFIG_FILE, read_adapter, share_weights, with_adapters
from tests.fakes.tiny_models import random_adapter, tiny_base, tiny_model

IDS = torch.tensor([[5, 9, 12, 33, 6, 40]])


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS, use_cache=False).logits.float()


def test_a_stack_of_two_adapters_equals_peft_with_both_active(tmp_path):
    base = tiny_base()
    one = random_adapter(base, tmp_path / "one", seed=1)
    two = random_adapter(base, tmp_path / "two", seed=2, rank=3, use_rslora=True)
    ours = logits(with_adapters(base, [one, two]))
    peft = PeftModel.from_pretrained(tiny_model(), one, adapter_name="one")
    peft.load_adapter(two, adapter_name="two")
    peft.base_model.set_adapter(["one", "two"])
    assert (ours - logits(base.model)).abs().max() > 0.1
    assert (ours - logits(peft.eval())).abs().max() < 1e-5 * ours.abs().max()


def test_the_base_stays_bit_for_bit(tmp_path):
    base = tiny_base()
    before = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}
    expected = logits(base.model)
    with_adapters(base, [random_adapter(base, tmp_path / "one", seed=1)])
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
    merged = with_adapters(base, [adapter])
    unmerged = logits(merged) - logits(base.model)
    wanted = logits(with_adapters(exact, [adapter])) - logits(exact.model)
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
        {"alpha_pattern": {"q_proj": 3}},
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
    with pytest.raises(ValueError, match="|".join([*feature, "IA3"])):
        read_adapter(adapter, base)


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
