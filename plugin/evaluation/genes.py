"""Expression of genes from binned coverage: the exon bins of each gene, on the tracks of its strand."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.evaluation.correlation import pearson, ranks
from kipoi_borzoi.genome import Interval
from kipoi_borzoi.tracks import Tracks


class GeneLike(Protocol):
    """What is asked of a gene, such as those that the GTF reader gives.

    ``exons`` are 0-based, half-open (start, end), ascending.
    """

    gene_id: str
    name: str
    chrom: str
    strand: str
    exons: tuple[tuple[int, int], ...]


def exon_bins(gene: GeneLike, start: int, bins: int, bin_size: int) -> np.ndarray | None:
    """Bins of a window that a gene's exons fall into, by Calico's rule.

    Parameters
    ----------
    gene : GeneLike
    start : int
        0-based position of the first base of the first bin.
    bins, bin_size : int
        Bins of the window, and bp of one.

    Returns
    -------
    (n,) int64 or None
        For each exon, the bins from round((exon start - start) / bin size) to round((exon end -
        start) / bin size), at least one; sorted, each once. None when one lies outside of the window.
    """
    chosen: set[int] = set()
    for begin, end in gene.exons:
        first, last = round((begin - start) / bin_size), round((end - start) / bin_size)
        chosen.update(range(first, max(last, first + 1)))
    if not chosen or min(chosen) < 0 or max(chosen) >= bins:
        return None
    return np.array(sorted(chosen), dtype=np.int64)


@dataclass(frozen=True)
class Column:
    """One column of the table of expression: an unstranded track, or both strands of a stranded one.

    Attributes
    ----------
    name : str
        Identifier; of a strand pair without its last ``+`` or ``-``, where both share the rest.
    plus, minus : int
        Rows of the tracks for genes of each strand.
    """

    name: str
    plus: int
    minus: int


def expression_columns(tracks: Tracks) -> tuple[Column, ...]:
    """Join the strands of each experiment, in the order of the first of them.

    Which partner is the forward strand is told by the identifiers' last character, ``+`` and ``-``;
    where these do not tell, the first in the table is.

    Raises
    ------
    InputError
        When a stranded track's partner is missing.
    """
    pairs, columns, names = tracks.pair_rows(), [], tracks.identifiers
    for row, pair in enumerate(pairs.tolist()):
        if pair < row:
            continue
        plus, minus = (pair, row) if names[row].endswith("-") and names[pair].endswith("+") else (row, pair)
        shared = names[plus].endswith("+") and names[minus].endswith("-") and names[plus][:-1] == names[minus][:-1]
        columns.append(Column(names[plus][:-1] if pair != row and shared else names[plus], plus, minus))
    return tuple(columns)


@dataclass(frozen=True)
class Placed:
    """A gene in a window of the store.

    Attributes
    ----------
    gene : GeneLike
    example : int
        Number of the window.
    fold : str
    bins : (n,) int64
    """

    gene: GeneLike
    example: int
    fold: str
    bins: np.ndarray


@dataclass(frozen=True)
class Placement:
    """Genes and the windows that they are read from.

    Attributes
    ----------
    placed : tuple of Placed
        In the order of the windows; each gene once.
    left_out : dict of str to int
        Reason to number of genes without a window.
    """

    placed: tuple[Placed, ...]
    left_out: dict[str, int]


def place_genes(
    genes: Iterable[GeneLike], windows: dict[int, tuple[Interval, str]], crop_bp: int, bins: int, bin_size: int
) -> Placement:
    """Give every gene the window in whose output all its exons lie; of several, the one whose middle is nearest.

    Parameters
    ----------
    genes : iterable of GeneLike
    windows : dict of int to (Interval, str)
        The input window and the fold of each example.
    crop_bp, bins, bin_size : int
        What is cut from each end of a window, and its bins.
    """
    by_chrom: dict[str, list[tuple[int, int]]] = {}
    for number, (interval, _) in windows.items():
        by_chrom.setdefault(interval.chrom, []).append((interval.start, number))
    for starts in by_chrom.values():
        starts.sort()
    length = 2 * crop_bp + bins * bin_size
    placed, left_out = [], {"outside": 0, "no_strand": 0}
    for gene in genes:
        if gene.strand not in ("+", "-"):
            left_out["no_strand"] += 1
            continue
        starts, (first, last) = by_chrom.get(gene.chrom, []), (gene.exons[0][0], gene.exons[-1][1])
        # Only windows around the whole gene, to rounding of its bins.
        near = starts[bisect_left(starts, (last - length - bin_size,)) : bisect_left(starts, (first + bin_size + 1,))]
        best = None
        for start, number in near:
            found = exon_bins(gene, start + crop_bp, bins, bin_size)
            distance = abs(start + length / 2 - (first + last) / 2)
            if found is not None and (best is None or distance < best[0]):
                best = (distance, Placed(gene, number, windows[number][1], found))
        if best is None:
            left_out["outside"] += 1
        else:
            placed.append(best[1])
    placed.sort(key=lambda item: (item.example, item.gene.exons[0][0], item.gene.gene_id))
    return Placement(tuple(placed), {reason: count for reason, count in left_out.items() if count})


def gene_sums(coverage: np.ndarray, strand: str, columns: tuple[Column, ...]) -> np.ndarray:
    """Sum over a gene's exon bins of each column's track of its strand.

    Parameters
    ----------
    coverage : (exon bins, tracks) array
        Unsquashed.
    strand : {'+', '-'}
    columns : tuple of Column

    Returns
    -------
    (columns,) float64
    """
    rows = [column.plus if strand == "+" else column.minus for column in columns]
    return coverage[:, rows].sum(axis=0, dtype=np.float64)


def quantile_normalise(values: np.ndarray) -> np.ndarray:
    """Give every column the same distribution: the mean over columns of their sorted values.

    Parameters
    ----------
    values : (genes, columns) array

    Returns
    -------
    (genes, columns) float64
        Equal values of a column get the same result: that of their mean rank, interpolated.
    """
    values = np.asarray(values, dtype=np.float64)
    if not len(values):
        return values
    reference = np.sort(values, axis=0).mean(axis=1)
    return np.interp(ranks(values), np.arange(1, len(values) + 1), reference)


def differences(values: np.ndarray) -> np.ndarray:
    """What tells columns apart: quantile-normalised values less each gene's mean over columns, (genes, columns)."""
    normal = quantile_normalise(values)
    return normal - normal.mean(axis=1, keepdims=True)


def difference_pearson(measured: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """r across genes of the `differences` of each column; NaN with one column only."""
    if np.shape(measured)[1] < 2:
        return np.full(np.shape(measured)[1], np.nan)
    return pearson(differences(measured), differences(predicted))


def checked_genes(genes: list[GeneLike], placement: Placement, contigs: set[str]) -> None:
    """Raise InputError when no gene has a window.

    Parameters
    ----------
    genes : list of GeneLike
    placement : Placement
    contigs : set of str
        Names in the store.
    """
    if placement.placed:
        return
    names = {gene.chrom for gene in genes}
    hint = ""
    if not names & contigs:
        hint = f"; contigs of the genes: {', '.join(sorted(names)[:3])}, of the store: {', '.join(sorted(contigs)[:3])}"
    raise InputError(
        f"none of {len(genes)} genes lies with all its exons in the output of a window of this split{hint}"
    )
