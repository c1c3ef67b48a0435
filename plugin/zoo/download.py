"""One whole file over https: redirects checked, broken transfers resumed, nothing kept in memory."""

from __future__ import annotations

import hashlib
import logging
import re
import sys
import time
from pathlib import Path
from urllib.parse import quote, unquote, urljoin, urlsplit

import requests
import urllib3
from tqdm import tqdm

from kipoi_borzoi.errors import DownloadError
from kipoi_borzoi.files import abandon_temporary, create_temporary, find_temporaries, sweep_temporaries

ATTEMPTS = 4  # in a row without getting further than before
BACKOFF_S = 0.5  # before the second attempt; doubles with each
TIMEOUT_S = (15.0, 60.0)  # to connect, and between two pieces of the body

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_MAX_REDIRECTS = 10
_BLOCK = 1 << 16  # what a kill may cost; a slow line still fills one in seconds, so that others see it grow
_MAX_TAG = 100  # an ETag longer than this does not fit in a file name beside the rest
_log = logging.getLogger(__name__)


def check_url(url: str, origin: str | None = None) -> None:
    """Raise DownloadError unless ``url`` may be fetched: https, or http on this machine itself (for tests).

    Parameters
    ----------
    url : str
    origin : str, optional
        The URL first asked for, when ``url`` is where a server redirects to: only a server on this
        machine may redirect to plain http on this machine.
    """
    found = f"redirected to {url}" if origin else url
    try:
        parts, first = urlsplit(url), urlsplit(origin or url)
    except ValueError as error:
        raise DownloadError(f"{origin or url}: {found} is not a URL ({error})") from error
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme == "http" and parts.hostname in _LOOPBACK and first.hostname in _LOOPBACK:
        return
    raise DownloadError(f"{origin or url}: refused: {found} is not an https:// address; only https is fetched")


def download(url: str, target: Path, need_length: bool = True, progress: bool = True) -> tuple[Path, str]:
    """Fetch ``url`` into a temporary file beside ``target``, continuing what an earlier call left there.

    A transfer that breaks off is resumed where it stopped when the server names its version of the
    file (a strong ETag), otherwise restarted. When all attempts fail, a resumable part is kept for
    the next call. Temporaries of dead processes in the folder of ``target`` are swept.

    Parameters
    ----------
    url : str
    target : Path
        What the file is to become, in a folder used for this URL only. Not written.
    need_length : bool
        Whether to refuse a server that does not say how long the file is, so that the end of a
        broken transfer would pass for the end of the file.
    progress : bool
        Whether to show a bar on standard error.

    Returns
    -------
    (Path, str)
        The temporary, whole as far as the server tells, and its SHA-256.

    Raises
    ------
    DownloadError
        Naming the URL, the cause and where to put the file by hand.
    OSError
        When the folder cannot be written.
    """
    return _Download(url, target, need_length, progress).run()


class _Broken(Exception):
    """The transfer failed in a way that may pass: try again."""


