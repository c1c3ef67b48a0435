"""The motifs that the rule reads: position weight matrices with whole-number scores, so that no sum depends on its order."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kipoi_borzoi.sequence import BASES

STRONG, WEAK = 0.91, 0.73
"""Probability of the consensus base at a position written in upper and in lower case; the other three share the rest."""

_NO_BASE = -2000  # the sum over a motif still fits 16 bits


@dataclass(frozen=True)
class Motif:
    """A position weight matrix, given by its consensus.

    Attributes
    ----------
    name : str
    consensus : str
        Upper case: strong position, lower case: weak position (`STRONG`, `WEAK`).
    slack : int
        How far below the best score a site may lie, in hundredths of a bit.
    """

    name: str
    consensus: str
    slack: int

    def __len__(self) -> int:
        return len(self.consensus)

    @cached_property
    def probabilities(self) -> np.ndarray:
        """(length, 4) float64, columns A, C, G, T."""
        matrix = np.empty((len(self), 4))
        for row, letter in enumerate(self.consensus):
            best = STRONG if letter.isupper() else WEAK
            matrix[row] = (1 - best) / 3
            matrix[row, BASES.index(letter.upper())] = best
        return matrix

    @cached_property
    def scores(self) -> np.ndarray:
        """(length, 4) int32: hundredths of a bit, round(100 log2(p / 0.25))."""
        bits = [[round(100 * math.log2(p / 0.25)) for p in row] for row in self.probabilities.tolist()]
        return np.array(bits, dtype=np.int32)

    @cached_property
    def best(self) -> int:
        """Score of the consensus."""
        return int(self.scores.max(axis=1).sum())

    @property
    def threshold(self) -> int:
        """Only what scores more is a site."""
        return self.best - self.slack

    def occupancy(self, score: int) -> float:
        """(score - threshold) / slack: 0 at the threshold, 1 for the consensus."""
        return (score - self.threshold) / self.slack

    @cached_property
    def codes(self) -> np.ndarray:
        """(length,) uint8 codes of the consensus."""
        return np.array([BASES.index(letter.upper()) for letter in self.consensus], dtype=np.uint8)


def scan(codes: np.ndarray, motif: Motif) -> np.ndarray:
    """Score a motif at every start, on the strand that ``codes`` spells.

    Parameters
    ----------
    codes : (bp,) uint8
        0 to 3 for A, C, G, T; 4 for any other letter, which no site contains.
    motif : Motif
        Of an even length.

    Returns
    -------
    (bp - length + 1,) int16; empty when the sequence is shorter than the motif
    """
    starts = len(codes) - len(motif) + 1
    if starts <= 0:
        return np.zeros(0, dtype=np.int16)
    total = np.zeros(starts, dtype=np.int16)
    table = np.concatenate([motif.scores, np.full((len(motif), 1), _NO_BASE)], axis=1).astype(np.int16)
    pairs = codes[:-1] * np.uint8(5) + codes[1:]
    for row in range(0, len(motif), 2):  # two bases at a time: half the look-ups
        both = (table[row][:, None] + table[row + 1]).reshape(-1)
        total += np.take(both, pairs[row : row + starts], mode="clip")
    return total


def find(codes: np.ndarray, motif: Motif) -> list[tuple[int, int]]:
    """(start, score) of every site of a motif on the strand that ``codes`` spells, by start."""
    scores = scan(codes, motif)
    starts = np.flatnonzero(scores > motif.threshold)
    return list(zip(starts.tolist(), scores[starts].tolist(), strict=True))


_STRUCTURE_SLACK = 400
CORE = Motif("core_promoter", "TATAAAAGgcGCGCcg", _STRUCTURE_SLACK)
DONOR = Motif("splice_donor", "CAGGTAAGTAtg", _STRUCTURE_SLACK)
ACCEPTOR = Motif("splice_acceptor", "ttTTCTTTTGCAGg", _STRUCTURE_SLACK)
POLYA = Motif("polyadenylation", "AATAAAGTGTTg", _STRUCTURE_SLACK)
STRUCTURE = (CORE, DONOR, ACCEPTOR, POLYA)

_CONSENSUS = (
    "gcTGACTCACat", "atCCGGAAGTga", "tcAGGTCAAGcg", "caGATAACGCtt", "ggCACGTGTTca", "taGGGACTTTcc",
    "agCTGTTTACgt", "ctATTTGCATag", "gaGCTATTTCtg", "acTCGAGGACta", "ttACCATCCGac", "cgGGATTAGCaa",
)  # fmt: skip
FACTORS = tuple(Motif(f"factor{number}", text, 560) for number, text in enumerate(_CONSENSUS, start=1))


def meme_text(motifs: tuple[Motif, ...]) -> str:
    """The motifs as a MEME file (version 4)."""
    lines = ["MEME version 4", "", f"ALPHABET= {BASES}", "", "strands: + -", "", "Background letter frequencies"]
    lines += ["A 0.25 C 0.25 G 0.25 T 0.25", ""]
    for motif in motifs:
        lines.append(f"MOTIF {motif.name}")
        lines.append(f"letter-probability matrix: alength= 4 w= {len(motif)} nsites= 100 E= 0")
        lines += [" ".join(f"{p:.6f}" for p in row) for row in motif.probabilities.tolist()]
        lines.append("")
    return "\n".join(lines)
