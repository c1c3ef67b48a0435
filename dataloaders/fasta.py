"""Reading stretches of a genome from a FASTA file, refusing whatever could give a wrong sequence."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np

from kipoi_borzoi.dataloaders import bgzf, fasta_index
from kipoi_borzoi.dataloaders.contigs import match_contig, unknown_contig
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.files import atomic_write, sweep_temporaries
from kipoi_borzoi.genome import Interval
from kipoi_borzoi.sequence import one_hot

_CODES = b"ACGTNRYSWKMBDHV"
_ODD = 0xFF
# Letters to upper case (bit 5 is their case), and whatever is no nucleotide or IUPAC code to _ODD.
_CLEAN = bytes(byte & 0xDF if byte & 0xDF in _CODES else _ODD for byte in range(256))

logger = logging.getLogger("kipoi_borzoi")


class FastaReader:
    """A FASTA file, plain or bgzip-compressed, read by position.

    The ``.fai`` (and ``.gzi``) beside the file are used when present and are made when not; where the
    folder cannot be written to, the index is kept in memory. Opening scans no indexed file: the index
    is held against the file contig by contig, when a contig is first asked for, and line layout and
    letters are checked in what is read. Safe to use in forked workers, and to pickle.

    Parameters
    ----------
    path : path

    Attributes
    ----------
    path : Path
    contigs : dict of str to int
        Length in bp of each contig, in the order of the file.

    Raises
    ------
    InputError
        When the file is missing, empty, not FASTA, gzip instead of bgzip, truncated, or its index is of another file.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self._file = bgzf.open_bytes(self.path)
        if not self._file.read(0, min(64, self._file.size)).lstrip().startswith(b">"):
            raise InputError(f"{self.path}: not a FASTA file: it does not start with a header line ('>')")
        if Path(f"{self.path}.fai").exists():
            self._rows = fasta_index.read_fai(self.path)
        else:
            self._rows = self._make_index()
        self._index = {row.name: number for number, row in enumerate(self._rows)}
        self.contigs = {row.name: row.length for row in self._rows}
        self._resolved: dict[str, str] = {}
        self._alias_reported = False
        if self._rows[-1].end > self._file.size:
            fasta_index.check_contig(self._file, self._rows, len(self._rows) - 1)

    def resolve(self, name: str, where: str = "") -> str:
        """Return the FASTA's own name of a contig, with or without the prefix ``chr``, and check its place in the file.

        The first name that is taken for another is reported to the logger.

        Parameters
        ----------
        name : str
        where : str
            The file and line that name it, put in front of the error.

        Raises
        ------
        InputError
            When there is no such contig, or the index is wrong about it.
        """
        if name not in self._resolved:
            found = match_contig(name, self.contigs)
            if found is None:
                raise unknown_contig(name, self.contigs, str(self.path), where)
            fasta_index.check_contig(self._file, self._rows, self._index[found])
            if found != name and not self._alias_reported:
                logger.warning(
                    "contig names differ by the prefix 'chr': %r is read as %r of %s", name, found, self.path
                )
                self._alias_reported = True
            self._resolved[name] = found
        return self._resolved[name]

    def fetch(self, interval: Interval) -> str:
        """Return the bases of the + strand, whatever the interval's strand, in upper case and with N beyond the contig.

        Raises
        ------
        InputError
            When the interval lies wholly outside its contig, or what is read is damaged or no DNA.
        """
        return self._padded(interval).decode()

    def fetch_one_hot(self, interval: Interval, dtype=np.float32) -> np.ndarray:
        """Return the + strand one-hot encoded, whatever the interval's strand.

        Parameters
        ----------
        interval : Interval
        dtype : numpy dtype

        Returns
        -------
        (interval.length, 4) array of ``dtype``
            Columns A, C, G, T; zeros beyond the contig and where the base is not one of these.

        Raises
        ------
        InputError
            As `fetch`.
        """
        return one_hot(self._padded(interval), dtype)

    def close(self) -> None:
        """Close the file; reading again opens it again."""
        self._file.close()

    def __enter__(self) -> FastaReader:
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def _padded(self, interval: Interval) -> bytes:
        name = self.resolve(interval.chrom)
        start, end = max(interval.start, 0), min(interval.end, self.contigs[name])
        if start >= end:
            raise InputError(
                f"interval {interval}: wholly outside contig {name!r} of {self.path}, which is {self.contigs[name]} bp long"
            )
        bases = self._bases(self._rows[self._index[name]], start, end)
        return b"N" * (start - interval.start) + bases + b"N" * (interval.end - end)

    def _bases(self, row: fasta_index.Contig, start: int, end: int) -> bytes:
        first_line, last_line = start // row.line_bases, (end - 1) // row.line_bases
        begin = start if first_line == last_line else first_line * row.line_bases
        raw = self._file.read(row.byte(begin), row.byte(end - 1) + 1 - row.byte(begin))
        # All lines but the last are whole, so that their ends stand in columns of their own.
        whole = (last_line - first_line) * row.line_width
        table = np.frombuffer(raw, dtype=np.uint8, count=whole).reshape(-1, row.line_width)
        if (table[:, row.line_bases :] != np.frombuffer(row.line_end, dtype=np.uint8)).any():
            raise self._layout_error(row, start, end)
        letters = b"".join([memoryview(table[:, : row.line_bases].tobytes())[start - begin :], raw[whole:]])
        bases = letters.translate(_CLEAN)
        odd = bases.find(_ODD)
        if odd >= 0:
            raise self._letter_error(row, start, end, start + odd, letters[odd : odd + 1])
        return bases

    def _layout_error(self, row: fasta_index.Contig, start: int, end: int) -> InputError:
        return InputError(
            f"{self.path}: contig {row.name!r}, {start}-{end}: the lines are not {row.line_bases} bases long as the index "
            f"says; lines of different length, or the index does not match. {fasta_index.how_to_mend(self.path)}"
        )

    def _letter_error(self, row: fasta_index.Contig, start: int, end: int, position: int, odd: bytes) -> InputError:
        if odd in b"\r\n>":
            return self._layout_error(row, start, end)
        hint = " (RNA? write T for U)" if odd in b"Uu" else ""
        return InputError(
            f"{self.path}: contig {row.name!r}, position {position + 1} (1-based): character {odd.decode('latin-1')!r} "
            f"is not in the nucleotide alphabet (ACGT, N and the IUPAC codes RYSWKMBDHV){hint}; "
            "is this a protein sequence or an alignment? Write N for unknown bases"
        )

    def _make_index(self) -> list[fasta_index.Contig]:
        logger.info("indexing %s, which has no .fai", self.path)
        rows = fasta_index.build_index(self._file)
        try:
            sweep_temporaries(Path(self.path).parent)
            with atomic_write(f"{self.path}.fai") as temporary:
                temporary.write_text(fasta_index.write_fai(rows), encoding="utf-8")
            if isinstance(self._file, bgzf.BgzfFile):
                with atomic_write(f"{self.path}.gzi") as temporary:
                    temporary.write_bytes(self._file.gzi())
        except OSError as error:
            logger.warning(
                "the index of %s cannot be kept beside it (%s), so it is made at every start; "
                "index it once where you may write: samtools faidx %s",
                self.path, error.strerror, self.path,
            )  # fmt: skip
        return rows
