"""Every downloaded file once, on one machine, and never a byte other than those first verified.

Layout: ``CACHE/<16 hex digits of the URL's sha256>/`` holds the file under its own name, ``.pin.json``
with the sha256 it was verified to have, ``.lock``, and temporaries of running or broken downloads.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pooch

from kipoi_borzoi.errors import DownloadError, InputError
from kipoi_borzoi.files import atomic_write, commit, find_temporaries, sha256_of_file, sweep_temporaries
from kipoi_borzoi.zoo.download import check_url, download

CACHE_VARIABLE = "KIPOI_BORZOI_CACHE"
STALLED_S = 120.0  # a download by another process that has not grown for so long is no longer waited for

_PIN = ".pin.json"
_HDF5, _GZIP, _JSON, _TEXT = "an HDF5 file", "a gzip file", "a JSON file", "a text table"
_KINDS = {".h5": _HDF5, ".hdf5": _HDF5, ".gz": _GZIP, ".json": _JSON, ".txt": _TEXT, ".tsv": _TEXT, ".bed": _TEXT}
_verified: dict[Path, tuple[tuple[int, ...], str]] = {}  # path -> (size, mtime, inode), sha256; of this process
_log = logging.getLogger(__name__)


def cache_dir() -> Path:
    """Folder of the cache: the environment's ``KIPOI_BORZOI_CACHE``, or the user's cache folder of the system."""
    return Path(os.environ.get(CACHE_VARIABLE) or pooch.os_cache("kipoi_borzoi")).expanduser().absolute()


def cached_path(url: str) -> Path:
    """Where the cache keeps the file of ``url``, whether or not it is there yet."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", unquote(urlsplit(url).path).rsplit("/", 1)[-1]).lstrip(".")
    return cache_dir() / hashlib.sha256(url.encode()).hexdigest()[:16] / (name[-100:] or "file")


def fetch(url: str, sha256: str | None = None, progress: bool = True) -> Path:
    """Return the local copy of a remote file, downloading it if the cache holds no valid one.

    Every call checks the file's content (within one process again only when the file has changed).
    Without a ``sha256`` the one of the first download is pinned in the cache, and every later copy
    is compared with it. A copy that does not match is downloaded again, once, with a warning. A
    file placed by hand at `cached_path` is accepted.

    Parameters
    ----------
    url : str
        https only, as is every address it redirects to (http is allowed on this machine itself).
    sha256 : str, optional
        Expected checksum, 64 hexadecimal digits. It rules over a pin.
    progress : bool
        Whether to show a bar on standard error while downloading.

    Returns
    -------
    Path
        A whole, verified file, to be read only.

    Raises
    ------
    DownloadError
        When the URL is refused, the transfer fails, the file is not of the kind its name says (an
        HTML page, say), its checksum is another, or the cache folder cannot be written.
    InputError
        When ``sha256`` is no checksum.
    """
    check_url(url)
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise InputError(f"{url}: sha256 is {sha256!r}, expected 64 hexadecimal digits")
    sha256 = sha256 and sha256.lower()
    target = cached_path(url)
    try:
        if not _holds(target, url, sha256):
            target.parent.mkdir(parents=True, exist_ok=True)
            with _locked(target.parent, url):
                if not _holds(target, url, sha256):  # unless the process waited for has brought it
                    _bring(target, url, sha256, progress)
        sweep_temporaries(target.parent)
    except OSError as error:
        raise DownloadError(
            f"{url}: the cache folder {cache_dir()} holds no valid copy and cannot be used ({error}); "
            f"set {CACHE_VARIABLE} to a folder with write permission and enough space"
        ) from error
    return target


def _holds(target: Path, url: str, sha256: str | None) -> bool:
    """Whether the cached file is there and is the right one. A file without a checksum or pin gets its pin now."""
    if not target.exists():
        return False
    expected = sha256 or _read_pin(target)
    actual = _sha256(target)
    if expected is None:
        _check_kind(target, target, f"{target} (cached for {url})")
        _log.info("%s: placed by hand for %s; pinned sha256 %s", target, url, actual)
    elif actual != expected:
        message = "%s: the cached file is corrupt or outdated (sha256 %s, expected %s): downloading %s again"
        _log.warning(message, target, actual, expected, url)
        return False
    with contextlib.suppress(OSError):  # a read-only cache is as good for reading
        _pin(target, url, actual)
    return True


