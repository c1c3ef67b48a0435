"""Which stretch of a level's positions a tensor holds, and which stretch of its input an operation needs for it.

The convolutions, poolings and U-net steps are local. Stating for each the exact stretch it needs
lets the same code run a whole window, one tile of it in bounded memory, or only the bins that are
asked for, with equal results: padding is added where, and only where, the window itself ends.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """Positions ``start`` to ``end`` (0-based, half-open) of a level that is ``length`` positions long."""

    start: int
    end: int
    length: int

    def __post_init__(self):
        if not 0 <= self.start < self.end <= self.length:
            raise ValueError(f"span {self.start}-{self.end} does not lie within 0-{self.length}")

    @classmethod
    def whole(cls, length: int) -> Span:
        """The span of all positions."""
        return cls(0, length, length)

    @property
    def size(self) -> int:
        """Number of positions."""
        return self.end - self.start

    def union(self, other: Span | None) -> Span:
        """The smallest span that holds both."""
        if other is None:
            return self
        return Span(min(self.start, other.start), max(self.end, other.end), self.length)

    def holds(self, other: Span) -> bool:
        """Whether ``other`` lies within this span."""
        return self.start <= other.start and other.end <= self.end and self.length == other.length

    def clipped(self, start: int, end: int, length: int | None = None) -> Span:
        """The part of ``start`` to ``end`` that exists on a level of ``length`` (this one's by default)."""
        length = self.length if length is None else length
        return Span(max(start, 0), min(end, length), length)

    def offset_in(self, outer: Span) -> int:
        """Where this span begins inside ``outer``, which must hold it."""
        if not outer.holds(self):
            raise ValueError(f"{self} does not lie within {outer}")
        return self.start - outer.start


def conv_reach(kernel_size: int, dilation_rate: int = 1) -> tuple[int, int]:
    """Positions a "same" convolution reads to the left and right of its own."""
    total = (kernel_size - 1) * dilation_rate
    return total // 2, total - total // 2


def conv_input(out: Span, kernel_size: int, dilation_rate: int = 1) -> Span:
    """Input span that a "same" convolution needs for the output span ``out``."""
    left, right = conv_reach(kernel_size, dilation_rate)
    return out.clipped(out.start - left, out.end + right)


def pool_offset(in_length: int, pool_size: int) -> int:
    """Positions of padding that "same" pooling puts before the first input position."""
    out_length = -(-in_length // pool_size)
    return (out_length * pool_size - in_length) // 2


def pool_input(out: Span, pool_size: int, in_length: int) -> Span:
    """Input span that "same" pooling of a level of ``in_length`` needs for the output span ``out``."""
    offset = pool_offset(in_length, pool_size)
    return out.clipped(out.start * pool_size - offset, out.end * pool_size - offset, in_length)


def upsample_input(out: Span) -> Span:
    """Input span that repeating every position twice needs for the output span ``out``."""
    return Span(out.start // 2, -(-out.end // 2), out.length // 2)


def conv_reached(given: Span, kernel_size: int, dilation_rate: int = 1) -> Span:
    """Output span that a "same" convolution computes from any part of the input span ``given``: `conv_input` turned round."""
    left, right = conv_reach(kernel_size, dilation_rate)
    return given.clipped(given.start - right, given.end + left)


def pool_reached(given: Span, pool_size: int) -> Span:
    """Output span that "same" pooling computes from any part of the input span ``given``."""
    offset = pool_offset(given.length, pool_size)
    return Span((given.start + offset) // pool_size, (given.end - 1 + offset) // pool_size + 1, -(-given.length // pool_size))


def upsample_reached(given: Span) -> Span:
    """Output span that repeating every position twice makes of the input span ``given``."""
    return Span(2 * given.start, 2 * given.end, 2 * given.length)
