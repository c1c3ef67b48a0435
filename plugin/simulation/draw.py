"""Numbers that are the same on every machine: random streams and a power of two made of exactly rounded operations only.

NumPy promises that a bit generator's raw numbers stay as they are, but not what its distributions
make of them, and `exp` or `log` may differ in their last digit between machines. So everything that
is written is made of raw numbers, additions, multiplications, divisions and square roots.
"""

from __future__ import annotations

import math
import zlib

import numpy as np

_FRACTION_BITS = 12
_ROOTS = [2.0]
for _ in range(_FRACTION_BITS):
    _ROOTS.append(math.sqrt(_ROOTS[-1]))


def pow2(x: float) -> float:
    """2 to the power of ``x``, with ``x`` rounded to a multiple of 1/4096."""
    whole, fraction = divmod(math.floor(x * (1 << _FRACTION_BITS) + 0.5), 1 << _FRACTION_BITS)
    power = 1.0
    for bit in range(_FRACTION_BITS):
        if fraction >> bit & 1:
            power *= _ROOTS[_FRACTION_BITS - bit]
    return math.ldexp(power, whole)


class Draw:
    """A stream of random numbers.

    Parameters
    ----------
    seed : int
        0 or more.
    stream : str
        Streams of different names are independent: what one purpose draws does not move another's.
    """

    def __init__(self, seed: int, stream: str):
        self._bits = np.random.PCG64(np.random.SeedSequence([seed, zlib.crc32(stream.encode())]))

    def uniform(self, count: int) -> np.ndarray:
        """(count,) float64 in [0, 1)."""
        return (self._bits.random_raw(count) >> np.uint64(11)) * 2.0**-53

    def normal(self, count: int) -> np.ndarray:
        """(count,) float64 of mean 0 and variance 1: sums of 12 uniform numbers, less 6."""
        total = np.full(count, -6.0)
        for _ in range(12):
            total += self.uniform(count)
        return total

    def integer(self, low: int, high: int) -> int:
        """One whole number from ``low`` to ``high``, both included."""
        return low + int(float(self.uniform(1)[0]) * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """True with ``probability``."""
        return float(self.uniform(1)[0]) < probability

    def pick(self, items):
        """One of ``items``."""
        return items[self.integer(0, len(items) - 1)]

    def letters(self, count: int, weights: tuple[float, float, float, float]) -> np.ndarray:
        """(count,) uint8 codes 0 to 3 of A, C, G, T, with these probabilities."""
        limits = np.array([weights[0], weights[0] + weights[1], weights[0] + weights[1] + weights[2]])
        return np.searchsorted(limits, self.uniform(count), side="right").astype(np.uint8)

    def shuffled(self, items) -> list:
        """``items`` in random order."""
        keys = self.uniform(len(items))
        return [items[i] for i in np.argsort(keys, kind="stable")]
