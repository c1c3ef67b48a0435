"""What is to be explained: a gene or a region in its window, as a quantity; or the reason why it cannot be."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kipoi_borzoi.dataloaders.bed import read_bed
from kipoi_borzoi.dataloaders.gtf import Gene
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.genome import Interval
from kipoi_borzoi.interpret.quantity import PSEUDOCOUNT, LogSum, Quantity
from kipoi_borzoi.variants.alleles import Genome
from kipoi_borzoi.variants.columns import NONE, Table, Unit, check_strands
from kipoi_borzoi.variants.genes import EXON_BINS, OutputWindow
from kipoi_borzoi.variants.windows import Window

REASONS: Mapping[str, str] = {
    "CONTIG_UNKNOWN": "the FASTA has no such contig, also not with or without 'chr'",
    "OUT_OF_RANGE": "it lies beyond the end of its contig",
    "NO_EXON": "none of its exons lies in the output window",
    "NO_BIN": "it does not lie in the output window",
    "NO_TRACK": "none of the tracks of one side measures its strand",
    "NO_ACGT": "there is no A, C, G or T in the stretch to explain",
    "NO_DENOMINATOR": "the file of denominators has nothing for it, or nothing of that lies in the output window",
}
"""Why a target is skipped: every code with a line of help."""


@dataclass(frozen=True, eq=False)
class Side:
    """The tracks of one logarithm.

    Attributes
    ----------
    sign : float
        1 or -1.
    source : int
        Number of the ensemble.
    units : tuple of (Unit, float)
        With their weights.
    """

    sign: float
    source: int
    units: tuple[tuple[Unit, float], ...]

    def columns(self, strand: str) -> dict[int, float]:
        """Columns of the ensemble's coverage that measure ``strand``, with weights; all for ``.``."""
        found: dict[int, float] = {}
        for unit, weight in self.units:
            rows = unit.rows if strand == "." else (unit.row(strand),)
            for row in rows:
                if row != NONE:
                    found[row] = found.get(row, 0.0) + weight
        return found


def make_sides(table: Table) -> tuple[Side, ...]:
    """The logarithms that a table's tracks or its one contrast make up.

    Raises
    ------
    InputError
        Tracks of several models without a contrast; a contrast with one side only, or with one of several models.
    """
    if not table.contrasts:
        if len(table.ensembles) > 1:
            names = ", ".join(ensemble.name for ensemble in table.ensembles)
            raise InputError(f"the models {names} have different tracks; say by a contrast how they are to be compared")
        ensemble = table.ensembles[0]
        return (Side(1.0, 0, tuple((unit, 1.0) for unit in ensemble.units)),)
    if len(table.contrasts) > 1:
        raise InputError(f"{len(table.contrasts)} contrasts are given; one is explained at a time")
    sides, name = [], table.columns[-1].name
    for sign, what in ((1.0, "above"), (-1.0, "below")):
        terms = [(source, number, sign * weight) for source, number, weight in table.contrasts[0] if sign * weight > 0]
        if not terms:
            raise InputError(
                f"contrast {name!r} has no weight {what} 0: nothing to compare (for one side alone give tracks)"
            )
        sources = {source for source, _, _ in terms}
        if len(sources) > 1:
            names = ", ".join(table.ensembles[source].name for source in sorted(sources))
            raise InputError(
                f"contrast {name!r}: the tracks with weights {what} 0 are of several models ({names}), expected one"
            )
        source = sources.pop()
        units = tuple((table.ensembles[source].units[number], weight) for _, number, weight in terms)
        sides.append(Side(sign, source, units))
    return tuple(sides)


