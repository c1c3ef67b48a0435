"""The windows of a data set and their folds: read from a BED file, and held against each other for leaks between folds."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from kipoi_borzoi.dataloaders.bed import BedRecord, read_bed_records
from kipoi_borzoi.dataloaders.fasta import FastaReader
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.genome import Interval

_MANY_FOLDS = 32


@dataclass(frozen=True)
class Windows:
    """Windows of one length with their folds.

    Attributes
    ----------
    intervals : tuple of Interval
        All of ``seq_length`` bp; may reach beyond the contig. Contig names as in the BED file.
    folds : tuple of str
        One per window.
    seq_length : int
        bp.
    padded : dict of int to int
        Number of each window that reaches beyond its contig: bp beyond.
    """

    intervals: tuple[Interval, ...]
    folds: tuple[str, ...]
    seq_length: int
    padded: dict[int, int]


def read_windows(
    path: str | os.PathLike, fasta: FastaReader, seq_length: int | None = None, crop_bp: int = 0
) -> Windows:
    """Read ``chrom, start, end, fold`` from a BED file.

    Parameters
    ----------
    path : path
        Further columns are ignored.
    fasta : FastaReader
        The genome, for the lengths of contigs.
    seq_length : int, optional
        bp of a window. Intervals must be of this length, or of ``seq_length - 2 * crop_bp``, as in Calico's files,
        which list the part with targets: those are extended by the crop. None takes the intervals as they are.
    crop_bp : int

    Raises
    ------
    InputError
        Naming file and line, when a line is malformed, has no fold or another length, is there twice, or lies beyond
        its contig.
    """
    records = read_bed_records(path, bed_columns=3)
    if not records[0].extra:
        raise InputError(
            f"{path}, line {records[0].line}: 3 columns, expected 4: chrom, start, end and the fold (such as train or fold0)"
        )
    folds = tuple(record.extra[0] for record in records)
    for record, fold in zip(records, folds, strict=True):
        if not fold or fold == "." or fold != fold.strip():
            raise InputError(
                f"{path}, line {record.line}: the fold (column 4) is {fold!r}, expected a name such as fold0"
            )
    if len(set(folds)) > max(_MANY_FOLDS, len(folds) // 2):
        raise InputError(
            f"{path}: {len(set(folds))} different folds for {len(folds)} sequences ({', '.join(folds[:3])}, ...); "
            "column 4 must be the fold of the sequence, not its name"
        )
    intervals = _resize(path, records, seq_length, crop_bp)
    seen: dict[Interval, int] = {}
    padded = {}
    for number, (record, interval) in enumerate(zip(records, intervals, strict=True)):
        where = f"{path}, line {record.line}"
        length = fasta.contigs[fasta.resolve(interval.chrom, f"{where}: ")]
        if interval in seen:
            raise InputError(
                f"{where}: {interval} is in line {records[seen[interval]].line}, too; list each sequence once"
            )
        seen[interval] = number
        if record.interval.start >= length:
            raise InputError(
                f"{where}: {record.interval} lies beyond the end of its contig, which is {length} bp long in {fasta.path}; "
                "is it of another assembly?"
            )
        beyond = max(-interval.start, 0) + max(interval.end - length, 0)
        if beyond:
            padded[number] = beyond
    return Windows(tuple(intervals), folds, intervals[0].length, padded)


def _resize(path, records: list[BedRecord], seq_length: int | None, crop_bp: int) -> list[Interval]:
    first = records[0].interval.length
    known = {seq_length, seq_length - 2 * crop_bp} if seq_length else {first}
    intervals = []
    for record in records:
        interval = record.interval
        if interval.length not in known:
            expected = " or ".join(str(length) for length in sorted(known, reverse=True))
            hint = (
                ""
                if seq_length
                else f", the length of line {records[0].line}; or state the window's length (--seq-length)"
            )
            raise InputError(
                f"{path}, line {record.line}: {interval} is {interval.length} bp long, expected {expected}{hint}"
            )
        extend = 0 if seq_length is None else (seq_length - interval.length) // 2
        intervals.append(Interval(interval.chrom, interval.start - extend, interval.end + extend))
    return intervals


@dataclass(frozen=True)
class Overlap:
    """What two folds share.

    Attributes
    ----------
    folds : (str, str)
    target_bp : int
        bp of the genome on which both have targets: what is learned in one is tested in the other.
    window_bp : int
        bp that lie in windows of both, with targets or not.
    example : str
        A place of the shared stretch.
    """

    folds: tuple[str, str]
    target_bp: int
    window_bp: int
    example: str


def fold_overlaps(intervals, example_folds, folds, crop_bp: int) -> list[Overlap]:
    """Find the pairs of folds that share a part of the genome.

    Parameters
    ----------
    intervals : sequence of Interval
        Windows.
    example_folds : sequence of str
        Fold of each window.
    folds : sequence of str
        Names of the folds, in order.
    crop_bp : int
        bp at each end of a window that have no targets.

    Returns
    -------
    list of Overlap
        Pairs with at least one shared bp.
    """
    of_fold: dict[str, list[Interval]] = {fold: [] for fold in folds}
    for interval, fold in zip(intervals, example_folds, strict=True):
        of_fold[fold].append(interval)
    whole = {fold: _unions(of_fold[fold], 0) for fold in folds}
    inner = {fold: _unions(of_fold[fold], crop_bp) for fold in folds}
    found = []
    for number, one in enumerate(folds):
        for other in folds[number + 1 :]:
            window_bp, window_example = _shared(whole[one], whole[other])
            target_bp, target_example = _shared(inner[one], inner[other])
            if window_bp:
                found.append(Overlap((one, other), target_bp, window_bp, target_example or window_example))
    return found


def _unions(intervals: list[Interval], crop_bp: int) -> dict[str, np.ndarray]:
    """Per contig, the (start, end) of the intervals' union, ascending and apart."""
    by_contig: dict[str, list[tuple[int, int]]] = {}
    for interval in intervals:
        by_contig.setdefault(interval.chrom, []).append((interval.start + crop_bp, interval.end - crop_bp))
    unions = {}
    for chrom, stretches in by_contig.items():
        stretches.sort()
        starts, ends = np.array(stretches, dtype=np.int64).T
        reach = np.maximum.accumulate(ends)
        new = np.flatnonzero(np.r_[True, starts[1:] > reach[:-1]])
        unions[chrom] = np.stack([starts[new], reach[np.r_[new[1:] - 1, len(reach) - 1]]], axis=1)
    return unions


def _shared(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> tuple[int, str]:
    total, example = 0, ""
    for chrom in one.keys() & other.keys():
        for start, end in one[chrom]:
            rows = other[chrom]
            first = np.searchsorted(rows[:, 1], start, side="right")
            last = np.searchsorted(rows[:, 0], end, side="left")
            if first < last:
                left, right = np.maximum(rows[first:last, 0], start), np.minimum(rows[first:last, 1], end)
                total += int((right - left).sum())
                example = example or f"{chrom}:{left[0]}-{right[0]}"
    return total, example
