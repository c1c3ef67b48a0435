"""The views of a network's output: coverage as it is, or one number per track and window.

Tools that score variants need one number per output, so each entry comes in all three.
"""

from __future__ import annotations

import numpy as np

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.tracks import Tracks, unsquash, unsquash_slope

VIEWS = ("coverage", "sum", "logsum")
AVG_FUNCS = ("sum", "max", "min", "absmax")


def check_view(view: str) -> None:
    """Raise InputError unless ``view`` is one of `VIEWS`."""
    if view not in VIEWS:
        raise InputError(f"unknown view {view!r}; known: {', '.join(VIEWS)}")


def view_of(coverage: np.ndarray, view: str, tracks: Tracks, transform: str) -> np.ndarray:
    """Reduce predicted coverage to a view.

    Parameters
    ----------
    coverage : (windows, bins, tracks) float32
        The network's output.
    view : {'coverage', 'sum', 'logsum'}
        ``coverage``: as it is. ``sum``: S, per track the sum over bins of unsquashed coverage (times the
        track's scale). ``logsum``: log2(1 + S).
    tracks : Tracks
        In the order of the last axis.
    transform : {'new', 'old'}

    Returns
    -------
    (windows, bins, tracks) float32, or (windows, tracks) float64: float32 sums near 3e4 would round
    the differences between alleles to steps of 0.002.
    """
    check_view(view)
    if view == "coverage":
        return coverage
    sums = unsquash(coverage, tracks, transform).sum(axis=1, dtype=np.float64)
    return sums if view == "sum" else np.log2(1 + sums)


def view_gradient(
    coverage: np.ndarray, view: str, tracks: Tracks, transform: str, filter_idx=None, avg_func: str | None = None
) -> np.ndarray:
    """Gradient of a selection from a view with respect to the coverage.

    Parameters
    ----------
    coverage : (1, bins, tracks) float32
    view, tracks, transform
        As for `view_of`.
    filter_idx : int, slice, list of int or tuple of these, optional
        Selection of tracks; a tuple indexes all axes after the first. None selects everything.
    avg_func : {'sum', 'max', 'min', 'absmax'}, optional
        How the selected numbers become one; None sums.

    Returns
    -------
    (1, bins, tracks) float32

    Raises
    ------
    InputError
        An unknown function, or an index outside of the view.
    """
    values = view_of(coverage, view, tracks, transform)
    weights = _selection_weights(values, filter_idx, avg_func)
    if view == "coverage":
        return weights.astype(np.float32)
    if view == "logsum":
        sums = np.exp2(values) - 1
        weights = weights / (np.log(2) * (1 + sums))
    return (weights[:, None, :] * unsquash_slope(coverage, tracks, transform)).astype(np.float32)


def _selection_weights(values: np.ndarray, filter_idx, avg_func: str | None) -> np.ndarray:
    """Derivative of the one number with respect to each of ``values``."""
    if avg_func is not None and avg_func not in AVG_FUNCS:
        raise InputError(f"unknown avg_func {avg_func!r}; known: {', '.join(AVG_FUNCS)}")
    index = (0, ...) if filter_idx is None else (0, ..., filter_idx)
    if isinstance(filter_idx, tuple):
        index = (0, *filter_idx)
    chosen = np.zeros(values.shape, dtype=bool)
    try:
        chosen[index] = True
    except (IndexError, TypeError) as error:
        raise InputError(f"filter_idx {filter_idx!r} does not fit the output's shape {values.shape[1:]}") from error
    if not chosen.any():
        raise InputError(f"filter_idx {filter_idx!r} selects nothing")
    if avg_func in (None, "sum"):
        return chosen.astype(np.float64)
    weights = np.zeros(values.shape, dtype=np.float64)
    ranked = np.abs(values) if avg_func == "absmax" else -values if avg_func == "min" else values
    at = np.unravel_index(np.argmax(np.where(chosen, ranked, -np.inf)), values.shape)
    weights[at] = np.sign(values[at]) if avg_func == "absmax" else 1.0
    return weights
