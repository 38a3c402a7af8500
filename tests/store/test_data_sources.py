"""Folders, archives behind a local server and a hub that is not there: what is fetched, kept and refused."""

import hashlib
import http.server
import io
import tarfile
import threading
import zipfile

import pytest

from ct_pipeline.settings.data import FolderData, HuggingFaceData, UrlData
from ct_pipeline.settings.errors import UserError
from ct_pipeline.store.data_sources import file_of, folder_of

NAMES = ("induction.jsonl", "rubric.txt")


def tar(members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def zipped(members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return out.getvalue()


@pytest.fixture
def serve():
    """Serves bytes once per path; counts the requests."""
    pages, asked = {}, []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            found = self.path in pages
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(pages.get(self.path, b""))

        def log_message(self, *args):
            """Nothing is printed."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def put(content, digest=None):
        pages["/data"] = content
        url = f"http://127.0.0.1:{server.server_port}/data"
        return UrlData(source="url", url=url, sha256=digest or hashlib.sha256(content).hexdigest())

    put.asked = asked
    yield put
    server.shutdown()
    server.server_close()


def test_a_folder_is_where_it_is_and_none_is_refused(tmp_path):
    assert folder_of(FolderData(source="folder", path=str(tmp_path)), NAMES, tmp_path / "kept") == tmp_path
    with pytest.raises(UserError, match=r"no such folder; it should hold induction\.jsonl"):
        folder_of(FolderData(source="folder", path=str(tmp_path / "none")), NAMES, tmp_path / "kept")


@pytest.mark.parametrize("pack", [tar, zipped])
def test_an_archive_is_fetched_once_and_only_the_wanted_files_are_taken(tmp_path, serve, pack):
    members = [("a/induction.jsonl", b"{}"), ("../../rubric.txt", b"r"), ("/etc/other", b"x")]
    settings = serve(pack(members))
    folder = folder_of(settings, NAMES, tmp_path / "kept")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"induction.jsonl": b"{}", "rubric.txt": b"r"}
    assert folder == tmp_path / "kept" / settings.sha256 == folder_of(settings, NAMES, tmp_path / "kept")
    assert serve.asked == ["/data"]
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_links_in_an_archive_are_not_followed(tmp_path, serve):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        link = tarfile.TarInfo("rubric.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    assert list(folder_of(serve(out.getvalue()), NAMES, tmp_path / "kept").iterdir()) == []


def test_another_archive_than_the_pinned_one_is_refused_and_nothing_is_kept(tmp_path, serve):
    with pytest.raises(UserError, match=r"found sha256 .*; allowed: 0000"):
        folder_of(serve(tar([("rubric.txt", b"r")]), "0" * 64), NAMES, tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no archive", "neither a zip nor a tar"),
        (tar([("a/rubric.txt", b"r"), ("b/rubric.txt", b"s")]), "rubric.txt twice"),
    ],
)
def test_what_cannot_be_unpacked_is_refused(tmp_path, serve, content, said):
    with pytest.raises(UserError, match=said):
        folder_of(serve(content), NAMES, tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_missing_page_is_an_error_of_the_user(tmp_path, serve):
    settings = serve(b"").model_copy(update={"url": serve(b"").url + "/none"})
    with pytest.raises(UserError, match="cannot be fetched"):
        folder_of(settings, NAMES, tmp_path / "kept")


def test_a_hub_data_set_has_to_be_pinned_and_is_looked_for_at_that_commit(tmp_path, monkeypatch):
    hub = HuggingFaceData(source="huggingface", path="a/b", revision="PIN-A-REVISION")
    with pytest.raises(UserError, match="pin a revision"):
        folder_of(hub, NAMES, tmp_path)
    import huggingface_hub

    asked = []

    def snapshot(repository, **given):
        asked.append((repository, given["repo_type"], given["revision"], given["allow_patterns"]))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    pinned = hub.model_copy(update={"revision": "a" * 40, "folder": "data/x"})
    assert folder_of(pinned, NAMES, tmp_path) == tmp_path / "data" / "x"
    assert asked == [("a/b", "dataset", "a" * 40, ["data/x/induction.jsonl", "data/x/rubric.txt"])]


def test_a_single_file_is_fetched_once_and_kept_by_its_hash(tmp_path, serve):
    settings = serve(b"prompt\nx\n")
    found = file_of(settings.url, settings.sha256, tmp_path)
    assert found.read_bytes() == b"prompt\nx\n"
    assert file_of(settings.url, settings.sha256, tmp_path) == found and len(serve.asked) == 1
    found.write_bytes(b"changed")
    assert file_of(settings.url, settings.sha256, tmp_path).read_bytes() == b"prompt\nx\n"
    with pytest.raises(UserError, match=r"found sha256 .* which the study pins"):
        file_of(settings.url, "0" * 64, tmp_path)
