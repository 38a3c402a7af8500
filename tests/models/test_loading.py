"""Loading: one load per base model, safetensors only, clear refusals."""

import json

import pytest
import torch

from ct_pipeline.models.loading import BaseModels, load_base, wrap_model
from tests.fakes.tiny_models import END, tiny_base, tiny_folder, tiny_model, word_tokenizer


def test_a_folder_is_loaded_once_per_process(tmp_path):
    models = BaseModels()
    first = models.get(tiny_folder(tmp_path / "base"))
    assert models.get(tmp_path / "base") is first
    assert models.loads == 1
    assert first.name == "base"
    assert first.stop_ids == (END,)
    assert not first.model.training
    assert not any(p.requires_grad for p in first.model.parameters())


def test_on_a_cpu_weights_are_float32_and_equal_to_the_file(tmp_path):
    base = BaseModels().get(tiny_folder(tmp_path / "base"), dtype="bfloat16")
    if base.device.type == "cpu":
        assert base.model.dtype == torch.float32
        assert all(torch.equal(a, b) for a, b in zip(base.model.parameters(), tiny_model().parameters(), strict=True))


def test_a_folder_that_was_overwritten_is_loaded_anew(tmp_path):
    models = BaseModels()
    first = models.get(tiny_folder(tmp_path / "base", seed=0))
    second = models.get(tiny_folder(tmp_path / "base", seed=1))
    assert models.loads == 2
    assert not torch.equal(first.model.model.embed_tokens.weight, second.model.model.embed_tokens.weight)


def test_a_loaded_base_passes_through():
    base = tiny_base()
    assert load_base(base) is base


def test_pickled_weights_remote_code_and_unpinned_hub_ids_are_refused(tmp_path):
    models = BaseModels()
    with pytest.raises(ValueError, match="pinned revision"):
        models.get("some/model")
    with pytest.raises(ValueError, match="no model folder"):
        models.get("/nowhere/at/all")
    folder = tiny_folder(tmp_path / "base")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "evil.Model"}}))
    with pytest.raises(ValueError, match="remote code"):
        models.get(folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="safetensors"):
        models.get(folder)
    assert models.loads == 0


def test_models_with_layers_other_than_attention_are_refused():
    model = tiny_model()
    model.config.layer_types = ["full_attention", "linear_attention"]
    with pytest.raises(ValueError, match="linear_attention"):
        wrap_model(model, word_tokenizer(), "hybrid")
