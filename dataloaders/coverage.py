"""From coverage per base to the targets that networks are trained on: one function for the store's builder and for Kipoi's loader.

Per track and window: read; no value is 0; black-listed stretches are clipped; crop; join the bases of
each bin; squash (`kipoi_borzoi.tracks.squash`); store as float16 within its range. `squash` applies the
scale to the joined bins; that is the same as scaling the bases, because sum, mean and maximum are linear
in a positive factor.
"""

from __future__ import annotations

import bisect
import logging
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kipoi_borzoi.dataloaders.bed import read_bed
from kipoi_borzoi.dataloaders.bgzf import read_head
from kipoi_borzoi.dataloaders.bigwig import BigWigReader
from kipoi_borzoi.dataloaders.contigs import match_contig
from kipoi_borzoi.dataloaders.coverage_reader import CoverageReader
from kipoi_borzoi.dataloaders.w5 import MAGIC as HDF5_MAGIC
from kipoi_borzoi.dataloaders.w5 import W5Reader
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.genome import Interval
from kipoi_borzoi.tracks import SUM_STATS, Tracks, squash

FLOAT16_MAX = float(np.finfo(np.float16).max)
BLACKLIST_EXTEND_BP = 20
BLACKLIST_QUANTILE = 0.5
NEGATIVE = ("error", "abs")

logger = logging.getLogger("kipoi_borzoi")


def open_coverage(path: str | os.PathLike) -> CoverageReader:
    """Open a BigWig or w5 file, told apart by content.

    Raises
    ------
    InputError
        When it is missing, empty, truncated or neither.
    """
    return W5Reader(path) if read_head(path).startswith(HDF5_MAGIC) else BigWigReader(path)


def locate_coverage(file: str, table: str | os.PathLike) -> Path:
    """Place of a coverage file that a target table names.

    A relative path counts from the table's folder; where nothing is there, from the working directory.

    Raises
    ------
    InputError
        When ``file`` is empty or there is no such file.
    """
    if not file:
        raise InputError(f"{table}: a track has no file; the column 'file' must name its BigWig or w5 coverage")
    beside = Path(table).parent / file
    if beside.exists() or not Path(file).exists():
        if not beside.exists():
            raise InputError(f"{beside}: no such file; the column 'file' of {table} names it")
        return beside
    return Path(file)


