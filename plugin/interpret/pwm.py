"""Motifs as matrices of base probabilities: read from MEME files, found in sequences, compared with each other."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kipoi_borzoi.dataloaders.text import read_lines
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.sequence import BASES, one_hot

HIT_P_VALUE = 1e-4
"""Chance of a hit at a place of random sequence, on one strand, unless said otherwise."""

_FLOOR = 1e-3  # added to probabilities, so that a base never seen is unlikely, not impossible
_UNIT = 100  # scores are whole hundredths of a bit, so that their distribution can be counted exactly
_NO_BASE = -(10**5)
_WIDEST = 100


@dataclass(frozen=True, eq=False)
class Motif:
    """A position weight matrix.

    Attributes
    ----------
    name : str
    probabilities : (width, 4) float64
        Columns A, C, G, T; each row sums to 1.

    Raises
    ------
    InputError
        When the matrix is none of these, or wider than 100.
    """

    name: str
    probabilities: np.ndarray

    def __post_init__(self):
        matrix = np.array(self.probabilities, dtype=np.float64)
        if matrix.ndim != 2 or matrix.shape[1] != 4 or not 1 <= len(matrix) <= _WIDEST:
            raise InputError(f"motif {self.name!r}: a matrix of shape {matrix.shape}, expected (1 to {_WIDEST}, 4)")
        if not (np.isfinite(matrix).all() and (matrix >= 0).all() and np.allclose(matrix.sum(1), 1, atol=0.02)):
            raise InputError(f"motif {self.name!r}: rows must be probabilities of A, C, G, T that sum to 1")
        object.__setattr__(self, "probabilities", matrix / matrix.sum(1, keepdims=True))

    @classmethod
    def of_sequence(cls, sequence: str, name: str | None = None) -> Motif:
        """The motif that is one sequence of A, C, G, T.

        Raises
        ------
        InputError
            Other letters, or none.
        """
        if not re.fullmatch("[ACGTacgt]+", sequence):
            raise InputError(f"{sequence!r} is no sequence of A, C, G and T")
        return cls(name or sequence.upper(), one_hot(sequence, np.float64))

    def __len__(self) -> int:
        return len(self.probabilities)

    @property
    def reverse_complement(self) -> Motif:
        """The motif as it reads on the other strand."""
        return Motif(self.name, self.probabilities[::-1, ::-1])

    @property
    def consensus(self) -> str:
        """The most probable base of every position."""
        return "".join(BASES[base] for base in self.probabilities.argmax(1))

    @cached_property
    def information(self) -> np.ndarray:
        """Bits of information of every position, (width,): 2 less the entropy."""
        p = self.probabilities
        return 2 + (p * np.log2(np.where(p > 0, p, 1))).sum(1)

    @cached_property
    def scores(self) -> np.ndarray:
        """log2 odds against equal base frequencies in hundredths of a bit, (width, 4) int64."""
        p = (self.probabilities + _FLOOR) / (1 + 4 * _FLOOR)
        return np.rint(_UNIT * np.log2(p / 0.25)).astype(np.int64)

    def threshold(self, p_value: float = HIT_P_VALUE) -> int:
        """The lowest score that random sequence reaches with a probability of ``p_value`` at most.

        Counted exactly over all sequences, all bases equally frequent. Where even the best score is more
        probable, as of short motifs, it is the best score.
        """
        lowest = self.scores.min(1)
        chance = np.ones(1)
        for row, low in zip(self.scores, lowest, strict=True):
            longer = np.zeros(len(chance) + int(row.max() - low))
            for score in row - low:
                longer[score : score + len(chance)] += chance / 4
            chance = longer
        tail = np.cumsum(chance[::-1])[::-1]
        reached = np.flatnonzero(tail <= p_value * (1 + 1e-9))
        best = int(self.scores.max(1).sum())
        return min(int(reached[0] + lowest.sum()), best) if len(reached) else best

    def score(self, codes: np.ndarray) -> np.ndarray:
        """Score at every start on the + strand, in hundredths of a bit.

        Parameters
        ----------
        codes : (length,) uint8
            0 to 3 for A, C, G, T; 4 for any other letter, which no hit contains.

        Returns
        -------
        (length - width + 1,) int64; empty when the sequence is shorter than the motif
        """
        starts = len(codes) - len(self) + 1
        if starts <= 0:
            return np.zeros(0, np.int64)
        table = np.concatenate([self.scores, np.full((len(self), 1), _NO_BASE)], axis=1)
        total = np.zeros(starts, np.int64)
        for row, column in enumerate(table):
            total += column[codes[row : row + starts]]
        return total


@dataclass(frozen=True)
class Hit:
    """A motif found in a sequence.

    Attributes
    ----------
    start, end : int
        0-based, half-open.
    strand : {'+', '-'}
    score : float
        Bits.
    """

    start: int
    end: int
    strand: str
    score: float


def find_hits(motif: Motif, codes: np.ndarray, p_value: float = HIT_P_VALUE) -> list[Hit]:
    """Find a motif on both strands of a sequence; of a palindromic place only the better strand counts.

    Parameters
    ----------
    motif : Motif
    codes : (length,) uint8
        See `Motif.score`.
    p_value : float
        See `Motif.threshold`.

    Returns
    -------
    list of Hit
        By start. Hits of one motif may overlap.
    """
    threshold = motif.threshold(p_value)
    forward, reverse = motif.score(codes), motif.reverse_complement.score(codes)
    best = np.maximum(forward, reverse)
    return [
        Hit(int(start), int(start) + len(motif), "+" if forward[start] >= reverse[start] else "-", best[start] / _UNIT)
        for start in np.flatnonzero(best >= threshold)
    ]


def similarity(one: Motif, other: Motif, min_overlap: int = 4) -> tuple[float, int, str]:
    """How alike two motifs are: the cosine of the angle between their matrices, at the best offset and strand.

    Matrices are taken as probabilities less 1/4, so that positions without preference weigh nothing; positions without
    a counterpart count as if that had no preference.

    Parameters
    ----------
    min_overlap : int
        Positions that must face each other; at most the shorter motif's width.

    Returns
    -------
    (float, int, str)
        1 for equal motifs, about 0 for unrelated ones; the position of ``other``'s first column along ``one``; the
        strand of ``other``. 0 where one of them has no preference anywhere.
    """
    a = one.probabilities - 0.25
    best = (0.0, 0, "+")
    least = min(min_overlap, len(one), len(other))
    for strand, turned in (("+", other), ("-", other.reverse_complement)):
        b = turned.probabilities - 0.25
        norm = np.sqrt((a**2).sum() * (b**2).sum())
        if norm < 1e-9:
            continue
        for offset in range(least - len(b), len(a) - least + 1):
            first, last = max(offset, 0), min(offset + len(b), len(a))
            value = float((a[first:last] * b[first - offset : last - offset]).sum() / norm)
            if value > best[0] + 1e-12:
                best = (value, offset, strand)
    return best


def closest(motif: Motif, known: Sequence[Motif]) -> tuple[Motif | None, float]:
    """The known motif that is most like ``motif``, and how much (see `similarity`); None for no known motifs."""
    best, value = None, 0.0
    for other in known:
        alike = similarity(motif, other)[0]
        if best is None or alike > value:
            best, value = other, alike
    return best, value


def read_meme(path: str | os.PathLike) -> list[Motif]:
    """Read the motifs of a MEME file (minimal format, version 4 or later; as JASPAR and HOCOMOCO give them).

    Returns
    -------
    list of Motif
        Never empty. A motif with a second name (``MOTIF MA0139.1 CTCF``) is called ``MA0139.1 CTCF``.

    Raises
    ------
    InputError
        With file and line: not a MEME file, another alphabet than DNA, a matrix that is cut or has other than four
        columns of probabilities, a name twice.
    """
    motifs: dict[str, Motif] = {}
    name, rows, width, where = None, [], None, f"{path}"
    seen_version = False
    for number, line in read_lines(path):
        text, here = line.strip(), f"{path}, line {number}"
        if text.startswith("MEME version"):
            seen_version = True
        elif not seen_version and text:
            raise InputError(f"{here}: not a MEME file: expected 'MEME version 4' first, got {text[:60]!r}")
        elif text.startswith("ALPHABET"):
            if "=" in text and text.split("=")[1].strip() != BASES:
                raise InputError(f"{here}: the alphabet is {text.split('=')[1].strip()!r}, expected {BASES} (DNA)")
        elif text.startswith("MOTIF"):
            _close(motifs, name, rows, width, where)
            name, rows, width, where = " ".join(text.split()[1:]), [], None, here
            if not name:
                raise InputError(f"{here}: a motif without a name")
            if name in motifs:
                raise InputError(f"{here}: motif {name!r} is there twice")
        elif text.startswith("letter-probability matrix"):
            if name is None:
                raise InputError(f"{here}: a matrix without a line 'MOTIF name' before it")
            found = re.search(r"w=\s*(\d+)", text)
            letters = re.search(r"alength=\s*(\d+)", text)
            if letters and letters[1] != "4":
                raise InputError(f"{here}: {letters[1]} letters, expected 4 (DNA)")
            rows, width = [], int(found[1]) if found else -1
        elif width is not None and text and (len(rows) < width or width == -1) and not text.startswith("URL"):
            rows.append(_row(text, name, here))
    if not seen_version:
        raise InputError(f"{path}: not a MEME file: it has no line 'MEME version 4'")
    _close(motifs, name, rows, width, where)
    if not motifs:
        raise InputError(f"{path}: no motif in it")
    return list(motifs.values())


def write_meme(path: str | os.PathLike, motifs: Sequence[Motif]) -> None:
    """Write motifs as a MEME file (version 4), which `read_meme` and the tools of the MEME suite read."""
    lines = ["MEME version 4", "", f"ALPHABET= {BASES}", "", "strands: + -", "", "Background letter frequencies"]
    lines += ["A 0.25 C 0.25 G 0.25 T 0.25", ""]
    for motif in motifs:
        lines += [f"MOTIF {motif.name}", f"letter-probability matrix: alength= 4 w= {len(motif)}"]
        lines += [" ".join(f"{value:.6f}" for value in row) for row in motif.probabilities]
        lines.append("")
    with open(path, "w", encoding="utf-8") as handle:
        handle.write("\n".join(lines))


def _row(text: str, name: str, where: str) -> list[float]:
    try:
        row = [float(part) for part in text.split()]
    except ValueError:
        row = []
    if len(row) != 4 or not all(0 <= value <= 1 for value in row) or abs(sum(row) - 1) > 0.02:
        raise InputError(f"{where}: motif {name!r}: expected four probabilities that sum to 1, got {text[:60]!r}")
    return row


def _close(motifs: dict[str, Motif], name: str | None, rows: list, width: int | None, where: str) -> None:
    if name is None:
        return
    if width is None:
        raise InputError(f"{where}: motif {name!r} has no 'letter-probability matrix'")
    if not rows or (width != -1 and len(rows) != width):
        raise InputError(f"{where}: motif {name!r} has {len(rows)} rows, its header says {width}: is the file cut?")
    motifs[name] = Motif(name, np.array(rows))
