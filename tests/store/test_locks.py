"""Lock files: who waits, who is told, and disks that have no locks."""

import errno
import fcntl
import multiprocessing
import os
import signal

import pytest

from ct_pipeline.settings.errors import CannotWrite
from ct_pipeline.store.locks import Taken, locked


def hold(path, place):
    with locked(path):
        place.send("held")
        place.poll(60)


class Holder:
    """Another process that holds a lock; told by a pipe, which no killed process can leave locked."""

    def __init__(self, path):
        context = multiprocessing.get_context("spawn")
        self.path = path
        self._pipe, place = context.Pipe()
        self.process = context.Process(target=hold, args=(path, place))
        self.process.start()
        assert self._pipe.poll(60)

    def let_go(self):
        """Has the process end; it may have ended already."""
        self._pipe.close()
        self.process.join(60)


@pytest.fixture
def holder(tmp_path):
    holder = Holder(tmp_path / "folder" / "lock")
    yield holder
    holder.let_go()


def test_a_lock_is_held_by_one_process_at_a_time(holder):
    with pytest.raises(Taken), locked(holder.path, wait=False):
        pass
    holder.let_go()
    with locked(holder.path), pytest.raises(BlockingIOError), holder.path.open() as again:
        fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_lock_of_a_process_that_was_killed_is_gone(holder):
    os.kill(holder.process.pid, signal.SIGKILL)
    holder.process.join(60)
    with locked(holder.path, wait=False):
        assert holder.path.exists()


def test_what_a_lock_file_says_stays(tmp_path):
    path = tmp_path / "lock"
    path.write_text("4711")
    with locked(path):
        pass
    assert path.read_text() == "4711"


@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS], ids=errno.errorcode.get)
def test_a_disk_without_locks_is_named_with_the_mend(tmp_path, monkeypatch, number, wait):
    def without_locks(_descriptor, _operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", without_locks)
    with pytest.raises(CannotWrite) as refused, locked(tmp_path / "results" / "lock", wait=wait):
        pytest.fail("nothing is locked")
    message = str(refused.value)
    assert message.startswith(f"{tmp_path / 'results'}: its file system has no file locks ({os.strerror(number)})")
    assert "CT_PIPELINE_HOME" in message and "\n" not in message


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite, match="cannot be written"), locked(tmp_path / "file" / "lock"):
        pytest.fail("nothing is locked")
