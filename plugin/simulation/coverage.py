"""From expected expression to the coverage that an experiment would have measured, and its BigWig files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kipoi_borzoi.simulation.cells import State
from kipoi_borzoi.simulation.draw import Draw, pow2
from kipoi_borzoi.simulation.genome import Genome
from kipoi_borzoi.simulation.rule import enhancer_depth, enhancer_span, log2_expression

STEP = 32
"""bp over which the counting noise is constant: pieces of exons end at multiples of it."""
FRAGMENT = 100
"""Nominal fragment length in bp: ``scale`` of the targets table is its inverse."""
_STRAY_BLOCK = 4096  # one stray fragment in each block of this many bp


@dataclass(frozen=True)
class Track:
    """One strand of one replicate of one state.

    Attributes
    ----------
    state : State
    replicate : int
        From 1.
    strand : {'+', '-'}
    """

    state: State
    replicate: int
    strand: str

    @property
    def library(self) -> str:
        """What both strands have in common."""
        return f"{self.state.name}.rep{self.replicate}"

    @property
    def identifier(self) -> str:
        """Name in the targets table."""
        return self.library + self.strand

    @property
    def file(self) -> str:
        """Path of the BigWig file, relative to the targets table."""
        return f"coverage/{self.library}.{'plus' if self.strand == '+' else 'minus'}.bw"


@dataclass(frozen=True, eq=False)
class Pieces:
    """Coverage of one contig as pieces that do not overlap, ascending.

    Attributes
    ----------
    starts, ends : (n,) int64
        0-based half-open.
    values : (n,) float64
        Above 0.
    """

    starts: np.ndarray
    ends: np.ndarray
    values: np.ndarray


def make_tracks(states: Iterable[State], replicates: int) -> list[Track]:
    """The tracks of ``states``, strands of one replicate beside each other."""
    return [Track(state, number, strand) for state in states for number in range(1, replicates + 1) for strand in "+-"]


def measure(track: Track, genome: Genome, depth: float, noise: float, seed: int) -> dict[str, Pieces]:
    """Draw the coverage of one track.

    Parameters
    ----------
    track : Track
    genome : Genome
    depth : float
        Factor on the expected coverage.
    noise : float
        Standard deviation of log2 expression between replicates. With 0 there is no noise at all.
    seed : int

    Returns
    -------
    dict of str to Pieces
        Of each contig.
    """
    draw = Draw(seed, f"coverage/{track.identifier}")
    result = {}
    for chrom, codes in genome.contigs.items():
        level, cuts = np.zeros(len(codes)), [np.arange(0, len(codes), STEP)]
        for span, expected in _sources(track, genome, chrom):
            amount = depth * expected * pow2(noise * float(draw.normal(1)[0]))
            for start, end in span:
                level[start:end] += amount
            cuts.append(np.array(span, dtype=np.int64).ravel())
        starts = np.unique(np.concatenate(cuts))
        starts = starts[starts < len(codes)]
        ends = np.append(starts[1:], len(codes))
        values = level[starts]
        some = values > 0
        pieces = Pieces(starts[some], ends[some], values[some])
        result[chrom] = _counted(pieces, level, noise, draw) if noise > 0 else pieces
    return result


def _sources(track: Track, genome: Genome, chrom: str) -> Iterator[tuple[list[tuple[int, int]], float]]:
    """Stretches that one transcript, or the RNA of one enhancer, covers, and their expected depth at depth 1."""
    activity, length = track.state.activity, len(genome.contigs[chrom])
    for gene in genome.genes:
        if gene.chrom == chrom and gene.transcript.strand == track.strand:
            yield list(gene.transcript.exons), pow2(log2_expression(gene.transcript, gene.sites, activity))
    for site in genome.sites[chrom]:
        if (amount := enhancer_depth(site, activity)) > 0:
            start, end = enhancer_span(site)
            yield [(max(0, start), min(end, length))], amount


def _counted(pieces: Pieces, level: np.ndarray, noise: float, draw: Draw) -> Pieces:
    """Round the pieces' levels to counts with a spread like that of reads, and add stray fragments between them."""
    values = pieces.values
    spread = np.sqrt(values + (0.5 * noise * values) * (0.5 * noise * values))
    values = np.maximum(0.0, np.floor(values + spread * draw.normal(len(values)) + 0.5))
    blocks = np.arange(len(level) // _STRAY_BLOCK) * _STRAY_BLOCK
    stray = blocks + np.floor(draw.uniform(len(blocks)) * (_STRAY_BLOCK - FRAGMENT)).astype(np.int64)
    covered = np.concatenate([[0], np.cumsum(level > 0)])
    stray = stray[covered[stray + FRAGMENT] == covered[stray]]
    starts = np.concatenate([pieces.starts, stray])
    ends = np.concatenate([pieces.ends, stray + FRAGMENT])
    values = np.concatenate([values, np.ones(len(stray))])
    order = np.argsort(starts, kind="stable")
    order = order[values[order] > 0]
    return Pieces(starts[order], ends[order], values[order])


def write_bigwig(path: Path, lengths: dict[str, int], pieces: dict[str, Pieces]) -> None:
    """Write the pieces of all contigs; neighbours of equal value become one."""
    import pyBigWig

    file = pyBigWig.open(str(path), "w")
    try:
        file.addHeader(list(lengths.items()), maxZooms=4)
        for chrom, some in pieces.items():
            starts, ends, values = some.starts, some.ends, some.values
            if not len(starts):
                continue
            first = np.concatenate([[True], (starts[1:] != ends[:-1]) | (values[1:] != values[:-1])])
            last = np.concatenate([first[1:], [True]])
            file.addEntries(
                [chrom] * int(first.sum()),
                starts[first].tolist(),
                ends=ends[last].tolist(),
                values=values[first].tolist(),
            )
    finally:
        file.close()
