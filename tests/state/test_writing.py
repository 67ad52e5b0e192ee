"""Whatever happens while a state is written, the path holds the old file or the new one."""

import errno
import fcntl
import io
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from motet import replacing
from motet.errors import StateFileError
from motet.state import file_objects
from tests.memory.talk import Talk
from tests.state.files import everything, restored, saved
from tests.toy import ALL_KINDS

nameless = pytest.mark.parametrize("nameless", [True, False], ids=["nameless", "named"])


@pytest.fixture
def talk() -> Talk:
    talk = Talk(layers=ALL_KINDS, max_sequences=2)
    talk.say(70)
    return talk


def as_asked(nameless: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the file system has files without names."""
    if not nameless:
        monkeypatch.setattr(replacing, "_open_nameless", lambda directory: None)


def fail_after(count: int, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the write in which byte ``count`` would be written raise ``error``."""
    write, written = file_objects.Sink.write, [0]

    def failing(self, data) -> None:
        written[0] += len(data)
        if written[0] > count:
            raise error
        write(self, data)

    monkeypatch.setattr(file_objects.Sink, "write", failing)


@nameless
def test_a_new_file_and_one_that_is_replaced(talk, tmp_path, nameless, monkeypatch):
    as_asked(nameless, monkeypatch)
    path = tmp_path / "state"
    talk.context.save(path)
    assert path.read_bytes() == saved(talk)
    path.chmod(0o600)
    talk.say(5)
    talk.context.save(str(path))
    assert path.read_bytes() == saved(talk)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]
    other = Talk(layers=ALL_KINDS)
    other.context.restore(path)
    assert other.memory.length(0) == 75


@nameless
def test_a_new_file_has_the_permissions_that_new_files_have(talk, tmp_path, nameless, monkeypatch):
    as_asked(nameless, monkeypatch)
    before = os.umask(0o027)
    try:
        talk.context.save(tmp_path / "state")
    finally:
        os.umask(before)
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o640


@nameless
@pytest.mark.parametrize("count", [0, 2000, 3500, 7000, 11000])
@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt(), MemoryError()]
)
def test_a_write_that_fails(talk, tmp_path, nameless, count, error, monkeypatch):
    as_asked(nameless, monkeypatch)
    path = tmp_path / "state"
    talk.context.save(path)
    old = path.read_bytes()
    assert len(old) > 11000
    talk.say(5)
    before = everything(talk.context)
    with monkeypatch.context() as patch:
        fail_after(count, error, patch)
        expected = StateFileError if isinstance(error, OSError) else type(error)
        with pytest.raises(expected) as caught:
            talk.context.save(path)
    if expected is StateFileError:
        assert str(caught.value) == f"{path}: cannot be written: No space left on device"
    assert path.read_bytes() == old
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]
    assert everything(talk.context) == before
    talk.context.save(path)
    assert path.read_bytes() == saved(talk)


@nameless
@pytest.mark.parametrize("call", ["fsync", "replace", "link", "fchmod"])
def test_the_last_steps_fail(talk, tmp_path, nameless, call, monkeypatch):
    if call == "link" and not nameless:
        return
    as_asked(nameless, monkeypatch)
    path = tmp_path / "state"
    path.write_bytes(b"old")

    def fail(*args, **options):
        raise OSError(errno.EIO, "Input/output error")

    owner = Path if call == "replace" else replacing.os
    with monkeypatch.context() as patch:
        patch.setattr(owner, call, fail)
        with pytest.raises(StateFileError, match="cannot be written: Input/output error"):
            talk.context.save(path)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]