class Blacklist:
    """Stretches of the genome whose coverage is an artefact, each extended by 20 bp at both ends.

    Parameters
    ----------
    path : path
        BED file.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        places: dict[str, list[tuple[int, int]]] = {}
        for interval in read_bed(path):
            start, end = interval.start - BLACKLIST_EXTEND_BP, interval.end + BLACKLIST_EXTEND_BP
            places.setdefault(interval.chrom, []).append((start, end))
        self._places = {chrom: _join(stretches) for chrom, stretches in places.items()}

    def check_contigs(self, contigs: Collection[str]) -> None:
        """Raise InputError when no contig of the list is among ``contigs`` (of the genome)."""
        if not any(match_contig(name, contigs) for name in self._places):
            names = ", ".join(list(self._places)[:5])
            raise InputError(
                f"{self.path}: none of its contigs ({names}) is in the genome, so nothing would be black-listed; "
                "rename them, or leave the list out"
            )

    def within(self, window: Interval) -> list[tuple[int, int]]:
        """Black-listed (start, end) of a window, counted from its start, ascending and apart."""
        stretches = self._places.get(match_contig(window.chrom, self._places) or "", [])
        first = bisect.bisect_right(stretches, window.start, key=lambda stretch: stretch[1])
        found = []
        for start, end in stretches[first:]:
            if start >= window.end:
                break
            found.append((max(start - window.start, 0), min(end - window.start, window.length)))
        return found


def _join(stretches: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for start, end in sorted(stretches):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


@dataclass(frozen=True)
class Recipe:
    """How windows of coverage become targets.

    Attributes
    ----------
    transform : {'new', 'old'}
    crop_bp : int
        bp cut from each end of the window.
    pool_width : int
        bp of a bin.
    negative : {'error', 'abs'}
        What to do with coverage below 0: refuse it, or take its absolute value (some tools write minus-strand
        coverage as negative numbers).
    blacklist_quantile : float
        Quantile of the window's coverage to which black-listed stretches are clipped; 0 is used when a base of the
        window has no value.

    Raises
    ------
    InputError
        When a value is out of range.
    """

    transform: str = "new"
    crop_bp: int = 0
    pool_width: int = 32
    negative: str = "error"
    blacklist_quantile: float = BLACKLIST_QUANTILE

    def __post_init__(self):
        if self.negative not in NEGATIVE:
            raise InputError(f"negative is {self.negative!r}, expected one of {', '.join(NEGATIVE)}")
        if not 0 <= self.blacklist_quantile <= 1:
            raise InputError(f"the blacklist's quantile is {self.blacklist_quantile}, expected 0 to 1")


def read_target(
    reader: CoverageReader, window: Interval, track: Tracks, recipe: Recipe, blacklist: Blacklist | None = None
) -> np.ndarray:
    """Read one track's target of one window.

    Parameters
    ----------
    reader : CoverageReader
        The track's coverage.
    window : Interval
    track : Tracks
        Of length 1.
    recipe : Recipe
    blacklist : Blacklist, optional

    Returns
    -------
    (bins,) float16

    Raises
    ------
    InputError
        As `CoverageReader.read`, and when coverage is negative.
    """
    values = reader.read(window)
    negative = values < 0
    if negative.any():
        if recipe.negative == "error":
            place = int(negative.argmax())
            raise InputError(
                f"{reader.path}: negative coverage ({values[place]:g}) at {window.chrom}:{window.start + place + 1} (1-based); "
                "networks are trained on counts of 0 or more. If these are counts of the minus strand written as "
                "negative numbers, ask for absolute values (--abs, or negative='abs'); log ratios cannot be used"
            )
        values = np.abs(values)
    stretches = blacklist.within(window) if blacklist else []
    return make_target(values, track, recipe, stretches)


def make_target(values: np.ndarray, track: Tracks, recipe: Recipe, stretches=()) -> np.ndarray:
    """Turn coverage per base into the target of one track.

    Parameters
    ----------
    values : (bp,) array
        0 or more, NaN for no value. Not changed.
    track : Tracks
        Of length 1.
    recipe : Recipe
    stretches : list of (int, int)
        Black-listed (start, end) of the window.

    Returns
    -------
    (bins,) float16
    """
    values = fill(values, stretches, recipe.blacklist_quantile)
    binned = pool(values[recipe.crop_bp : len(values) - recipe.crop_bp], recipe.pool_width, track.sum_stat[0])
    target = squash(binned[:, None], track, recipe.transform, dtype=np.float64)[:, 0]
    return np.minimum(target, FLOAT16_MAX).astype(np.float16)


def fill(values: np.ndarray, stretches=(), quantile: float = BLACKLIST_QUANTILE) -> np.ndarray:
    """Put 0 where there is no value and clip black-listed stretches to the window's baseline; returns a copy.

    The baseline is the ``quantile`` of the window, and 0 as soon as one base has no value: so the
    released data were made.
    """
    missing = np.isnan(values)
    filled = np.where(missing, 0, values)
    if len(stretches):
        baseline = 0.0 if missing.any() else np.quantile(values, quantile)
        for start, end in stretches:
            np.minimum(filled[start:end], baseline, out=filled[start:end])
    return filled


def pool(values: np.ndarray, width: int, sum_stat: str) -> np.ndarray:
    """Join the bases of each bin: sum, mean or maximum, by the first word of ``sum_stat``.

    Parameters
    ----------
    values : (bp,) array
        ``bp`` a multiple of ``width``.

    Returns
    -------
    (bp / width,) float64
    """
    if sum_stat not in SUM_STATS:
        raise InputError(f"unknown sum_stat {sum_stat!r}; known: {', '.join(SUM_STATS)}")
    if len(values) % width:
        raise InputError(f"{len(values)} bp do not divide into bins of {width} bp")
    bins = values.reshape(-1, width)
    how = sum_stat.removesuffix("_sqrt")
    if how == "max":
        return bins.max(axis=1).astype(np.float64)
    return bins.sum(axis=1, dtype=np.float64) if how == "sum" else bins.mean(axis=1, dtype=np.float64)


def bins_of(seq_length: int, crop_bp: int, pool_width: int) -> int:
    """Number of bins of a window of ``seq_length`` bp without ``crop_bp`` at each end.

    Raises
    ------
    InputError
        When the rest is no positive multiple of ``pool_width``.
    """
    if pool_width < 1 or crop_bp < 0 or seq_length < 1:
        raise InputError(
            f"window of {seq_length} bp, crop of {crop_bp} bp, bins of {pool_width} bp: expected positive numbers (crop 0 or more)"
        )
    rest = seq_length - 2 * crop_bp
    if rest < pool_width or rest % pool_width:
        raise InputError(
            f"a window of {seq_length} bp leaves {rest} bp after a crop of {crop_bp} bp at each end, "
            f"expected a positive multiple of the bin size, {pool_width} bp"
        )
    return rest // pool_width
