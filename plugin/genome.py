"""Places on the genome and their coordinate rules, so that no other module does coordinate arithmetic of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kipoi_borzoi.errors import InputError

STRANDS = ("+", "-", ".")


@dataclass(frozen=True)
class Interval:
    """A stretch of one contig.

    Attributes
    ----------
    chrom : str
        Contig name.
    start, end : int
        0-based, half-open. A window may reach beyond its contig (``start < 0`` is legal);
        an interval of length 0 or less is not.
    strand : {'+', '-', '.'}
    name : str
        Free text, carried along.

    Raises
    ------
    InputError
        When ``end <= start`` or the strand is none of the three.
    """

    chrom: str
    start: int
    end: int
    strand: str = "."
    name: str = ""

    def __post_init__(self):
        if self.end <= self.start:
            raise InputError(
                f"interval {self.chrom}:{self.start}-{self.end}: end must be greater than start (0-based, half-open)"
            )
        if self.strand not in STRANDS:
            raise InputError(
                f"interval {self.chrom}:{self.start}-{self.end}: strand is {self.strand!r}, expected one of + - ."
            )

    @property
    def length(self) -> int:
        """Length in bp."""
        return self.end - self.start

    @property
    def center(self) -> int:
        """0-based position of the middle; of an even number of positions, the right one of the middle two."""
        return (self.start + self.end) // 2

    def resize(self, length: int) -> Interval:
        """Return the interval of ``length`` bp around the same centre.

        For an even ``length`` the centre lands at index ``length // 2`` of the result; it may
        reach beyond the contig.
        """
        start = self.center - length // 2
        return replace(self, start=start, end=start + length)

    def __str__(self) -> str:
        return f"{self.chrom}:{self.start}-{self.end}" + ("" if self.strand == "." else f"({self.strand})")


@dataclass(frozen=True)
class Variant:
    """One allele of a VCF record, as written there.

    Attributes
    ----------
    chrom : str
        Contig name.
    pos : int
        1-based position of the first base of ``ref``.
    ref, alt : str
        What the genome has, and what stands there instead; ``alt`` may be anything that a VCF allows.
    id : str
        The record's ID, carried along; ``.`` for none. It is no key: it may be repeated or hold commas.

    Raises
    ------
    InputError
        When ``pos`` is negative or ``ref`` is empty.
    """

    chrom: str
    pos: int
    ref: str
    alt: str
    id: str = "."

    def __post_init__(self):
        if self.pos < 0:
            raise InputError(f"variant {self}: the position is negative; positions are 1-based")
        if not self.ref:
            raise InputError(f"variant {self}: REF is empty; a VCF writes at least one base")

    @property
    def start(self) -> int:
        """0-based position of the first base of ``ref``."""
        return self.pos - 1

    @property
    def end(self) -> int:
        """0-based position after the last base of ``ref``."""
        return self.pos - 1 + len(self.ref)

    def __str__(self) -> str:
        return f"{self.chrom}:{self.pos}:{self.ref}:{self.alt}"
