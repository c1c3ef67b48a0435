"""HDF5 files on disks that may be full: the library crashes when a write fails, so it is never told of one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[tuple]:
    """Open an existing, empty file for a new HDF5 file.

    Yields
    ------
    file : h5py.File
    check_disk : callable
        Raises the OSError of the first write that failed, if one did. To be called now and then; it is
        called at the end.

    Raises
    ------
    OSError
        When something could not be written.
    """
    import h5py

    with open(path, "r+b", buffering=0) as raw:
        sink = _Sink(raw)
        try:
            with h5py.File(sink, "w") as file:
                yield file, sink.check
        except Exception:
            sink.check()  # the cause, where there is one, of whatever went wrong in the library
            raise
        sink.check()


class _Sink:
    """A file that remembers its first failed write and ignores those after it."""

    def __init__(self, raw):
        self._raw = raw
        self._error: OSError | None = None

    def check(self) -> None:
        if self._error:
            raise self._error

    def write(self, data) -> int:
        def whole() -> None:
            rest = memoryview(data)
            while rest:
                rest = rest[self._raw.write(rest) :]

        self._try(whole)
        return len(data)

    def truncate(self, size: int | None = None) -> None:
        self._try(lambda: self._raw.truncate(size))

    def flush(self) -> None:
        pass  # unbuffered

    def read(self, size: int = -1) -> bytes:
        return self._raw.read(size)

    def readinto(self, buffer) -> int:
        return self._raw.readinto(buffer)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()

    def _try(self, action: Callable[[], object]) -> None:
        if self._error is None:
            try:
                action()
            except OSError as error:
                self._error = error
