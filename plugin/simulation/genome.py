"""Building the genome: windows of random DNA into which genes, factors' sites and decoys are planted.

Nothing that decides a gene's expression lies outside its window, so that windows can be held out:
genes start no nearer to a window's end than factors reach, and end before its margin.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from kipoi_borzoi.sequence import BASES
from kipoi_borzoi.simulation import motifs
from kipoi_borzoi.simulation.draw import Draw
from kipoi_borzoi.simulation.motifs import ACCEPTOR, CORE, DONOR, POLYA, STRUCTURE, Motif, find
from kipoi_borzoi.simulation.rule import (
    ACCEPTOR_CUT,
    DONOR_CUT,
    MAX_TRANSCRIPT,
    POLYA_CUT,
    REACH,
    TSS_OFFSET,
    Site,
    Transcript,
    find_sites,
    find_transcripts,
    reverse_codes,
)

WINDOW = 4096
MARGIN = 256
"""bp at each end of a window in which no gene lies: what the base network crops."""
MAX_GENES = 4
"""Most genes in one window."""
CONTIG_WINDOWS = 256

_BACKGROUND = (0.295, 0.205, 0.205, 0.295)
_EXON = (0.31, 0.18, 0.33, 0.18)  # on the gene's strand: exons are rich in purines, as real ones are
_GAP = 24  # bp kept free between planted things


@dataclass(frozen=True)
class Window:
    """One window of the genome.

    Attributes
    ----------
    chrom, start : str, int
        0-based.
    fold : str
    """

    chrom: str
    start: int
    fold: str

    @property
    def end(self) -> int:
        """0-based, exclusive."""
        return self.start + WINDOW


@dataclass(frozen=True)
class Gene:
    """A transcript with a name.

    Attributes
    ----------
    gene_id, chrom, fold : str
    transcript : Transcript
        In coordinates of the contig.
    sites : tuple of Site
        All within reach, likewise.
    """

    gene_id: str
    chrom: str
    fold: str
    transcript: Transcript
    sites: tuple[Site, ...]


@dataclass(frozen=True)
class Planted:
    """A motif that was put somewhere.

    Attributes
    ----------
    chrom, start, strand : str, int, str
        0-based, of the motif's first base on the + strand.
    motif : Motif
    kind : {'gene', 'proximal', 'distal', 'orphan', 'weak', 'decoy'}
        Part of a gene; a factor's site near a start, or farther; a factor's site in a window without genes; one that a wrong
        base keeps below the threshold; a motif of genes outside of any.
    """

    chrom: str
    start: int
    strand: str
    motif: Motif
    kind: str

    @property
    def end(self) -> int:
        """0-based, exclusive."""
        return self.start + len(self.motif)


@dataclass(frozen=True)
class Genome:
    """Everything about the sequence.

    Attributes
    ----------
    contigs : dict of str to (bp,) uint8
        Codes 0 to 3.
    windows : list of Window
    genes : list of Gene
        By place.
    sites : dict of str to list of Site
        Every site of a factor in each contig, planted or not, by place.
    planted : list of Planted
    """

    contigs: dict[str, np.ndarray]
    windows: list[Window]
    genes: list[Gene]
    sites: dict[str, list[Site]]
    planted: list[Planted] = field(default_factory=list)

    def text(self, chrom: str) -> str:
        """A contig's letters."""
        return np.frombuffer(BASES.encode(), np.uint8)[self.contigs[chrom]].tobytes().decode("ascii")


def make_genome(genes: int, windows: int, factors: tuple[Motif, ...], folds: tuple[str, ...], draw: Draw) -> Genome:
    """Build the genome.

    Parameters
    ----------
    genes : int
        At most `MAX_GENES` times ``windows``.
    windows : int
    factors : tuple of Motif
    folds : tuple of str
        Dealt out over windows: each run of as many windows gets all of these, in random order.
    draw : Draw

    Returns
    -------
    Genome
        Whose genes are what the rule reads in the finished sequence.
    """
    counts = _genes_per_window(genes, windows, draw)
    names = [f"sim{number // CONTIG_WINDOWS + 1}" for number in range(windows)]
    places, contigs, planted, plans = [], {}, [], []
    dealt: list[str] = []
    for number, (chrom, count) in enumerate(zip(names, counts, strict=True)):
        dealt = dealt or draw.shuffled(folds)
        places.append(Window(chrom, number % CONTIG_WINDOWS * WINDOW, dealt.pop()))
        plan = _plan_window(count, factors, draw)
        plans.append(plan)
        contigs.setdefault(chrom, []).append(plan.codes)
        planted += [
            Planted(chrom, places[-1].start + start, strand, motif, kind) for start, strand, motif, kind in plan.planted
        ]
    joined = {chrom: np.concatenate(parts) for chrom, parts in contigs.items()}
    for chrom, codes in joined.items():
        _remove_accidents(codes, [item for item in planted if item.chrom == chrom], draw)
    sites = {chrom: find_sites(codes, factors) for chrom, codes in joined.items()}
    return Genome(joined, places, _read_genes(joined, places, sites, genes), sites, planted)