def _bring(target: Path, url: str, sha256: str | None, progress: bool) -> None:
    known = sha256 or _read_pin(target)
    temporary, actual = download(url, target, need_length=known is None, progress=progress)
    try:
        _check_kind(temporary, target, url)
        expected = sha256 or _read_pin(target)  # read again: another process may have pinned it meanwhile
        if expected not in (None, actual):
            source = "as stated" if sha256 else f"as pinned at the first download, in {target.parent / _PIN}"
            raise DownloadError(
                f"{url}: checksum mismatch: the file fetched now has sha256 {actual}, expected {expected} ({source}). "
                f"The file was changed, by its owner or on the way. "
                + ("" if sha256 else f"If you trust the new one, remove {target.parent} and try again")
            )
        _pin(target, url, actual)
        commit(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if sha256 is None and known is None:
        _log.info("%s: pinned sha256 %s (upstream states none); later copies are compared with it", url, actual)
    _verified[target] = (_stamp(target), actual)


def _sha256(target: Path) -> str:
    stamp = _stamp(target)
    if target not in _verified or _verified[target][0] != stamp:
        _verified[target] = (stamp, sha256_of_file(target))
    return _verified[target][1]


def _stamp(target: Path) -> tuple[int, ...]:
    status = target.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino


def _read_pin(target: Path) -> str | None:
    path = target.parent / _PIN
    try:
        sha256 = json.loads(path.read_text())["sha256"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise DownloadError(
            f"{path}: not a pin of this cache ({error!r}); remove {path.parent} and try again"
        ) from error
    return sha256


def _pin(target: Path, url: str, sha256: str) -> None:
    if _read_pin(target) != sha256:
        with atomic_write(target.parent / _PIN) as temporary:
            temporary.write_text(json.dumps({"url": url, "sha256": sha256}, indent=1) + "\n")


def _check_kind(path: Path, target: Path, source: str) -> None:
    """Raise DownloadError when the first bytes of ``path`` contradict the suffix of ``target``."""
    with open(path, "rb") as handle:
        head = handle.read(1024)
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    kind = _KINDS.get(target.suffix.lower(), f"a {target.suffix or 'data'} file")
    if not head:
        raise DownloadError(f"{source}: the file is empty, expected {kind}")
    if re.match(rb"<(!doctype|html|head|\?xml)", start.lower()):
        raise DownloadError(
            f"{source}: is an HTML (or XML) page, expected {kind}: a log-in or error page, or the address of a page "
            f"about the file rather than of the file itself; it begins with {start[:60].decode('utf-8', 'replace')!r}"
        )
    fits = {
        _HDF5: head.startswith(b"\x89HDF\r\n\x1a\n"),
        _GZIP: head.startswith(b"\x1f\x8b"),
        _JSON: start.startswith((b"{", b"[")),
        _TEXT: b"\0" not in head,
    }
    if not fits.get(kind, True):
        raise DownloadError(f"{source}: is not {kind}: it begins with {head[:16]!r}")


@contextlib.contextmanager
def _locked(directory: Path, url: str) -> Iterator[None]:
    """Let one process at a time download, to save work. Nothing depends on it: the lock may be broken or refused."""
    handle = os.open(directory / ".lock", os.O_CREAT | os.O_RDWR, 0o666)
    try:
        _wait(handle, directory, url)
        yield
    finally:
        os.close(handle)


def _wait(handle: int, directory: Path, url: str) -> None:
    seen, since = None, time.monotonic()
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            sizes = _sizes(directory)
        except OSError as error:
            _log.info("%s: no locks on this filesystem (%s)", directory, error)
            return
        if seen is None:
            _log.info("%s: waiting for another process that is downloading it", url)
        if sizes != seen:
            seen, since = sizes, time.monotonic()
        elif time.monotonic() - since > STALLED_S:
            _log.warning("%s: the download by another process has stalled; downloading it here as well", url)
            return
        time.sleep(0.1)


def _sizes(directory: Path) -> dict[Path, int]:
    sizes = {}
    for temporary in find_temporaries(directory):
        with contextlib.suppress(FileNotFoundError):
            sizes[temporary.path] = temporary.path.stat().st_size
    return sizes
