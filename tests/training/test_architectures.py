"""Every Phase 3 objective on every decoder family: right layers, all that can move moves, the engine serves the stack."""

import pytest
import torch
from peft import PeftModel

from ct_pipeline.models.adapters import share_weights, with_adapters
from ct_pipeline.models.model import stack
from ct_pipeline.training.internal import InternalStates
from ct_pipeline.training.internal_states import eager_attention, read_states
from ct_pipeline.training.pairs import PairBatches
from ct_pipeline.training.windows import window_lengths
from tests.fakes.architectures import ARCHITECTURES, SLIDING, tiny_architecture
from tests.fakes.tiny_models import random_adapter
from tests.training.losses import train_bct, train_internal, train_on_labels
from tests.training.rows import label_rows, pair_rows, settings
from tests.training.test_sft import weights

OBJECTIVES = {
    "sft": lambda base, out, below: train_on_labels(base, label_rows(8), settings(steps=2), 0, out, below),
    "bct": lambda base, out, below: train_bct(base, pair_rows(8), settings(steps=2), 0, out, below),
} | {
    target: lambda base, out, below, target=target: train_internal(
        base, pair_rows(8), settings(steps=2), 0, out, below, InternalStates(target)
    )
    for target in ("residual", "mlp", "attention")
}
EXPERTS = {"gpt_oss"}
"""Families whose MLPs hold no linear layers: a LoRA reaches their attention only."""
OUT = {"self_attn.v_proj", "self_attn.o_proj"}
MLP = {"mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}


@pytest.fixture(scope="module", params=ARCHITECTURES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def base(name):
    return tiny_architecture(name)


@pytest.fixture(scope="module")
def organism(base, tmp_path_factory):
    return random_adapter(base, tmp_path_factory.mktemp("organism"), seed=5)


def unreachable(name, objective):
    """What of the last layer no compared state is computed from."""
    dense = set() if name in EXPERTS else MLP
    return {"mlp": {"mlp.down_proj"} & dense, "attention": OUT | dense}.get(objective, set())


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_trains_every_tensor_it_can_reach(name, base, organism, tmp_path, objective):
    before = {key: tensor.clone() for key, tensor in base.model.state_dict().items()}
    implementation = base.model.config._attn_implementation
    record = OBJECTIVES[objective](base, tmp_path / "a", organism)
    trained = weights(tmp_path / "a")
    still = {key for key, tensor in trained.items() if ".lora_B." in key and not tensor.any()}
    assert still == {f"base_model.model.model.layers.1.{m}.lora_B.weight" for m in unreachable(name, objective)}
    fixed = still | {key.replace("lora_B", "lora_A") for key in still}
    assert record.trainable_parameters == sum(t.numel() for key, t in trained.items() if key not in fixed)
    assert record.moved_parameters == record.trainable_parameters
    assert record.checks["drop_difference"] == 0.0
    assert base.model.config._attn_implementation == implementation
    assert all(torch.equal(before[key], tensor) for key, tensor in base.model.state_dict().items())
    assert_served_as_trained(base, organism, tmp_path / "a")


def assert_served_as_trained(base, organism, folder):
    """The engine's sum of all adapters computes what PEFT computes on the organism."""
    trained = PeftModel.from_pretrained(with_adapters(base, stack(organism)), folder)
    served = with_adapters(base, stack(organism, folder))
    ids = torch.tensor([row.wrapped_ids[:4] for row in pair_rows(4)])
    with torch.no_grad():
        one, other = trained(ids).logits, served(ids).logits
        below = with_adapters(base, stack(organism))(ids).logits
    assert torch.allclose(one, other, atol=1e-4 * float(one.abs().max()))
    assert (other - below).abs().max() > 10 * (one - other).abs().max()


def windows_of(base, target):
    rows = pair_rows(4)
    assert max(len(row.wrapped_ids) for row in rows) > 2 * SLIDING
    return PairBatches(rows, window_lengths(rows, "matched"), base.device, crossed=target == "attention")


def read(base, target):
    """What training reads, and an outside view of the same forward pass."""
    model = share_weights(base.model)
    batch = windows_of(base, target).wrapped(range(4))
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask", "position_ids")}
    with torch.no_grad(), eager_attention(model):
        return (
            read_states(model, target, batch),
            model.model(**inputs, output_hidden_states=True, output_attentions=True),
            batch["places"],
            model.model,
        )


def test_residual_states_are_the_layers_outputs_before_the_final_norm(base):
    states, output, (row, column), decoder = read(base, "residual")
    assert len(states) == base.model.config.num_hidden_layers == 2
    assert torch.equal(states[0], output.hidden_states[1][row, column])
    normed = output.hidden_states[2][row, column]
    with torch.no_grad():
        assert torch.allclose(decoder.norm(states[1]), normed, atol=1e-5)
    assert not torch.allclose(states[1], normed, atol=0.1)


def test_attention_states_are_the_rows_of_every_head(name, base):
    states, output, (row, query, key), _ = read(base, "attention")
    assert len(states) == len(output.attentions) == 2
    for state, weights_ in zip(states, output.attentions, strict=True):
        assert state.shape == (len(row), base.model.config.num_attention_heads)
        assert torch.equal(state, weights_[row, :, query, key])
        assert (state >= 0).all()
    sums = output.attentions[1][row, :, query].sum(-1)
    if name in EXPERTS:
        assert (sums < 1 - 1e-3).any(), "an attention sink takes its share"
    else:
        assert torch.allclose(sums, torch.ones_like(sums), atol=1e-5)
    if getattr(base.model.config, "sliding_window", None) is not None:
        far = (query - key) >= SLIDING
        assert far.any()
        assert states[0][far].abs().max() == 0


def test_mlp_states_are_what_the_down_projection_turns_into_the_mlps_output(name, base):
    outputs = []
    handles = [
        layer.mlp.register_forward_hook(lambda _mlp, _inputs, out: outputs.append(out))
        for layer in base.model.model.layers
    ]
    states, _, (row, column), decoder = read(base, "mlp")
    for handle in handles:
        handle.remove()
    # The copy under test carries the hooks too: two layers in the first pass, two in the second.
    assert len(outputs) == 4
    for state, output, layer in zip(states, outputs[:2], decoder.layers, strict=True):
        if name in EXPERTS:
            assert torch.equal(state, output[0][row, column])
            continue
        assert state.shape[1] == base.model.config.intermediate_size
        with torch.no_grad():
            assert torch.allclose(layer.mlp.down_proj(state), output[row, column], atol=1e-4)
