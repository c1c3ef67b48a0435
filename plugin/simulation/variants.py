"""Variants with their true effects: drawn where something is, and where nothing is; the effect comes from reading the edited window."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kipoi_borzoi.sequence import BASES
from kipoi_borzoi.simulation.cells import State
from kipoi_borzoi.simulation.draw import Draw
from kipoi_borzoi.simulation.genome import WINDOW, Gene, Genome, Planted, Window
from kipoi_borzoi.simulation.motifs import ACCEPTOR, CORE, DONOR, POLYA, STRUCTURE, Motif
from kipoi_borzoi.simulation.rule import expected_coverage

KINDS = {
    "site_loss": 0.24,
    "site_weaken": 0.10,
    "site_gain": 0.12,
    "site_indel": 0.12,
    "silent_site": 0.04,
    "core": 0.06,
    "donor": 0.06,
    "acceptor": 0.06,
    "polya": 0.04,
    "background_snv": 0.10,
    "background_indel": 0.06,
}
"""Shares of the kinds: where a variant was drawn, which says nothing certain about its effect."""


@dataclass(frozen=True)
class SimulatedVariant:
    """One allele.

    Attributes
    ----------
    chrom, pos, ref, alt : str, int, str, str
        As in a VCF: ``pos`` 1-based, indels left-aligned behind their anchor base.
    kind : str
        One of `KINDS`.
    target : str
        Name of the motif it was drawn in, or "".
    window : Window
    """

    chrom: str
    pos: int
    ref: str
    alt: str
    kind: str
    target: str
    window: Window

    @property
    def name(self) -> str:
        """``chrom:pos:ref:alt``."""
        return f"{self.chrom}:{self.pos}:{self.ref}:{self.alt}"


@dataclass(frozen=True)
class Effect:
    """What one allele does in its window.

    Attributes
    ----------
    genes : dict of gene_id to list of float
        For each state, log2 of (1 + expected coverage summed over the reference's exons) with the
        alternative allele less that with the reference.
    total : list of float
        Likewise of the coverage of the whole window and both strands.
    """

    genes: dict[str, list[float]]
    total: list[float]


def true_effect(
    genome: Genome, variant: SimulatedVariant, genes: list[Gene], factors: tuple[Motif, ...], states: list[State],
    reference: np.ndarray | None = None,
) -> Effect:  # fmt: skip
    """Read the variant's window with both alleles.

    Parameters
    ----------
    genome, variant
    genes : list of Gene
        Those of the window.
    factors, states
    reference : (states, 2, bp) array, optional
        Expected coverage of the unedited window, when it is known already.
    """
    window, activities = variant.window, [state.activity for state in states]
    codes = genome.contigs[window.chrom][window.start : window.end]
    at = variant.pos - 1 - window.start
    allele = np.array([BASES.index(letter) for letter in variant.alt], dtype=np.uint8)
    edited = np.concatenate([codes[:at], allele, codes[at + len(variant.ref) :]])
    if reference is None:
        reference = expected_coverage(codes, factors, activities)
    alternative = expected_coverage(edited, factors, activities)
    moved = len(variant.alt) - len(variant.ref)

    def lift(place: int) -> int:
        # Bases of the reference that the allele lacks have the place of the first behind it.
        if place <= at:
            return place
        return max(place + moved, at + min(place - at, len(variant.alt)))

    effects = {}
    for gene in genes:
        strand = "+-".index(gene.transcript.strand)
        exons = [(start - window.start, end - window.start) for start, end in gene.transcript.exons]
        lifted = [(lift(start), lift(end)) for start, end in exons]
        effects[gene.gene_id] = [
            _log2_sum(alternative[state, strand], lifted) - _log2_sum(reference[state, strand], exons)
            for state in range(len(states))
        ]
    total = [
        math.log2(1 + math.fsum(alternative[state].ravel().tolist())) - math.log2(1 + math.fsum(reference[state].ravel().tolist()))
        for state in range(len(states))
    ]  # fmt: skip
    return Effect(effects, total)


def _log2_sum(coverage: np.ndarray, exons: list[tuple[int, int]]) -> float:
    return math.log2(1 + math.fsum(value for start, end in exons for value in coverage[start:end].tolist()))


def make_variants(genome: Genome, silent: str, count: int, test_fold: str, draw: Draw) -> list[SimulatedVariant]:
    """Draw variants, half of them in windows of the fold ``test_fold``.

    Parameters
    ----------
    genome : Genome
    silent : str
        Name of the factor that is active nowhere.
    count : int
    test_fold : str
    draw : Draw

    Returns
    -------
    list of SimulatedVariant
        Different from one another, by place. Fewer than ``count`` where the genome holds too few
        things to edit.
    """
    maker = _Maker(genome, silent, test_fold, draw)
    found: dict[str, SimulatedVariant] = {}
    for kind, share in KINDS.items():
        wanted, before, trials = round(count * share), len(found), 0
        while len(found) - before < wanted and trials < 20 * wanted:
            trials += 1
            variant = maker.make(kind)
            if variant is not None:
                found.setdefault(variant.name, variant)
    order = list(genome.contigs)
    return sorted(
        found.values(), key=lambda variant: (order.index(variant.chrom), variant.pos, variant.ref, variant.alt)
    )


class _Maker:
    """Draws one variant of a kind at a time."""

    def __init__(self, genome: Genome, silent: str, test_fold: str, draw: Draw):
        self.genome, self.draw = genome, draw
        self.windows = {(window.chrom, window.start): window for window in genome.windows}
        self.starts: dict[tuple[str, int], list[int]] = {}
        for gene in genome.genes:
            self.starts.setdefault((gene.chrom, gene.transcript.tss // WINDOW * WINDOW), []).append(gene.transcript.tss)
        structure = {motif.name for motif in STRUCTURE}
        near = [item for item in genome.planted if self._near_gene(item)]
        loud = [item for item in near if item.kind in ("proximal", "distal") and item.motif.name != silent]
        self.items = {
            "site_loss": loud, "site_weaken": loud, "site_indel": loud,
            "site_gain": [item for item in near if item.kind == "weak" and item.motif.name != silent],
            "silent_site": [item for item in near if item.motif.name == silent],
        }  # fmt: skip
        for kind, motif in (("core", CORE), ("donor", DONOR), ("acceptor", ACCEPTOR), ("polya", POLYA)):
            self.items[kind] = [item for item in genome.planted if item.kind == "gene" and item.motif is motif]
        self.taken: dict[str, np.ndarray] = {
            chrom: np.zeros(len(codes), bool) for chrom, codes in genome.contigs.items()
        }
        for item in genome.planted:
            if item.motif.name in structure or item.kind != "decoy":
                self.taken[item.chrom][item.start - 2 : item.end + 2] = True
        self.pools = {
            (kind, test): [item for item in items if (self._window(item.chrom, item.start).fold == test_fold) == test]
            for kind, items in self.items.items()
            for test in (True, False)
        }
        self.pools.update(
            (("", test), [window for window in genome.windows if (window.fold == test_fold) == test])
            for test in (True, False)
        )

    def make(self, kind: str) -> SimulatedVariant | None:
        """One variant; None where this draw led to nothing."""
        pool = self.pools[kind if kind in self.items else "", self.draw.chance(0.5)]
        if not pool:
            return None
        if kind.startswith("background"):
            return self._background(kind, self.draw.pick(pool))
        item = self.draw.pick(pool)
        if kind == "site_indel":
            place = item.start + self.draw.integer(2, len(item.motif) - 4)
            return self._indel(item.chrom, place, kind, item.motif.name)
        if kind == "site_gain":
            return self._towards_consensus(item, kind)
        weak = kind == "site_weaken"
        rows = [row for row, letter in enumerate(item.motif.consensus) if letter.islower() == weak]
        return self._snv(item, self.draw.pick(rows), kind, lambda base: (base + self.draw.integer(1, 3)) % 4)

    def _near_gene(self, item: Planted) -> bool:
        starts = self.starts.get((item.chrom, item.start // WINDOW * WINDOW), [])
        return any(abs((item.start + item.end) // 2 - tss) < 1500 for tss in starts)

    def _window(self, chrom: str, place: int) -> Window:
        return self.windows[chrom, place // WINDOW * WINDOW]

    def _place(self, item: Planted, row: int) -> int:
        return item.start + row if item.strand == "+" else item.end - 1 - row

    def _snv(self, item: Planted, row: int, kind: str, change: Callable[[int], int]) -> SimulatedVariant:
        place = self._place(item, row)
        old = int(self.genome.contigs[item.chrom][place])
        return self._variant(item.chrom, place, BASES[old], BASES[change(old)], kind, item.motif.name)

    def _towards_consensus(self, item: Planted, kind: str) -> SimulatedVariant | None:
        """Mend one of a weak site's wrong strong bases, where that is the only one."""
        codes = self.genome.contigs[item.chrom][item.start : item.end]
        best = item.motif.codes if item.strand == "+" else (3 - item.motif.codes)[::-1]
        upper = np.array([letter.isupper() for letter in item.motif.consensus])
        upper = upper if item.strand == "+" else upper[::-1]
        wrong = np.flatnonzero((codes != best) & upper)
        if len(wrong) != 1:
            return None
        place = item.start + int(wrong[0])
        ref, alt = BASES[int(codes[wrong[0]])], BASES[int(best[wrong[0]])]
        return self._variant(item.chrom, place, ref, alt, kind, item.motif.name)

    def _background(self, kind: str, window: Window) -> SimulatedVariant | None:
        place = window.start + self.draw.integer(64, WINDOW - 64)
        if self.taken[window.chrom][place : place + 4].any():
            return None
        if kind == "background_indel":
            return self._indel(window.chrom, place, kind, "")
        old = int(self.genome.contigs[window.chrom][place])
        return self._variant(window.chrom, place, BASES[old], BASES[(old + self.draw.integer(1, 3)) % 4], kind, "")

    def _indel(self, chrom: str, place: int, kind: str, target: str) -> SimulatedVariant | None:
        """Take 1 to 3 bases away from ``place`` on, or put as many there, left-aligned."""
        codes, size = self.genome.contigs[chrom], self.draw.integer(1, 3)
        letters = [BASES[int(code)] for code in codes[place - 64 : place + size]]
        inserted = [BASES[int(code)] for code in self.draw.letters(size, (0.25, 0.25, 0.25, 0.25))]
        delete = self.draw.chance(0.5)
        moved = letters[64:] if delete else inserted
        left = 63  # index of the anchor
        while left and letters[left] == moved[-1]:
            moved = [letters[left], *moved[:-1]]
            left -= 1
        anchor, changed = letters[left], "".join(moved)
        ref, alt = (anchor + changed, anchor) if delete else (anchor, anchor + changed)
        return self._variant(chrom, place - 64 + left, ref, alt, kind, target)

    def _variant(self, chrom: str, place: int, ref: str, alt: str, kind: str, target: str) -> SimulatedVariant:
        return SimulatedVariant(chrom, place + 1, ref, alt, kind, target, self._window(chrom, place))
