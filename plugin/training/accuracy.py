"""Pearson r and R2 of each track over all bins of many windows, from running sums, as Calico's training watches them."""

from __future__ import annotations

import numpy as np


class RunningAccuracy:
    """Collects sums in float64; holds five numbers per track however many windows are added."""

    def __init__(self, tracks: int):
        self.count = 0
        self._sums = np.zeros((5, tracks))

    def add(self, y_true: np.ndarray, y_pred: np.ndarray) -> None:
        """Add windows: (..., bins, tracks) each."""
        t = np.asarray(y_true, dtype=np.float64).reshape(-1, y_true.shape[-1])
        p = np.asarray(y_pred, dtype=np.float64).reshape(t.shape)
        self.count += len(t)
        self._sums += [t.sum(0), (t * t).sum(0), p.sum(0), (p * p).sum(0), (t * p).sum(0)]

    def per_track(self) -> tuple[np.ndarray, np.ndarray]:
        """Pearson r and R2 of each track; NaN where the measured coverage does not vary, r 0 where the prediction does not."""
        n = max(self.count, 1)
        t, tt, p, pp, tp = self._sums
        total, spread, both = tt - t * t / n, pp - p * p / n, tp - t * p / n
        varies = total > 1e-9 * np.maximum(tt, 1e-30)
        flat = spread <= 1e-12 * np.maximum(pp, 1e-30)
        with np.errstate(divide="ignore", invalid="ignore"):
            r = np.where(flat, 0.0, both / np.sqrt(np.maximum(total, 0) * np.maximum(spread, 0)))
            r2 = 1 - (pp - 2 * tp + tt) / total
        return np.where(varies, r, np.nan), np.where(varies, r2, np.nan)

    def mean(self) -> tuple[float, float]:
        """Mean r and R2 over the tracks whose coverage varies; 0 and -inf when there is none."""
        r, r2 = self.per_track()
        if np.isnan(r).all():
            return 0.0, float("-inf")
        return float(np.nanmean(r)), float(np.nanmean(r2))