_KILLED = """
import sys, time
from motet.state import file_objects
from tests.memory.talk import Talk
from tests.toy import ALL_KINDS
talk = Talk(layers=ALL_KINDS)
talk.say(70)
write, written = file_objects.Sink.write, 0
def slow(self, data):
    global written
    write(self, data)
    written += len(data)
    if written > 9000:
        print("writing", flush=True)
        time.sleep(60)
file_objects.Sink.write = slow
talk.context.save(sys.argv[1])
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_process_that_is_killed_while_it_writes(tmp_path, number):
    path = tmp_path / "state"
    path.write_bytes(b"old")
    child = subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout and child.stdout.readline() == b"writing\n"
    child.send_signal(number)
    child.communicate(timeout=60)
    assert child.returncode != 0
    assert path.read_bytes() == b"old"
    left = [entry.name for entry in tmp_path.iterdir()]
    if number == signal.SIGINT or replacing._open_nameless(tmp_path) is not None:
        assert left == ["state"]


@nameless
def test_where_nothing_can_be_written(talk, tmp_path, nameless, monkeypatch):
    as_asked(nameless, monkeypatch)
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, problem in (
        ("folder", "is a directory (give the name of a file in it)"),
        ("pipe", "is not a regular file (open it, and give the open file instead)"),
        ("missing/state", "cannot be written: No such file or directory"),
        ("file/state", "cannot be written: Not a directory"),
        ("x" * 300, "cannot be written: File name too long"),
        ("null\0", "cannot be written: embedded null byte"),
    ):
        with pytest.raises(StateFileError) as caught:
            talk.context.save(tmp_path / name)
        assert str(caught.value) == f"{tmp_path / name}: {problem}"
    with pytest.raises(StateFileError, match="/dev/null: is not a regular file"):
        talk.context.save("/dev/null")
    names = sorted(entry.name for entry in tmp_path.iterdir())
    assert names == ["file", "folder", "pipe"]


def test_a_link_stays_a_link(talk, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real" / "state")
    for count in (1, 2):
        talk.say(count)
        talk.context.save(tmp_path / "link")
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "real" / "state").read_bytes() == saved(talk)
    assert [entry.name for entry in (tmp_path / "real").iterdir()] == ["state"]


def test_what_a_file_object_raises_passes_through(talk):
    class Full(io.BytesIO):
        def write(self, data) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        talk.context.save(Full())
    talk.check()
    talk.say(3)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, OSError])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9, 0.9999])
def test_a_restore_that_is_interrupted(talk, error, share):
    file = saved(talk)

    class Interrupted(io.BytesIO):
        def readinto(self, buffer) -> int:
            if self.tell() + 500 > int(len(file) * share):
                raise error
            return super().readinto(memoryview(buffer)[:500])

    other = Talk(layers=ALL_KINDS, max_sequences=2)
    other.say(90, 1)
    before, now = everything(other.context), other.memory._now
    with pytest.raises(error):
        other.context.restore(Interrupted(file))
    assert other.memory._now is now and everything(other.context) == before
    other.check()
    other.say(40, 1)
    restored(talk, file, to=other)
    other.say(40, 0)


def test_what_killed_processes_left_is_removed(talk, tmp_path):
    """But nothing that somebody still writes, or that only looks like it."""
    path = tmp_path / "state"
    left = [".state.0123456789ab.tmp", ".state.ffffffffffff.tmp"]
    kept = [".state.0123456789AB.tmp", ".state2.0123456789ab.tmp", "state.tmp", ".state.tmp"]
    for name in (*left, *kept):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / ".state.00000000000d.tmp").mkdir()
    (tmp_path / ".state.00000000000e.tmp").symlink_to(tmp_path / "state.tmp")
    with (tmp_path / ".state.00000000000f.tmp").open("wb") as another:
        fcntl.flock(another, fcntl.LOCK_EX)
        talk.context.save(path)
        names = {entry.name for entry in tmp_path.iterdir()}
        assert names == {"state", *kept, *(f".state.00000000000{x}.tmp" for x in "def")}
    talk.context.save(path)
    assert not (tmp_path / ".state.00000000000f.tmp").exists()


def test_a_temporary_file_taken_for_abandoned_is_made_anew(talk, tmp_path, monkeypatch):
    """It has a name for a moment before it is locked."""
    as_asked(False, monkeypatch)
    lock, locks = replacing._lock, []

    def slow(descriptor: int) -> None:
        locks.append(descriptor)
        if len(locks) == 1:
            replacing._remove_abandoned(tmp_path / "state")
        lock(descriptor)

    monkeypatch.setattr(replacing, "_lock", slow)
    talk.context.save(tmp_path / "state")
    assert len(locks) == 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]


@nameless
def test_names_as_long_as_names_may_be(talk, tmp_path, nameless, monkeypatch):
    as_asked(nameless, monkeypatch)
    for name in ("x" * 255, "文" * 85, "é" * 127):
        talk.context.save(tmp_path / name)
        assert (tmp_path / name).read_bytes() == saved(talk)


@pytest.mark.parametrize("threads", [0, 1])
def test_where_threads_cannot_start(talk, monkeypatch, threads):
    """Under a limit of processes or memory, rows are moved by the caller alone."""
    talk.say(300)
    file, start, started = saved(talk), threading.Thread.start, []

    def limited(self) -> None:
        if len(started) == threads:
            raise RuntimeError("can't start new thread")
        started.append(self)
        start(self)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", limited)
        assert saved(talk) == file
        started.clear()
        other = Talk(layers=ALL_KINDS, max_sequences=2)
        other.context.restore(io.BytesIO(file))
    assert everything(other.context) == everything(talk.context)
