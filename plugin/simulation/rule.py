"""The rule: from a DNA sequence to its transcripts, and from those and the active factors to expected coverage.

Everything here is a function of the sequence alone, so that a held-out gene, an edited allele and a
planted one are read alike. The same words stand in the README that a simulation writes
(`kipoi_borzoi.simulation.readme`) and in docs/simulate.md.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kipoi_borzoi.simulation.draw import pow2
from kipoi_borzoi.simulation.motifs import ACCEPTOR, CORE, DONOR, POLYA, Motif, find

TSS_OFFSET = 32
"""The first transcribed base lies this many bp after the first base of the core promoter's motif."""
DONOR_CUT, ACCEPTOR_CUT, POLYA_CUT = 3, 13, 12
"""bp of the motif before the cut: the exon ends after CAG of CAG|GTAAGT, begins after the acceptor's AG, ends with the last motif."""
MIN_INTRON, MAX_INTRON = 60, 300
MAX_TRANSCRIPT = 768
"""bp from the start to the latest end, where no polyadenylation site ends the transcript before."""
REACH = 640
"""bp between a factor's site and a start beyond which the site does nothing."""
BASE, CORE_GAIN = 3.0, 2.0
SATURATION = 8.0
ENHANCER_DEPTH, ENHANCER_FLANK = 16.0, 48
"""Depth per unit of activity at a full site that is active, and bp on each side of its middle that it covers."""

COMPLEMENT = np.array([3, 2, 1, 0, 4], dtype=np.uint8)


@dataclass(frozen=True)
class Site:
    """A factor's site.

    Attributes
    ----------
    factor : int
        Index among the factors.
    start, end : int
        0-based half-open, on the + strand.
    strand : {'+', '-'}
        Of the motif; it has no influence.
    score : int
        Hundredths of a bit.
    occupancy : float
        Above 0, to 1.
    """

    factor: int
    start: int
    end: int
    strand: str
    score: int
    occupancy: float

    @property
    def center(self) -> int:
        """The position from which distances count; of an even length, the right one of the middle two."""
        return (self.start + self.end) // 2


@dataclass(frozen=True)
class Transcript:
    """What is transcribed from one core promoter.

    Attributes
    ----------
    strand : {'+', '-'}
    tss : int
        0-based position of the first transcribed base.
    exons : tuple of (start, end)
        0-based half-open, ascending on the + strand.
    core : float
        Occupancy of the core promoter.
    """

    strand: str
    tss: int
    exons: tuple[tuple[int, int], ...]
    core: float

    @property
    def start(self) -> int:
        """0-based first position on the + strand."""
        return self.exons[0][0]

    @property
    def end(self) -> int:
        """End on the + strand, exclusive."""
        return self.exons[-1][1]


def reverse_codes(codes: np.ndarray) -> np.ndarray:
    """The reverse complement of coded bases."""
    return COMPLEMENT[codes[::-1]]


def find_transcripts(codes: np.ndarray) -> list[Transcript]:
    """Read the transcripts of both strands.

    Parameters
    ----------
    codes : (bp,) uint8
        0 to 3 for A, C, G, T of the + strand, 4 for any other letter.

    Returns
    -------
    list of Transcript
        By strand and start site.
    """
    length, transcripts = len(codes), []
    for strand in "+-":
        oriented = codes if strand == "+" else reverse_codes(codes)
        cuts = {
            motif.name: [start + cut for start, _ in find(oriented, motif)]
            for motif, cut in ((DONOR, DONOR_CUT), (ACCEPTOR, ACCEPTOR_CUT), (POLYA, POLYA_CUT))
        }
        for start, score in find(oriented, CORE):
            tss = start + TSS_OFFSET
            if tss >= length:
                continue
            exons = _exons(tss, min(tss + MAX_TRANSCRIPT, length), *cuts.values())
            if strand == "-":
                tss, exons = length - 1 - tss, [(length - end, length - begin) for begin, end in reversed(exons)]
            transcripts.append(Transcript(strand, tss, tuple(exons), CORE.occupancy(score)))
    return sorted(transcripts, key=lambda transcript: (transcript.strand, transcript.tss))


