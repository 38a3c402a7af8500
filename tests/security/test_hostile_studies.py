"""Hostile YAML and manifests: refused with a sentence, in bounded time."""

import json
import os
import time

import pytest

from ct_pipeline.settings.errors import SpecError, UserError
from ct_pipeline.settings.load import load_audit, load_study
from ct_pipeline.store.manifest import Manifest

BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
YAML = {
    "an alias bomb": BOMB,
    "an alias of itself": "a: &a [*a]\n",
    "a Python object": "name: !!python/object/apply:os.system ['touch MARK']\n",
    "a Python name": "name: !!python/name:os.system\n",
    "an unknown tag": "name: !evil {}\n",
    "a field twice": "name: a\nname: b\n",
    "lists without end": "name: " + "[" * 5_000,
    "mappings without end": "".join(" " * depth + "a:\n" for depth in range(900)),
    "a list": "- 1\n- 2\n",
    "a text": "hello",
    "nothing": "",
    "a null character": "name: a\0b\n",
    "control characters": "name: a\x1bb\n",
    "another encoding": b"\xff\xfen\0a\0",
    "two documents": "name: a\n---\nname: b\n",
    "a merge of itself": "a: &a\n  <<: *a\n",
    "a list for a name": "? [a, b]\n: c\n",
    "a mapping for a name": "? {a: b}\n: c\n",
    "a number of 10,000 digits": "name: " + "9" * 10_000 + "\n",
    "a date for a name": "name: 2001-01-01\n",
    "a date that is none": "name: 2001-99-99\n",
    "a time without end": "name: " + "1:" * 5_000 + "1\n",
    "names with escapes": '"\\e[31m\\u202E": 1\n',
    "two megabytes": "#" * 2_000_000,
    "numbers for all": "1: 2\n3: 4\n",
    "binary": "name: !!binary aGVsbG8=\n",
    "a set": "name: !!set {a, b}\n",
}


@pytest.mark.parametrize("load", ["study", "audit"])
@pytest.mark.parametrize("name", YAML)
def test_a_hostile_file_is_refused_in_one_sentence_or_more(tmp_path, monkeypatch, load, name):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "file.yaml"
    content = YAML[name]
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    start = time.perf_counter()
    with pytest.raises(SpecError) as refused:
        load_study(path, ["sycophancy"], {}) if load == "study" else load_audit(path, ["sycophancy"])
    assert str(path) in str(refused.value)
    assert len(str(refused.value)) < 20_000
    assert not (tmp_path / "MARK").exists()
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "7", '"x"', "{}", '{"format": 2}', '{"format": 2, "seal": "x"}', "[" * 100_000,
     '{"format": 2, "files": {"../../x": {"size": 1, "sha256": "y"}}}', '{"files": []}', "NaN", "9" * 5_000],
    ids=lambda text: text[:20] or "nothing",
)  # fmt: skip
def test_a_hostile_manifest_is_a_value_error(text):
    with pytest.raises(ValueError):
        Manifest.from_json(text)


def test_a_folder_for_a_study_is_refused(tmp_path):
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(UserError):
        load_study(tmp_path / "folder.yaml", [], {})


def test_a_manifest_with_a_field_that_it_does_not_have_is_refused():
    manifest = Manifest("a", "b", "c", "d", {}, {}, {}, {}, {})
    raw = json.loads(manifest.to_json())
    assert Manifest.from_json(json.dumps(raw)) == manifest
    with pytest.raises(ValueError, match="changed after it was written"):
        Manifest.from_json(json.dumps(raw | {"hook": "os.system"}))
    assert os.sep not in manifest.stage
