"""What the readers of coverage files have in common: contigs by name, windows that may reach beyond them, values that make sense."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from kipoi_borzoi.dataloaders.contigs import match_contig, unknown_contig
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.genome import Interval


class CoverageReader:
    """Base of the readers of one coverage file: one number per base of each contig.

    A subclass opens its file with `_open`, which gives the contigs, and reads it with `_read`. Safe to use
    in forked workers, and to pickle: each process opens the file for itself.

    Parameters
    ----------
    path : path

    Attributes
    ----------
    path : Path
    contigs : dict of str to int
        Length in bp of each contig.
    aliases : dict of str to str
        Names that were asked for, and the names of this file that were taken for them where they differ by ``chr``.

    Raises
    ------
    InputError
        When the file is missing, empty, truncated or of another format.
    """

    kind = "coverage"

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self._place = self.path.absolute()  # Kipoi changes the working directory
        self._handle = None
        self._process = 0
        self.aliases: dict[str, str] = {}
        self.contigs = self._open()
        self._process = os.getpid()

    def resolve(self, name: str, length: int | None = None, where: str = "") -> str:
        """Return the file's own name of a contig, with or without the prefix ``chr``.

        Parameters
        ----------
        name : str
        length : int, optional
            bp of the contig in the genome's FASTA file, which must be its length here.
        where : str
            The file and line that name it, put in front of the error.

        Raises
        ------
        InputError
            When there is no such contig, or it has another length.
        """
        found = match_contig(name, self.contigs)
        if found is None:
            raise unknown_contig(name, self.contigs, f"{self.path}, so there is no coverage for it; the file", where)
        if length is not None and self.contigs[found] != length:
            raise InputError(
                f"{where}contig {name!r} is {self.contigs[found]} bp long in {self.path}, but {length} bp in the genome; "
                "the coverage is of another assembly, or its contigs were cut: map the reads to this genome"
            )
        if found != name:
            self.aliases[name] = found
        return found

    def read(self, interval: Interval) -> np.ndarray:
        """Read the coverage of a window.

        Returns
        -------
        (interval.length,) float32
            NaN where the file has no value, and beyond the contig. May be negative.

        Raises
        ------
        InputError
            When there is no such contig, a value is infinite, or the file is damaged there.
        """
        name = self.resolve(interval.chrom)
        start, end = max(interval.start, 0), min(interval.end, self.contigs[name])
        values = np.full(interval.length, np.nan, dtype=np.float32)
        if start < end:
            if self._process != os.getpid():
                self._open()
                self._process = os.getpid()
            found = self._read(name, start, end)
            if len(found) != end - start:
                raise self._damaged(name, start, end, f"{len(found)} values for {end - start} bases")
            values[start - interval.start : end - interval.start] = found
        if np.isinf(values).any():
            place = int(np.isinf(values).argmax())
            raise InputError(
                f"{self.path}: infinite value at {interval.chrom}:{interval.start + place + 1} (1-based); "
                "write coverage with finite numbers"
            )
        return values

    def total(self) -> float | None:
        """Sum over all bases of the file; None where that is not known without reading all of it."""
        return None

    def close(self) -> None:
        """Close the file; reading again opens it again."""
        if self._handle is not None and self._process == os.getpid():
            self._handle.close()
        self._handle, self._process = None, 0

    def __enter__(self):
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def __getstate__(self):
        return {**self.__dict__, "_handle": None, "_process": 0}

    def _open(self) -> dict[str, int]:
        """Set ``_handle`` to the open file and return the lengths of its contigs; each format has its own."""
        raise TypeError(f"{type(self).__name__} does not say how it is opened")

    def _read(self, name: str, start: int, end: int) -> np.ndarray:
        """Values of the bases ``start`` to ``end`` (0-based, half-open) as the file has them, NaN where there are none."""
        raise TypeError(f"{type(self).__name__} does not say how it is read")

    def _damaged(self, name: str, start: int, end: int, error) -> InputError:
        return InputError(
            f"{self.path}: {name}:{start}-{end} cannot be read: the {self.kind} file is damaged or truncated ({error}); "
            "copy or make it again"
        )
