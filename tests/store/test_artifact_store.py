"""An artifact is there whole and as it was written, or it is not there."""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ct_pipeline.settings.errors import CannotWrite
from ct_pipeline.store.artifact_store import Address, ArtifactStore, DamagedArtifact
from ct_pipeline.store.manifest import FORMAT, MANIFEST, FileRecord, Manifest, hash_file

HERE = Address("labels", "tiny-sycophancy-40", "null", "0123abcd")
ELSEWHERE = Address("labels", "tiny-sycophancy-41", "null", "0123abcd")
INPUTS = {"draw": "digest of a draw"}
TABLE = pandas.DataFrame(
    {"prompt_id": ["a", "b"], "verdict": pandas.array([True, None], "boolean"), "ids": [[1, 2], []]}
)


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(tmp_path / "artifacts")


def put(store, address=HERE, inputs=INPUTS, note="first", record=None):
    with store.write(address, {"k": 4}, inputs) as draft:
        draft.write_table("labels", TABLE)
        draft.write_json("about", {"note": note})
        (draft.folder / "weights").mkdir()
        (draft.folder / "weights" / "adapter.bin").write_bytes(bytes(range(256)) * 40)
        draft.record["losses"] = [1.5, 0.25] if record is None else record


def files_under(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_what_was_written_is_found_and_read_back(store):
    put(store)
    found = ArtifactStore(store.root).find(HERE, INPUTS)
    pandas.testing.assert_frame_equal(found.table("labels").drop(columns="ids"), TABLE.drop(columns="ids"))
    assert [list(ids) for ids in found.table("labels")["ids"]] == [[1, 2], []]
    assert found.json("about") == {"note": "first"}
    assert found.record == {"losses": [1.5, 0.25]}
    assert found.folder == store.root / "labels" / "tiny-sycophancy-40" / "null" / "0123abcd"


def test_the_manifest_says_how_the_artifact_came_to_be(store):
    put(store)
    raw = json.loads((store.folder(HERE) / MANIFEST).read_text())
    assert raw["format"] == FORMAT
    assert {name: raw[name] for name in ("stage", "subject", "variant", "fingerprint")} == vars(HERE)
    assert raw["settings"] == {"k": 4}
    assert raw["inputs"] == INPUTS
    assert sorted(raw["files"]) == ["about.json", "labels.parquet", "weights/adapter.bin"]
    assert raw["files"]["weights/adapter.bin"]["size"] == 256 * 40
    assert {"finished", "seconds", "process", "commit", "dirty", "source", "versions", "machine"} == set(
        raw["provenance"]
    )
    assert raw["provenance"]["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert str(store.root) not in json.dumps(raw)


def test_nothing_is_found_before_anything_is_written(store):
    assert store.find(HERE, INPUTS) is None
    assert store.read(HERE) is None


def test_nothing_appears_when_the_body_raises(store):
    with pytest.raises(ZeroDivisionError), store.write(HERE, {}, {}) as draft:
        draft.write_json("about", {})
        1 / 0  # noqa: B018
    assert files_under(store.root) == []
    assert store.find(HERE, {}) is None


def test_nothing_appears_when_the_record_is_no_json(store):
    with pytest.raises(TypeError), store.write(HERE, {}, {}) as draft:
        draft.record["model"] = object()
    assert files_under(store.root) == []


def test_nothing_is_found_while_the_artifact_is_being_written(store):
    with store.write(HERE, {}, {}) as draft:
        draft.write_json("about", {})
        assert store.find(HERE, {}) is None
    assert store.find(HERE, {}) is not None


def test_an_artifact_made_from_other_inputs_is_not_complete_but_undamaged(store):
    put(store)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.find(HERE, {"draw": "another digest"}) is None
        assert store.find(HERE, {}) is None
        assert store.find(HERE, INPUTS | {"grades": "more"}) is None
        assert store.find(HERE, INPUTS) is not None


def test_an_artifact_made_again_replaces_the_old_one(store):
    put(store, inputs={"draw": "old"}, note="old")
    put(store, inputs={"draw": "new"}, note="new")
    assert store.find(HERE, {"draw": "old"}) is None
    assert store.find(HERE, {"draw": "new"}).json("about") == {"note": "new"}
    assert not list((store.root / ".partial").iterdir())


def test_equal_content_has_an_equal_digest_whenever_and_wherever_it_was_made(store, tmp_path):
    other = ArtifactStore(tmp_path / "other")
    put(store, record=[1])
    put(other, address=ELSEWHERE, inputs={}, record=[2])
    assert store.read(HERE).digest == other.read(ELSEWHERE).digest
    put(other, address=ELSEWHERE, note="changed")
    assert store.read(HERE).digest != other.read(ELSEWHERE).digest


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def empty(path):
    path.write_bytes(b"")


def flip_one_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def remove(path):
    path.unlink()


@pytest.mark.parametrize("name", ["labels.parquet", "about.json", "weights/adapter.bin", MANIFEST])
@pytest.mark.parametrize("damage", [truncate, empty, flip_one_bit, remove])
def test_damage_is_noticed_said_and_set_aside(store, name, damage):
    put(store)
    damage(store.folder(HERE) / name)
    with pytest.warns(DamagedArtifact, match=r"damaged artifact .*null/0123abcd: .*; set aside and made again"):
        assert ArtifactStore(store.root).find(HERE, INPUTS) is None
    (aside,) = (store.root / "damaged").iterdir()
    assert aside.name.startswith("labels--tiny-sycophancy-40--null--0123abcd-")
    assert not store.folder(HERE).exists()
    put(store)
    assert store.find(HERE, INPUTS) is not None


@pytest.mark.parametrize("damage", [truncate, flip_one_bit])
def test_damage_is_noticed_by_the_process_that_had_verified_the_artifact(store, damage):
    put(store)
    assert store.find(HERE, INPUTS) is not None
    path = store.folder(HERE) / "weights" / "adapter.bin"
    damage(path)
    os.utime(path, ns=(1, 1))
    with pytest.warns(DamagedArtifact, match=r"adapter\.bin was changed or truncated"):
        assert store.find(HERE, INPUTS) is None


def test_a_file_that_was_added_is_noticed(store):
    put(store)
    (store.folder(HERE) / "adapter_model.bin").write_bytes(b"planted")
    with pytest.warns(DamagedArtifact, match=r"not those of its manifest: \['adapter_model\.bin'\]"):
        assert store.find(HERE, INPUTS) is None


def edit_record(raw):
    raw["record"]["losses"] = [0.0, 0.0]


def edit_inputs(raw):
    raw["inputs"]["draw"] = "another digest"


def edit_settings(raw):
    raw["settings"]["k"] = 5


def edit_provenance(raw):
    raw["provenance"]["dirty"] = False
    raw["provenance"]["commit"] = "0" * 40


def edit_format(raw):
    raw["format"] = FORMAT + 1


def drop_files(raw):
    del raw["files"]


def drop_seal(raw):
    del raw["seal"]


@pytest.mark.parametrize(
    "edit", [edit_record, edit_inputs, edit_settings, edit_provenance, edit_format, drop_files, drop_seal]
)
def test_an_edited_manifest_is_noticed(store, edit):
    put(store)
    path = store.folder(HERE) / MANIFEST
    raw = json.loads(path.read_text())
    edit(raw)
    path.write_text(json.dumps(raw))
    with pytest.warns(DamagedArtifact, match=r"manifest\.json is unreadable"):
        assert store.find(HERE, INPUTS) is None


@pytest.mark.parametrize("text", ["[]", "null", "3", '"text"', "{", "\x00", '{"format": 2}'])
def test_a_manifest_of_another_form_is_noticed(store, text):
    put(store)
    (store.folder(HERE) / MANIFEST).write_text(text)
    with pytest.warns(DamagedArtifact):
        assert store.find(HERE, INPUTS) is None


def test_an_artifact_moved_to_another_address_is_noticed(store):
    put(store)
    store.folder(ELSEWHERE).parent.mkdir(parents=True)
    store.folder(HERE).rename(store.folder(ELSEWHERE))
    with pytest.warns(DamagedArtifact, match="belongs to another artifact"):
        assert store.find(ELSEWHERE, INPUTS) is None


KILLED = """
import os, signal, sys
from pathlib import Path
from ct_pipeline.store.artifact_store import Address, ArtifactStore
store = ArtifactStore(Path(sys.argv[1]))
with store.write(Address("labels", "tiny-sycophancy-40", "null", "0123abcd"), {}, {}) as draft:
    draft.write_json("about", {"half": "made"})
    print("writing", flush=True)
    sys.stdin.read()
"""


def test_a_process_killed_while_writing_leaves_no_artifact_and_is_cleared_up_after(store):
    writer = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(store.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout.readline() == "writing\n"
    store.prepare()
    assert [path.name for path in store.root.rglob("*.json")] == ["about.json"], "a living process keeps its folder"
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    assert store.find(HERE, {}) is None
    store.prepare()
    assert list(store.root.rglob("*")) == [store.root / ".partial"]


def test_what_another_machine_is_making_is_left_alone(store):
    store.prepare()
    gone = 2**22 + 1  # beyond Linux' largest process id
    other, own = (
        store.root / ".partial" / f"{host}-{gone}-0123abcd" for host in ("other-host-1", socket.gethostname())
    )
    for folder in (other, own):
        folder.mkdir()
    store.prepare()
    assert list((store.root / ".partial").iterdir()) == [other]


def _write_repeatedly(root, process, start):
    store = ArtifactStore(root)
    start.wait()
    for turn in range(12):
        put(store, inputs={"draw": f"{process}"}, note=f"{process} {turn}")


def test_processes_that_write_one_artifact_at_once_all_succeed_and_leave_one_whole(store):
    context = multiprocessing.get_context("fork")
    start = context.Event()
    writers = [context.Process(target=_write_repeatedly, args=(store.root, i, start)) for i in range(4)]
    for writer in writers:
        writer.start()
    start.set()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        while any(writer.is_alive() for writer in writers):
            found = store.read(HERE)
            assert found is None or set(found.manifest.files) == {"about.json", "labels.parquet", "weights/adapter.bin"}
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0, 0]
    assert store.read(HERE) is not None
    assert not list((store.root / ".partial").iterdir())


def test_two_threads_that_see_the_same_damage_both_go_on(store):
    put(store)
    truncate(store.folder(HERE) / "about.json")
    found, failed = [], []

    def look():
        try:
            found.append(ArtifactStore(store.root).find(HERE, INPUTS))
        except OSError as error:
            failed.append(error)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        threads = [threading.Thread(target=look) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failed == []
    assert found == [None] * 8
    assert len(list((store.root / "damaged").iterdir())) == 1


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("this user may not mount a small disk")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_said_and_leaves_what_was_finished(small_disk):
    store = ArtifactStore(small_disk / "artifacts")
    put(store)
    said = "the disk is full; free some space and run again: finished work is kept"
    with pytest.raises(CannotWrite, match=said), store.write(ELSEWHERE, {}, {}) as draft:
        (draft.folder / "large").write_bytes(bytes(2**21))
    assert store.find(HERE, INPUTS) is not None
    assert store.find(ELSEWHERE, {}) is None
    assert not list((store.root / ".partial").iterdir())
    put(store, address=ELSEWHERE)
    assert store.find(ELSEWHERE, INPUTS) is not None


def test_a_disk_that_is_full_already_is_said_before_work_begins(small_disk):
    store = ArtifactStore(small_disk / "artifacts")
    store.prepare()
    with pytest.raises(OSError, match="No space"):
        (small_disk / "filler").write_bytes(bytes(2**21))
    with pytest.raises(CannotWrite, match="the disk is full"):
        store.prepare()


def test_a_read_only_disk_is_said_with_how_to_use_another(small_disk):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    store = ArtifactStore(small_disk / "artifacts")
    with pytest.raises(CannotWrite, match=r"cannot be written \(Read-only file system\); set CT_PIPELINE_HOME"):
        store.prepare()
    with pytest.raises(CannotWrite, match="set CT_PIPELINE_HOME"):
        put(store)


class FullDraftFolder(type(Path())):
    """A folder on a disk without space: every write is refused as the operating system refuses it."""

    def write_text(self, *_args, **_kwargs):
        raise OSError(28, "No space left on device")


def test_a_refused_write_is_translated_whoever_may_mount_disks(store):
    with pytest.raises(CannotWrite, match="the disk is full"), store.write(HERE, {}, {}) as draft:
        draft.folder = FullDraftFolder(draft.folder)
        (draft.folder / "about.json").write_text("{}")
    assert store.find(HERE, {}) is None


def test_a_file_in_place_of_the_store_is_said(tmp_path):
    (tmp_path / "artifacts").write_text("a file")
    store = ArtifactStore(tmp_path / "artifacts")
    for use in (store.prepare, lambda: put(store)):
        with pytest.raises(CannotWrite, match=r"artifacts: cannot be written \(.*\); set CT_PIPELINE_HOME to a folder"):
            use()


def test_a_file_in_place_of_a_folder_of_the_store_is_said(store):
    store.root.mkdir()
    (store.root / ".partial").write_text("a file")
    with pytest.raises(CannotWrite, match="set CT_PIPELINE_HOME"):
        store.prepare()


def test_an_error_that_is_not_about_the_store_stays_what_it_is(store, tmp_path):
    with pytest.raises(NotADirectoryError), store.write(HERE, {}, {}):
        (tmp_path / "file").write_text("")
        (tmp_path / "file" / "below").read_text()


@settings(max_examples=40)
@given(
    files=st.dictionaries(st.text(min_size=1), st.builds(FileRecord, st.integers(0), st.text()), max_size=3),
    record=st.dictionaries(st.text() | st.integers(), st.lists(st.floats(allow_nan=False)) | st.integers(), max_size=3),
)
def test_a_manifest_reads_back_as_it_was_written(files, record):
    manifest = Manifest("stage", "subject", "-", "f", {"a": 1}, {"b": "c"}, files, record, {"commit": None})
    again = Manifest.from_json(manifest.to_json())
    assert again.digest == manifest.digest
    assert again.record == json.loads(json.dumps(record))
    assert again.to_json() == manifest.to_json()


@given(content=st.binary(max_size=64))
def test_a_file_hash_names_size_and_content(content, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "hashed"
    path.write_bytes(content)
    before = hash_file(path)
    path.write_bytes(content + b"x")
    assert before.size == len(content)
    assert hash_file(path).sha256 != before.sha256