def _genes_per_window(genes: int, windows: int, draw: Draw) -> list[int]:
    counts = [0] * windows
    while genes:
        window = draw.integer(0, windows - 1)
        if counts[window] < MAX_GENES:
            counts[window] += 1
            genes -= 1
    return counts


class _Plan:
    """A window in the making: its bases, what is planted in it, and which bases are taken."""

    def __init__(self, draw: Draw):
        self.draw = draw
        self.codes = draw.letters(WINDOW, _BACKGROUND)
        self.taken = np.zeros(WINDOW, dtype=bool)
        self.planted: list[tuple[int, str, Motif, str]] = []

    def free(self, start: int, end: int) -> bool:
        """Whether nothing is planted there or near it."""
        return start >= _GAP and end <= WINDOW - _GAP and not self.taken[start - _GAP : end + _GAP].any()

    def put(self, start: int, strand: str, motif: Motif, kind: str, codes: np.ndarray) -> None:
        """Plant a motif whose bases, on its own strand, are ``codes``."""
        end = start + len(motif)
        self.codes[start:end] = codes if strand == "+" else reverse_codes(codes)
        self.taken[start:end] = True
        self.planted.append((start, strand, motif, kind))


def _plan_window(genes: int, factors: tuple[Motif, ...], draw: Draw) -> _Plan:
    while True:
        plan = _Plan(draw)
        starts = [_plant_gene(plan, draw) for _ in range(genes)]
        if None not in starts:
            break
    for tss, strand in starts:
        upstream = -1 if strand == "+" else 1
        for _ in range(draw.pick((0, 1, 1, 2))):
            _plant_factor(
                plan, factors, draw, "proximal", lambda tss=tss, up=upstream: tss + up * draw.integer(60, 200)
            )
        for _ in range(draw.pick((0, 1, 1, 2))):
            _plant_factor(
                plan, factors, draw, "distal", lambda tss=tss: tss + draw.pick((-1, 1)) * draw.integer(200, REACH - 100)
            )
    for _ in range(2):
        _plant_factor(plan, factors, draw, "weak", lambda: draw.integer(0, WINDOW))
        _plant_decoy(plan, draw)
    if not genes:
        _plant_factor(plan, factors, draw, "orphan", lambda: draw.integer(0, WINDOW))
    return plan


def _plant_gene(plan: _Plan, draw: Draw) -> tuple[int, str] | None:
    """Plant one gene at a free place; return its start site and strand, None where none was found."""
    for _ in range(200):
        strand, tss = draw.pick("+-"), draw.integer(REACH + 64, WINDOW - REACH - 64)
        exons = [draw.integer(64, 160) for _ in range(draw.pick((1, 2, 2, 3)))]
        introns = [draw.integer(80, 160) for _ in exons[1:]]
        span = sum(exons) + sum(introns)
        # On the gene's own strand position 0 is the first transcribed base.
        begin, end = (tss - TSS_OFFSET, tss + span) if strand == "+" else (tss - span + 1, tss + 1 + TSS_OFFSET)
        if begin < MARGIN or end > WINDOW - MARGIN or not plan.free(begin, end):
            continue
        _write_gene(plan, draw, strand, tss, exons, introns)
        return tss, strand
    return None


def _write_gene(plan: _Plan, draw: Draw, strand: str, tss: int, exons: list[int], introns: list[int]) -> None:
    """Write exons and their motifs, on the gene's own strand, and take the bases of exons (introns stay free)."""

    def place(at: int, length: int) -> int:
        return tss + at if strand == "+" else tss - at - length + 1

    def motif(kind: Motif, at: int) -> None:
        plan.put(place(at, len(kind)), strand, kind, "gene", _sample(kind, draw))

    at, begins = 0, []
    for exon, intron in zip(exons, [*introns, 0], strict=True):
        letters, start = draw.letters(exon, _EXON), place(at, exon)
        plan.codes[start : start + exon] = letters if strand == "+" else reverse_codes(letters)
        plan.taken[start : start + exon] = True
        begins.append(at)
        at += exon + intron
    motif(CORE, -TSS_OFFSET)
    for begin, exon, following in zip(begins, exons, begins[1:], strict=False):
        motif(DONOR, begin + exon - DONOR_CUT)
        motif(ACCEPTOR, following - ACCEPTOR_CUT)
    motif(POLYA, begins[-1] + exons[-1] - POLYA_CUT)


