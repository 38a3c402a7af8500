"""Reading internal states: nothing is read twice, nothing of the shared base changes, unknown models are refused."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from ct_pipeline.models.adapters import share_weights
from ct_pipeline.training.internal_states import check_architecture, decoder_of, eager_attention, read_states
from ct_pipeline.training.pairs import PairBatches
from ct_pipeline.training.windows import window_lengths
from tests.fakes.tiny_models import tiny_base
from tests.training.rows import pair_rows

TARGETS = ("residual", "mlp", "attention")


@pytest.fixture(scope="module")
def base():
    return tiny_base()


def batch_of(rows, target):
    windows = PairBatches(rows, window_lengths(rows, "matched"), torch.device("cpu"), crossed=target == "attention")
    return windows.wrapped(range(len(rows)))


def test_eager_attention_is_restored_and_never_reaches_the_base(base):
    copy = share_weights(base.model)
    before = base.model.config._attn_implementation
    assert before != "eager"
    with eager_attention(copy):
        assert copy.config._attn_implementation == decoder_of(copy).config._attn_implementation == "eager"
        assert base.model.config._attn_implementation == before
        assert decoder_of(base.model).config._attn_implementation == before
    assert copy.config._attn_implementation == decoder_of(copy).config._attn_implementation == before


def test_attention_weights_need_an_implementation_that_returns_them(base):
    with pytest.raises(ValueError, match="LlamaAttention returns no attention weights: use eager_attention"):
        read_states(base.model, "attention", batch_of(pair_rows(2), "attention"))
    assert not any(module._forward_hooks for module in base.model.modules())


@pytest.mark.parametrize("target", TARGETS)
def test_layers_recomputed_in_the_backward_pass_give_the_same_gradients(base, target):
    batch = batch_of(pair_rows(3), target)
    gradients = []
    for checkpointed in (False, True):
        model = share_weights(base.model)
        weight = torch.nn.Parameter(base.model.model.layers[0].self_attn.q_proj.weight.detach().clone())
        model.model.layers[0].self_attn.q_proj.weight = weight
        if checkpointed:
            model.gradient_checkpointing_enable()
        model.train()
        with eager_attention(model):
            sum(state.square().sum() for state in read_states(model, target, batch)).backward()
        gradients.append(weight.grad)
    assert gradients[0].abs().max() > 0
    assert torch.allclose(*gradients, rtol=1e-4, atol=1e-4 * float(gradients[0].abs().max()))


def test_a_model_without_decoder_layers_is_refused():
    model = GPT2LMHeadModel(GPT2Config(vocab_size=16, n_positions=8, n_embd=8, n_layer=1, n_head=1))
    with pytest.raises(ValueError, match="GPT2LMHeadModel: no decoder layers found: its decoder, GPT2Model"):
        check_architecture(model, "residual")


@pytest.mark.parametrize(
    ("target", "missing", "looked_for"),
    [("mlp", "mlp", "mlp.down_proj and mlp.experts"), ("attention", "self_attn", "self_attn")],
)
def test_a_layer_without_the_modules_is_refused(base, target, missing, looked_for):
    model = share_weights(base.model)
    delattr(model.model.layers[1], missing)
    with pytest.raises(ValueError, match=f"LlamaDecoderLayer: .* looked for {looked_for}"):
        check_architecture(model, target)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_an_unknown_target_is_refused(base):
    with pytest.raises(ValueError, match="target: logits is none of residual, mlp, attention"):
        check_architecture(base.model, "logits")
