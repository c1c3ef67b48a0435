"""Reading alleles from VCF, VCF.gz and BCF as a stream, where a record that is cut or shifted is an error, not a lost row.

Text is read by this module's own few lines: they look at the first five columns alone, need no
header, no index and no declared contigs, and cannot stop early in silence. BCF is read with pysam.
"""

from __future__ import annotations

import contextlib
import gzip
import logging
import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kipoi_borzoi.dataloaders.bgzf import GZIP_MAGIC, check_eof_marker, read_head
from kipoi_borzoi.dataloaders.text import read_lines
from kipoi_borzoi.errors import InputError

MAX_LINE = 1 << 26
"""Longest line, in characters; half a million genotypes fit."""

_COLUMNS = ("CHROM", "POS", "ID", "REF", "ALT")
_CONTIG = re.compile(r"##contig=<(.*)>$")
_FIELD = re.compile(r'(\w+)=("[^"]*"|[^,]*)')

logger = logging.getLogger("kipoi_borzoi")


@dataclass(frozen=True)
class VcfRecord:
    """One record: its first five columns as written.

    Attributes
    ----------
    chrom : str
    pos : int
        1-based; 0 is legal in a VCF (before the first base).
    id, ref : str
    alts : tuple of str
        In the order of the record; a missing ALT is ``.``, an empty one is empty.
    where : str
        File and line (BCF: record), for messages.
    """

    chrom: str
    pos: int
    id: str
    ref: str
    alts: tuple[str, ...]
    where: str


@dataclass(frozen=True)
class VcfContig:
    """What a ``##contig`` line says: length in bp and assembly, None where it does not."""

    length: int | None = None
    assembly: str | None = None


