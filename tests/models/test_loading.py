"""Loading: one load per base model, safetensors only, clear refusals."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from ct_pipeline.engine.protocol import Sampling
from ct_pipeline.engine.transformers_engine import TransformersEngine
from ct_pipeline.models.loading import BaseModels, load_base, wrap_model
from ct_pipeline.settings.errors import UserError
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


def rewritten(folder, change):
    """The folder with its tensors changed."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})
    return folder


def changed_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


LAYER = "model.layers.0.self_attn.q_proj.weight"


def test_a_tensor_that_is_missing_is_named_and_never_filled_at_random(tmp_path):
    folder = rewritten(tiny_folder(tmp_path / "base"), lambda tensors: tensors.pop(LAYER))
    with pytest.raises(UserError, match=f"base lacks tensors .* random numbers: {LAYER}; save the whole model again"):
        BaseModels().get(folder)


def test_an_adapter_saved_inside_a_checkpoint_is_told_to_be_merged(tmp_path):
    def wrap(tensors):
        tensors[LAYER.replace(".weight", ".base_layer.weight")] = tensors.pop(LAYER)

    with pytest.raises(UserError, match="an adapter was saved inside it: merge it first"):
        BaseModels().get(rewritten(tiny_folder(tmp_path / "base"), wrap))


def test_an_output_layer_that_is_neither_there_nor_tied_is_missing(tmp_path):
    folder = rewritten(tiny_folder(tmp_path / "base"), lambda tensors: tensors.pop("lm_head.weight", None))
    with pytest.raises(UserError, match=r"lm_head\.weight"):
        BaseModels().get(changed_config(folder, tie_word_embeddings=False))


def test_tensors_without_a_place_and_of_another_shape_are_named(tmp_path):
    extra = rewritten(tiny_folder(tmp_path / "a"), lambda tensors: tensors.update(extra=torch.zeros(2)))
    with pytest.raises(UserError, match="has no place for: extra"):
        BaseModels().get(extra)
    with pytest.raises(UserError, match="tensors of other shapes than its"):
        BaseModels().get(changed_config(tiny_folder(tmp_path / "b"), intermediate_size=64))


def test_a_token_beyond_the_embedding_names_tokenizer_and_model(tmp_path):
    folder = tiny_folder(tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["new"])
    tokenizer.save_pretrained(folder)
    engine = TransformersEngine(BaseModels().get(folder))
    sampling = Sampling(samples=1, temperature=0.0, top_p=1.0, max_new_tokens=2)
    with pytest.raises(UserError, match=r"tokenizer of base gives the token 64, its embedding has 64 rows"):
        engine.generate([tokenizer("w5 new", add_special_tokens=False)["input_ids"]], sampling, [0], ())
    with pytest.raises(UserError, match="the token 64"):
        engine.score([[5]], [[64]], ())
    assert engine.generate([[5]], sampling, [0], ())


def test_a_stale_file_beside_an_index_is_two_sets_of_weights(tmp_path):
    folder = tiny_folder(tmp_path / "base")
    shutil.copy(folder / "model.safetensors", folder / "model-00001-of-00001.safetensors")
    shards = dict.fromkeys(load_file(folder / "model.safetensors"), "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    with pytest.raises(ValueError, match=r"two sets of weights: model\.safetensors and the shards"):
        BaseModels().get(folder)
    (folder / "model.safetensors").unlink()
    assert BaseModels().get(folder).name == "base"


def test_a_git_lfs_pointer_is_told_to_be_pulled(tmp_path):
    folder = tiny_folder(tmp_path / "base")
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 1048576\n"
    (folder / "model.safetensors").write_text(pointer)
    with pytest.raises(ValueError, match=r"a Git LFS pointer .*git lfs pull"):
        BaseModels().get(folder)
