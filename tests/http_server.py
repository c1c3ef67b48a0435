"""A web server on this machine that misbehaves on demand, for tests of downloads."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclasses.dataclass
class Page:
    """What is served at one path.

    ``etag`` None sends none. ``statuses``: answers used up one per request before the page is
    served. ``breaks``: bytes of body after which the connection is cut, likewise one per request.
    ``ranges`` False ignores Range. ``pause_s`` passes between blocks of ``block`` bytes.
    ``length`` False sends no Content-Length; ``chunked`` sends the body in chunks.
    """

    body: bytes = b""
    etag: str | None = '"v1"'
    redirect: str | None = None
    statuses: list[int] = dataclasses.field(default_factory=list)
    breaks: list[int] = dataclasses.field(default_factory=list)
    ranges: bool = True
    if_range: bool = True
    pause_s: float = 0.0
    block: int = 1 << 16
    length: bool = True
    chunked: bool = False
    content_type: str = "application/octet-stream"


class Server(ThreadingHTTPServer):
    """``pages`` may be changed while it runs; ``requests`` lists (path, headers) in order of arrival."""

    daemon_threads = True

    def __init__(self, pages: dict[str, Page]):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pages = pages
        self.requests: list[tuple[str, dict[str, str]]] = []

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"

    def ranges(self) -> list[str | None]:
        """The Range header of each request so far."""
        return [headers.get("Range") for _, headers in self.requests]

    def handle_error(self, request, client_address):
        """Clients that are killed or hang up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.close_connection = True
        self.server.requests.append((self.path, dict(self.headers)))
        page = self.server.pages.get(self.path)
        if page is None:
            return self._plain(404)
        if page.statuses:
            return self._plain(page.statuses.pop(0))
        if page.redirect is not None:
            return self._plain(302, Location=page.redirect)
        start = self._start(page)
        if start is not None and start >= len(page.body):
            return self._plain(416, **{"Content-Range": f"bytes */{len(page.body)}"})
        self._head(page, start)
        self._body(page, page.body[start or 0 :])

    def _plain(self, status: int, **headers: str):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()

    def _start(self, page: Page) -> int | None:
        """First byte asked for, or None when the whole page is to be sent."""
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if match is None or not page.ranges:
            return None
        if page.if_range and self.headers.get("If-Range") not in (None, page.etag):
            return None
        return int(match[1])

    def _head(self, page: Page, start: int | None):
        self.send_response(200 if start is None else 206)
        if start is not None:
            self.send_header("Content-Range", f"bytes {start}-{len(page.body) - 1}/{len(page.body)}")
        if page.etag is not None:
            self.send_header("ETag", page.etag)
        self.send_header("Content-Type", page.content_type)
        if page.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif page.length:
            self.send_header("Content-Length", str(len(page.body) - (start or 0)))
        self.send_header("Connection", "close")
        self.end_headers()

    def _body(self, page: Page, body: bytes):
        end = page.breaks.pop(0) if page.breaks else None
        whole = end is None
        body = body[:end]
        for offset in range(0, len(body), page.block):
            block = body[offset : offset + page.block]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(block), block) if page.chunked else block)
            if page.pause_s:
                time.sleep(page.pause_s)
        if page.chunked and whole:
            self.wfile.write(b"0\r\n\r\n")


@contextlib.contextmanager
def serve(pages: dict[str, Page]) -> Iterator[Server]:
    """Run a `Server` in a thread for the time of the ``with`` block."""
    server = Server(pages)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
