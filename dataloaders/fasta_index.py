"""Where the bases of each contig lie in a FASTA file: the ``.fai`` index, read, made, and held against the file itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from kipoi_borzoi.dataloaders.bgzf import BgzfFile, PlainFile
from kipoi_borzoi.errors import InputError

_CHUNK = 16 << 20  # bytes scanned at a time when an index is made
_MAX_GAP = 1 << 16  # bytes; no header line is longer
_HEADER_LINE = re.compile(rb"\s*>(\S+)([^\S\n][^\n]*)?\n")


@dataclass(frozen=True)
class Contig:
    """One row of a ``.fai``: ``offset`` bytes from the start of the (uncompressed) file to the first of ``length``
    bases, in lines of ``line_bases`` bases and ``line_width`` bytes (with the line end)."""

    name: str
    length: int
    offset: int
    line_bases: int
    line_width: int

    def byte(self, position: int) -> int:
        """Byte of the file that holds the base at ``position`` (0-based)."""
        return self.offset + position // self.line_bases * self.line_width + position % self.line_bases

    @property
    def line_end(self) -> bytes:
        """What ends each line but the last."""
        return b"\r\n"[2 - (self.line_width - self.line_bases) :]

    @property
    def end(self) -> int:
        """Byte after the last base."""
        return self.byte(self.length - 1) + 1 if self.length else self.offset


def how_to_mend(path: Path) -> str:
    """Advice that ends the errors about an index."""
    return f"Delete {path}.fai and make it anew: samtools faidx {path}"


def read_fai(path: Path) -> list[Contig]:
    """Read the ``.fai`` beside the FASTA file ``path``; contigs in the order of the file's bytes.

    Raises
    ------
    InputError
        When a line is not five columns of a name and four numbers, or a name comes twice.
    """
    fai = Path(f"{path}.fai")
    contigs: dict[str, Contig] = {}
    for number, line in enumerate(fai.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        fields = line.split("\t")
        if len(fields) != 5 or not all(field.isascii() and field.isdigit() for field in fields[1:]):
            raise InputError(
                f"{fai}, line {number}: {line[:80]!r} is not a FASTA index line "
                f"(name, length, offset, bases and bytes per line, separated by tabs). {how_to_mend(path)}"
            )
        contig = Contig(fields[0], *map(int, fields[1:]))
        if contig.length and not (contig.line_bases > 0 and contig.line_width - contig.line_bases in (0, 1, 2)):
            raise InputError(f"{fai}, line {number}: impossible line layout. {how_to_mend(path)}")
        if contig.name in contigs:
            raise InputError(f"{fai}, line {number}: duplicate contig name {contig.name!r}. {how_to_mend(path)}")
        contigs[contig.name] = contig
    if not contigs:
        raise InputError(f"{fai}: the index is empty. {how_to_mend(path)}")
    return sorted(contigs.values(), key=lambda contig: contig.offset)


def write_fai(contigs: list[Contig]) -> str:
    """Text of the ``.fai`` for ``contigs``."""
    return "".join(f"{c.name}\t{c.length}\t{c.offset}\t{c.line_bases}\t{c.line_width}\n" for c in contigs)


def check_contig(file: PlainFile | BgzfFile, contigs: list[Contig], index: int) -> None:
    """Hold one row of an index against the file.

    Contigs tile a FASTA file: between the last base of one and the first of the next lies exactly
    one header line, after the last one nothing. A wrong line width, an index of another or an
    older version of the file, and a contig that the index lacks all break this, and looking costs
    two small reads.

    Parameters
    ----------
    file : the FASTA file
    contigs : all rows, in the order of the file's bytes
    index : the row to check

    Raises
    ------
    InputError
        When the header before it, or what follows it, is not where the index says.
    """
    contig = contigs[index]
    if contig.end > file.size:
        raise InputError(
            f"{file.path}: truncated: by the index, contig {contig.name!r} ends at byte {contig.end}, but the length of "
            f"the file is {file.size}. Copy the file again; if it is whole: {how_to_mend(file.path)}"
        )
    _check_gap(file, contigs[index - 1] if index else None, contig)
    _check_gap(file, contig, contigs[index + 1] if index + 1 < len(contigs) else None)


def _check_gap(file: PlainFile | BgzfFile, before: Contig | None, after: Contig | None) -> None:
    start = before.end if before else 0
    end = after.offset if after else file.size
    gap = file.read(start, end - start) if 0 <= end - start <= _MAX_GAP else b"?"
    line_ended = before is None or before.length == 0 or gap[:1] in (b"", b"\n", b"\r")
    header = _HEADER_LINE.fullmatch(gap)
    if line_ended and (header and header[1] == after.name.encode() if after else not gap.strip()):
        return
    place = f"after contig {before.name!r}" if before else "at its start"
    wanted = f"nothing but the header of contig {after.name!r}" if after else "the end of the file"
    names = [name.decode("utf-8", "replace") for name in re.findall(rb"^>(\S+)", gap, re.MULTILINE)]
    found = f", the file has contig {', '.join(names)} (a duplicate name?)" if names else ""
    raise InputError(
        f"{file.path}.fai: the index does not match the FASTA file: {place} (byte {start}) the index has {wanted}{found}; "
        f"its line width is another, it is older than the file, or it lacks a contig. {how_to_mend(file.path)}"
    )


def build_index(file: PlainFile | BgzfFile) -> list[Contig]:
    """Scan a whole FASTA file and return its index.

    Raises
    ------
    InputError
        When the file does not start with a header, a contig's name is missing or used twice, or its
        lines (but the last) differ in length; with the line number.
    """
    builder = _Builder(file.path)
    for block, offset in _whole_lines(file):
        builder.add(block, offset)
    return builder.finish()


def _whole_lines(file: PlainFile | BgzfFile) -> Iterator[tuple[bytes, int]]:
    # Blocks of whole lines with their byte offset; a last line without line end gets one.
    rest, offset, line_end = b"", 0, b"\n"
    for start in range(0, file.size, _CHUNK):
        rest += file.read(start, min(_CHUNK, file.size - start))
        cut = rest.rfind(b"\n") + 1
        if cut:
            yield rest[:cut], offset
            line_end = b"\r\n" if rest[:cut].endswith(b"\r\n") else b"\n"
            rest, offset = rest[cut:], offset + cut
    if rest:
        yield rest + line_end, offset


class _Builder:
    """Collects contigs from consecutive blocks of lines."""

    def __init__(self, path: Path):
        self.path = path
        self.contigs: dict[str, Contig] = {}
        self.lines = 0  # seen before the current block
        self.name: str | None = None  # of the open contig
        self.length = self.offset = self.bases = self.width = 0
        self.ended = False  # a line shorter than the others has closed the open contig

    def add(self, block: bytes, offset: int) -> None:
        letters = np.frombuffer(block, dtype=np.uint8)
        ends = np.flatnonzero(letters == ord("\n")) + 1
        starts = np.concatenate([[0], ends[:-1]])
        widths = ends - starts
        bases = widths - 1 - ((widths > 1) & (letters[ends - 2] == ord("\r")))
        headers = np.flatnonzero(letters[starts] == ord(">"))
        bounds = [*headers.tolist(), len(ends)]
        self._extend(bases[: bounds[0]], widths[: bounds[0]], 0)
        for first, following in pairwise(bounds):
            self._open(block[starts[first] + 1 : ends[first]], offset + int(ends[first]), self.lines + first + 1)
            self._extend(bases[first + 1 : following], widths[first + 1 : following], first + 1)
        self.lines += len(ends)

    def finish(self) -> list[Contig]:
        self._close()
        if not self.contigs:
            raise InputError(f"{self.path}: not a FASTA file: no header line (starting with '>') in it")
        return list(self.contigs.values())

    def _open(self, header: bytes, offset: int, line: int) -> None:
        self._close()
        if not header.strip() or header[:1].isspace():
            raise InputError(f"{self.path}, line {line}: a FASTA header without a contig name behind its '>'")
        self.name = header.split(None, 1)[0].decode("utf-8", "replace")
        if self.name in self.contigs:
            raise InputError(f"{self.path}, line {line}: duplicate contig name {self.name!r}; names must be unique")
        self.length = self.bases = self.width = 0
        self.offset, self.ended = offset, False

    def _close(self) -> None:
        if self.name is not None:
            self.contigs[self.name] = Contig(self.name, self.length, self.offset, self.bases, self.width)

    def _extend(self, bases: np.ndarray, widths: np.ndarray, first: int) -> None:
        if len(bases) == 0:
            return
        if self.name is None:
            if bases.any():
                raise InputError(
                    f"{self.path}, line {self.lines + first + 1}: not a FASTA file: "
                    "a sequence before the first header line (starting with '>')"
                )
            return
        if self.length == 0:
            self.bases, self.width = int(bases[0]), int(widths[0])
        other = np.flatnonzero((bases != self.bases) | (widths != self.width))
        full = 0 if self.ended else int(other[0]) if len(other) else len(bases)
        # Behind the full lines one shorter line may come, and then empty ones.
        wrong = full + np.flatnonzero(bases[full:])
        if len(wrong) and wrong[0] == full and not self.ended and bases[full] < self.bases:
            wrong = wrong[1:]
        if len(wrong):
            raise InputError(
                f"{self.path}, line {self.lines + first + 1 + int(wrong[0])}: the lines of contig {self.name!r} are of "
                f"different length (or end differently) than its first, of {self.bases} bases; "
                "write the file anew with equal lines: seqkit seq -w 60, or picard NormalizeFasta"
            )
        self.ended = self.ended or full < len(bases)
        self.length += int(bases.sum())
