"""Motifs found in attributions without knowing any: TF-MoDISco (Shrikumar et al. 2018), as modisco-lite implements it."""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import dataclass

import numpy as np

from kipoi_borzoi.errors import InputError, KipoiBorzoiError
from kipoi_borzoi.interpret.attribution_file import AttributionFile
from kipoi_borzoi.interpret.pwm import Motif

MIN_SEQLETS = 100
"""Stretches with signal of one sign that TF-MoDISco needs, unless said otherwise; with fewer its clusters mean nothing."""

_TRIM = 0.3  # of the largest mean contribution of a position: flanks below are cut off
_LEAST_WIDTH = 21 + 2 * 10  # of a stretch with signal and its flanks

logger = logging.getLogger("kipoi_borzoi")


@dataclass(frozen=True)
class Seqlet:
    """One instance of a pattern: row of the attribution file, 0-based place in it, strand, and summed contributions."""

    row: int
    start: int
    end: int
    strand: str
    contribution: float


@dataclass(frozen=True, eq=False)
class Pattern:
    """A pattern.

    Attributes
    ----------
    name : str
        ``pos_0``, ``pos_1``, ... raise the quantity, ``neg_0``, ... lower it; the most frequent first.
    motif : Motif
        Base frequencies, flanks without contributions cut off.
    contributions : (width, 4) float64
        Mean contributions at the motif's positions.
    seqlets : tuple of Seqlet
        At the motif's positions.
    """

    name: str
    motif: Motif
    contributions: np.ndarray
    seqlets: tuple[Seqlet, ...]

    @property
    def sign(self) -> str:
        """Whether its instances raise or lower the quantity: + or -."""
        return "+" if self.contributions.sum() > 0 else "-"


def check_installed() -> None:
    """Raise KipoiBorzoiError unless modisco-lite is installed."""
    if importlib.util.find_spec("modiscolite") is None:
        raise KipoiBorzoiError("TF-MoDISco (modisco-lite) is not installed: pip install 'kipoi-borzoi[motifs]'")


def discover(attributions: AttributionFile, min_seqlets: int = MIN_SEQLETS, max_seqlets: int = 20_000) -> list[Pattern]:
    """Run TF-MoDISco on all rows of an attribution file.

    Parameters
    ----------
    attributions : AttributionFile
        Of a method that knows the contributions of all four bases.
    min_seqlets, max_seqlets : int
        Stretches with signal needed, and used, of each sign.

    Returns
    -------
    list of Pattern
        Those that raise the quantity, then those that lower it. May be empty.

    Raises
    ------
    InputError
        Rows that are too short or too few, or hold too little signal.
    KipoiBorzoiError
        modisco-lite is not installed.
    """
    check_installed()
    n, length = len(attributions), attributions.length
    if n == 0:
        raise InputError(f"{attributions.paths[0]}: nothing was explained in it")
    if length < 2 * _LEAST_WIDTH:
        raise InputError(
            f"{attributions.paths[0]}: {length} bp per target, expected {2 * _LEAST_WIDTH} or more for motif discovery"
        )
    one_hot, hypothetical = np.zeros((n, length, 4), np.float32), np.zeros((n, length, 4), np.float32)
    for row in attributions.rows():
        one_hot[row] = attributions.sequence(row)[:, None] == np.arange(4)
        hypothetical[row] = attributions.hypothetical(row)
    if not np.isfinite(hypothetical).all() or not (one_hot * hypothetical).any():
        raise InputError(f"{attributions.paths[0]}: no signal: all contributions are 0")
    found = _run(one_hot, hypothetical, min_seqlets, max_seqlets, str(attributions.paths[0]))
    if found == (None, None):
        raise InputError(
            f"{attributions.paths[0]}: too little signal for motif discovery: fewer than {min_seqlets} stretches stand out in {n} "
            f"targets of {length} bp. Explain more targets, or longer stretches of them, or lower --min-seqlets"
        )
    patterns = []
    for prefix, part in zip(("pos", "neg"), found, strict=True):
        for number, pattern in enumerate(part or ()):
            patterns.append(_pattern(f"{prefix}_{number}", pattern, one_hot * hypothetical))
    return patterns


def _run(one_hot, hypothetical, min_seqlets: int, max_seqlets: int, where: str):
    from modiscolite.tfmodisco import TFMoDISco

    try:
        return TFMoDISco(
            one_hot=one_hot, hypothetical_contribs=hypothetical, min_metacluster_size=min_seqlets,
            max_seqlets_per_metacluster=max_seqlets,
        )  # fmt: skip
    except (ValueError, IndexError, ZeroDivisionError) as error:
        # Its arithmetic breaks down in many ways where there is next to no signal.
        raise InputError(
            f"{where}: TF-MoDISco failed ({type(error).__name__}: {error}): is there enough signal?"
        ) from error


def _pattern(name: str, found, contributions: np.ndarray) -> Pattern:
    """One of modisco-lite's patterns, its flanks cut off."""
    means = np.asarray(found.contrib_scores, dtype=float)
    first, last = trimmed(means)
    width = len(means)
    seqlets = []
    for one in found.seqlets:
        start, end = (one.end - last, one.end - first) if one.is_revcomp else (one.start + first, one.start + last)
        total = float(contributions[one.example_idx, start:end].sum())
        seqlets.append(Seqlet(int(one.example_idx), int(start), int(end), "-" if one.is_revcomp else "+", total))
        if one.end - one.start != width:
            raise ValueError(f"pattern {name}: a seqlet of {one.end - one.start} positions in a pattern of {width}")
    return Pattern(
        name, Motif(name, np.asarray(found.sequence, dtype=float)[first:last]), means[first:last], tuple(seqlets)
    )


def trimmed(contributions: np.ndarray, share: float = _TRIM) -> tuple[int, int]:
    """First position, and the one after the last, whose absolute contributions (width, 4) reach ``share`` of the largest."""
    sizes = np.abs(contributions).sum(1)
    kept = np.flatnonzero(sizes >= share * sizes.max())
    return int(kept[0]), int(kept[-1]) + 1
