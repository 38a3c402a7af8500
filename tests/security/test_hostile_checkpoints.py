"""Hostile checkpoints: each is refused by name before a library is given any of its files."""

import json
import os
import time

import huggingface_hub
import pytest
from safetensors.torch import load_file, save_file

from ct_pipeline.models.loading import BaseModels, checked_folder, load_tokenizer
from ct_pipeline.models.quarantine.inspection import INDEX, inspect_checkpoint, require_clean
from ct_pipeline.settings.errors import Refused
from tests.fakes.tiny_models import tiny_folder
from tests.security.hostile import change, planted_pickle, planted_program, safetensors, told


def config(**entries):
    return lambda folder: change(folder / "config.json", **entries)


def tokenizer(**entries):
    return lambda folder: change(folder / "tokenizer_config.json", **entries)


def file(name, content):
    return lambda folder: (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def index(name):
    return file(INDEX, json.dumps({"metadata": {}, "weight_map": {"model.norm.weight": name}}))


def link(name, target):
    def make(folder):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return make


HOSTILE = {
    "remote code": (config(auto_map={"AutoModel": "evil.Model"}), "remote code"),
    "remote code in a part": (config(text_config={"auto_map": {"AutoConfig": "evil.C"}}), "text_config.auto_map"),
    "remote code of a tokenizer": (tokenizer(auto_map={"AutoTokenizer": ["evil.T", None]}), "remote code"),
    "a kernel from the Hub": (config(_attn_implementation="evil/kernel"), "_attn_implementation = 'evil/kernel'"),
    "a kernel for experts": (config(experts_implementation="evil/kernel"), "experts_implementation"),
    "other weights": (config(transformers_weights="../other.safetensors"), "transformers_weights"),
    "an unknown quantization": (config(quantization_config={"quant_method": "torchao"}), "quant_method = 'torchao'"),
    "an unknown architecture": (config(model_type="evil"), "model_type = 'evil'"),
    "no architecture": (config(model_type=None), "model_type = None"),
    "10^12 parameters": (config(hidden_size=262_144, intermediate_size=262_144), "in files that hold"),
    "10^9 layers": (config(num_hidden_layers=10**9), "num_hidden_layers = 1000000000"),
    "a vocabulary of 10^12": (config(vocab_size=10**12), "vocab_size = 1000000000000"),
    "a negative width": (config(hidden_size=-32), "hidden_size = -32"),
    "a width that is text": (config(hidden_size="32 * 10**9"), "hidden_size = '32 * 10**9'"),
    "10^9 experts in a part": (config(text_config={"num_local_experts": 10**9}), "num_local_experts"),
    "a number of 10,000 digits": (file("config.json", '{"a": ' + "9" * 10_000 + "}"), "finite number"),
    "settings that are no mapping": (file("config.json", "[]"), "a list"),
    "a settings bomb": (file("config.json", '{"a":' * 100_000), "nesting without end"),
    "settings found twice": (file("config.json", '{"model_type": "llama", "model_type": "evil"}'), "it twice"),
    "generation settings with code": (file("generation_config.json", '{"custom_generate": "evil/x"}'), "custom_generate"),
    "an adapter inside": (file("adapter_config.json", '{"base_model_name_or_path": "evil/base"}'), "adapter within"),
    "a shard outside": (index("../../etc/passwd.safetensors"), "'../../etc/passwd.safetensors'"),
    "an absolute shard": (index("/etc/passwd.safetensors"), "'/etc/passwd.safetensors'"),
    "a pickled shard": (index("pytorch_model-00001-of-00001.bin"), "safetensors files"),
    "a shard that is a number": (index(7), "the file '7'"),
    "a shard that is not there": (index("model-00009-of-00009.safetensors"), "cannot be followed"),
    "a shard with a null": (index("a\0.safetensors"), r"'a\x00.safetensors'"),
    "an index without a map": (file(INDEX, "{}"), "weight_map = None"),
    "weights outside": (link("model.safetensors", "/etc/hostname"), "leads out of the folder"),
    "weights that are a loop": (link("model.safetensors", "model.safetensors"), "Too many levels"),
    "weights that are no safetensors": (file("model.safetensors", "PK\3\4" * 100), "a header of"),
    "weights with a hole": (
        file("model.safetensors", safetensors({"a": {"dtype": "U8", "shape": [1], "data_offsets": [9, 10]}}, bytes(10))),
        "bytes before it that no tensor has",
    ),
    "a second weights file": (file("more.safetensors", b""), "more.safetensors"),
    "a tokenizer bomb": (file("tokenizer.json", '{"a":' + "[" * 100_000), "nesting without end"),
    "a tokenizer of a gigabyte": (lambda folder: os.truncate(folder / "tokenizer.json", 1 << 30), "more than 100,000,000"),
    "a tokenizer file elsewhere": (tokenizer(tokenizer_file="/etc/passwd"), "it names another file"),
    "a template that fills the memory": (
        file("chat_template.jinja", "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}"
        "{% endfor %}{{ ns.s|wordcount }}"),
        "rendering it: it takes too much memory",
    ),
    "a template of 300 kB": (file("chat_template.jinja", "x" * 300_000), "more than 200,000 bytes"),
    "a pipe": (lambda folder: os.mkfifo(folder / "pipe.safetensors"), "a named pipe"),
}  # fmt: skip


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return tiny_folder(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture
def checkpoint(good, tmp_path):
    folder = tmp_path / "base"
    folder.mkdir()
    for path in good.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.mark.parametrize("name", HOSTILE)
def test_it_is_refused_by_name_before_it_is_loaded(checkpoint, name):
    make, expected = HOSTILE[name]
    make(checkpoint)
    inspection = inspect_checkpoint(checkpoint)
    assert expected in told(inspection.refusals)
    assert str(checkpoint) not in json.dumps(inspection.report())
    with pytest.raises(Refused):
        require_clean(inspection)
    if not name.startswith("a template"):
        models = BaseModels()
        with pytest.raises(Refused):
            models.get(checkpoint)
        assert models.loads == 0
        with pytest.raises(Refused):
            load_tokenizer(checkpoint)


def test_a_plain_model_is_accepted(checkpoint):
    inspection = inspect_checkpoint(checkpoint, numbers=True)
    require_clean(inspection)
    held = load_file(checkpoint / "model.safetensors")
    assert inspection.notes["parameters"] == sum(tensor.numel() for tensor in held.values())
    assert len(inspection.notes["chat_templates"]) == 1
    assert set(inspection.unopened.values()) <= {"another file"}
    assert BaseModels().get(checkpoint).name == "base"


def test_pickles_and_programs_beside_it_are_named_and_never_opened(checkpoint, tmp_path):
    mark = tmp_path / "mark"
    for name in ("pytorch_model.bin", "optimizer.pt", "rng_state.pth", "model.ckpt", "vocab.pkl"):
        planted_pickle(checkpoint / name, mark)
    for name in ("modeling_llama.py", "tokenization_llama.py", "configuration.py"):
        planted_program(checkpoint / name, mark)
    (checkpoint / "model.safetensors.zip").write_bytes(b"PK\3\4")
    inspection = inspect_checkpoint(checkpoint)
    require_clean(inspection)
    BaseModels().get(checkpoint)
    assert inspection.unopened["pytorch_model.bin"] == inspection.unopened["vocab.pkl"] == "pickled weights"
    assert inspection.unopened["modeling_llama.py"] == "a program"
    assert inspection.unopened["model.safetensors.zip"] == "an archive"
    assert not mark.exists()


def test_pickled_weights_alone_are_refused_and_never_opened(checkpoint, tmp_path):
    mark = tmp_path / "mark"
    (checkpoint / "model.safetensors").unlink()
    planted_pickle(checkpoint / "pytorch_model.bin", mark)
    with pytest.raises(Refused, match="pickled weights are never read"):
        BaseModels().get(checkpoint)
    assert not mark.exists()


def test_nan_weights_are_found_where_all_numbers_are_read(checkpoint):
    held = load_file(checkpoint / "model.safetensors")
    next(iter(held.values())).view(-1)[5] = float("nan")
    save_file(held, checkpoint / "model.safetensors", metadata={"format": "pt"})
    assert inspect_checkpoint(checkpoint).clean
    assert "NaN or infinite weights" in told(inspect_checkpoint(checkpoint, numbers=True).refusals)


def test_all_that_is_wrong_is_told_at_once(checkpoint):
    for name in ("remote code", "10^9 layers", "an adapter inside", "a shard outside", "a pipe"):
        HOSTILE[name][0](checkpoint)
    assert len(inspect_checkpoint(checkpoint).refusals) >= 5


def test_a_model_of_the_hubs_cache_may_link_to_its_blobs_and_no_further(good, tmp_path):
    blobs, snapshot = tmp_path / "models--a--b" / "blobs", tmp_path / "models--a--b" / "snapshots" / "c0ffee"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for path in good.iterdir():
        (blobs / path.name).write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(f"../../blobs/{path.name}")
    assert inspect_checkpoint(snapshot).clean
    (tmp_path / "secret.json").write_text("{}")
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to("../../../secret.json")
    assert "leads out of the folder" in told(inspect_checkpoint(snapshot).refusals)


def test_a_refusal_costs_no_time_and_no_memory(checkpoint):
    config(num_hidden_layers=10**9, hidden_size=10**9)(checkpoint)
    inspect_checkpoint(checkpoint)
    start = time.perf_counter()
    inspect_checkpoint(checkpoint)
    assert time.perf_counter() - start < 1


def test_a_model_of_the_hub_is_inspected_before_it_is_loaded(checkpoint, monkeypatch):
    asked = {}

    def fetch(name, **how):
        asked[name] = how
        return str(checkpoint)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert checked_folder("some/model", "c0ffee") == checkpoint
    assert asked["some/model"]["revision"] == "c0ffee"
    assert not [
        pattern for pattern in asked["some/model"]["allow_patterns"] if pattern.endswith((".py", ".bin", ".pt"))
    ]
    config(_attn_implementation="evil/kernel")(checkpoint)
    with pytest.raises(Refused, match="evil/kernel"):
        checked_folder("some/model", "c0ffee")
    with pytest.raises(ValueError, match="pinned revision"):
        checked_folder("some/model")
