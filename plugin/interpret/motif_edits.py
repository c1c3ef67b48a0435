"""Motifs put into a sequence or taken out of it, as edits."""

from __future__ import annotations

import numpy as np

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.interpret.edits import Edit
from kipoi_borzoi.interpret.pwm import HIT_P_VALUE, Motif
from kipoi_borzoi.sequence import one_hot, reverse_complement

_TRIES = 1000


def insertion(motif: Motif, start: int, strand: str = "+") -> Edit:
    """The motif's most probable sequence in place of the bases from ``start`` on (the sequence keeps its length)."""
    bases = one_hot(motif.consensus)
    return Edit(start, reverse_complement(bases) if strand == "-" else bases)


def knock_outs(
    x: np.ndarray, motif: Motif, start: int, count: int, random: np.random.Generator, p_value: float = HIT_P_VALUE
) -> list[Edit]:
    """Random bases in place of a stretch as long as the motif, none of which leaves a hit of the motif there.

    Parameters
    ----------
    x : (length, 4) one-hot
    motif : Motif
    start : int
        0-based position of the stretch.
    count : int
        How many; their effects are to be averaged, so that what a replacement happens to create does not count.
    random : numpy.random.Generator
    p_value : float
        What counts as a hit, on either strand, anywhere that overlaps the stretch.

    Raises
    ------
    InputError
        When the motif is found in whatever replaces it (it is too short or has too little information).
    """
    width, threshold = len(motif), motif.threshold(p_value)
    first, last = max(0, start - width + 1), min(len(x), start + 2 * width - 1)
    codes = np.where(x[first:last].any(1), x[first:last].argmax(1), 4).astype(np.uint8)
    reverse, edits = motif.reverse_complement, []
    for _ in range(_TRIES):
        bases = random.integers(0, 4, width).astype(np.uint8)
        codes[start - first : start - first + width] = bases
        best = max(one.score(codes).max() for one in (motif, reverse))
        if best < threshold:
            edits.append(Edit(start, np.eye(4, dtype=x.dtype)[bases]))
            if len(edits) == count:
                return edits
    raise InputError(f"motif {motif.name!r} cannot be knocked out: it is found in almost every sequence of {width} bp")
