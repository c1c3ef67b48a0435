"""From expected expression to the coverage that an experiment would have measured, and its BigWig files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kipoi_borzoi.simulation.cells import State
from kipoi_borzoi.simulation.draw import Draw, pow2
from kipoi_borzoi.simulation.genome import Gene
from kipoi_borzoi.simulation.rule import log2_expression

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


def make_tracks(states: Iterable[State], replicates: int) -> list[Track]:
    """The tracks of ``states``, strands of one replicate beside each other."""
    return [Track(state, number, strand) for state in states for number in range(1, replicates + 1) for strand in "+-"]


def measure(
    track: Track, genes: list[Gene], lengths: dict[str, int], depth: float, noise: float, seed: int
) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Draw the coverage of one track.

    Parameters
    ----------
    track : Track
    genes : list of Gene
        Whose transcripts do not overlap on one strand.
    lengths : dict of str to int
        bp of each contig.
    depth : float
        Factor on the expected coverage.
    noise : float
        Standard deviation of log2 expression between replicates. With 0 there is no noise at all.
    seed : int

    Returns
    -------
    dict of str to (starts, ends, values)
        Of each contig, pieces that do not overlap, ascending; positions int64, values float64.
    """
    draw = Draw(seed, f"coverage/{track.identifier}")
    own = [gene for gene in genes if gene.transcript.strand == track.strand]
    shifts = draw.normal(len(own)).tolist()
    pieces: dict[str, list[tuple[int, int, float]]] = {chrom: [] for chrom in lengths}
    for gene, shift in zip(own, shifts, strict=True):
        level = depth * pow2(log2_expression(gene.transcript, gene.sites, track.state.activity) + noise * shift)
        for start, end in gene.transcript.exons:
            cuts = [start, *range(start // STEP * STEP + STEP, end, STEP), end]
            pieces[gene.chrom] += [(a, b, level) for a, b in zip(cuts, cuts[1:], strict=False)]
    return {chrom: _counted(pieces[chrom], lengths[chrom], noise, draw) for chrom in lengths}


def _counted(pieces: list[tuple[int, int, float]], length: int, noise: float, draw: Draw):
    """Round the pieces' levels to counts with a spread like that of reads, and add stray fragments between them."""
    starts = np.array([piece[0] for piece in pieces], dtype=np.int64)
    ends = np.array([piece[1] for piece in pieces], dtype=np.int64)
    values = np.array([piece[2] for piece in pieces], dtype=np.float64)
    if noise > 0:
        spread = np.sqrt(values + (0.5 * noise * values) * (0.5 * noise * values))
        values = np.maximum(0.0, np.floor(values + spread * draw.normal(len(values)) + 0.5))
        blocks = np.arange(length // _STRAY_BLOCK) * _STRAY_BLOCK
        stray = blocks + np.floor(draw.uniform(len(blocks)) * (_STRAY_BLOCK - FRAGMENT)).astype(np.int64)
        covered = np.zeros(length + 1, dtype=np.int32)
        covered[starts] += 1
        covered[ends] -= 1
        inside = np.concatenate([[0], np.cumsum(np.cumsum(covered))])
        stray = stray[inside[stray + FRAGMENT] == inside[stray]]
        starts = np.concatenate([starts, stray])
        ends = np.concatenate([ends, stray + FRAGMENT])
        values = np.concatenate([values, np.ones(len(stray))])
    order = np.argsort(starts, kind="stable")
    order = order[values[order] > 0]
    return starts[order], ends[order], values[order]


def write_bigwig(path: Path, lengths: dict[str, int], pieces: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]) -> None:
    """Write the pieces of all contigs; neighbours of equal value become one."""
    import pyBigWig

    file = pyBigWig.open(str(path), "w")
    try:
        file.addHeader(list(lengths.items()), maxZooms=4)
        for chrom, (starts, ends, values) in pieces.items():
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

