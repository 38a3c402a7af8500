"""Finished artifacts in a remote are there whole or not at all, whatever the network does meanwhile."""

import threading
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ct_pipeline.settings.errors import CannotWrite, UserError
from ct_pipeline.store.artifact_store import DamagedArtifact
from ct_pipeline.store.kept_manifests import KeptManifests
from ct_pipeline.store.manifest import MANIFEST
from ct_pipeline.store.remote import WAITS, Remote, RemoteError
from ct_pipeline.store.remote_url import open_url, without_credentials
from ct_pipeline.store.sharing import open_store
from tests.fakes.remotes import FaultyFileSystem, faulty_remote, machine, s3_server
from tests.store.test_artifact_store import ELSEWHERE, HERE, INPUTS, files_under, flip_one_bit, put, remove, truncate


@pytest.fixture(params=["file", "memory", "s3"])
def url(request, tmp_path, monkeypatch):
    if request.param == "s3":
        with s3_server(monkeypatch) as address:
            yield address
    else:
        yield f"file://{tmp_path}/remote" if request.param == "file" else f"memory://{tmp_path.name}"


@pytest.fixture(autouse=True)
def _empty_memory():
    FaultyFileSystem.store.clear()


def test_what_one_machine_finished_another_finds_and_reads(url, tmp_path):
    put(machine(tmp_path / "a", url))
    there = machine(tmp_path / "b", url)
    found = there.find(HERE, INPUTS)
    assert not found.place.exists(), "nothing is fetched to know that it is finished"
    assert found.digest == machine(tmp_path / "a", url).read(HERE).digest
    assert found.record == {"losses": [1.5, 0.25]}
    assert found.json("about") == {"note": "first"}
    assert files_under(found.folder) == [*files_under(tmp_path / "a/artifacts/labels/tiny-sycophancy-40/null/0123abcd")]
    assert there.here(HERE).manifest == found.manifest
    assert there.fetched(HERE) == found.place
    assert not list((there.root / ".partial").iterdir())


def test_other_inputs_and_other_addresses_are_not_found(url, tmp_path):
    put(machine(tmp_path / "a", url))
    there = machine(tmp_path / "b", url)
    assert there.find(HERE, {"draw": "another digest"}) is None
    assert there.find(ELSEWHERE, INPUTS) is None
    assert there.read(ELSEWHERE) is None
    assert there.fetched(ELSEWHERE) == there.folder(ELSEWHERE)


def test_the_remote_can_be_tried(url, tmp_path):
    remote = machine(tmp_path, url).sharing.remote
    remote.check()
    assert remote.addresses() == ()


def test_an_artifact_is_deleted_with_all_its_copies(url, tmp_path):
    for name in ("a", "b"):
        put(machine(tmp_path / name, url))
    remote = machine(tmp_path / "c", url).sharing.remote
    assert len(remote.makings(HERE)) == 2
    assert remote.size(HERE) > 2 * 256 * 40
    remote.remove(HERE)
    assert remote.size(HERE) == 0
    assert machine(tmp_path / "c", url).read(HERE) is None


def test_what_was_finished_without_a_remote_is_uploaded_later_and_once(url, tmp_path):
    put(machine(tmp_path / "a", f"memory://{tmp_path.name}-other"))
    put(machine(tmp_path / "a", f"memory://{tmp_path.name}-other"), address=ELSEWHERE)
    here = machine(tmp_path / "a", url)
    done = here.sharing.upload_missing(here)
    assert (done.artifacts, done.size > 2 * 256 * 40) == (2, True)
    again = machine(tmp_path / "a", url)
    assert again.sharing.upload_missing(again).artifacts == 0
    assert machine(tmp_path / "b", url).find(ELSEWHERE, INPUTS).json("about") == {"note": "first"}


