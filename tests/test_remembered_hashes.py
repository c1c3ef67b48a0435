"""Hashes of large files are remembered only as long as they are right."""

import hashlib
import os

import pytest

from kipoi_borzoi.zoo import hashes


@pytest.fixture
def genome(tmp_path, monkeypatch):
    """A file that counts as large and settled; and a list of the files that were read."""
    monkeypatch.setenv("KIPOI_BORZOI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hashes, "_SMALL", 10)
    monkeypatch.setattr(hashes, "_SETTLED_S", -1.0)
    read, whole = [], hashes.sha256_of_file
    monkeypatch.setattr(hashes, "sha256_of_file", lambda path: (read.append(path.name), whole(path))[1])
    path = tmp_path / "genome.fa"
    path.write_bytes(b"ACGT" * 100)
    return path, read


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_large_file_is_read_once(genome):
    path, read = genome
    assert hashes.remembered_sha256(path) == hashes.remembered_sha256(str(path)) == sha256(path)
    assert read == ["genome.fa"]


def test_a_changed_file_is_read_again_even_when_size_and_time_are_put_back(genome):
    path, read = genome
    hashes.remembered_sha256(path)
    times = path.stat()
    with open(path, "r+b") as file:
        file.write(b"TTTT")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_mtime_ns == times.st_mtime_ns
    assert hashes.remembered_sha256(path) == sha256(path) and len(read) == 2


def test_a_replaced_file_is_read_again(genome, tmp_path):
    path, read = genome
    hashes.remembered_sha256(path)
    (tmp_path / "other").write_bytes(b"GGGG" * 100)
    os.replace(tmp_path / "other", path)
    assert hashes.remembered_sha256(path) == sha256(path) and len(read) == 2


def test_small_and_fresh_files_are_not_remembered(genome, monkeypatch, tmp_path):
    path, read = genome
    monkeypatch.setattr(hashes, "_SETTLED_S", 60.0)
    hashes.remembered_sha256(path)
    monkeypatch.setattr(hashes, "_SMALL", 1000)
    hashes.remembered_sha256(path)
    assert len(read) == 2 and not (tmp_path / "cache").exists()


@pytest.mark.parametrize("content", ["", "{}", "[1]", "null", '{"path": 1, "state": [1], "sha256": "x"}'])
def test_a_broken_note_is_ignored(genome, content, tmp_path):
    path, read = genome
    hashes.remembered_sha256(path)
    (note,) = (tmp_path / "cache" / "hashes").iterdir()
    note.write_text(content)
    assert hashes.remembered_sha256(path) == sha256(path) and len(read) == 2
    assert hashes.remembered_sha256(path) == sha256(path) and len(read) == 2


def test_without_a_place_for_the_cache_files_are_read_each_time(genome, monkeypatch, tmp_path):
    path, read = genome
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KIPOI_BORZOI_CACHE", str(tmp_path / "file"))
    assert hashes.remembered_sha256(path) == hashes.remembered_sha256(path) == sha256(path)
    assert len(read) == 2
    with pytest.raises(FileNotFoundError):
        hashes.remembered_sha256(tmp_path / "none")