def _exons(tss: int, limit: int, donors: list[int], acceptors: list[int], ends: list[int]) -> list[tuple[int, int]]:
    """Walk along the strand: each exon lasts to the next polyadenylation cut or usable donor, whichever comes first."""
    exons, begin = [], tss
    while True:
        after = bisect_left(ends, begin + 1)
        end = min(ends[after], limit) if after < len(ends) else limit
        for donor in donors[bisect_left(donors, begin + 1) :]:
            if donor >= end:
                exons.append((begin, end))
                return exons
            nearest = bisect_left(acceptors, donor + MIN_INTRON)
            if nearest < len(acceptors) and acceptors[nearest] <= min(donor + MAX_INTRON, limit - 1):
                exons.append((begin, donor))
                begin = acceptors[nearest]
                break
        else:
            exons.append((begin, end))
            return exons


def find_sites(codes: np.ndarray, factors: Sequence[Motif]) -> list[Site]:
    """Read the factors' sites on both strands, by start (then factor and strand)."""
    length, sites = len(codes), []
    for strand in "+-":
        oriented = codes if strand == "+" else reverse_codes(codes)
        for index, motif in enumerate(factors):
            for start, score in find(oriented, motif):
                begin = start if strand == "+" else length - start - len(motif)
                sites.append(Site(index, begin, begin + len(motif), strand, score, motif.occupancy(score)))
    return sorted(sites, key=lambda site: (site.start, site.factor, site.strand))


def weight(site: Site, tss: int) -> float:
    """How much of a site's effect reaches a start: 1 - distance / `REACH`, 0 beyond."""
    return max(0.0, 1 - abs(site.center - tss) / REACH)


def log2_expression(transcript: Transcript, sites: Sequence[Site], activity: Sequence[float]) -> float:
    """Expected depth of a transcript's coverage, as log2.

    Parameters
    ----------
    transcript : Transcript
    sites : sequence of Site
        All within reach at least; those beyond add nothing.
    activity : sequence of float
        Of each factor in the cell's state; negative for a repressor.

    Returns
    -------
    float
        BASE + CORE_GAIN core + SATURATION u / (SATURATION + abs(u)), with u the sum over sites of
        activity x occupancy x weight.
    """
    terms = [activity[site.factor] * site.occupancy * weight(site, transcript.tss) for site in sites]
    drive = math.fsum(terms)
    return BASE + CORE_GAIN * transcript.core + SATURATION * drive / (SATURATION + abs(drive))


def enhancer_depth(site: Site, activity: Sequence[float]) -> float:
    """Expected depth of the RNA made at a site itself, on both strands: ENHANCER_DEPTH x activity x occupancy, not below 0."""
    return ENHANCER_DEPTH * max(0.0, activity[site.factor]) * site.occupancy


def enhancer_span(site: Site) -> tuple[int, int]:
    """Where that RNA lies, 0-based half-open; it may reach beyond the sequence."""
    return site.center - ENHANCER_FLANK, site.center + ENHANCER_FLANK


def expected_coverage(codes: np.ndarray, factors: Sequence[Motif], activities: Sequence[Sequence[float]]) -> np.ndarray:
    """Expected coverage of a sequence, at depth 1 and without noise.

    Returns
    -------
    (states, 2, bp) float64
        For each row of ``activities``, the + and the - strand.
    """
    coverage = np.zeros((len(activities), 2, len(codes)))
    transcripts, sites = find_transcripts(codes), find_sites(codes, factors)
    for transcript in transcripts:
        near = [site for site in sites if abs(site.center - transcript.tss) < REACH]
        for state, activity in enumerate(activities):
            depth = pow2(log2_expression(transcript, near, activity))
            for start, end in transcript.exons:
                coverage[state, "+-".index(transcript.strand), start:end] += depth
    for site in sites:
        start, end = enhancer_span(site)
        for state, activity in enumerate(activities):
            coverage[state, :, max(0, start) : end] += enhancer_depth(site, activity)
    return coverage