def test_machines_that_make_one_artifact_at_once_leave_a_whole_one_for_all(url, tmp_path):
    stores = [machine(tmp_path / name, url) for name in "ab"]
    start, failed = threading.Barrier(2), []

    def make(store, note):
        start.wait()
        try:
            for _ in range(3):
                put(store, note=note)
        except Exception as error:  # noqa: BLE001
            failed.append(error)

    threads = [threading.Thread(target=make, args=(store, note)) for store, note in zip(stores, "ab", strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    notes = [machine(tmp_path / name, url).find(HERE, INPUTS).json("about")["note"] for name in "abcd"]
    assert notes[:2] == ["a", "b"]
    assert notes[2] == notes[3]


def test_the_copy_made_from_the_wanted_inputs_is_taken(tmp_path):
    url = f"memory://{tmp_path.name}"
    for draw in ("one", "other"):
        put(machine(tmp_path / draw, url), inputs={"draw": draw}, note=draw)
    there = machine(tmp_path / "b", url)
    assert there.find(HERE, {"draw": "other"}).json("about") == {"note": "other"}
    assert there.fetched(HERE) == there.folder(HERE)
    assert there.find(HERE, {"draw": "one"}).json("about") == {"note": "one"}
    assert there.find(HERE, {"draw": "third"}) is None


def objects(root, kind):
    return sorted(path for path in (root / kind).rglob("*") if path.is_file())


@pytest.mark.parametrize("damage", [truncate, flip_one_bit, remove])
def test_a_damaged_file_of_a_copy_is_said_by_name_and_never_used(tmp_path, damage):
    url = f"file://{tmp_path}/remote"
    put(machine(tmp_path / "a", url))
    largest = max(objects(tmp_path / "remote", "files"), key=lambda path: path.stat().st_size)
    damage(largest)
    there = machine(tmp_path / "b", url)
    found = there.find(HERE, INPUTS)
    said = r"remote: labels/tiny-sycophancy-40/null/0123abcd"
    with (
        pytest.warns(DamagedArtifact, match=said),
        pytest.raises(UserError, match=r"damaged .*run again to make it again"),
    ):
        _ = found.folder
    assert not there.folder(HERE).exists()
    assert not list((there.root / ".partial").iterdir())
    for store in (there, machine(tmp_path / "c", url)):
        assert store.find(HERE, INPUTS) is None
    put(there, note="again")
    assert machine(tmp_path / "c", url).find(HERE, INPUTS).json("about") == {"note": "again"}


@pytest.mark.parametrize("damage", [truncate, flip_one_bit])
def test_a_damaged_manifest_of_a_copy_is_said_and_set_aside(tmp_path, damage):
    url = f"file://{tmp_path}/remote"
    put(machine(tmp_path / "a", url))
    damage(objects(tmp_path / "remote", "finished")[0])
    with pytest.warns(DamagedArtifact, match=r"remote: labels/tiny-sycophancy-40/null/0123abcd: "):
        assert machine(tmp_path / "b", url).find(HERE, INPUTS) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert machine(tmp_path / "c", url).find(HERE, INPUTS) is None
    here = machine(tmp_path / "a", url)
    assert here.sharing.upload_missing(here).artifacts == 1, "who has it whole brings it again"
    assert machine(tmp_path / "c", url).find(HERE, INPUTS).json("about") == {"note": "first"}
    assert here.sharing.remote.remove_damaged(dry_run=False) > 0
    assert objects(tmp_path / "remote", "damaged") == []
    assert machine(tmp_path / "d", url).find(HERE, INPUTS).json("about") == {"note": "first"}


def test_a_local_damage_is_mended_from_the_remote(tmp_path):
    here = machine(tmp_path / "a", f"memory://{tmp_path.name}")
    put(here)
    flip_one_bit(here.folder(HERE) / "labels.parquet")
    with pytest.warns(DamagedArtifact):
        found = here.find(HERE, INPUTS)
    assert found.json("about") == {"note": "first"}
    assert len(found.table("labels")) == 2


def test_half_an_upload_is_none_and_is_ended_later(tmp_path):
    requests = []

    def cut(number, name):
        requests.append(name)
        return ConnectionError("cable") if requests.count("put_file") >= 2 else None

    waits = []
    here = machine(tmp_path / "a", faulty_remote("half", cut, waits))
    with pytest.raises(
        RemoteError, match=r"faulty://half: writing failed \(ConnectionError: cable\).*ct-pipeline sync"
    ):
        put(here)
    assert tuple(waits) == WAITS
    assert here.here(HERE) is not None, "finished work is kept"
    assert machine(tmp_path / "b", faulty_remote("half")).find(HERE, INPUTS) is None
    later = machine(tmp_path / "a", faulty_remote("half"))
    assert later.sharing.upload_missing(later).artifacts == 1
    assert machine(tmp_path / "b", faulty_remote("half")).find(HERE, INPUTS).json("about") == {"note": "first"}


@pytest.mark.parametrize("error", [PermissionError("Access Denied"), FileNotFoundError("bucket")])
def test_what_no_repetition_mends_is_said_at_once(tmp_path, error):
    waits = []
    here = machine(tmp_path, faulty_remote("bucket", lambda number, name: error, waits))
    with pytest.raises(RemoteError, match="check the address in CT_PIPELINE_REMOTE, the network and the credentials"):
        put(here)
    assert waits == []


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(failing=st.sets(st.integers(1, 40), max_size=25))
def test_whatever_requests_fail_nothing_half_is_ever_found(tmp_path_factory, failing):
    FaultyFileSystem.store.clear()
    folder = tmp_path_factory.mktemp("machines")

    def faults(number, name):
        return ConnectionError("cable") if number in failing else None

    here, there = (
        machine(folder / "a", faulty_remote("any", faults)),
        machine(folder / "b", faulty_remote("any", faults)),
    )
    try:
        put(here)
        uploaded = True
    except RemoteError:
        uploaded = False
    assert here.here(HERE) is not None
    try:
        found = there.find(HERE, INPUTS)
        assert (found is not None) == uploaded
        if found is not None:
            assert found.json("about") == {"note": "first"}
    except RemoteError:
        assert not there.folder(HERE).exists()
    healed = machine(folder / "a", faulty_remote("any"))
    healed.sharing.upload_missing(healed)
    assert machine(folder / "b", faulty_remote("any")).find(HERE, INPUTS).json("about") == {"note": "first"}


def test_thousands_of_questions_ask_the_remote_a_handful_of_times(tmp_path):
    put(machine(tmp_path / "a", faulty_remote("many")))
    remote = faulty_remote("many")
    there = machine(tmp_path / "b", remote)
    for _ in range(2000):
        assert there.find(HERE, INPUTS) is not None
        assert there.find(ELSEWHERE, INPUTS) is None
    assert len(remote._fs.requests) <= 3


def test_a_new_process_reads_no_manifest_again(tmp_path):
    put(machine(tmp_path / "a", faulty_remote("kept")))
    kept = KeptManifests(tmp_path / "b" / ".manifests")
    for asked in (["find", "cat_file"], ["find"]):
        files = FaultyFileSystem()
        assert machine(tmp_path / "b", Remote("faulty://kept", files, "/kept", kept)).find(HERE, INPUTS) is not None
        assert files.requests == asked
    (path,) = kept.folder.iterdir()
    flip_one_bit(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert machine(tmp_path / "b", Remote("faulty://kept", FaultyFileSystem(), "/kept", kept)).find(HERE, INPUTS)


def test_without_a_remote_the_store_is_as_it_was(tmp_path, monkeypatch):
    monkeypatch.delenv("CT_PIPELINE_REMOTE", raising=False)
    store = open_store(tmp_path / "artifacts")
    assert store.sharing is None
    put(store)
    assert files_under(store.root) == sorted(
        f"labels/tiny-sycophancy-40/null/0123abcd/{name}"
        for name in ("about.json", "labels.parquet", "weights/adapter.bin", MANIFEST)
    )


def test_the_environment_names_the_remote(tmp_path, monkeypatch):
    monkeypatch.setenv("CT_PIPELINE_REMOTE", f" memory://{tmp_path.name} ")
    put(open_store(tmp_path / "a"))
    assert open_store(tmp_path / "b").find(HERE, INPUTS).json("about") == {"note": "first"}


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("bucket/prefix", "found bucket/prefix; allowed: an address such as s3://bucket/prefix"),
        ("s4://me:secret@bucket", r"s4://bucket: .*takes s3://, gs://, abfs://, file://"),
        ("gs://bucket", r"the driver of gs:// is not installed: pip install gcsfs"),
    ],
)
def test_an_address_that_cannot_be_opened_is_said_with_what_to_do(tmp_path, monkeypatch, url, said):
    monkeypatch.setenv("CT_PIPELINE_REMOTE", url)
    with pytest.raises(UserError, match=said) as refused:
        open_store(tmp_path)
    assert "secret" not in str(refused.value)


def test_credentials_are_never_shown(tmp_path):
    for url in ("s3://key:secret@bucket/a", "https://host/a?sig=secret", "memory://key:secret@a/b?token=secret#secret"):
        assert "secret" not in without_credentials(url)
    error = OSError("cannot GET https://key:secret@host/file?sig=secret now")
    here = machine(tmp_path, faulty_remote("told", lambda number, name: error))
    with pytest.raises(RemoteError) as told:
        put(here)
    assert "secret" not in str(told.value) and "https://host/file now" in str(told.value)


def test_a_missing_bucket_is_said(tmp_path, monkeypatch):
    said = r"s3://nobody/has: writing failed \(FileNotFoundError.*bucket"
    with s3_server(monkeypatch), pytest.raises(RemoteError, match=said):
        put(machine(tmp_path, "s3://nobody/has"))


def test_an_upload_that_no_disk_has_room_for_ends_as_a_sentence(tmp_path):
    full = OSError(28, "No space left on device")
    with pytest.raises(CannotWrite, match="No space left"):
        put(machine(tmp_path, faulty_remote("full", lambda number, name: full if name == "put_file" else None)))


def test_one_file_under_two_names_is_sent_once(tmp_path):
    here = machine(tmp_path / "a", f"file://{tmp_path}/remote")
    with here.write(HERE, {}, {}) as draft:
        for name in ("epoch-1/weights", "weights"):
            (draft.folder / name).parent.mkdir(exist_ok=True)
            (draft.folder / name).write_bytes(bytes(9000))
    assert len(objects(tmp_path / "remote", "files")) == 1
    assert (here.folder(HERE) / "weights").samefile(here.folder(HERE) / "epoch-1" / "weights")
    there = machine(tmp_path / "b", f"file://{tmp_path}/remote").read(HERE)
    assert files_under(there.folder) == ["epoch-1/weights", MANIFEST, "weights"]


def test_a_drivers_url_is_opened_without_a_request(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    files, root = open_url("s3://bucket/prefix")
    assert root == "bucket/prefix" and Path(root).name == "prefix"
    assert files.protocol[0] == "s3"
