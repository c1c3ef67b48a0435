"""Windows of DNA around alleles, and the alternative's sequence in them.

A window stays where it is: the alternative has the window's first base in common with the
reference, and its end is filled with what follows in the genome, or cut.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from kipoi_borzoi.sequence import one_hot
from kipoi_borzoi.variants.alleles import Change, Genome
from kipoi_borzoi.variants.genes import OutputWindow


@dataclass(frozen=True)
class Window:
    """A stretch of genome that the network reads; it may reach beyond the contig.

    Attributes
    ----------
    contig : str
        The FASTA's name.
    start : int
        0-based.
    length : int
        bp.
    """

    contig: str
    start: int
    length: int

    @classmethod
    def around(cls, contig: str, pos: int, length: int) -> Window:
        """The window in which the base at the 1-based ``pos`` stands at index ``length // 2 - 1``, as Calico centres it."""
        return cls(contig, pos - length // 2, length)

    @property
    def end(self) -> int:
        """0-based position after the last base."""
        return self.start + self.length

    def padded(self, contig_length: int) -> float:
        """Fraction of the window beyond the contig's ends."""
        inside = max(0, min(self.end, contig_length) - max(self.start, 0))
        return 1 - inside / self.length

    def output(self, crop: int, bins: int, bin_size: int) -> OutputWindow:
        """The stretch that is predicted: ``bins`` bins behind the first ``crop``."""
        return OutputWindow(self.contig, self.start + crop * bin_size, bins, bin_size)


def reference_sequence(genome: Genome, window: Window) -> np.ndarray:
    """The genome in a window, one-hot (length, 4) float32."""
    return one_hot(genome.text(window.contig, window.start, window.end))


def alternative_sequence(genome: Genome, window: Window, change: Change) -> np.ndarray:
    """The genome in a window with one allele in place, one-hot (length, 4) float32.

    Raises
    ------
    ValueError
        The change begins before the window or behind it.
    """
    if not window.start <= change.start <= window.end or change.contig != window.contig:
        raise ValueError(f"{change} does not begin in {window}")
    text = genome.text(window.contig, window.start, change.start) + change.alt
    missing = window.length - len(text)
    if missing > 0:
        after = change.start + len(change.ref)
        text += genome.text(window.contig, after, after + missing)
    return one_hot(text[: window.length])


def stitched(left: np.ndarray, right: np.ndarray, last: int) -> np.ndarray:
    """Join two predictions (..., bins, tracks): bins up to ``last`` of the one, those behind of the other.

    ``last`` may lie outside of the bins: then all come from one prediction.
    """
    at = min(max(last + 1, 0), left.shape[-2])
    return np.concatenate([left[..., :at, :], right[..., at:, :]], axis=-2)


def clustered(changes: Iterable[Change], span: int) -> list[list[Change]]:
    """Group changes whose positions lie within ``span`` bp of the group's first; 0 groups those at the same position.

    Returns
    -------
    list of list of Change
        In the order of contigs and positions; every change once.
    """
    groups: list[list[Change]] = []
    for change in sorted(changes, key=lambda change: (change.contig, change.pos, change.start, change.ref, change.alt)):
        first = groups[-1][0] if groups else None
        if first is not None and change.contig == first.contig and change.pos - first.pos <= span:
            groups[-1].append(change)
        else:
            groups.append([change])
    return groups


def shared_window(changes: list[Change], length: int) -> Window:
    """The window around the middle of a group of changes on one contig, sorted by position."""
    return Window.around(changes[0].contig, (changes[0].pos + changes[-1].pos) // 2, length)