def _sample(motif: Motif, draw: Draw) -> np.ndarray:
    """Bases of a site: the consensus at strong positions, drawn from the matrix at weak ones."""
    while True:
        codes = motif.codes.copy()
        for row, letter in enumerate(motif.consensus):
            if letter.islower():
                codes[row] = draw.letters(1, tuple(motif.probabilities[row].tolist()))[0]
        if int(motifs.scan(codes, motif)[0]) > motif.threshold:
            return codes


def _plant_factor(plan: _Plan, factors: tuple[Motif, ...], draw: Draw, kind: str, place) -> None:
    """Plant a factor's site around ``place()``, where there is room within some trials."""
    motif, strand = draw.pick(factors), draw.pick("+-")
    codes = _sample(motif, draw)
    if kind == "weak":
        # A strong and a weak position are beyond the slack together; mending the strong one makes a site.
        codes = motif.codes.copy()
        for row in draw.pick(((0, 4), (0, 7), (0, 4, 7))):
            codes[row] = (codes[row] + draw.integer(1, 3)) % 4
    for _ in range(20):
        start = place() - len(motif) // 2
        if plan.free(start, start + len(motif)):
            plan.put(start, strand, motif, kind, codes)
            return


def _plant_decoy(plan: _Plan, draw: Draw) -> None:
    """Plant a donor, acceptor or polyadenylation motif away from the core promoters, where nothing is transcribed."""
    motif, strand = draw.pick((DONOR, ACCEPTOR, POLYA)), draw.pick("+-")
    for _ in range(20):
        start = draw.integer(_GAP, WINDOW - 64)
        genes = [begin for begin, _, core, _ in plan.planted if core is CORE]
        if plan.free(start, start + len(motif)) and all(abs(start - begin) > MAX_TRANSCRIPT + 64 for begin in genes):
            plan.put(start, strand, motif, "decoy", _sample(motif, draw))
            return


def _remove_accidents(codes: np.ndarray, planted: list[Planted], draw: Draw) -> None:
    """Change a base of every motif of genes that chance has made, until none is left."""
    meant = {(item.start, item.strand, item.motif.name) for item in planted}
    fixed = np.zeros(len(codes), dtype=bool)
    for item in planted:
        fixed[item.start : item.end] = True
    while accidents := [found for found in _structure(codes) if found not in meant]:
        lengths = {motif.name: len(motif) for motif in STRUCTURE}
        for start, _, name in accidents:
            open_places = [place for place in range(start, start + lengths[name]) if not fixed[place]]
            if not open_places:
                raise RuntimeError(f"a {name} at {start} is made of planted motifs only")
            place = draw.pick(open_places)
            codes[place] = (codes[place] + draw.integer(1, 3)) % 4


def _structure(codes: np.ndarray) -> list[tuple[int, str, str]]:
    """(start, strand, name) of every motif of genes, on the + strand's coordinates."""
    found = []
    for strand in "+-":
        oriented = codes if strand == "+" else reverse_codes(codes)
        for motif in STRUCTURE:
            for start, _ in find(oriented, motif):
                found.append((start if strand == "+" else len(codes) - start - len(motif), strand, motif.name))
    return found


def _read_genes(
    contigs: dict[str, np.ndarray], windows: list[Window], sites: dict[str, list[Site]], expected: int
) -> list[Gene]:
    """Name what the rule reads in the finished sequence."""
    fold_of = {(window.chrom, window.start): window.fold for window in windows}
    genes: list[Gene] = []
    for chrom, codes in contigs.items():
        near = sites[chrom]
        centers = np.array([site.center for site in near])
        order = np.argsort(centers, kind="stable")
        for transcript in sorted(find_transcripts(codes), key=lambda found: found.start):
            first, last = np.searchsorted(centers[order], [transcript.tss - REACH + 1, transcript.tss + REACH])
            within = tuple(near[i] for i in sorted(order[first:last].tolist()))
            fold = fold_of[chrom, transcript.tss // WINDOW * WINDOW]
            genes.append(Gene(f"SIMG{len(genes) + 1:05d}", chrom, fold, transcript, within))
    if len(genes) != expected:
        raise RuntimeError(f"{expected} genes were planted, but the rule reads {len(genes)}")
    return genes
