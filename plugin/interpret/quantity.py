"""The number that is explained: a logarithm of summed coverage, or a signed sum of such logarithms, and its gradient.

Plain NumPy: the network is told the gradient with respect to its coverage, and does the rest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.tracks import Tracks, unsquash, unsquash_slope

PSEUDOCOUNT = 1.0
"""Added to a sum of coverage before its logarithm, unless said otherwise; with it, effects equal those of logSED."""


@dataclass(frozen=True, eq=False)
class LogSum:
    """sign x log2(pseudocount + sum over bins of the weighted mean over tracks of unsquashed coverage).

    Attributes
    ----------
    source : int
        Number of the ensemble of networks whose coverage it is of.
    sign : float
        1 or -1.
    bins : (n,) int64
        Rows of the coverage, each once.
    columns : (k,) int64
        Columns of the coverage, each once.
    weights : (k,) float64
        Of the columns; brought to a sum of 1.
    tracks : Tracks
        Those of the columns, in their order.
    pseudocount : float
        In units of coverage (times the tracks' scale); 0 or more.

    Raises
    ------
    InputError
        No bins, no tracks, or a weight or pseudocount that makes no sense.
    """

    source: int
    sign: float
    bins: np.ndarray
    columns: np.ndarray
    weights: np.ndarray
    tracks: Tracks
    pseudocount: float = PSEUDOCOUNT

    def __post_init__(self):
        for name, dtype in (("bins", np.int64), ("columns", np.int64), ("weights", np.float64)):
            object.__setattr__(self, name, np.array(getattr(self, name), dtype=dtype))
        if not self.bins.size:
            raise InputError("the quantity has no bins: nothing of it lies in the output window")
        if not self.columns.size:
            raise InputError("the quantity has no tracks")
        if len(self.weights) != len(self.columns) or not (self.weights > 0).all():
            raise InputError(
                f"the {len(self.columns)} tracks of a quantity need one weight above 0 each, got {self.weights}"
            )
        check_pseudocount(self.pseudocount)
        object.__setattr__(self, "weights", self.weights / self.weights.sum())

    def value(self, coverage: np.ndarray, transform: str) -> float:
        """The number, of coverage (bins, tracks) that was squashed by ``transform``.

        Raises
        ------
        InputError
            When there is no coverage at all, nor a pseudocount.
        """
        return self.sign * math.log2(self._total(self._part(coverage), transform))

    def value_and_gradient(self, coverage: np.ndarray, transform: str) -> tuple[float, np.ndarray]:
        """The number, and its derivative with respect to ``coverage``: (bins, tracks) float64."""
        part = self._part(coverage)
        total = self._total(part, transform)
        slope = unsquash_slope(part, self.tracks, transform, dtype=np.float64)
        gradient = np.zeros(coverage.shape)
        gradient[np.ix_(self.bins, self.columns)] = self.sign * slope * self.weights / (total * math.log(2))
        return self.sign * math.log2(total), gradient

    def _total(self, part: np.ndarray, transform: str) -> float:
        linear = unsquash(part, self.tracks, transform, dtype=np.float64)
        total = self.pseudocount + float((linear @ self.weights).sum())
        if not total > 0:
            raise InputError(f"the predicted coverage sums to {total}, which has no logarithm: give a pseudocount above 0")
        return total

    def _part(self, coverage: np.ndarray) -> np.ndarray:
        return coverage[np.ix_(self.bins, self.columns)].astype(np.float64)


@dataclass(frozen=True, eq=False)
class Quantity:
    """A sum of signed logarithms. Each ensemble contributes a part of its own, so networks can be run one by one.

    Attributes
    ----------
    terms : tuple of LogSum
        One for an expression; two for a contrast (treated less control, tuned less base) or a ratio of two sets
        of bins; four for the contrast of a ratio.
    """

    terms: tuple[LogSum, ...]

    @property
    def sources(self) -> tuple[int, ...]:
        """The ensembles that contribute, in their order."""
        return tuple(sorted({term.source for term in self.terms}))

    def part(self, source: int, coverage: np.ndarray, transform: str) -> float:
        """What an ensemble contributes, from its coverage (bins, tracks)."""
        return sum(term.value(coverage, transform) for term in self.terms if term.source == source)

    def part_and_gradient(self, source: int, coverage: np.ndarray, transform: str) -> tuple[float, np.ndarray]:
        """The same, and its derivative with respect to the coverage: (bins, tracks) float64."""
        total, gradient = 0.0, np.zeros(coverage.shape)
        for term in self.terms:
            if term.source == source:
                value, slope = term.value_and_gradient(coverage, transform)
                total, gradient = total + value, gradient + slope
        return total, gradient


def check_pseudocount(pseudocount: float) -> None:
    """Raise InputError unless ``pseudocount`` is a finite number, 0 or more."""
    if not (math.isfinite(pseudocount) and pseudocount >= 0):
        raise InputError(f"pseudocount is {pseudocount}, expected a number of 0 or more")
