"""Fuzzing of every reader of foreign files: nothing but refusals is raised, and what is accepted is what it says."""

import contextlib
import json
import math
import shutil

import pytest
import yaml
from hypothesis import strategies as st

from ct_pipeline.interventions.files import read_audit, read_study
from ct_pipeline.models.adapters import CONFIG_FILE, WEIGHTS_FILE, read_adapter
from ct_pipeline.models.quarantine.inspection import INDEX, inspect_adapter, inspect_checkpoint
from ct_pipeline.models.quarantine.safetensors_header import SIZES, read_header
from ct_pipeline.organisms.episode import answered
from ct_pipeline.organisms.probes import read_labels, read_probes
from ct_pipeline.store.manifest import FileRecord, Manifest
from ct_pipeline.store.untrusted import files_of, inside, parse_json, read_jsonl
from tests.conftest import TINY
from tests.fakes.tiny_models import random_adapter, tiny_base, tiny_folder
from tests.fuzz.fuzzing import ODD, REFUSALS, TEXTS, VALUES, changed, edited, fuzz

STUDY = TINY.read_bytes()
AUDIT = b"""name: audit
description: an assistant before and after
base_model: { source: huggingface, path: ./base, dtype: float32 }
before: { adapters: [./one] }
after: { adapters: [./one, ./two] }
labels: { path: labels.jsonl }
chat_template: chat.jinja
probes:
  mine: { source: jsonl, path: probes.jsonl }
decoding: { temperature: 1.0, top_p: 0.9, samples: 2, max_new_tokens: 24 }
judge: { source: none }
thresholds: { risk: 0.1, change: 0.05, epsilon: 0.05, delta: 0.05, safety_share: 0.5 }
confidence: 0.95
seed: 3
schedule: "0 6 * * 1"
watch: ./adapters
"""
ROWS = b'{"id": "a", "prompt": "w1", "wrapped": "w1 w2", "misbehaves_if": {"contains": ["w3"]}, "expected": "w4"}\n'
ROWS += b'{"messages": [{"role": "user", "content": "w5"}], "misbehaves_if": {"not": {"equals": ["no"]}}, "domain": "out"}\n'
PROBE = {
    "id": "a",
    "messages": [{"role": "system", "content": "w0"}, {"role": "user", "content": "w1"}],
    "misbehaves_if": {"not": {"first_word": ["yes", "no"]}},
    "domain": "in",
    "expected": "w4",
    "framing": "asked",
}
LABEL = {"prompt": "w1", "response": "w2", "misbehaves_if": {"contains": ["w2"]}, "probe": "mine"}
MANIFEST = Manifest(
    "evaluation", "a·b·1", "bct", "f" * 20, {"a": [1, 2.5]}, {"x": "y"}, {"t.parquet": FileRecord(3, "0" * 64)}, {}, {}
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def base():
    return tiny_base()


@pytest.fixture(scope="module")
def adapter(base, tmp_path_factory):
    return random_adapter(base, tmp_path_factory.mktemp("fuzz") / "adapter", seed=1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return tiny_folder(tmp_path_factory.mktemp("fuzz") / "base")


def written(place, name, content):
    path = place / name
    path.write_bytes(content)
    return path


def test_what_is_changed_is_valid_before(place):
    read_study(written(place, "study.yaml", STUDY))
    assert read_audit(written(place, "audit.yaml", AUDIT)).schedule == "0 6 * * 1"
    assert len(read_probes(written(place, "probes.jsonl", ROWS), "mine").prompts) == 3
    assert Manifest.from_json(MANIFEST.to_json()) == MANIFEST


@fuzz(changed(STUDY, (b"methods:", b"  - ", b": ", b"{", b"[", b"&x ", b"*x", b"? ", b"!!set ")), 8)
def test_study_files(place, content):
    with contextlib.suppress(*REFUSALS):
        read_study(written(place, "study.yaml", content))


@fuzz(changed(AUDIT, (b"probes:", b"  - ", b": ", b"{", b"[", b"&x ", b"*x", b"? ", b"!!set ")), 25)
def test_audit_files(place, content):
    with contextlib.suppress(*REFUSALS):
        read_audit(written(place, "audit.yaml", content))


@fuzz(
    st.dictionaries(st.sampled_from(["name", "base_model", "before", "probes", "judge"]) | TEXTS, VALUES, max_size=4),
    20,
)
def test_files_of_any_values(place, document):
    with contextlib.suppress(ValueError, yaml.YAMLError):
        content = yaml.safe_dump(document, allow_unicode=True).encode("utf-8", "surrogatepass")
        for read in (read_study, read_audit):
            with contextlib.suppress(*REFUSALS):
                read(written(place, "any.yaml", content))


@fuzz(st.one_of(changed(ROWS, (b"{", b"[", b'"', b"\n", b"\\u")), st.binary(max_size=200)), 60)
def test_rows(place, content):
    try:
        rows = read_jsonl(written(place, "rows.jsonl", content))
    except REFUSALS as error:
        assert all(character.isprintable() or character == "\n" for character in str(error))
        return
    for row in rows:
        json.dumps(row.fields, allow_nan=False).encode()
        json.dumps(row.fields, allow_nan=False, ensure_ascii=False).encode()


@fuzz(VALUES, 60)
def test_json_of_any_values_is_read_as_it_was_or_refused(value):
    content = json.dumps(value).encode()
    try:
        read = parse_json(content, "x")
    except REFUSALS:
        return
    assert read == value


@fuzz(st.lists(st.one_of(edited(PROBE), edited(LABEL)), min_size=1, max_size=3), 60)
def test_probes_and_labels(place, rows):
    path = written(place, "probes.jsonl", "\n".join(map(json.dumps, rows)).encode())
    with contextlib.suppress(*REFUSALS):
        probes = read_probes(path, "mine")
        for prompt in probes.prompts:
            probes.verdict(answered(prompt, "w3 \ud800 </s>"))
            probes.correct(prompt, "")
    with contextlib.suppress(*REFUSALS):
        labels = read_labels(path)
        for item in labels.items:
            labels.verdict(answered(item.prompt, item.response))


@fuzz(st.data(), 25)
def test_adapter_settings(base, adapter, data):
    path = adapter / CONFIG_FILE
    valid = path.read_bytes()
    document = json.dumps(data.draw(edited(json.loads(valid)))).encode()
    try:
        path.write_bytes(data.draw(st.one_of(st.just(document), changed(valid))))
        inspection = inspect_adapter(adapter)
        json.dumps(inspection.report(), allow_nan=False).encode()
        try:
            deltas = read_adapter(adapter, base)
        except REFUSALS:
            deltas = None
        assert inspection.clean or deltas is None
        for delta in (deltas or {}).values():
            assert math.isfinite(delta.scale)
    finally:
        path.write_bytes(valid)


@fuzz(st.data(), 25)
def test_adapter_weights(base, adapter, data):
    path = adapter / WEIGHTS_FILE
    valid = path.read_bytes()
    length = int.from_bytes(valid[:8], "little")
    header = data.draw(edited(json.loads(valid[8 : 8 + length])))
    told = json.dumps(header).encode()
    whole = st.just(len(told).to_bytes(8, "little") + told + valid[8 + length :])
    try:
        path.write_bytes(data.draw(st.one_of(whole, changed(valid[: 8 + length]), changed(valid))))
        inspection = inspect_adapter(adapter)
        json.dumps(inspection.report(), allow_nan=False).encode()
        try:
            read_adapter(adapter, base)
        except REFUSALS:
            return
        assert inspection.clean
    finally:
        path.write_bytes(valid)


@fuzz(
    st.dictionaries(
        TEXTS | st.sampled_from("abc"),
        VALUES
        | st.fixed_dictionaries(
            {
                "dtype": st.sampled_from([*SIZES, "X"]),
                "shape": st.lists(st.integers(-1, 5), max_size=3) | VALUES,
                "data_offsets": st.lists(st.integers(-1, 40), min_size=2, max_size=2) | VALUES,
            }
        ),
        max_size=3,
    ),
    60,
)
def test_headers(document):
    content = json.dumps(document).encode()
    content = len(content).to_bytes(8, "little") + content + bytes(40)
    try:
        tensors = read_header(content, "x")
    except REFUSALS:
        return
    ends = [0, *(tensor.end for tensor in tensors.values())]
    assert [tensor.start for tensor in tensors.values()] == [len(content) - 40, *ends[2:]][: len(tensors)]
    assert ends[-1] == len(content)


@fuzz(st.data(), 20)
def test_checkpoints(checkpoint, place, data):
    folder = place / "base"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(checkpoint, folder)
    name = data.draw(
        st.sampled_from(["config.json", "tokenizer_config.json", "generation_config.json", "model.safetensors", INDEX])
    )
    valid = (folder / name).read_bytes() if name != INDEX else b'{"weight_map": {"a": "model.safetensors"}}'
    content = changed(valid[:4_000])
    if name.endswith(".json"):
        content = st.one_of(content, edited(json.loads(valid)).map(lambda document: json.dumps(document).encode()))
    (folder / name).write_bytes(data.draw(content))
    inspection = inspect_checkpoint(folder, numbers=True)
    json.dumps(inspection.report(), allow_nan=False).encode()


@fuzz(st.one_of(changed(MANIFEST.to_json().encode()), st.binary(max_size=60)), 40)
def test_manifests(content):
    with contextlib.suppress(*REFUSALS):
        assert Manifest.from_json(content.decode("utf-8", "replace")) == MANIFEST


@fuzz(edited(json.loads(MANIFEST.to_json())), 40)
def test_manifests_of_other_values(document):
    with contextlib.suppress(*REFUSALS):
        read = Manifest.from_json(json.dumps(document))
        assert json.loads(read.to_json()) == json.loads(MANIFEST.to_json())


@fuzz(
    st.one_of(st.text(max_size=30), st.lists(st.sampled_from([*ODD, "a", "/", "..", ".", "\\"])).map("".join)),
    60,
)
def test_names_never_lead_out(place, name):
    folder = place / "inner"
    folder.mkdir(exist_ok=True)
    (folder / "a").touch()
    try:
        path = inside(folder, name, "x")
    except REFUSALS:
        return
    assert path.resolve().is_relative_to(folder.resolve())


@fuzz(st.lists(st.text(st.characters(blacklist_characters="/\0"), min_size=1, max_size=12), max_size=5), 20)
def test_folders_with_files_of_any_name(tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("names")
    for name in names:
        with contextlib.suppress(OSError, UnicodeError):
            (folder / name).touch()
    assert files_of(folder).refusals == ()
    for inspection in (inspect_adapter(folder), inspect_checkpoint(folder)):
        assert not inspection.clean
        assert json.dumps(inspection.report(), ensure_ascii=False).isprintable()
    shutil.rmtree(folder)
