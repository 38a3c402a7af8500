"""Hostile adapters: each is refused by name, nothing of it runs, and nothing else is raised."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from ct_pipeline.models.adapter_stack import adaptable_modules
from ct_pipeline.models.adapters import CONFIG_FILE, WEIGHTS_FILE, read_adapter
from ct_pipeline.models.quarantine.inspection import inspect_adapter, require_clean
from ct_pipeline.settings.errors import Refused
from tests.fakes.tiny_models import random_adapter, tiny_base
from tests.security.hostile import change, planted_pickle, planted_program, safetensors, told

PAIR = {
    "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": ((4, 32), 0),
    "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight": ((32, 4), 512),
}


def header(**changes):
    """A good header of two float32 factors, with the first entry changed."""
    entries = {
        name: {"dtype": "F32", "shape": list(shape), "data_offsets": [start, start + 512]}
        for name, (shape, start) in PAIR.items()
    }
    entries[next(iter(PAIR))] |= changes
    return entries


OVERLAPPING = {list(PAIR)[1]: {"dtype": "F32", "shape": [32, 4], "data_offsets": [256, 768]}}


def config(**entries):
    return lambda folder: change(folder / CONFIG_FILE, **entries)


def text(content):
    return lambda folder: (folder / CONFIG_FILE).write_text(content)


def weights(content):
    return lambda folder: (folder / WEIGHTS_FILE).write_bytes(content)


def tensors(edit):
    def write(folder):
        held = load_file(folder / WEIGHTS_FILE)
        edit(held)
        save_file(held, folder / WEIGHTS_FILE)

    return write


def with_value(value):
    return tensors(lambda held: next(iter(held.values())).view(-1)[3:4].fill_(value))


def renamed(name):
    def edit(held):
        held[name] = held.pop(next(iter(held)))

    return tensors(edit)


def replaced(name, make):
    def write(folder):
        (folder / name).unlink()
        make(folder / name)

    return write


HOSTILE = {
    "modules to save": (config(modules_to_save=["lm_head"]), "modules_to_save"),
    "auto mapping": (config(auto_mapping={"parent_library": "os"}), "auto_mapping"),
    "megatron": (config(megatron_config={"x": 1}, megatron_core="os"), "megatron_core = 'os'"),
    "an unknown key": (config(hook="os.system"), "hook = 'os.system'"),
    "a key with escapes": (config(**{"\x1b[31m\u202e": 1}), r"\x1b[31m\u202e"),
    "dora": (config(use_dora=True), "use_dora"),
    "another type": (config(peft_type="PROMPT_TUNING"), "only LORA is accepted"),
    "a huge rank": (config(r=10**9), "the rank 1000000000"),
    "a negative rank": (config(r=-4), "the rank -4"),
    "a rank that is true": (config(r=True), "the rank True"),
    "a rank that the weights do not have": (config(r=5), "the rank 5"),
    "a scale that is text": (config(lora_alpha="8; import os"), "lora_alpha"),
    "a huge scale": (config(lora_alpha=1e300), "lora_alpha"),
    "a rank pattern that is code": (config(rank_pattern={"(a+)+$": "os"}), "rank_pattern"),
    "the output layer as a target": (config(target_modules=["q_proj", "lm_head"]), "lm_head"),
    "an embedding as a target": (config(target_modules=["embed_tokens"]), "embed_tokens"),
    "targets that are a mapping": (config(target_modules={"a": 1}), "target_modules"),
    "a scale that is no number": (text('{"peft_type": "LORA", "r": 4, "lora_alpha": NaN}'), "'NaN'"),
    "a name found twice": (text('{"peft_type": "IA3", "peft_type": "LORA", "r": 4, "lora_alpha": 8}'), "it twice"),
    "a settings bomb": (text("[" * 200_000), "nesting without end"),
    "settings that are a list": (text("[1, 2]"), "a list"),
    "settings of a gigabyte": (
        lambda folder: os.truncate(folder / CONFIG_FILE, 1 << 30),
        "more than 1,000,000 bytes",
    ),
    "settings in another encoding": (
        lambda folder: (folder / CONFIG_FILE).write_bytes(b"\xff\xfe{\0}\0"),
        "not UTF-8",
    ),
    "NaN weights": (with_value(float("nan")), "NaN or infinite weights"),
    "infinite weights": (with_value(float("-inf")), "NaN or infinite weights"),
    "a factor of the output layer": (renamed("base_model.model.lm_head.lora_A.weight"), "output layer"),
    "a factor of an embedding": (renamed("base_model.model.model.embed_tokens.lora_embedding_A"), "not a plain LoRA"),
    "a full layer": (renamed("base_model.model.model.layers.0.self_attn.q_proj.weight"), "not a plain LoRA"),
    "a name that is a path": (renamed("../../../etc/passwd"), "a name with other characters"),
    "a name with a null": (renamed("base_model.model.a\0b.lora_A.weight"), "a null character"),
    "one factor of two": (tensors(lambda held: held.pop(next(iter(held)))), "one of two LoRA factors"),
    "an empty file": (weights(b""), "no header"),
    "a header longer than the file": (weights(safetensors(b"{}", length=10**18)), "a header of 1,000,000,000,000"),
    "a header of no length": (weights(safetensors(b"", length=0)), "a header of 0 bytes"),
    "a header that is no JSON": (weights(safetensors(b"import os")), "no JSON"),
    "a header bomb": (weights(safetensors(b"[" * 300_000)), "nesting without end"),
    "overlapping tensors": (weights(safetensors(header() | OVERLAPPING, bytes(1024))), "shared with another"),
    "a negative offset": (weights(safetensors(header(data_offsets=[-512, 0]), bytes(1024))), "the offsets [-512, 0]"),
    "an offset beyond the end": (weights(safetensors(header(data_offsets=[0, 10**12]), bytes(1024))), "the offsets"),
    "a negative size": (weights(safetensors(header(shape=[-4, -32]), bytes(1024))), "the shape [-4, -32]"),
    "a shape of 10^30 numbers": (weights(safetensors(header(shape=[10**15, 10**15]), bytes(1024))), "the shape"),
    "a shape that its bytes do not have": (weights(safetensors(header(shape=[4, 33]), bytes(1024))), "512 bytes for"),
    "an unknown dtype": (weights(safetensors(header(dtype="OBJECT"), bytes(1024))), "the dtype 'OBJECT'"),
    "whole numbers for weights": (weights(safetensors(header(dtype="I32"), bytes(1024))), "I32 of shape"),
    "bytes that hide after the tensors": (weights(safetensors(header(), bytes(2048))), "1,024 bytes after the last"),
    "metadata with code": (weights(safetensors(header() | {"__metadata__": {"a": [1]}}, bytes(1024))), "__metadata__"),
    "a pipe for settings": (replaced(CONFIG_FILE, os.mkfifo), f"holds no {CONFIG_FILE}"),
    "a pipe for weights": (replaced(WEIGHTS_FILE, os.mkfifo), f"holds no {WEIGHTS_FILE}"),
    "a link out of the folder": (
        replaced(CONFIG_FILE, lambda path: path.symlink_to("/etc/hostname")),
        "leads out of the folder",
    ),
    "a link to itself": (replaced(WEIGHTS_FILE, lambda path: path.symlink_to(path.name)), f"holds no {WEIGHTS_FILE}"),
    "an endless device": (
        replaced(WEIGHTS_FILE, lambda path: path.symlink_to("/dev/zero")),
        f"holds no {WEIGHTS_FILE}",
    ),
}


@pytest.fixture(scope="module")
def base():
    return tiny_base()


@pytest.fixture
def adapter(base, tmp_path):
    return random_adapter(base, tmp_path / "adapter", seed=1)


@pytest.mark.parametrize("name", HOSTILE)
def test_it_is_refused_by_name(base, adapter, name):
    make, expected = HOSTILE[name]
    make(adapter)
    inspection = inspect_adapter(adapter)
    assert expected in told(inspection.refusals)
    assert str(adapter) not in json.dumps(inspection.report())
    with pytest.raises(Refused):
        require_clean(inspection)
    with pytest.raises(Refused) as refused:
        read_adapter(adapter, base)
    assert expected in str(refused.value)
    assert all(character.isprintable() or character == "\n" for character in str(refused.value))


def test_a_plain_adapter_is_accepted(base, adapter):
    inspection = inspect_adapter(adapter, adaptable_modules(base), base.name)
    require_clean(inspection)
    assert inspection.report() == {
        "subject": "adapter",
        "kind": "adapter",
        "accepted": True,
        "refused": [],
        "unopened": {},
        "read": [CONFIG_FILE, WEIGHTS_FILE],
        "notes": {"rank": 4, "modules": 14},
    }


def test_pickles_and_programs_beside_it_are_named_and_never_opened(base, adapter, tmp_path):
    mark = tmp_path / "mark"
    for name in ("adapter_model.bin", "training_args.bin", "optimizer.pt", "state.pkl", "last.ckpt"):
        planted_pickle(adapter / name, mark)
    for name in ("setup.py", "__init__.py", "sitecustomize.py"):
        planted_program(adapter / name, mark)
    (adapter / "more.zip").write_bytes(b"PK\3\4")
    inspection = inspect_adapter(adapter)
    require_clean(inspection)
    assert len(read_adapter(adapter, base)) == 14
    assert inspection.unopened["adapter_model.bin"] == inspection.unopened["last.ckpt"] == "pickled weights"
    assert inspection.unopened["setup.py"] == "a program"
    assert inspection.unopened["more.zip"] == "an archive"
    assert not mark.exists()


def test_pickled_weights_alone_are_refused_and_never_opened(base, adapter, tmp_path):
    mark = tmp_path / "mark"
    (adapter / WEIGHTS_FILE).unlink()
    planted_pickle(adapter / "adapter_model.bin", mark)
    with pytest.raises(Refused, match=f"holds no {WEIGHTS_FILE}"):
        read_adapter(adapter, base)
    inspection = inspect_adapter(adapter)
    assert not inspection.clean
    assert inspection.unopened == {"adapter_model.bin": "pickled weights"}
    assert not mark.exists()


def test_links_out_of_the_folder_and_special_files_beside_it_are_refused(adapter):
    (adapter / "notes.txt").symlink_to("/etc/passwd")
    (adapter / "loop").symlink_to("loop")
    (adapter / "everything").symlink_to("/")
    os.mkfifo(adapter / "pipe")
    found = told(inspect_adapter(adapter).refusals)
    for name in ("notes.txt", "loop", "everything", "pipe"):
        assert f"adapter/{name}: " in found


def test_too_many_files_are_refused(adapter):
    for number in range(2_100):
        (adapter / f"{number}.txt").touch()
    assert "more than 2,000 files" in told(inspect_adapter(adapter).refusals)


def test_folders_nested_too_deep_are_refused(adapter):
    (adapter / "a/b/c/d/e").mkdir(parents=True)
    assert "adapter/a/b/c/d: folders nested too deep" in told(inspect_adapter(adapter).refusals)


def test_another_bases_adapter_is_refused_with_both_shapes(base, tmp_path):
    other = random_adapter(tiny_base(hidden=48), tmp_path / "other", seed=1)
    found = told(inspect_adapter(other, adaptable_modules(base), "mine").refusals)
    assert "an adapter for another base" in found
    assert "32 -> 32 in mine" in found


def test_the_base_that_an_adapter_names_is_never_looked_at(base, adapter, tmp_path):
    planted_program(tmp_path / "modeling.py", tmp_path / "mark")
    change(adapter / CONFIG_FILE, base_model_name_or_path=str(tmp_path), revision="../..")
    assert len(read_adapter(adapter, base)) == 14
    assert not (tmp_path / "mark").exists()


def test_half_precision_weights_are_looked_at_too(base, adapter):
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        held = {name: tensor.to(dtype) for name, tensor in load_file(adapter / WEIGHTS_FILE).items()}
        save_file(held, adapter / WEIGHTS_FILE)
        assert inspect_adapter(adapter).clean
        next(iter(held.values())).view(-1)[0] = float("inf")
        save_file(held, adapter / WEIGHTS_FILE)
        assert "NaN or infinite" in told(inspect_adapter(adapter).refusals)
        random_adapter(base, adapter, seed=1)


def test_a_folder_that_is_none_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "nothing", tmp_path / "file"):
        assert "cannot be listed" in told(inspect_adapter(path).refusals)
