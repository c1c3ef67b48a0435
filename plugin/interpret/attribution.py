"""What an explanation of one window consists of, and the arithmetic on gradients that makes it readable."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Attribution:
    """How the bases of one stretch of sequence contribute to a quantity.

    Attributes
    ----------
    sequence : (length, 4) bool
        One-hot; N is all zeros.
    hypothetical : (length, 4) float32
        What each of the four bases would contribute at each position; the mean over the ensemble.
    sd : (length,) float32
        Standard deviation of the observed bases' contributions over the ensemble's members (strands,
        shifts, replicates; n - 1 in the denominator); NaN for a single member.
    value, value_sd : float
        The quantity itself, likewise.
    members : int
        Size of the ensemble.
    """

    sequence: np.ndarray
    hypothetical: np.ndarray
    sd: np.ndarray
    value: float
    value_sd: float
    members: int

    @property
    def contributions(self) -> np.ndarray:
        """What the observed bases contribute, (length,) float32; 0 where there is none (N)."""
        return gated(self.hypothetical, self.sequence)


def centred(scores: np.ndarray) -> np.ndarray:
    """Subtract at each position the mean over the four bases.

    One-hot sequences always sum to 1, so a gradient's component along (1, 1, 1, 1) says nothing about them, and is
    mere noise: Majdandzic et al., Genome Biology 2023.

    Parameters
    ----------
    scores : (..., length, 4)
    """
    return scores - scores.mean(axis=-1, keepdims=True)


def gated(scores: np.ndarray, sequence: np.ndarray) -> np.ndarray:
    """The scores of the observed bases: (..., length, 4) and one-hot (length, 4) to (..., length)."""
    return (scores * sequence).sum(axis=-1, dtype=scores.dtype)


class Members:
    """Gathers the members of an ensemble one by one, holding only sums.

    Parameters
    ----------
    sequence : (length, 4) one-hot
    """

    def __init__(self, sequence: np.ndarray):
        self.sequence = np.asarray(sequence) > 0
        self._values: list[float] = []
        self._sum = np.zeros(self.sequence.shape)
        self._mean = np.zeros(len(self.sequence))
        self._squares = np.zeros(len(self.sequence))

    def add(self, value: float, hypothetical: np.ndarray) -> None:
        """Add a member: the quantity, and the (length, 4) contributions."""
        self._values.append(float(value))
        self._sum += hypothetical
        contributions = gated(np.asarray(hypothetical, dtype=np.float64), self.sequence)
        off = contributions - self._mean  # Welford: the squares of large numbers are never subtracted
        self._mean += off / len(self._values)
        self._squares += off * (contributions - self._mean)

    def finished(self) -> Attribution:
        """The mean and standard deviation of all members."""
        n = len(self._values)
        sd = np.sqrt(self._squares / (n - 1)) if n > 1 else np.full(len(self.sequence), np.nan)
        return Attribution(
            self.sequence,
            (self._sum / n).astype(np.float32),
            sd.astype(np.float32),
            float(np.mean(self._values)),
            float(np.std(self._values, ddof=1)) if n > 1 else float("nan"),
            n,
        )