class _Download:
    """State of one file on its way: the temporary, what it holds and which version of the file that is."""

    def __init__(self, url: str, target: Path, need_length: bool, progress: bool):
        self.url, self.target, self.need_length, self.progress = url, target, need_length, progress
        self.path: Path | None = None
        self.tag = ""  # the strong ETag of the version being fetched, quoted for a file name; empty: not resumable
        self.size = 0
        self.digest = hashlib.sha256()

    def run(self) -> tuple[Path, str]:
        try:
            self._adopt()
            sweep_temporaries(self.target.parent)
            self._attempt_repeatedly()
        except OSError:  # the folder's fault, perhaps a full disk: leave nothing there
            self._discard()
            raise
        except BaseException:
            if self.path is not None and self.tag and self.size:
                abandon_temporary(self.path)
            else:
                self._discard()
            raise
        return self.path, self.digest.hexdigest()

    def _adopt(self) -> None:
        """Copy the longest resumable part left by another call. A copy, since its owner may yet be alive."""
        parts = [part for part in find_temporaries(self.target.parent) if part.tag]
        sized = []
        for part in parts:
            try:
                sized.append((part.path.stat().st_size, part))
            except FileNotFoundError:
                continue
        if not sized or not max(size for size, _ in sized):
            return
        _, part = max(sized, key=lambda pair: pair[0])
        try:
            source = open(part.path, "rb")
        except FileNotFoundError:
            return
        with source:
            self._start(part.tag)
            with open(self.path, "wb") as handle:
                while block := source.read(_BLOCK):
                    self._append(handle, block)

    def _start(self, tag: str) -> None:
        self._discard()
        self.path, self.tag, self.size, self.digest = create_temporary(self.target, tag), tag, 0, hashlib.sha256()

    def _discard(self) -> None:
        if self.path is not None:
            self.path.unlink(missing_ok=True)
        self.path, self.tag, self.size = None, "", 0

    def _append(self, handle, block: bytes) -> None:
        handle.write(block)
        handle.flush()
        self.digest.update(block)
        self.size += len(block)

    def _attempt_repeatedly(self) -> None:
        failures, furthest = 0, self.size
        with requests.Session() as session:
            if urlsplit(self.url).hostname in _LOOPBACK:
                session.trust_env = False  # a proxy set for the world does not reach this machine
            while True:
                try:
                    return self._attempt(session)
                except (_Broken, requests.RequestException, urllib3.exceptions.HTTPError) as error:
                    failures = 1 if self.size > furthest else failures + 1
                    furthest = max(furthest, self.size)
                    if failures >= ATTEMPTS:
                        raise DownloadError(
                            f"{self.url}: download failed, {failures} attempts in a row: {_cause(error)}. Check the "
                            f"network and try again, or fetch the file elsewhere and place it at {self.target}"
                        ) from error
                    delay = BACKOFF_S * 2 ** (failures - 1)
                    _log.info("%s: %s; trying again in %.1f s", self.url, _cause(error), delay)
                    time.sleep(delay)

    def _attempt(self, session: requests.Session) -> None:
        headers = {"Accept-Encoding": "identity"}  # so that lengths and ranges count the bytes of the file itself
        if self.tag and self.size:
            headers |= {"Range": f"bytes={self.size}-", "If-Range": f'"{unquote(self.tag)}"'}
        with self._open(session, headers) as response:
            total = self._begin(response)
            # requests cannot be asked for the bytes as they came, the response of urllib3 below it can
            blocks = response.raw.stream(_BLOCK, decode_content=False)
            with open(self.path, "ab") as handle, self._bar(total) as bar:
                for block in blocks:
                    self._append(handle, block)
                    bar.update(len(block))
        if total is not None and self.size != total:
            raise _Broken(f"the transfer ended after {self.size:,} of {total:,} bytes")

    def _open(self, session: requests.Session, headers: dict[str, str]) -> requests.Response:
        url = self.url
        for _ in range(_MAX_REDIRECTS + 1):
            response = session.get(url, headers=headers, stream=True, allow_redirects=False, timeout=TIMEOUT_S)
            if not response.is_redirect:
                return response
            response.close()
            url = urljoin(url, response.headers["Location"])
            check_url(url, origin=self.url)
        raise DownloadError(f"{self.url}: more than {_MAX_REDIRECTS} redirects, the last to {url}")

    def _begin(self, response: requests.Response) -> int | None:
        """Judge the answer, make the temporary ready for its body, and return the length of the whole file."""
        status = response.status_code
        if status == 206 and self.path is not None:
            return self._continue(response)
        if status == 416:  # our part is longer than the file, or the file is whole already: rare, start anew
            self._discard()
            raise _Broken("the server has no such range")
        if status in (408, 429) or status >= 500:
            raise _Broken(f"the server answered HTTP {status} {response.reason}")
        if status != 200:
            raise DownloadError(
                f"{self.url}: the server answered HTTP {status} {response.reason}; check the address, "
                f"or fetch the file elsewhere and place it at {self.target}"
            )
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise DownloadError(f"{self.url}: the server sends the file encoded, though asked not to")
        length = response.headers.get("Content-Length", "")
        if not length.isdecimal() and self.need_length and response.headers.get("Transfer-Encoding") != "chunked":
            raise DownloadError(
                f"{self.url}: the server does not say how long the file is, so a broken transfer would go unseen; "
                f"state its sha256, or fetch the file elsewhere and place it at {self.target}"
            )
        self._start(_tag(response))
        return int(length) if length.isdecimal() else None

    def _continue(self, response: requests.Response) -> int:
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        if span is None or int(span[1]) != self.size or _tag(response) != self.tag:
            self._discard()
            raise _Broken("the server continued another file than the one begun")
        _log.info("%s: continuing after %d of %s bytes", self.url, self.size, span[2])
        return int(span[2])

    def _bar(self, total: int | None) -> tqdm:
        return tqdm(
            total=total,
            initial=self.size,
            desc=self.target.name,
            unit="B",
            unit_scale=True,
            disable=not self.progress,
            mininterval=0.5 if sys.stderr.isatty() else 10.0,  # log files get few lines
        )


def _tag(response: requests.Response) -> str:
    etag = response.headers.get("ETag", "")
    if not re.fullmatch(r'"[^"]+"', etag):  # absent, or weak: does not promise the same bytes
        return ""
    tag = quote(etag[1:-1], safe="").replace("~", "%7E")
    return tag if len(tag) <= _MAX_TAG else ""


def _cause(error: Exception) -> str:
    """The innermost message: requests wraps urllib3's errors, and those the operating system's."""
    while isinstance(error, (requests.RequestException, urllib3.exceptions.HTTPError)):
        inner = getattr(error, "reason", None) or next((a for a in error.args if isinstance(a, Exception)), None)
        if not isinstance(inner, Exception) or inner is error:
            break
        error = inner
    return f"{type(error).__name__}: {error}" if not isinstance(error, _Broken) else str(error)
