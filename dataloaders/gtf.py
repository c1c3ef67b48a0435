"""Reading genes from GTF files: per gene the union of its exons, which is what gene scores look at."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass

from kipoi_borzoi.dataloaders.text import read_lines
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.genome import STRANDS

# One attribute: a key, and a value in quotes (in which ; and \" may stand) or bare.
_ATTRIBUTE = re.compile(r'\s*(\S+)\s+(?:"((?:[^"\\]|\\.)*)"|([^";]*))\s*(?:;|$)')


@dataclass(frozen=True)
class Gene:
    """One gene.

    Attributes
    ----------
    gene_id : str
        With its version, as written. Unique together with ``chrom``: some annotations use one identifier for the
        copies on X and Y. Where one stands on both strands of a contig, these are two genes, and the strand
        is put behind it: ``ID(+)``, ``ID(-)``.
    name : str
        ``gene_name``; empty when there is none. It may be shared by several genes.
    chrom : str
    strand : {'+', '-', '.'}
    exons : tuple of (int, int)
        Union over the transcripts: 0-based, half-open, sorted, not touching.
    """

    gene_id: str
    name: str
    chrom: str
    strand: str
    exons: tuple[tuple[int, int], ...]

    @property
    def start(self) -> int:
        """0-based position of the first exonic base."""
        return self.exons[0][0]

    @property
    def end(self) -> int:
        """0-based position after the last exonic base."""
        return self.exons[-1][1]

    @property
    def exonic(self) -> int:
        """Exonic bp."""
        return sum(end - start for start, end in self.exons)

    @property
    def midpoint(self) -> int:
        """0-based mean position of the exonic bp, rounded down: where Calico centres a gene's window."""
        return sum((end - start) * (start + end - 1) for start, end in self.exons) // (2 * self.exonic)


def read_gtf(path: str | os.PathLike) -> list[Gene]:
    """Read the genes of a GTF file, plain, gzip or bgzip, in the order of their first exon lines.

    Raises
    ------
    InputError
        When the file cannot be read whole, is GFF3 or something else, has no exons, or a line is
        malformed; with the line number.
    """
    exons: dict[tuple[str, str, str], list[tuple[int, int]]] = {}
    names: dict[str, str] = {}
    for number, line in read_lines(path):
        if line.startswith("##gff-version") and line.split()[-1].startswith("3"):
            raise InputError(f"{path}, line {number}: this is GFF3, expected GTF ({_CONVERT})")
        if not line.strip() or line.startswith(("#", "track ", "browser ")):
            continue
        fields = line.split("\t")
        where = f"{path}, line {number}"
        if len(fields) != 9:
            raise InputError(f"{where}: {len(fields)} columns separated by tabs, expected the 9 of GTF")
        if fields[2] not in ("exon", "gene"):
            continue
        gene_id, name = _gene_of(fields[8], where)
        if name:
            names.setdefault(gene_id, name)
        start, end = _position(fields[3], "start", where), _position(fields[4], "end", where)
        if start < 1:
            raise InputError(f"{where}: start is {start}; GTF is 1-based, so this file may hold 0-based coordinates")
        if end < start:
            raise InputError(f"{where}: end {end} is before start {start}")
        if fields[6] not in STRANDS:
            raise InputError(f"{where}: strand is {fields[6]!r}, expected one of + - .")
        if fields[2] == "exon":
            exons.setdefault((gene_id, fields[0], fields[6]), []).append((start - 1, end))
    if not exons:
        raise InputError(f"{path}: no exons in it: gene scores need lines whose third column is 'exon'")
    strands = Counter((gene_id, chrom) for gene_id, chrom, _ in exons)
    return [
        Gene(
            gene_id if strands[gene_id, chrom] == 1 else f"{gene_id}({strand})",
            names.get(gene_id, ""), chrom, strand, _union(parts),
        )
        for (gene_id, chrom, strand), parts in exons.items()
    ]  # fmt: skip


_CONVERT = "convert it: gffread in.gff3 -T -o out.gtf"


def _gene_of(attributes: str, where: str) -> tuple[str, str]:
    found = {"gene_id": "", "gene_name": ""}
    for match in _ATTRIBUTE.finditer(attributes):
        if match[1] in found and not found[match[1]]:
            found[match[1]] = match[2] if match[2] is not None else match[3].strip()
            if all(found.values()):
                break
    if not found["gene_id"]:
        hint = f"; it looks like GFF3 ({_CONVERT})" if "=" in attributes else ""
        raise InputError(f"{where}: no gene_id among the attributes {attributes[:60]!r}{hint}")
    return found["gene_id"], found["gene_name"]


def _position(text: str, what: str, where: str) -> int:
    if not re.fullmatch(r"-?\d+", text, re.ASCII):
        raise InputError(f"{where}: {what} is {text!r}, expected an integer")
    return int(text)


def _union(parts: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    merged: list[list[int]] = []
    for start, end in sorted(parts):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    return tuple((start, end) for start, end in merged)
