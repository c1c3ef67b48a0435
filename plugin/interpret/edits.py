"""Alterations of a sequence whose effect is asked for: mutated bases, blanked or shuffled stretches, motifs put in or taken out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kipoi_borzoi.errors import InputError


@dataclass(frozen=True, eq=False)
class Edit:
    """Bases that replace those from ``start`` on.

    Attributes
    ----------
    start : int
        0-based, in the window.
    bases : (n, 4) one-hot
        All zeros stand for N.
    """

    start: int
    bases: np.ndarray

    def applied(self, x: np.ndarray) -> np.ndarray:
        """The sequence with the edit, as a copy.

        Raises
        ------
        InputError
            When the edit does not lie within the sequence.
        """
        end = self.start + len(self.bases)
        if self.start < 0 or end > len(x):
            raise InputError(f"an edit of positions {self.start} to {end} does not lie in the window of {len(x)} bp")
        x = np.array(x)
        x[self.start : end] = self.bases
        return x


def base_edits(x: np.ndarray, start: int, end: int) -> list[tuple[int, int, Edit]]:
    """Every other base at every position of ``[start, end)``; positions without a base (N) are left out.

    Returns
    -------
    list of (position, base, Edit)
        ``base``: 0 to 3 for A, C, G, T.
    """
    identity = np.eye(4, dtype=x.dtype)
    return [
        (position, base, Edit(position, identity[base : base + 1]))
        for position in range(start, end)
        if x[position].any()
        for base in range(4)
        if not x[position, base]
    ]


def blocks(start: int, end: int, size: int, stride: int) -> Iterator[tuple[int, int]]:
    """Stretches of ``size`` bp every ``stride`` bp that cover ``[start, end)``; the last ends at ``end``.

    Raises
    ------
    InputError
        A size or stride below 1, or a stride that leaves bases out.
    """
    if size < 1 or stride < 1 or stride > size:
        raise InputError(
            f"blocks of {size} bp every {stride} bp: expected sizes of 1 or more, and a stride no longer than a block"
        )
    size = min(size, end - start)
    for first in range(start, end - size, stride):
        yield first, first + size
    yield end - size, end


def shuffled(bases: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The rows of ``bases`` (n, 4) in random order."""
    return bases[random.permutation(len(bases))]