@dataclass(frozen=True, eq=False)
class Target:
    """One thing to explain.

    Attributes
    ----------
    name : str
        ``gene_id``, or of a region its name, or its coordinates.
    label : str
        ``gene_name``; may be empty.
    strand : {'+', '-', '.'}
    window : Window
    span : (int, int)
        The stretch to explain, in the window.
    quantity : Quantity
    """

    name: str
    label: str
    strand: str
    window: Window
    span: tuple[int, int]
    quantity: Quantity

    @property
    def start(self) -> int:
        """0-based position of the stretch to explain."""
        return self.window.start + self.span[0]

    @property
    def end(self) -> int:
        """0-based position after it."""
        return self.window.start + self.span[1]


@dataclass(frozen=True)
class Skipped:
    """A target that cannot be explained: the reason's code, and details."""

    name: str
    code: str
    detail: str = ""


@dataclass(frozen=True, eq=False)
class TargetMaker:
    """Makes targets that share tracks and window.

    Attributes
    ----------
    table : Table
    genome : Genome
    length, crop, bins, bin_size : int
        The networks' window.
    span : int or None
        bp to explain around the middle; None for the whole window.
    pseudocount : float
    exon_bins : {'overlap', 'majority'}
    denominators : dict of name to sequence of Interval, or None
        Whose bins the quantity is divided by, for ratios.
    """

    table: Table
    genome: Genome
    length: int
    crop: int
    bins: int
    bin_size: int
    span: int | None = None
    pseudocount: float = PSEUDOCOUNT
    exon_bins: str = EXON_BINS[0]
    denominators: Mapping[str, Sequence[Interval]] | None = None

    def __post_init__(self):
        if self.exon_bins not in EXON_BINS:
            raise InputError(f"exon_bins is {self.exon_bins!r}; known: {', '.join(EXON_BINS)}")
        if self.span is not None and not 1 <= self.span <= self.length:
            raise InputError(f"span is {self.span} bp, expected 1 to the window's {self.length}")

    def gene(self, gene: Gene) -> Target | Skipped:
        """A gene in the window around its exonic midpoint; the span lies around its first base, the start of transcription."""
        check_strands(self.table)
        first = gene.end - 1 if gene.strand == "-" else gene.start
        return self._target(
            gene.gene_id, gene.name, gene.chrom, gene.strand, gene.exons, gene.midpoint, first, "NO_EXON"
        )

    def region(self, region: Interval) -> Target | Skipped:
        """A region in the window around its centre, and so the span."""
        name = region.name or f"{region.chrom}:{region.start}-{region.end}"
        if region.strand != ".":
            check_strands(self.table)
        parts = [(region.start, region.end)]
        return self._target(name, "", region.chrom, region.strand, parts, region.center, region.center, "NO_BIN")

    def _target(self, name, label, chrom, strand, parts, middle, focus, absent) -> Target | Skipped:
        contig = self.genome.resolve(chrom)
        if contig is None:
            return Skipped(name, "CONTIG_UNKNOWN", chrom)
        if parts[-1][1] > self.genome.length(contig):
            return Skipped(
                name,
                "OUT_OF_RANGE",
                f"contig {contig} is {self.genome.length(contig)} bp long, it ends at {parts[-1][1]}",
            )
        window = Window.around(contig, middle, self.length)
        output = window.output(self.crop, self.bins, self.bin_size)
        bins = self._bins(output, parts)
        if not bins:
            return Skipped(name, absent, f"window {contig}:{output.start}-{output.end}")
        span = self._span(window, focus)
        if not set("ACGT") & set(self.genome.text(contig, window.start + span[0], window.start + span[1])):
            return Skipped(name, "NO_ACGT", f"{contig}:{window.start + span[0]}-{window.start + span[1]}")
        divisors: list[int] = []
        if self.denominators is not None:
            mine = [one for one in self.denominators.get(name, ()) if self.genome.resolve(one.chrom) == contig]
            divisors = self._bins(output, [(one.start, one.end) for one in mine])
            if not divisors:
                return Skipped(name, "NO_DENOMINATOR")
        terms = []
        for side in make_sides(self.table):
            columns = side.columns(strand)
            if not columns:
                return Skipped(name, "NO_TRACK", f"strand {strand}")
            terms.append(self._term(side, columns, bins, 1.0))
            if divisors:
                terms.append(self._term(side, columns, divisors, -1.0))
        return Target(name, label, strand, window, span, Quantity(tuple(terms)))

    def _term(self, side: Side, columns: dict[int, float], bins: list[int], sign: float) -> LogSum:
        tracks = self.table.ensembles[side.source].tracks
        rows = sorted(columns)
        return LogSum(
            side.source, side.sign * sign, np.array(bins), np.array(rows), np.array([columns[row] for row in rows]),
            tracks.select(tracks.index[rows].tolist()), self.pseudocount,
        )  # fmt: skip

    def _bins(self, output: OutputWindow, parts) -> list[int]:
        return sorted({one for start, end in parts for one in output.bins_of(start, end, self.exon_bins)})

    def _span(self, window: Window, focus: int) -> tuple[int, int]:
        """The span around a position, moved into the window where it would reach beyond."""
        if self.span is None:
            return 0, window.length
        start = min(max(focus - window.start - self.span // 2, 0), window.length - self.span)
        return start, start + self.span


def chosen_genes(genes: Sequence[Gene], names: Sequence[str], path: str) -> list[Gene]:
    """Find genes by identifier, identifier without version, or name, in the order asked for and each once.

    Raises
    ------
    InputError
        A name that no gene or several have; or no name at all.
    """
    if not names:
        raise InputError("no genes are chosen")
    by_name = genes_by_name(genes)
    unknown = [name for name in names if name not in by_name]
    if unknown:
        first = ", ".join(map(repr, unknown[:5])) + (", ..." if len(unknown) > 5 else "")
        raise InputError(
            f"{path}: {len(unknown)} of {len(names)} chosen genes are not in it: {first}; it has {len(genes)} genes, "
            f"such as {genes[0].gene_id}{f' ({genes[0].name})' if genes[0].name else ''}"
        )
    for name in names:
        if len(by_name[name]) > 1:
            places = ", ".join(f"{gene.gene_id} on {gene.chrom}" for gene in by_name[name][:4])
            raise InputError(f"{path}: {name!r} is the name of {len(by_name[name])} genes: {places}; give the gene_id")
    return list({id(gene): gene for name in names for gene in by_name[name]}.values())


def genes_by_name(genes: Sequence[Gene]) -> dict[str, list[Gene]]:
    """Genes by identifier; by identifier without version, and by name, where that is no gene's identifier."""
    by_name: dict[str, list[Gene]] = {}
    for kind in (lambda gene: gene.gene_id, lambda gene: gene.gene_id.split(".")[0], lambda gene: gene.name):
        layer: dict[str, list[Gene]] = {}
        for gene in genes:
            layer.setdefault(kind(gene), []).append(gene)
        for key, found in layer.items():
            by_name.setdefault(key, found)
    by_name.pop("", None)
    return by_name


def genes_within(genes: Sequence[Gene], path: str | os.PathLike) -> set[Gene]:
    """The genes that lie, from their first exonic base to their last, in the stretches of a BED file taken together.

    Raises
    ------
    InputError
        No gene does.
    """
    merged: dict[str, list[list[int]]] = {}
    for interval in sorted(read_bed(path), key=lambda one: (one.chrom, one.start)):
        stretches = merged.setdefault(interval.chrom, [])
        if stretches and interval.start <= stretches[-1][1]:
            stretches[-1][1] = max(stretches[-1][1], interval.end)
        else:
            stretches.append([interval.start, interval.end])
    found = {
        gene
        for gene in genes
        if any(start <= gene.start and gene.end <= end for start, end in merged.get(gene.chrom, ()))
    }
    if not found:
        raise InputError(
            f"{path}: none of the {len(genes)} genes lies in its stretches, which are on {', '.join(list(merged)[:3])}; "
            f"the first gene is on {genes[0].chrom}"
        )
    return found
