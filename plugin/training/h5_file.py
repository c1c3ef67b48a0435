"""Writing HDF5 files so that a full disk is an error like others: the HDF5 library crashes when it cannot write at closing."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py


class _Output(io.FileIO):
    """A file that remembers the first write that failed and discards all later ones, without a word to HDF5."""

    error: OSError | None = None

    def write(self, data) -> int:
        view = memoryview(data).cast("B")
        done = 0
        try:
            while self.error is None and done < len(view):
                done += super().write(view[done:])
        except OSError as error:
            self.error = error
        return len(view)

    def truncate(self, size=None) -> int:
        try:
            return super().truncate(size) if self.error is None else size
        except OSError as error:
            self.error = error
            return size

    def check(self) -> None:
        """Raise the error of the first write that failed."""
        if self.error is not None:
            raise self.error


@contextlib.contextmanager
def create_h5(path: str | os.PathLike) -> Iterator[tuple[h5py.File, Callable[[], None]]]:
    """Create an HDF5 file, to be filled by the body; not atomic by itself, see `kipoi_borzoi.files.atomic_write`.

    Yields
    ------
    h5py.File, callable
        The file, and a function to be called now and then, which raises when a write has failed.

    Raises
    ------
    OSError
        On leaving the body: what the operating system said to the first write that failed.
    """
    with _Output(Path(path), "w+") as output:
        file = h5py.File(output, "w")
        try:
            yield file, output.check
        except Exception as error:
            if output.error is not None and output.error is not error:
                raise output.error from error  # HDF5 does not find what was not written
            raise
        finally:
            with contextlib.suppress(OSError, RuntimeError) if output.error else contextlib.nullcontext():
                file.close()
        output.check()
