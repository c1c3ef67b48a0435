"""Random access to the bytes of a plain or bgzip-compressed file, checked while reading and without a shared file position.

Reads use ``pread``, so one open file may be used by forked workers at the same time; a pickled
file opens itself again where it is unpickled.
"""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from pathlib import Path

import numpy as np

from kipoi_borzoi.errors import InputError

GZIP_MAGIC = b"\x1f\x8b"
EOF_MARKER = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
_HEADER_BYTES = 18  # gzip header with the one extra field "BC", as every bgzip writer makes it


def open_bytes(path: str | os.PathLike) -> PlainFile | BgzfFile:
    """Open a file for random access, looking at its content, not its name.

    Raises
    ------
    InputError
        When it is missing, not a regular file, empty, gzip but not bgzip, or cut short.
    """
    head = read_head(path)
    if not head.startswith(GZIP_MAGIC):
        return PlainFile(path)
    if _block_bytes(head) is None:
        raise InputError(
            f"{path}: compressed with gzip, which allows no random access; bgzip (BGZF) or no compression is expected. "
            f"Convert it: gunzip -c {path} | bgzip > NEW_NAME.gz"
        )
    return BgzfFile(path)


def read_head(path: str | os.PathLike) -> bytes:
    """First bytes of a regular, non-empty file, enough to tell its compression.

    Raises
    ------
    InputError
        When the file is missing, unreadable, not a regular file or empty.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if not path.is_file():
        raise InputError(f"{path}: not a regular file")
    try:
        with open(path, "rb") as handle:
            head = handle.read(_HEADER_BYTES)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if not head:
        raise InputError(f"{path}: the file is empty (0 bytes), perhaps truncated by a broken copy")
    return head


def check_eof_marker(path: str | os.PathLike) -> None:
    """Require the end marker of a BGZF file; nothing is asked of other files.

    Without it a file cut exactly between two blocks looks whole.

    Raises
    ------
    InputError
        When the file is BGZF and its last 28 bytes are not the end marker.
    """
    if _block_bytes(read_head(path)) is None:
        return
    with open(path, "rb") as handle:
        handle.seek(max(0, os.fstat(handle.fileno()).st_size - len(EOF_MARKER)))
        if handle.read() != EOF_MARKER:
            raise InputError(
                f"{path}: truncated: the BGZF end-of-file (EOF) marker is missing. Copy or download the file again"
            )


def _block_bytes(header: bytes) -> int | None:
    """Compressed size of the BGZF block that starts with ``header``; None when it is not such a block."""
    if len(header) < _HEADER_BYTES or header[:4] != b"\x1f\x8b\x08\x04" or header[12:16] != b"BC\x02\x00":
        return None
    return struct.unpack_from("<H", header, 16)[0] + 1


class PlainFile:
    """Bytes of an uncompressed file.

    Attributes
    ----------
    path : Path
    size : int
        Bytes.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self._place = self.path.absolute()  # Kipoi changes the working directory
        self._fd: int | None = None
        self._identity: tuple[int, int] | None = None
        self.file_size = os.fstat(self._descriptor()).st_size
        self.size = self.file_size

    def read(self, offset: int, count: int) -> bytes:
        """Read ``count`` bytes from byte ``offset``, all of them.

        Raises
        ------
        InputError
            When the file ends before.
        """
        return self._pread(offset, count)

    def close(self) -> None:
        """Close the file; the next read opens it again."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _descriptor(self) -> int:
        if self._fd is None:
            try:
                self._fd = os.open(self._place, os.O_RDONLY)
            except OSError as error:
                raise InputError(f"{self.path}: cannot be opened ({error.strerror})") from error
            status = os.fstat(self._fd)
            identity = (status.st_size, status.st_mtime_ns)
            if self._identity not in (None, identity):
                self.close()
                raise InputError(f"{self.path}: the file changed while it was in use")
            self._identity = identity
        return self._fd

    def _pread(self, offset: int, count: int) -> bytes:
        descriptor = self._descriptor()
        data = os.pread(descriptor, count, offset)
        while len(data) < count:
            more = os.pread(descriptor, count - len(data), offset + len(data))
            if not more:
                raise InputError(
                    f"{self.path}: short read: the file ends at byte {offset + len(data)}, "
                    f"{offset + count} expected; it is truncated or still being written"
                )
            data += more
        return data

    def __getstate__(self):
        return {**self.__dict__, "_fd": None}

    def __del__(self):
        if getattr(self, "_fd", None) is not None:
            self.close()


class BgzfFile(PlainFile):
    """Uncompressed bytes of a bgzip-compressed file; ``size`` counts those.

    The blocks are found with the ``.gzi`` beside the file, or by hopping over their headers.
    Length and checksum of every block are verified when it is read.
    """

    def __init__(self, path: str | os.PathLike):
        super().__init__(path)
        check_eof_marker(self.path)
        indexed = _read_gzi(Path(f"{self.path}.gzi"), self.file_size)
        blocks = indexed[:-1] + self._walk(*indexed[-1])
        # Where each block starts, compressed and uncompressed; the last row is the end of the file.
        self._starts, self._offsets = np.array(blocks, dtype=np.int64).T.copy()
        self.size = int(self._offsets[-1])

    def read(self, offset: int, count: int) -> bytes:
        """Read ``count`` uncompressed bytes from ``offset``, all of them.

        Raises
        ------
        InputError
            When the content ends before, or a block is damaged or not where the ``.gzi`` says.
        """
        if offset + count > self.size:
            raise InputError(
                f"{self.path}: short read: the content ends at byte {self.size}, {offset + count} expected; "
                "it is truncated"
            )
        first = int(np.searchsorted(self._offsets, offset, side="right")) - 1
        last = max(first + 1, int(np.searchsorted(self._offsets, offset + count, side="left")))
        last = min(last, len(self._offsets) - 1)
        start = int(self._starts[first])
        try:
            content = gzip.decompress(self._pread(start, int(self._starts[last]) - start))
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(
                f"{self.path}: damaged BGZF block near compressed byte {start} ({error}); copy the file again, "
                f"or, if {self.path.name}.gzi is older than the file, delete it"
            ) from error
        skipped = int(self._offsets[first])
        if len(content) != int(self._offsets[last]) - skipped:
            raise InputError(
                f"{self.path}.gzi: does not match {self.path.name}; delete it, or make it anew: bgzip -r {self.path}"
            )
        return content[offset - skipped : offset - skipped + count]

    def gzi(self) -> bytes:
        """Content of the ``.gzi`` index of this file."""
        full = np.flatnonzero(np.diff(self._offsets))[1:]  # neither the first block nor the empty one at the end
        table = np.stack([self._starts[full], self._offsets[full]], axis=1)
        return struct.pack("<Q", len(table)) + table.astype("<u8").tobytes()

    def _walk(self, start: int, offset: int) -> list[tuple[int, int]]:
        # Starts, compressed and uncompressed, of all blocks from the given one, and the end of the file.
        blocks = [(start, offset)]
        while start < self.file_size:
            size = _block_bytes(self._pread(start, _HEADER_BYTES))
            if size is None:
                raise InputError(
                    f"{self.path}: no BGZF block at compressed byte {start}; the file is damaged, "
                    f"or {self.path.name}.gzi belongs to another file"
                )
            offset += struct.unpack("<I", self._pread(start + size - 4, 4))[0]
            start += size
            blocks.append((start, offset))
        return blocks


def _read_gzi(path: Path, file_size: int) -> list[tuple[int, int]]:
    """Block starts of a ``.gzi`` with the first block, which such files leave out; only that one when there is no file."""
    blocks = [(0, 0)]
    if not path.exists():
        return blocks
    raw = path.read_bytes()
    count = struct.unpack_from("<Q", raw)[0] if len(raw) >= 8 else -1
    if len(raw) != 8 + 16 * count:
        raise InputError(f"{path}: not a bgzip index, or truncated; delete it")
    table = np.frombuffer(raw, dtype="<u8", offset=8).reshape(-1, 2).astype(np.int64)
    if (np.diff(table, axis=0, prepend=[[0, 0]]) < 0).any() or (table[:, 0] >= file_size).any():
        raise InputError(f"{path}: does not match the file beside it; delete it")
    return blocks + [(int(start), int(offset)) for start, offset in table]
