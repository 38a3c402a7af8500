"""Remotes for tests: in memory, one that fails as told, and an S3 server on this machine."""

import uuid
from contextlib import contextmanager
from typing import ClassVar

from fsspec.implementations.memory import MemoryFileSystem

from ct_pipeline.store.artifact_store import ArtifactStore
from ct_pipeline.store.kept_manifests import KeptManifests
from ct_pipeline.store.remote import Remote
from ct_pipeline.store.remote_url import open_url
from ct_pipeline.store.sharing import RemoteSharing

REQUESTS = ("put_file", "get_file", "pipe_file", "cat_file", "find", "mv", "rm", "rm_file")


class FaultyFileSystem(MemoryFileSystem):
    """A file system in memory that counts requests and refuses those that `fails` says, by number and name."""

    cachable = False
    protocol = "faulty"
    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list] = [""]

    def __init__(self, fails=lambda number, name: None, **options):
        super().__init__(**options)
        self.fails = fails
        self.requests = []

    def _count(self, name):
        self.requests.append(name)
        error = self.fails(len(self.requests), name)
        if error is not None:
            raise error


def _counted(name):
    def request(self, *arguments, **options):
        self._count(name)
        return getattr(MemoryFileSystem, name)(self, *arguments, **options)

    return request


for _name in REQUESTS:
    setattr(FaultyFileSystem, _name, _counted(_name))


def faulty_remote(root, fails=lambda number, name: None, waits=None):
    """A remote in memory; what it waits between tries is appended to `waits` and not slept."""
    files = FaultyFileSystem(fails)
    return Remote(f"faulty://{root}", files, f"/{root}", sleep=(waits if waits is not None else []).append)


def machine(folder, remote):
    """The store of one machine, shared by a remote or by what a URL names."""
    if isinstance(remote, str):
        kept = KeptManifests(folder / "artifacts" / ".manifests")
        remote = Remote(remote, *open_url(remote), kept, sleep=lambda seconds: None)
    return ArtifactStore(folder / "artifacts", RemoteSharing(remote))


@contextmanager
def s3_server(monkeypatch):
    """An S3 server on this machine with a bucket; yields the bucket's address."""
    import boto3
    import fsspec
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="studies")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    try:
        # What lies in a bucket outlives the server: every test has a folder of its own.
        yield f"s3://studies/{uuid.uuid4().hex}"
    finally:
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        server.stop()
