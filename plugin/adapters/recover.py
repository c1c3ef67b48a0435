"""Recovers an adapter's factors from a merged layer: what was added to the base, taken apart again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kipoi_borzoi.adapters.ia3 import InputScale, OutputScale
from kipoi_borzoi.adapters.locon import LowRankConv
from kipoi_borzoi.adapters.lora import LowRank
from kipoi_borzoi.adapters.method import Insert

# A merged float32 weight is off by half a unit in the last place from the sum, and so is the product in it.
_ROUNDING = 2.0**-23
_SPARE = 8  # singular values looked for beyond an insert's rank


@dataclass(frozen=True)
class Recovered:
    """What was found in one merged layer.

    Attributes
    ----------
    weights : dict or None
        The insert's weights by its names; None when the difference is not what such an insert can make.
    rank : int or None
        For low-rank inserts, how many singular values of the difference stand out of float32 rounding.
    residual : float
        Largest difference between the merged weight and what base and recovered insert give, as a share
        of the largest weight. Zero when ``weights`` is None: the layer is then kept as it is.
    """

    weights: dict[str, np.ndarray] | None
    rank: int | None
    residual: float


def recover(insert: Insert, base: dict[str, np.ndarray], merged: dict[str, np.ndarray]) -> Recovered:
    """Find the weights of ``insert`` that turn the layer ``base`` into ``merged``.

    Parameters
    ----------
    insert : LowRank, LowRankConv, OutputScale or InputScale
    base, merged : dict
        The layer's weights by their names within it.
    """
    find = {LowRank: _low_rank, LowRankConv: _low_rank_conv, OutputScale: _output_scale, InputScale: _input_scale}
    weights, rank = find[type(insert)](insert, base, merged)
    if weights is None:
        return Recovered(None, rank, 0.0)
    again = insert.merged(base, weights)
    residual = max(float(np.abs(again[name] - merged[name]).max()) for name in again)
    largest = max(float(np.abs(merged[name]).max()) for name in again)
    return Recovered(weights, rank, residual / largest if largest else 0.0)


def factor(difference: np.ndarray, rank: int, noise: float) -> tuple[np.ndarray, np.ndarray, int]:
    """Write a matrix as a product of two narrow ones.

    Parameters
    ----------
    difference : (rows, columns) float64
    rank : int
        Inner dimension of the product.
    noise : float
        Size of the errors in the elements of ``difference``.

    Returns
    -------
    left : (rows, rank)
    right : (rank, columns)
        Where the matrix has a lower rank, the surplus rows of ``right`` are zero.
    found : int
        Numerical rank: singular values above what errors of that size make.
    """
    threshold = noise * sum(np.sqrt(difference.shape))
    u, values, v, rest = _leading(difference, rank + _SPARE)
    found = int((values > threshold).sum())
    if _spectral_norm(rest) > threshold:  # the rank is higher than was looked for
        found = int((np.linalg.svd(difference, compute_uv=False) > threshold).sum())
    kept = min(rank, len(values))
    roots = np.sqrt(np.where(np.arange(kept) < found, values[:kept], 0))
    left, right = np.zeros((difference.shape[0], rank)), np.zeros((rank, difference.shape[1]))
    # A surplus column of the left factor keeps its direction, so that training can go on from it.
    left[:, :kept] = u[:, :kept] * np.where(roots > 0, roots, 1)
    right[:kept] = v[:kept] * roots[:, None]
    return left, right, found


def _leading(matrix: np.ndarray, count: int):
    """The leading singular vectors and values of a matrix, and what of it they leave (Halko et al. 2011).

    The full decomposition of a kernel of Borzoi takes a minute, this one a fraction of a second.
    """
    count = min(count, *matrix.shape)
    basis = np.random.default_rng(0).normal(size=(matrix.shape[1], count))
    for _ in range(3):
        basis, _ = np.linalg.qr(matrix @ basis)
        basis, _ = np.linalg.qr(matrix.T @ basis)
    u, values, v = np.linalg.svd(matrix @ basis, full_matrices=False)
    v = v @ basis.T
    return u, values, v, matrix - (u * values) @ v


def _spectral_norm(matrix: np.ndarray) -> float:
    """The largest singular value, found by power iteration (a little too small at most)."""
    vector = np.random.default_rng(1).normal(size=matrix.shape[1])
    for _ in range(20):
        vector = matrix.T @ (matrix @ (vector / (np.linalg.norm(vector) or 1)))
    return float(np.sqrt(np.linalg.norm(vector)))


def _product(base: np.ndarray, merged: np.ndarray, rank: int, scale: float):
    """The two factors, or None, and the numerical rank, of what was added to a kernel (channels last)."""
    columns = base.shape[-1]
    difference = merged.astype(np.float64).reshape(-1, columns) - base.reshape(-1, columns)
    noise = _ROUNDING * (np.abs(merged).max() + np.abs(difference).max())
    left, right, found = factor(difference / scale, rank, noise / scale)
    if found > rank:
        return None, found
    return (left.astype(np.float32), right.astype(np.float32)), found


def _low_rank(insert: LowRank, base, merged):
    factors, found = _product(base[insert.kernel], merged[insert.kernel], insert.rank, insert.scale)
    return factors and {"lora_a.kernel": factors[0], "lora_b.kernel": factors[1]}, found


def _low_rank_conv(insert: LowRankConv, base, merged):
    factors, found = _product(base["kernel"], merged["kernel"], insert.rank, insert.scale)
    if factors is None:
        return None, found
    down = factors[0].reshape(*insert.shape[:2], insert.rank)
    return {"locon_down.kernel": down, "locon_up.kernel": factors[1][None]}, found


def _output_scale(insert: OutputScale, base, merged):
    width = insert.width
    return _scale(base[insert.kernel].reshape(-1, width).T, merged[insert.kernel].reshape(-1, width).T), None


def _input_scale(insert: InputScale, base, merged):
    return _scale(base["kernel"], merged["kernel"]), None


def _scale(base: np.ndarray, merged: np.ndarray) -> dict[str, np.ndarray] | None:
    """The factor of each row, (rows, columns) each; None when some row is no multiple of the base's."""
    base, merged = base.astype(np.float64), merged.astype(np.float64)
    size = (base * base).sum(axis=1)
    factor = np.where(size > 0, (base * merged).sum(axis=1) / np.where(size > 0, size, 1), 1)
    if np.abs(base * factor[:, None] - merged).max() > 2 * _ROUNDING * np.abs(merged).max():
        return None
    return {"ia3.scale": factor.astype(np.float32)}
