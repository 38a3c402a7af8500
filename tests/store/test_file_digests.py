"""Digests of large files are remembered until somebody writes to them."""

import hashlib
import json
import os

import pytest

from ct_pipeline.store import file_digests as audit_digests
from ct_pipeline.store.file_digests import digest_of


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("CT_PIPELINE_HOME", str(tmp_path / "results"))
    monkeypatch.setattr(audit_digests, "LARGE", 10)
    return tmp_path / "weights"


def remembered(tmp_path):
    path = tmp_path / "results" / "audits" / "digests.json"
    return json.loads(path.read_text()) if path.exists() else {}


def test_a_large_file_is_remembered_and_a_small_one_is_not(place, tmp_path):
    place.write_bytes(b"small")
    assert digest_of(place) == hashlib.sha256(b"small").hexdigest()
    assert remembered(tmp_path) == {}
    place.write_bytes(b"large content")
    assert digest_of(place) == hashlib.sha256(b"large content").hexdigest()
    assert list(remembered(tmp_path).values()) == [digest_of(place)]


def test_a_file_of_the_same_size_and_time_of_writing_is_hashed_again(place):
    place.write_bytes(b"large content")
    before, state = digest_of(place), place.stat()
    place.write_bytes(b"other content")
    os.utime(place, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert digest_of(place) == hashlib.sha256(b"other content").hexdigest() != before


def test_what_is_remembered_is_not_hashed_again(place, tmp_path, monkeypatch):
    place.write_bytes(b"large content")
    digest = digest_of(place)
    monkeypatch.setattr(audit_digests, "hash_file", None)
    assert digest_of(place) == digest


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}'])
def test_a_damaged_memory_is_begun_anew(place, tmp_path, content):
    path = tmp_path / "results" / "audits" / "digests.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    place.write_bytes(b"large content")
    assert digest_of(place) == hashlib.sha256(b"large content").hexdigest()
    assert len(remembered(tmp_path)) == 1
