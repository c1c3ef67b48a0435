"""Files appear whole or not at all."""

import hashlib
import os
import signal
import socket
import stat
import subprocess
import sys
import time

import pytest

from kipoi_borzoi import files


def test_sha256_of_a_file_equals_the_published_value(tmp_path):
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    assert files.sha256_of_file(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_sha256_of_a_file_longer_than_a_block(tmp_path):
    path = tmp_path / "long"
    content = os.urandom((1 << 20) + 17)
    path.write_bytes(content)
    assert files.sha256_of_file(path) == hashlib.sha256(content).hexdigest()


def test_atomic_write_shows_the_file_only_at_the_end(tmp_path):
    path = tmp_path / "scores.npz"
    with files.atomic_write(path) as temporary:
        assert temporary.parent == tmp_path and temporary.suffix == ".npz" and temporary.read_bytes() == b""
        temporary.write_bytes(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert os.listdir(tmp_path) == ["scores.npz"]


def test_atomic_write_replaces_what_was_there(tmp_path):
    path = tmp_path / "x"
    path.write_text("old and longer")
    with files.atomic_write(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old and longer"
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_atomic_write_that_fails_leaves_the_folder_as_it_was(tmp_path, error):
    path = tmp_path / "x"
    path.write_text("old")
    with pytest.raises(error), files.atomic_write(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x"]


def test_atomic_write_honours_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        with files.atomic_write(tmp_path / "x") as temporary:
            temporary.write_text("x")
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640


def test_atomic_write_flushes_the_file_before_and_the_folder_after_the_rename(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace

    def watch_fsync(handle):
        calls.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", watch_fsync)
    monkeypatch.setattr(os, "replace", lambda *args: (calls.append("rename"), replace(*args)))
    with files.atomic_write(tmp_path / "x") as temporary:
        temporary.write_text("x")
    assert calls == ["file", "rename", "folder"]


def test_atomic_write_into_a_missing_folder_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError), files.atomic_write(tmp_path / "no" / "x"):
        pass


def test_names_as_long_as_the_filesystem_allows(tmp_path):
    path = tmp_path / ("n" * 250 + ".txt")
    with files.atomic_write(path) as temporary:
        assert temporary.suffix == ".txt"
        temporary.write_text("x")
    assert path.read_text() == "x"


def test_two_temporaries_of_one_target_differ(tmp_path):
    first, second = files.create_temporary(tmp_path / "x"), files.create_temporary(tmp_path / "x", tag="a.b_%2F-1")
    assert first != second
    assert {t.path: (t.pid, t.tag) for t in files.find_temporaries(tmp_path)} == {
        first: (os.getpid(), ""),
        second: (os.getpid(), "a.b_%2F-1"),
    }


def test_temporaries_of_killed_processes_are_swept_and_others_stay(tmp_path):
    code = (
        "import sys, time; from kipoi_borzoi.files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as t: t.write_text('half'); print(flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "x")], stdout=subprocess.PIPE)
    child.stdout.readline()
    (left,) = files.find_temporaries(tmp_path)
    assert files.sweep_temporaries(tmp_path) == []  # its owner lives
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert os.listdir(tmp_path) == [left.path.name]  # the final name is absent
    mine = files.create_temporary(tmp_path / "y")
    stranger = tmp_path / ".tmp-of-another-program"
    stranger.write_text("")
    assert files.sweep_temporaries(tmp_path) == [left.path]
    assert sorted(os.listdir(tmp_path)) == sorted([mine.name, stranger.name])


def test_temporaries_of_another_host_are_swept_only_when_a_week_old(tmp_path):
    mine = files.create_temporary(tmp_path / "x")
    foreign = mine.with_name(mine.name.replace(f"~{files._host()}~", "~elsewhere~"))
    assert foreign != mine and socket.gethostname() != "elsewhere"
    mine.rename(foreign)
    assert files.sweep_temporaries(tmp_path) == []
    os.utime(foreign, (time.time() - 8 * 24 * 3600,) * 2)
    assert files.sweep_temporaries(tmp_path) == [foreign]


def test_an_abandoned_temporary_keeps_content_and_tag_and_may_be_swept(tmp_path):
    temporary = files.create_temporary(tmp_path / "x", tag="v1")
    temporary.write_bytes(b"part")
    files.abandon_temporary(temporary)
    (left,) = files.find_temporaries(tmp_path)
    assert left.tag == "v1" and left.path.read_bytes() == b"part"
    assert files.sweep_temporaries(tmp_path) == [left.path]
    assert os.listdir(tmp_path) == []


def test_folders_of_dead_processes_are_swept_too(tmp_path):
    folder = files.create_temporary(tmp_path / "model")
    folder.unlink()
    dead = folder.with_name(folder.name.replace(f"~{os.getpid()}~", f"~{_dead_pid()}~"))
    dead.mkdir()
    (dead / "weights").write_text("half")
    assert files.sweep_temporaries(tmp_path) == [dead]
    assert not dead.exists()


def _dead_pid():
    """Number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_exchange_trades_places_in_one_step(tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    if not files.exchange(tmp_path / "one", tmp_path / "other"):
        pytest.skip("this system or filesystem cannot exchange two names")
    assert [(tmp_path / name / "file").read_text() for name in ("one", "other")] == ["other", "one"]
    with pytest.raises(FileNotFoundError, match="absent"):
        files.exchange(tmp_path / "one", tmp_path / "absent")