class VcfReader:
    """The records of one file, in its order; every iteration reads the file anew, in bounded memory.

    Parameters
    ----------
    path : path
        VCF, plain, gzip or bgzip, or BCF, found by content. A missing ``#CHROM`` line is reported and
        the columns taken as CHROM, POS, ID, REF, ALT. Indexes beside the file are not used.

    Attributes
    ----------
    path : Path
    contigs : dict of str to VcfContig
        Those that the header declares; filled by the first iteration.
    reference : str or None
        Of the header's ``##reference`` line, likewise.

    Raises
    ------
    InputError
        While reading: a file that is missing, empty, truncated or no VCF, or changes while it is in use; a record
        without five columns, of other columns than the header, or with a POS that is no number; with the line.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self.contigs: dict[str, VcfContig] = {}
        self.reference: str | None = None
        self._is_bcf = _is_bcf(self.path)
        self._identity = _identity(self.path)
        self._reported = False

    def __iter__(self) -> Iterator[VcfRecord]:
        self._check_unchanged()
        yield from self._bcf_records() if self._is_bcf else self._text_records()
        self._check_unchanged()

    def _check_unchanged(self) -> None:
        if _identity(self.path) != self._identity:
            raise InputError(f"{self.path}: the file changed while it was in use")

    def _text_records(self) -> Iterator[VcfRecord]:
        columns = lines = 0
        header_line: int | None = None
        records = False
        for number, line in read_lines(self.path, MAX_LINE):
            lines = number
            if line.startswith("##"):
                self._read_meta(line)
            elif line.startswith("#"):
                columns, header_line = self._header_columns(line, number), number
            elif line.strip():
                # The genotypes, if any, are counted but not cut out.
                fields = line.split("\t", 5)
                count = len(fields) if len(fields) < 6 else 6 + fields[5].count("\t")
                if not columns:
                    self._check_headerless(fields, number)
                    columns = count
                if count != columns:
                    raise self._column_error(number, count, columns, header_line)
                records = True
                yield self._record(fields, f"{self.path}, line {number}")
        if not lines:
            raise InputError(f"{self.path}: the file is empty: no header and no variants in it")
        if header_line is None and not records:
            raise InputError(f"{self.path}: not a VCF file, or cut: neither a #CHROM header line nor a record in it")

    def _read_meta(self, line: str) -> None:
        if line.startswith("##reference="):
            self.reference = line.partition("=")[2]
        elif match := _CONTIG.match(line):
            fields = {name: value.strip('"') for name, value in _FIELD.findall(match[1])}
            length = fields.get("length", "")
            if "ID" in fields:
                self.contigs[fields["ID"]] = VcfContig(
                    int(length) if length.isdigit() else None, fields.get("assembly")
                )

    def _header_columns(self, line: str, number: int) -> int:
        names = line[1:].split("\t")
        if tuple(names[:5]) != _COLUMNS:
            spaced = tuple(line[1:].split()[:5]) == _COLUMNS
            hint = "; its columns are separated by spaces, not by tabs: rewrite it with tabs" if spaced else ""
            raise InputError(
                f"{self.path}, line {number}: not a VCF header: it starts with {line[:40]!r}, expected "
                f"#CHROM, POS, ID, REF, ALT separated by tabs{hint}"
            )
        return len(names)

    def _check_headerless(self, fields: list[str], number: int) -> None:
        if len(fields) < 5 or not re.fullmatch(r"-?[\d,.]+", fields[1]):
            raise InputError(
                f"{self.path}, line {number}: not a VCF file: the line starts with {fields[0][:40]!r} and there is no "
                "#CHROM header line before it; expected a header, or CHROM, POS, ID, REF, ALT separated by tabs"
            )
        if not self._reported:
            logger.warning(
                "%s has no #CHROM header line; its first five columns are taken as CHROM, POS, ID, REF, ALT", self.path
            )
            self._reported = True

    def _column_error(self, number: int, found: int, expected: int, header_line: int | None) -> InputError:
        holder = f"the header (line {header_line})" if header_line else "the first record"
        hint = "is the line cut, or are its columns separated by spaces?" if found < expected else "is there a tab inside a field such as the ID?"
        return InputError(
            f"{self.path}, line {number}: {found} columns, but {holder} has {expected}; {hint} REF and ALT may be shifted"
        )

    def _record(self, fields: list[str], where: str) -> VcfRecord:
        chrom, position, id_, ref, alt = fields[:5]
        if not (position.isascii() and position.isdigit()):
            raise InputError(
                f"{where}: POS is {position!r}, expected a 1-based position of digits alone (no sign, decimals or commas)"
            )
        if not chrom or not ref:
            raise InputError(f"{where}: {'CHROM' if not chrom else 'REF'} is empty")
        return VcfRecord(chrom, int(position), id_ or ".", ref, tuple(alt.split(",")), where)

    def _bcf_records(self) -> Iterator[VcfRecord]:
        import pysam

        check_eof_marker(self.path)
        number = 0
        try:
            with _without_index_message():
                opened = pysam.VariantFile(str(self.path))
            with opened as handle:
                self._read_bcf_header(handle.header)
                for number, record in enumerate(handle, start=1):
                    yield VcfRecord(
                        record.chrom, record.pos, record.id or ".", record.ref, record.alts or (".",),
                        f"{self.path}, record {number}",
                    )  # fmt: skip
        except (OSError, ValueError, UnicodeDecodeError) as error:
            raise InputError(f"{self.path}, after record {number}: damaged or truncated BCF file ({error})") from error

    def _read_bcf_header(self, header) -> None:
        for line in str(header).splitlines():
            self._read_meta(line)


def _identity(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    return status.st_ino, status.st_size, status.st_mtime_ns


@contextlib.contextmanager
def _without_index_message() -> Iterator[None]:
    """Keep htslib from printing that there is no index, which reading in order does not need; faults are raised anyway."""
    import pysam

    verbosity = pysam.set_verbosity(0)
    try:
        yield
    finally:
        pysam.set_verbosity(verbosity)


def _is_bcf(path: Path) -> bool:
    if not read_head(path).startswith(GZIP_MAGIC):
        return False
    try:
        with gzip.open(path, "rb") as handle:
            return handle.read(3) == b"BCF"
    except (EOFError, OSError, zlib.error) as error:
        raise InputError(f"{path}: truncated or damaged gzip file ({error}). Copy or download it again") from error
