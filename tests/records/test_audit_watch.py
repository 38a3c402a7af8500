"""Subjects by name: files first, then adapters of watched folders, and never a path."""

import pytest

from ct_pipeline.records.audit_watch import audit_of, files_of_audit, subjects
from ct_pipeline.settings.errors import SpecError, UserError
from tests.automation.conftest import Folder


@pytest.fixture
def audits(tmp_path, monkeypatch):
    monkeypatch.setenv("CT_PIPELINE_AUDITS", str(tmp_path))
    return Folder(tmp_path)


def test_every_subject_is_found_again_by_its_name(audits):
    audits.audit("plain")
    audits.audit("with.dots", watch="arriving")
    audits.adapter("arriving/v1.2")
    found = subjects()
    assert set(found.audits) == {"plain", "with.dots", "with.dots.v1.2"}
    assert found.of("with.dots") == ("with.dots", "with.dots.v1.2")
    for name, audit in found.audits.items():
        assert audit_of(name) == audit
        assert audit_of(name).name == name


def test_an_adapter_of_a_watched_folder_is_stacked_on_before(audits):
    audits.adapter("organism")
    audits.audit("one", before={"adapters": ["organism"]}, watch="arriving")
    folder = audits.adapter("arriving/v1")
    assert [each.path for each in audit_of("one.v1").after.adapters] == ["organism", str(folder)]


@pytest.mark.parametrize("name", ["two", "one.v9", "one.v1.v2"])
def test_a_name_that_nothing_has_is_said_with_those_that_are_there(audits, name):
    audits.audit("one", watch="arriving")
    audits.adapter("arriving/v1")
    with pytest.raises(UserError, match=r"there are: one, one\.v1$"):
        audit_of(name)


@pytest.mark.parametrize("name", ["../one", "one/..", "", ".one", "one..v1", "One", "one\n"])
def test_a_path_is_no_name(audits, name):
    audits.audit("one")
    with pytest.raises(SpecError):
        audit_of(name)


def test_a_large_file_counts_by_size_and_time_and_is_not_read(audits, monkeypatch):
    monkeypatch.setattr("ct_pipeline.records.audit_watch.LARGEST_HASHED", 5)
    audits.audit("one")
    first = files_of_audit(audit_of("one")).digest()
    audits.touch(audits.path / "one-after" / "adapter_model.safetensors")
    assert files_of_audit(audit_of("one")).digest() != first


def test_every_local_file_of_an_audit_counts(audits):
    audits.audit(
        "one",
        labels={"path": "labels.jsonl"},
        chat_template="chat.jinja",
        before={"checkpoint": "./full"},
        probes={"mine": {"source": "jsonl", "path": "probes.jsonl"}},
    )
    assert set(files_of_audit(audit_of("one")).missing) == {
        "before checkpoint",
        "labels",
        "chat template",
        "probe mine",
    }
    seen = set()
    for name in ("labels.jsonl", "chat.jinja", "probes.jsonl", "full/config.json", "full/model.safetensors"):
        audits.write(name, name)
        seen.add(files_of_audit(audit_of("one")).digest())
    assert len(seen) == 5
    assert files_of_audit(audit_of("one")).missing == ()
