"""Reading BigWig files, whose structure is checked here first because the C library trusts the offsets it finds."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

import numpy as np

from kipoi_borzoi.dataloaders.bgzf import GZIP_MAGIC, read_head
from kipoi_borzoi.dataloaders.coverage_reader import CoverageReader
from kipoi_borzoi.errors import InputError

MAGIC = 0x888FFC26
_SWAPPED = int.from_bytes(MAGIC.to_bytes(4, "little"), "big")
_BIGBED = 0x8789F2EB
_TREE_MAGIC = 0x78CA8C91  # of the list of contigs
_INDEX_MAGIC = 0x2468ACE0
_HEADER = struct.Struct("<IHHQQQHHQQIQ")
_ZOOM = struct.Struct("<IIQQ")
_SUMMARY = struct.Struct("<Qdddd")


@dataclass(frozen=True)
class Summary:
    """What a BigWig file says of its content: number of bases with a value, and the sum of the values."""

    covered: int
    total: float


class BigWigReader(CoverageReader):
    """A BigWig file; see `CoverageReader`.

    Raises
    ------
    InputError
        As `CoverageReader`; also when the file holds no value at all.
    """

    kind = "BigWig"

    def total(self) -> float | None:
        """Sum over all bases of the file, from its summary; None where the file has none."""
        summary = check_structure(self._place)
        return None if summary is None else summary.total

    def _open(self) -> dict[str, int]:
        import pyBigWig

        summary = check_structure(self._place)
        try:
            self._handle = pyBigWig.open(str(self._place))
            contigs = self._handle.chroms()
        except RuntimeError as error:
            raise InputError(
                f"{self.path}: a BigWig file that cannot be opened: corrupt or truncated ({error}); copy or make it again"
            ) from error
        if not contigs:
            raise InputError(f"{self.path}: a BigWig file without contigs; make it again")
        if summary is not None and not summary.covered:
            raise InputError(f"{self.path}: no data: the BigWig file has a header but no value; make it again")
        return contigs

    def _read(self, name: str, start: int, end: int) -> np.ndarray:
        try:
            return self._handle.values(name, start, end, numpy=True)
        except RuntimeError as error:
            raise self._damaged(name, start, end, error) from error


def check_structure(path: str | os.PathLike) -> Summary | None:
    """Check that a file is BigWig and that its parts lie within it; return its summary, None when there is none.

    The summary is read here because the library's own function for it crashes on infinite values.

    Raises
    ------
    InputError
        When it is missing, another format, truncated or corrupt.
    """
    head = read_head(path)
    if head.startswith(GZIP_MAGIC):
        raise InputError(f"{path}: not a BigWig file but gzip; BigWig files are compressed inside: gunzip it")
    magic = int.from_bytes(head[:4], "little")
    if magic == _SWAPPED:
        raise InputError(
            f"{path}: a BigWig file with swapped bytes (big-endian magic number), which cannot be opened; "
            "make it again on another machine: bigWigToBedGraph, then bedGraphToBigWig"
        )
    if magic == _BIGBED:
        raise InputError(f"{path}: a BigBed file, expected BigWig")
    if magic != MAGIC:
        text = head.isascii() and b"\0" not in head
        raise InputError(
            f"{path}: not a BigWig file (no magic number)"
            + ("; it is text, perhaps bedGraph or wig: convert it with bedGraphToBigWig or wigToBigWig" if text else "")
        )
    size = os.stat(path).st_size
    with open(path, "rb") as handle:
        header = handle.read(_HEADER.size)
        if len(header) < _HEADER.size:
            raise InputError(f"{path}: truncated: a BigWig file of {size} bytes, its header alone has {_HEADER.size}")
        _, _, levels, tree, data, index, _, _, _, summary, _, _ = _HEADER.unpack(header)
        zooms = handle.read(levels * _ZOOM.size)
        parts = [("list of contigs", tree, _TREE_MAGIC), ("data", data, None)]
        if index:  # files without data have none
            parts.append(("index", index, _INDEX_MAGIC))
        if summary:
            parts.append(("summary", summary, None))
        for level, _, zoom_data, zoom_index in _ZOOM.iter_unpack(zooms[: len(zooms) // _ZOOM.size * _ZOOM.size]):
            parts += [
                (f"zoom level {level} data", zoom_data, None),
                (f"zoom level {level} index", zoom_index, _INDEX_MAGIC),
            ]
        for what, offset, expected in parts:
            room = _SUMMARY.size if what == "summary" else 4
            if not _HEADER.size <= offset <= size - room:
                raise InputError(
                    f"{path}: the BigWig file is corrupt or truncated: its {what} should lie at offset {offset}, "
                    f"the file has {size} bytes; copy or make it again"
                )
            handle.seek(offset)
            if expected is not None and int.from_bytes(handle.read(4), "little") != expected:
                raise InputError(
                    f"{path}: the BigWig file is corrupt: no magic number of the {what} at offset {offset}; copy or make it again"
                )
        if not summary:
            return None
        handle.seek(summary)
        covered, _, _, total, _ = _SUMMARY.unpack(handle.read(_SUMMARY.size))
        return Summary(covered, total)
