"""What scoring gives: the alleles in the order of the input, and per scorer one number for each allele and column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

SCORED = "SCORED"
"""Status of an allele that has scores; every other status is the reason code of a skipped one."""


@dataclass(frozen=True)
class Column:
    """One column of scores: a track, a pair of strands summed into one, or a contrast.

    Attributes
    ----------
    name : str
        Unique among the columns of a table. A track's identifier; of a strand pair that of the forward
        one without its ``+``; a contrast's name. Where models with different tracks are scored
        together, the model's name and a colon stand before it.
    kind : {'track', 'contrast'}
    description : str
    model : str
        Name of the model (or, of an ensemble, of the first one) that predicts it.
    tracks : tuple of str
        Identifiers of the tracks it is made of.
    """

    name: str
    kind: str = "track"
    description: str = ""
    model: str = ""
    tracks: tuple[str, ...] = ()


@dataclass(frozen=True)
class AlleleRow:
    """One ALT of the input, scored or not.

    Attributes
    ----------
    number : int
        0-based count of alleles in the input, unique and in the input's order.
    chrom, pos, ref, alt : str, int, str, str
        As written in the input; ``pos`` is 1-based.
    id : str
        The record's ID as written, ``.`` when there is none: never a key.
    status : str
        `SCORED`, or a reason code of `kipoi_borzoi.variants.alleles`.
    detail : str
        What else the user should know, in words; empty for nothing.
    padded : float
        Fraction of the window beyond the contig's ends (zeros); NaN when skipped.
    record : int
        0-based count of records in the input: the alleles of one record share it. Where it is not known
        (-1), neighbours of one place, REF and ID count as one record.
    """

    number: int
    chrom: str
    pos: int
    ref: str
    alt: str
    id: str = "."
    status: str = SCORED
    detail: str = ""
    padded: float = float("nan")
    record: int = -1

    @property
    def variant_id(self) -> str:
        """``chrom:pos:ref:alt`` as written."""
        return f"{self.chrom}:{self.pos}:{self.ref}:{self.alt}"


@dataclass(frozen=True)
class GeneRow:
    """One gene of one allele.

    Attributes
    ----------
    allele : int
        Index of the allele within its chunk.
    gene_id, gene_name, strand : str
    covered : float
        Fraction of the gene's exonic bp that lie in the window predicted; below 1 the score is of a part of the gene.
    """

    allele: int
    gene_id: str
    gene_name: str = ""
    strand: str = "."
    covered: float = 1.0


@dataclass(frozen=True, eq=False)
class Measures:
    """One scorer's numbers.

    Attributes
    ----------
    mean : (rows, columns) float32
        The score; of an ensemble, the mean over its models. NaN for what was not scored.
    sd : (rows, columns) float32 or None
        Standard deviation over the models (n - 1); None with one model.
    agreement : (rows, columns) float32 or None
        Fraction of the models whose sign is the mean's; None with one model or an unsigned scorer.
    quantile : (rows, columns) float32 or None
        Place in the background's distribution, 0 to 1, of signed scorers -1 to 1; None without a background.
    specificity : (rows, columns) float32 or None
        Score minus its mean over the other columns of the same model; None when not asked for.
    """

    mean: np.ndarray
    sd: np.ndarray | None = None
    agreement: np.ndarray | None = None
    quantile: np.ndarray | None = None
    specificity: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Chunk:
    """The results for some alleles that follow one another in the input.

    Attributes
    ----------
    alleles : tuple of AlleleRow
    scores : dict of scorer name to Measures
        Rows as ``alleles``.
    genes : tuple of GeneRow
        Every gene of every allele, in the order of the alleles; of a scored allele without a gene there is none.
    gene_scores : dict of scorer name to Measures
        Rows as ``genes``.
    profiles : dict of 'REF' or 'ALT' to (alleles, bins, columns) float32
        Predicted unsquashed coverage, where it was asked for.
    """

    alleles: tuple[AlleleRow, ...]
    scores: Mapping[str, Measures] = field(default_factory=dict)
    genes: tuple[GeneRow, ...] = ()
    gene_scores: Mapping[str, Measures] = field(default_factory=dict)
    profiles: Mapping[str, np.ndarray] = field(default_factory=dict)
