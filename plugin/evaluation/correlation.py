"""Agreement of two sets of numbers, column by column: Pearson r, R2, Spearman rho. Undefined values are NaN, never 0."""

from __future__ import annotations

import numpy as np

from kipoi_borzoi.errors import InputError


class Moments:
    """Sums from which r and R2 of every column follow, collected block by block.

    The sums are of differences from each column's first values, in float64, so that large means cost no digits.

    Parameters
    ----------
    columns : int

    Attributes
    ----------
    count : int
        Rows so far.
    """

    def __init__(self, columns: int):
        self.count = 0
        self._origin: np.ndarray | None = None
        self._sums = np.zeros((5, columns))  # of y, p, yy, pp, yp
        self._squared_error = np.zeros(columns)

    def add(self, measured: np.ndarray, predicted: np.ndarray) -> None:
        """Add rows.

        Parameters
        ----------
        measured, predicted : (rows, columns) arrays of finite numbers

        Raises
        ------
        InputError
            When the shapes differ or do not fit the columns.
        """
        y, p = _pair(measured, predicted)
        if y.shape[1] != self._sums.shape[1]:
            raise InputError(f"values have {y.shape[1]} columns, expected {self._sums.shape[1]}")
        if not len(y):
            return
        if self._origin is None:
            self._origin = np.stack([y.mean(axis=0), p.mean(axis=0)])
        self._squared_error += ((y - p) ** 2).sum(axis=0)
        y, p = y - self._origin[0], p - self._origin[1]
        self._sums += [part.sum(axis=0) for part in (y, p, y * y, p * p, y * p)]
        self.count += len(y)

    def pearson(self) -> np.ndarray:
        """(columns,) float64; NaN where either side does not vary."""
        y, p, yy, pp, yp = self._sums
        if self.count < 2:
            return np.full(len(y), np.nan)
        n = self.count
        return _ratio(yp - y * p / n, np.sqrt(self._spread(yy, y)) * np.sqrt(self._spread(pp, p)))

    def r2(self) -> np.ndarray:
        """(columns,) float64: 1 - sum of squared errors / sum of squares of the measured values around their mean."""
        y, _, yy, _, _ = self._sums
        if self.count < 2:
            return np.full(len(y), np.nan)
        return 1 - _ratio(self._squared_error, self._spread(yy, y))

    def _spread(self, squares: np.ndarray, total: np.ndarray) -> np.ndarray:
        """Sum of squares around the mean; 0 where it is nothing but rounding."""
        spread = squares - total * total / self.count
        return np.where(spread > 1e-12 * np.maximum(squares, 1e-300), spread, 0.0)


def pearson(measured: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Pearson's r of every column of two (rows, columns) arrays; NaN where a column does not vary."""
    y, p = _pair(measured, predicted)
    moments = Moments(y.shape[1])
    moments.add(y, p)
    return moments.pearson()


def spearman(measured: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Spearman's rho of every column of two (rows, columns) arrays: r of the ranks, ties sharing their mean rank."""
    y, p = _pair(measured, predicted)
    return pearson(ranks(y), ranks(p))


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks within each column, from 1, float64; equal values share the mean of theirs."""
    result = np.empty(values.shape)
    for column in range(values.shape[1]):
        _, inverse, counts = np.unique(values[:, column], return_inverse=True, return_counts=True)
        last = np.cumsum(counts)
        result[:, column] = (last - (counts - 1) / 2)[inverse.reshape(-1)]
    return result


class Sample:
    """At most so many rows of a stream, each as likely to be among them as any other.

    Parameters
    ----------
    rows : int
        Rows kept; when no more than these come, all are.
    columns : int
    seed : int
    """

    def __init__(self, rows: int, columns: int, seed: int = 0):
        self._random = np.random.default_rng(seed)
        self._limit = rows
        self._keys = np.full(rows, np.inf)  # of the rows kept; those with the smallest stay
        self._kept = np.empty((2, rows, columns), dtype=np.float32)
        self.seen = 0

    def add(self, measured: np.ndarray, predicted: np.ndarray) -> None:
        """Offer rows; two (rows, columns) arrays."""
        y, p = np.asarray(measured), np.asarray(predicted)
        self.seen += len(y)
        keys = np.concatenate([self._keys, self._random.random(len(y))])
        stays = np.zeros(len(keys), dtype=bool)
        stays[np.argpartition(keys, self._limit - 1)[: self._limit]] = True
        places, new = np.flatnonzero(~stays[: self._limit]), np.flatnonzero(stays[self._limit :])
        self._keys[places] = keys[self._limit + new]
        self._kept[0, places], self._kept[1, places] = y[new], p[new]

    @property
    def measured(self) -> np.ndarray:
        """(kept rows, columns) float32."""
        return self._kept[0, np.isfinite(self._keys)]

    @property
    def predicted(self) -> np.ndarray:
        """(kept rows, columns) float32."""
        return self._kept[1, np.isfinite(self._keys)]


def _pair(measured: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    y, p = np.asarray(measured, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    if y.ndim != 2 or y.shape != p.shape:
        raise InputError(
            f"measured values have shape {y.shape}, predicted {p.shape}; expected the same (rows, columns)"
        )
    return y, p


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    result = np.full(np.shape(numerator), np.nan)
    np.divide(numerator, denominator, out=result, where=denominator > 0)
    return result
