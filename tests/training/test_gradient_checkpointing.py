"""Gradient checkpointing, which is on where training has a GPU, recomputes layers and changes no loss and no adapter."""

import pytest
from torch import device
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from ct_pipeline.models.loading import wrap_model
from ct_pipeline.training import loop, trainer
from ct_pipeline.training.internal import InternalStates
from tests.fakes.tiny_models import random_adapter, tiny_base, tiny_model, word_tokenizer
from tests.training.losses import train_bct, train_internal, train_on_labels
from tests.training.rows import label_rows, pair_rows, settings
from tests.training.test_sft import largest_difference, weights

LAYERS = 2


def internal_states(target):
    return lambda *how: train_internal(how[0], pair_rows(16), *how[1:], InternalStates(target))


OBJECTIVES = {
    "labels": lambda *how: train_on_labels(how[0], label_rows(16), *how[1:]),
    "bct": lambda *how: train_bct(how[0], pair_rows(16), *how[1:]),
    "act": internal_states("residual"),
    "mlpct": internal_states("mlp"),
    "attct": internal_states("attention"),
}


@pytest.fixture(scope="module")
def base():
    return tiny_base()


@pytest.fixture(scope="module")
def organism(base, tmp_path_factory):
    return random_adapter(base, tmp_path_factory.mktemp("organism"), seed=5)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_losses_and_adapter_are_the_same_with_layers_computed_twice(
    base, organism, tmp_path, monkeypatch, name, dropout
):
    train = OBJECTIVES[name]
    passes = []
    forward = LlamaDecoderLayer.forward

    def counted(layer, *inputs, **options):
        passes[-1] += layer.training
        return forward(layer, *inputs, **options)

    def run_once(folder):
        passes.append(0)
        record = train(base, settings(4, 2, steps=2, dropout=dropout), 3, folder, organism)
        return record.losses

    monkeypatch.setattr(LlamaDecoderLayer, "forward", counted)
    plain = run_once(tmp_path / "plain")
    switched = lambda *how: loop.trainer_arguments(*how) | {"gradient_checkpointing": True}  # noqa: E731
    monkeypatch.setattr(trainer, "trainer_arguments", switched)
    checkpointed = run_once(tmp_path / "checkpointed")
    assert checkpointed == pytest.approx(plain, rel=1e-6)
    assert largest_difference(weights(tmp_path / "checkpointed"), weights(tmp_path / "plain")) < 1e-5
    steps, micro_batches = 2, 2
    assert passes[0] == steps * micro_batches * LAYERS
    assert passes[1] > 1.4 * passes[0], "layers are computed again for the backward pass"


def test_what_a_gpu_run_is_told(base, monkeypatch, tmp_path):
    def told(base):
        return loop.trainer_arguments(settings(), loop.Cut(8, 1), 0, base, str(tmp_path))

    half = wrap_model(tiny_model().bfloat16(), word_tokenizer(), "half")
    assert not told(base)["gradient_checkpointing"], "on a CPU"
    monkeypatch.setattr(loop, "compute_device", lambda base: device("cuda"))
    assert told(base)["gradient_checkpointing"]
    # Layers whose inputs need no gradient, as the first above frozen embeddings, are checkpointed only without it.
    assert told(base)["gradient_checkpointing_kwargs"] == {"use_reentrant": False}
    assert [told(each)["bf16"] for each in (base, half)] == [False, True]
