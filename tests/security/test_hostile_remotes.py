"""A remote that a stranger can write to: names that leave the folder, links, sizes, manifests of other things."""

import dataclasses
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_pipeline.settings.errors import UserError
from ct_pipeline.store import remote as remote_room
from ct_pipeline.store.artifact_store import DamagedArtifact
from ct_pipeline.store.manifest import MANIFEST, FileRecord, Manifest
from ct_pipeline.store.untrusted import plain_parts
from tests.fakes.remotes import machine
from tests.store.test_artifact_store import ELSEWHERE, HERE, INPUTS, files_under, put


@pytest.fixture
def shared(tmp_path):
    """A remote folder in which one whole artifact lies."""
    put(machine(tmp_path / "a", f"file://{tmp_path}/remote"))
    return tmp_path / "remote"


def forge(shared: Path, change) -> None:
    """Puts a manifest in place of the true one, sealed anew, with the files it had."""
    (path,) = (shared / "finished").rglob("*.json")
    manifest = Manifest.from_json(path.read_text())
    forged = change(manifest)
    path.unlink()
    (path.parent / f"{forged.seal}.json").write_text(forged.to_json())
    files = next((shared / "files").rglob(manifest.seal))
    files.rename(files.with_name(forged.seal))


def renamed(name: object):
    def change(manifest: Manifest) -> Manifest:
        files = dict(manifest.files)
        files[name] = files.pop("about.json")
        return dataclasses.replace(manifest, files=files)

    return change


OUTSIDE = (
    "../escaped.json", "/tmp/escaped.json", "a/../../escaped.json", "..", ".", "", "a//b", "a\\..\\b", "C:\\b", "~/b",
    "a\x00b", "a\nb", "./b", ".hidden", "a/b/c/d/e", MANIFEST, "labels.parquet/inside", "n" * 300,
)  # fmt: skip


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_name_leaves_the_folder(shared, tmp_path, name):
    forge(shared, renamed(name))
    before = files_under(tmp_path)
    there = machine(tmp_path / "b", f"file://{shared}")
    with pytest.warns(DamagedArtifact, match="a file name that does not belong into an artifact"):
        assert there.find(HERE, INPUTS) is None
    assert [name for name in files_under(tmp_path) if name not in before and not name.startswith("remote/")] == []


@given(name=st.text(alphabet="ab./\\~ :\x00\n-_", max_size=20) | st.text(max_size=20))
def test_a_plain_name_is_always_below_its_folder(name):
    parts = plain_parts(name, 4)
    if parts:
        path = Path(os.path.normpath(Path("/folder").joinpath(name)))
        assert path == Path("/folder").joinpath(*parts) and len(parts) <= 4


@pytest.mark.parametrize("size", [-1, True, 1.5, "7", None])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_sizes_are_numbers(shared, tmp_path, size):
    def change(manifest):
        about = manifest.files["about.json"]
        return dataclasses.replace(manifest, files={**manifest.files, "about.json": FileRecord(size, about.sha256)})

    forge(shared, change)
    assert machine(tmp_path / "b", f"file://{shared}").find(HERE, INPUTS) is None


@pytest.mark.parametrize("sha256", ["../../finished", "a" * 63, "A" * 64, "", None])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_hashes_are_hashes_so_that_no_other_object_is_asked_for(shared, tmp_path, sha256):
    forge(shared, lambda manifest: dataclasses.replace(manifest, files={"about.json": FileRecord(1, sha256)}))
    assert machine(tmp_path / "b", f"file://{shared}").find(HERE, INPUTS) is None


@pytest.mark.parametrize(
    "change",
    [
        {"provenance": {}},
        {"provenance": {"finished": "soon", "seconds": 1}},
        {"provenance": {"finished": "2026-01-01T00:00:00+00:00", "seconds": "long"}},
        {"provenance": {"finished": "2026-01-01T00:00:00+00:00", "seconds": 10**400}},
        {"provenance": {"finished": "2026-01-01T00:00:00+00:00", "seconds": float("nan")}},
        {"provenance": {"finished": "2026-01-01T00:00:00", "seconds": 1}},
        {"inputs": {"draw": ["a digest"]}},
        {"inputs": ["a"]},
        {"record": 3},
        {"settings": None},
        {"stage": "other"},
    ],
)
def test_a_manifest_of_another_form_is_not_accepted(shared, tmp_path, change):
    forge(shared, lambda manifest: dataclasses.replace(manifest, **change))
    with pytest.warns(DamagedArtifact):
        assert machine(tmp_path / "b", f"file://{shared}").find(HERE, INPUTS) is None


def test_too_many_files_and_too_many_bytes_are_not_accepted(shared, tmp_path, monkeypatch):
    monkeypatch.setattr(remote_room, "MOST_FILES", 2)
    with pytest.warns(DamagedArtifact, match="more than 2 files"):
        assert machine(tmp_path / "b", f"file://{shared}").find(HERE, INPUTS) is None


def test_more_than_the_disk_has_is_said_before_anything_is_fetched(shared, tmp_path):
    huge = FileRecord(10**12 - 1, "a" * 64)
    forge(shared, lambda manifest: dataclasses.replace(manifest, files={"weights": huge}))
    found = machine(tmp_path / "b", f"file://{shared}").find(HERE, INPUTS)
    with pytest.raises(UserError, match=r"999,999,999,999 bytes and the disk of .* free; make room"):
        _ = found.folder


def test_a_huge_manifest_is_not_read(shared, tmp_path, monkeypatch):
    monkeypatch.setattr(remote_room, "MANIFEST_BYTES", 100)
    assert machine(tmp_path / "b", f"file://{shared}").find(HERE, INPUTS) is None


def test_a_link_is_not_followed(shared, tmp_path):
    secret = tmp_path / "secret"
    largest = max((shared / "files").rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    secret.write_bytes(largest.read_bytes())
    largest.unlink()
    largest.symlink_to(secret)
    found = machine(tmp_path / "b", f"file://{shared}").find(HERE, INPUTS)
    with pytest.warns(DamagedArtifact, match="a file is no file"), pytest.raises(UserError, match="is damaged"):
        _ = found.folder


def test_a_file_that_grew_is_not_fetched(shared, tmp_path):
    largest = max((shared / "files").rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    with largest.open("ab") as stream:
        stream.truncate(10**9)
    found = machine(tmp_path / "b", f"file://{shared}").find(HERE, INPUTS)
    with pytest.warns(DamagedArtifact, match="no file of 10,240 bytes"), pytest.raises(UserError, match="is damaged"):
        _ = found.folder


def test_an_artifact_copied_to_another_address_is_not_accepted(shared, tmp_path):
    (path,) = (shared / "finished").rglob("*.json")
    other = shared.joinpath("finished", *vars(ELSEWHERE).values(), path.name)
    other.parent.mkdir(parents=True)
    other.write_bytes(path.read_bytes())
    with pytest.warns(DamagedArtifact, match="belongs to another artifact"):
        assert machine(tmp_path / "b", f"file://{shared}").find(ELSEWHERE, INPUTS) is None


def test_strange_objects_in_the_remote_are_passed_over(shared, tmp_path):
    for name in ("finished/x.json", "finished/a/b/c/d/e/f.json", "damaged/x.json", "notes.txt"):
        (shared / name).parent.mkdir(parents=True, exist_ok=True)
        (shared / name).write_text("{}")
    there = machine(tmp_path / "b", f"file://{shared}")
    assert there.find(HERE, INPUTS).json("about") == {"note": "first"}
    assert there.sharing.remote.remove_damaged(dry_run=False) == 0
