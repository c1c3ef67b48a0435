"""Reading Calico's w5 coverage: an HDF5 file with one array per contig, one number per base."""

from __future__ import annotations

import h5py
import numpy as np

from kipoi_borzoi.dataloaders.bgzf import read_head
from kipoi_borzoi.dataloaders.coverage_reader import CoverageReader
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.files import damage_named

MAGIC = b"\x89HDF\r\n\x1a\n"


class W5Reader(CoverageReader):
    """A w5 file; see `CoverageReader`.

    Such files hold float16, in which coverage over 65,504 has become infinite: it is read as 65,504.
    """

    kind = "w5"

    def _open(self) -> dict[str, int]:
        if not read_head(self._place).startswith(MAGIC):
            raise InputError(f"{self.path}: not a w5 file: it is not HDF5")
        try:
            self._handle = h5py.File(self._place, "r", locking=False)
        except OSError as error:
            raise InputError(
                f"{self.path}: an HDF5 file that cannot be opened: corrupt or truncated ({error}); copy or make it again"
            ) from error
        with damage_named(self.path, "copy or make it again"):
            return self._contigs()

    def _contigs(self) -> dict[str, int]:
        contigs = {}
        for name in self._handle:
            # Links to other files could lead anywhere.
            array = self._handle[name] if isinstance(self._handle.get(name, getlink=True), h5py.HardLink) else None
            if not isinstance(array, h5py.Dataset) or array.ndim != 1 or array.dtype.kind not in "fiu":
                raise InputError(
                    f"{self.path}: {name!r} is not an array of one number per base; is this a w5 file? "
                    "(expected: one array for each contig)"
                )
            contigs[name] = len(array)
        if not contigs:
            raise InputError(f"{self.path}: no data: the w5 file has no contig")
        return contigs

    def _read(self, name: str, start: int, end: int) -> np.ndarray:
        try:
            values = self._handle[name][start:end]
        except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
            raise self._damaged(name, start, end, error) from error
        if values.dtype == np.float16:
            values[np.isposinf(values)] = np.finfo(np.float16).max
        return values.astype(np.float32)
