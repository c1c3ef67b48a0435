"""Files that an entry names by path or URL, found (or fetched), verified and identified by their content."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kipoi_borzoi.errors import InputError, ZooError
from kipoi_borzoi.files import sha256_of_file
from kipoi_borzoi.zoo.cache import fetch

logger = logging.getLogger("kipoi_borzoi")

_known: dict[tuple, str] = {}  # (path, size, mtime, inode) -> sha256, of this process


@dataclass(frozen=True)
class Source:
    """A verified local file.

    Attributes
    ----------
    path : Path
    sha256 : str
        Of its content.
    """

    path: Path
    sha256: str


def is_url(name: str) -> bool:
    """Whether ``name`` is a URL of any scheme (which need not be an allowed one)."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", name) is not None


def locate(name: str | os.PathLike, checksums: Mapping[str, str] | None = None) -> Source:
    """Find a file.

    Parameters
    ----------
    name : str or path
        A path, relative to the working directory, or an https URL, fetched through the cache.
    checksums : mapping, optional
        sha256 by name; a file that is not listed is not compared.

    Raises
    ------
    InputError
        No such file.
    ZooError
        Another content than its checksum says.
    DownloadError
        See `kipoi_borzoi.zoo.cache.fetch`.
    """
    expected = (checksums or {}).get(os.fspath(name))
    if is_url(os.fspath(name)):
        path = fetch(os.fspath(name), expected)
        return _told(Source(path, sha256_of_unchanged(path)))
    path = Path(name)
    if not path.is_file():
        problem = "is not a file" if path.exists() else "no such file"
        raise InputError(f"{path.absolute()}: {problem}; give a file or an https URL")
    found = sha256_of_unchanged(path)
    if expected is not None and found != expected.lower():
        raise ZooError(
            f"{path.absolute()}: the file is damaged or another one: its sha256 is {found}, expected {expected}"
        )
    return _told(Source(path, found))


def _told(source: Source) -> Source:
    """For the log of a run: which files a model was made of."""
    data = {"path": str(source.path), "sha256": source.sha256}
    logger.debug("file of a model %s: sha256 %s", source.path, source.sha256, extra={"event": "model file", "data": data})
    return source


def sha256_of_unchanged(path: Path) -> str:
    """sha256 of a file, computed once per process as long as its size, time and place stay the same."""
    status = path.stat()
    key = (str(path.absolute()), status.st_size, status.st_mtime_ns, status.st_ino)
    if key not in _known:
        _known[key] = sha256_of_file(path)
    return _known[key]
