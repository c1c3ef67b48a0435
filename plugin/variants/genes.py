"""Genes in a window: which bins of the output belong to a gene's exons, its span and its polyadenylation sites."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kipoi_borzoi.dataloaders.gtf import Gene
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.variants.alleles import Genome

EXON_BINS = ("overlap", "majority")
"""How it is told which bins belong to an exon: the rule of Calico's ``hound_snpgene``, and its other one."""

logger = logging.getLogger("kipoi_borzoi")


@dataclass(frozen=True)
class OutputWindow:
    """The stretch of genome that a prediction covers.

    Attributes
    ----------
    contig : str
        The FASTA's name.
    start : int
        0-based position of the first base of the first bin; below 0 where the window reaches beyond the contig.
    bins : int
    bin_size : int
        bp.
    """

    contig: str
    start: int
    bins: int
    bin_size: int

    @property
    def end(self) -> int:
        """0-based position after the last bin."""
        return self.start + self.bins * self.bin_size

    def bins_of(self, start: int, end: int, rule: str = "overlap") -> range:
        """Bins that belong to a stretch of genome, or to its part inside of the window.

        Parameters
        ----------
        start, end : int
            0-based, half-open.
        rule : {'overlap', 'majority'}
            Every bin that it overlaps; or, counted from the window's start, those from round(start / bin) to
            round(end / bin), halves to the even number, but one at least.

        Returns
        -------
        range
            Empty where the stretch is outside of the window.
        """
        if end <= self.start or start >= self.end:
            return range(0)
        first, last = ((min(max(at, self.start), self.end) - self.start) / self.bin_size for at in (start, end))
        if rule == "overlap":
            return range(math.floor(first), math.ceil(last))
        first, last = min(round(first), self.bins - 1), round(last)
        return range(first, max(last, first + 1))


@dataclass(frozen=True, eq=False)
class GeneBins:
    """The bins of one gene in one window.

    Attributes
    ----------
    gene : Gene
    exons : (n,) int64
        Bins of the exons, each once, ascending.
    span : (m,) int64
        Bins from the first to the last exon.
    sites : (k,) int64
        Bin of each polyadenylation site in the window, in the direction of transcription.
    covered : float
        Fraction of the exonic bp that lie in the window.
    """

    gene: Gene
    exons: np.ndarray
    span: np.ndarray
    sites: np.ndarray
    covered: float


class GeneSet:
    """Genes by place.

    Parameters
    ----------
    genes : sequence of Gene
    genome : Genome
        Their contigs are named as in its FASTA, up to the prefix ``chr``. Genes that it does not hold whole are
        left out, with a warning.
    path : str
        Of the file, for messages.
    sites : dict of gene_id to sequence of int, optional
        0-based positions of polyadenylation sites.
    exon_bins : {'overlap', 'majority'}
        Which bins belong to an exon; see `OutputWindow.bins_of`.

    Raises
    ------
    InputError
        No gene lies on a contig of the FASTA.
    """

    def __init__(
        self,
        genes: Sequence[Gene],
        genome: Genome,
        path: str,
        sites: Mapping[str, Sequence[int]] | None = None,
        exon_bins: str = EXON_BINS[0],
    ):
        if exon_bins not in EXON_BINS:
            raise InputError(f"exon_bins is {exon_bins!r}; known: {', '.join(EXON_BINS)}")
        self.sites, self.exon_bins = sites or {}, exon_bins
        self._genes: dict[str, list[Gene]] = {}
        beyond, absent = [], []
        for gene in genes:
            contig = genome.resolve(gene.chrom)
            if contig is None:
                absent.append(gene)
            elif gene.end > genome.length(contig):
                beyond.append(gene)
            else:
                self._genes.setdefault(contig, []).append(gene)
        if len(absent) == len(genes):
            raise InputError(
                f"{path}: none of the genes lies on a contig of {genome.fasta.path} (first: {genes[0].gene_id} on "
                f"{genes[0].chrom!r}); names are matched with and without 'chr'"
            )
        if absent:
            logger.info("%s: %d of %d genes are on contigs that the FASTA lacks", path, len(absent), len(genes))
        if beyond:
            logger.warning(
                "%s: %d of %d genes reach beyond the end of their contig in %s and are left out (first: %s): "
                "is the annotation of another assembly?", path, len(beyond), len(genes), genome.fasta.path, beyond[0].gene_id,
            )  # fmt: skip
        unstranded = [gene.gene_id for part in self._genes.values() for gene in part if gene.strand == "."]
        if unstranded:
            logger.warning(
                "%s: %d genes have no strand (first: %s); their scores are over both strands of stranded tracks",
                path, len(unstranded), unstranded[0],
            )  # fmt: skip
        self._starts, self._ends = {}, {}
        for contig, part in self._genes.items():
            part.sort(key=lambda gene: (gene.start, gene.end, gene.gene_id, gene.strand))
            self._starts[contig] = np.array([gene.start for gene in part])
            self._ends[contig] = np.array([gene.end for gene in part])

    def overlapping(self, contig: str, start: int, end: int) -> list[Gene]:
        """Genes whose span overlaps a stretch of genome, in the order of their starts."""
        if contig not in self._genes:
            return []
        hits = np.flatnonzero((self._starts[contig] < end) & (self._ends[contig] > start))
        return [self._genes[contig][hit] for hit in hits]

    def centred_on(self, contig: str, pos0: int, length: int) -> list[Gene]:
        """Genes whose window of ``length`` bp around the gene's midpoint holds the 0-based position ``pos0``."""
        reach = length + int((self._ends[contig] - self._starts[contig]).max()) if contig in self._genes else 0
        return [
            gene
            for gene in self.overlapping(contig, pos0 - reach, pos0 + reach)
            if gene.midpoint - length // 2 <= pos0 < gene.midpoint - length // 2 + length
        ]

    def bins(self, gene: Gene, window: OutputWindow) -> GeneBins | None:
        """The bins of a gene; None where none of its exons falls in the window."""
        exons = sorted({one for start, end in gene.exons for one in window.bins_of(start, end, self.exon_bins)})
        if not exons:
            return None
        inside = sum(max(0, min(end, window.end) - max(start, window.start)) for start, end in gene.exons)
        sites = sorted(
            (site - window.start) // window.bin_size
            for site in self.sites.get(gene.gene_id, ())
            if window.start <= site < window.end
        )
        return GeneBins(
            gene,
            np.array(exons, dtype=np.int64),
            np.array(window.bins_of(gene.start, gene.end, self.exon_bins), dtype=np.int64),
            np.array(sites[::-1] if gene.strand == "-" else sites, dtype=np.int64),
            inside / gene.exonic,
        )
