"""Which motifs drive a change: contributions at their hits in changed against unchanged genes, with permutation p-values.

Plain NumPy. For gene g and motif m, the score s(g, m) is the sum over the motif's hits of the contributions of their
bases, each weighted by the information of its position relative to the motif's most informative one. The
concordance of a motif is

    C = [n_up (mean over up s - mean over unchanged s) - n_down (mean over down s - mean over unchanged s)] / (n_up + n_down)

in units of the explained quantity (log2): by how much the motif's hits explain the changes in the direction in which they
were observed. Under the null hypothesis the labels up, down and unchanged have nothing to do with the scores, so C is compared
with its values after permuting them (one-sided).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.interpret.pwm import HIT_P_VALUE, Hit, Motif, find_hits

PERMUTATIONS = 9999
MIN_GENES = 5
"""Fewer changed, or unchanged, genes are no basis for a test."""

_BATCH = 500


@dataclass(frozen=True)
class Driver:
    """A motif in the ranking.

    Attributes
    ----------
    motif : str
    concordance : float
        C, in log2 units per changed gene.
    z : float
        C less the mean over permutations, over their standard deviation.
    p : float
        Chance of a C as large under permutation.
    p_adjusted : float
        Chance that the largest z of all motifs is as large (Westfall and Young's single-step maximum).
    effect : float
        Mean contribution of a hit in changed genes: positive where the motif raises the quantity. NaN without hits.
    effect_unchanged : float
        The same in unchanged genes.
    changed_with_hit, unchanged_with_hit : int
        Genes with one hit or more.
    hits_changed, hits_unchanged : int
    """

    motif: str
    concordance: float
    z: float
    p: float
    p_adjusted: float
    effect: float
    effect_unchanged: float
    changed_with_hit: int
    unchanged_with_hit: int
    hits_changed: int
    hits_unchanged: int


def hit_contribution(motif: Motif, hit: Hit, contributions: np.ndarray) -> float:
    """Sum of the contributions (length,) in a hit, each weighted by its position's information over the largest one."""
    largest = motif.information.max()
    weights = motif.information / largest if largest > 0 else np.zeros(len(motif))
    return float(contributions[hit.start : hit.end] @ (weights if hit.strand == "+" else weights[::-1]))


def score_motifs(
    motifs: Sequence[Motif],
    sequences: Sequence[np.ndarray],
    contributions: Sequence[np.ndarray],
    p_value: float = HIT_P_VALUE,
) -> tuple[np.ndarray, np.ndarray]:
    """Score every motif in every gene.

    Parameters
    ----------
    motifs : sequence of Motif
    sequences : sequence of (length,) uint8
        0 to 3 for A, C, G, T; 4 for others.
    contributions : sequence of (length,) float
    p_value : float
        What counts as a hit.

    Returns
    -------
    scores : (genes, motifs) float64
        s(g, m); 0 without hits.
    counts : (genes, motifs) int64
        Hits.
    """
    scores = np.zeros((len(sequences), len(motifs)))
    counts = np.zeros((len(sequences), len(motifs)), np.int64)
    for row, (codes, values) in enumerate(zip(sequences, contributions, strict=True)):
        for column, motif in enumerate(motifs):
            hits = find_hits(motif, codes, p_value)
            scores[row, column] = sum(hit_contribution(motif, hit, values) for hit in hits)
            counts[row, column] = len(hits)
    return scores, counts


def concordance(scores: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """C of every motif.

    Parameters
    ----------
    scores : (genes, motifs)
    direction : (..., genes) of 1, -1 and 0
        Up, down and unchanged; the same number of each along leading axes.

    Returns
    -------
    (..., motifs) float64
    """
    direction = np.asarray(direction, dtype=np.float64)
    changed = np.abs(direction).sum(-1, keepdims=True)
    balance = direction.sum(-1, keepdims=True) / changed
    return direction @ scores / changed - balance * ((direction == 0) @ scores) / (direction == 0).sum(
        -1, keepdims=True
    )


def rank_drivers(
    motifs: Sequence[str],
    scores: np.ndarray,
    counts: np.ndarray,
    direction: np.ndarray,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> list[Driver]:
    """Rank motifs by how well they explain observed changes.

    Parameters
    ----------
    motifs : sequence of str
        Names.
    scores, counts : (genes, motifs)
        As `score_motifs` gives them.
    direction : (genes,) of 1, -1 and 0
        What was observed.
    permutations : int
    seed : int

    Returns
    -------
    list of Driver
        The largest z first.

    Raises
    ------
    InputError
        Too few changed or unchanged genes, or permutations.
    """
    direction = np.asarray(direction)
    changed, unchanged = int((direction != 0).sum()), int((direction == 0).sum())
    if changed < MIN_GENES or unchanged < MIN_GENES:
        raise InputError(
            f"{changed} changed and {unchanged} unchanged genes were explained; at least {MIN_GENES} of each are needed"
        )
    if permutations < 99:
        raise InputError(f"permutations is {permutations}, expected 99 or more")
    observed, random = concordance(scores, direction), np.random.default_rng(seed)
    null = np.empty((permutations, len(motifs)))
    for start in range(0, permutations, _BATCH):
        labels = np.tile(direction, (min(_BATCH, permutations - start), 1))
        null[start : start + len(labels)] = concordance(scores, random.permuted(labels, axis=1))
    centre, spread = null.mean(0), null.std(0)
    certain = spread > 1e-12 * max(1e-300, np.abs(scores).max(initial=0))
    divisor = np.where(certain, spread, 1)
    z = np.where(certain, (observed - centre) / divisor, 0.0)
    largest = np.where(certain, (null - centre) / divisor, 0.0).max(1)
    # Ties count against the motif; the tolerance keeps rounding from breaking them.
    slack = 1e-9 * divisor
    p = np.where(certain, (1 + (null >= observed - slack).sum(0)) / (1 + permutations), 1.0)
    adjusted = np.where(certain, [(1 + (largest >= value - 1e-9).sum()) / (1 + permutations) for value in z], 1.0)
    drivers = []
    for number, name in enumerate(motifs):
        parts = {}
        for label, chosen in (("changed", direction != 0), ("unchanged", direction == 0)):
            hits = int(counts[chosen, number].sum())
            mean = float(scores[chosen, number].sum() / hits) if hits else float("nan")
            parts[label] = (mean, int((counts[chosen, number] > 0).sum()), hits)
        drivers.append(
            Driver(
                name, float(observed[number]), float(z[number]), float(p[number]), float(adjusted[number]),
                parts["changed"][0], parts["unchanged"][0], parts["changed"][1], parts["unchanged"][1],
                parts["changed"][2], parts["unchanged"][2],
            )
        )  # fmt: skip
    return sorted(drivers, key=lambda driver: (-driver.z, driver.p, driver.motif))
