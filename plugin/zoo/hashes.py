"""SHA-256 of large files of the user's, computed once as long as a file is not touched."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from pathlib import Path

from kipoi_borzoi.files import atomic_write, sha256_of_file
from kipoi_borzoi.zoo.cache import cache_dir

_SMALL = 1 << 24  # bytes; below, reading is as quick as remembering
_SETTLED_S = 2.0  # a file changed more recently could change again within one tick of the filesystem's clock


def remembered_sha256(path: str | os.PathLike) -> str:
    """SHA-256 of a file's content; of a large one, from the cache where the file is the same as then.

    The same means: path, inode, size, and times of the last change of content (mtime) and of anything at all
    (ctime, which no program can set back). Where the cache cannot be written, the file is read each time.

    Parameters
    ----------
    path : path

    Returns
    -------
    str
        64 lower-case hexadecimal digits.

    Raises
    ------
    OSError
        When the file cannot be read.
    """
    path = Path(path).resolve()
    before = _state(path)
    if before[1] < _SMALL:
        return sha256_of_file(path)
    note = cache_dir() / "hashes" / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(note.read_text(encoding="utf-8"))
        if known["path"] == str(path) and known["state"] == before:
            return known["sha256"]
    digest = sha256_of_file(path)
    if _state(path) == before and time.time() - max(before[2:]) / 1e9 > _SETTLED_S:
        with contextlib.suppress(OSError):
            note.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(note) as temporary:
                temporary.write_text(json.dumps({"path": str(path), "state": before, "sha256": digest}), encoding="utf-8")
    return digest


def _state(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
