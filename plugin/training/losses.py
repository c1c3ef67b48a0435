"""The loss that Borzoi is trained with: how much coverage there is, and separately how it is spread over the bins."""

from __future__ import annotations

import math

import keras
import numpy as np
from keras import ops

from kipoi_borzoi.errors import ConfigError

EPSILON = 1e-7


def poisson_multinomial(y_true, y_pred, total_weight: float = 1.0, weight_range: float = 1.0, weight_exp: float = 4):
    """Poisson loss of the sum over bins and multinomial loss of the bins, Calico's ``poisson_mn``.

    With s the sums over bins and n the number of bins:
    mean over batch and tracks of [sum_b -(y_b + eps) log((p_b + eps) / s_p) + w (s_p - s_y log(s_p + eps))] / n.

    Parameters
    ----------
    y_true : (batch, bins, tracks) float
        Squashed coverage.
    y_pred : (batch, bins, tracks) float
        Greater than 0.
    total_weight : float
        w, the weight of the sum's part.
    weight_range : float
        1 or more: how many times more the middle bin counts than the outermost ones. Coverage is multiplied by
        the bins' weights first, and n is their sum.
    weight_exp : float
        How flat the middle is: the weights are exp(-(distance from the middle / sigma)^weight_exp).

    Returns
    -------
    scalar float32

    Raises
    ------
    ConfigError
        A weight out of range.
    """
    return ops.mean(per_track(y_true, y_pred, total_weight, weight_range, weight_exp))


def per_track(y_true, y_pred, total_weight: float = 1.0, weight_range: float = 1.0, weight_exp: float = 4):
    """`poisson_multinomial` before the mean: (batch, tracks)."""
    dtype = keras.backend.result_type(y_pred.dtype, "float32")
    y_true, y_pred = ops.cast(y_true, dtype), ops.cast(y_pred, dtype)
    bins = y_true.shape[1]
    total = float(bins)
    if weight_range != 1:
        weights = position_weights(bins, weight_range, weight_exp)
        total = float(weights.sum())
        weights = ops.convert_to_tensor(weights[None, :, None], dtype=dtype)
        y_true, y_pred = y_true * weights, y_pred * weights
    sum_true, sum_pred = ops.sum(y_true, axis=1), ops.sum(y_pred, axis=1)
    # log(p_b / s) = log p_b - log s: the sum's logarithm is taken once per track instead of per bin.
    of_bins = ops.sum((y_true + EPSILON) * ops.log(y_pred + EPSILON), axis=1)
    multinomial = (sum_true + bins * EPSILON) * ops.log(sum_pred) - of_bins
    poisson = sum_pred - sum_true * ops.log(sum_pred + EPSILON)
    return (multinomial + total_weight * poisson) / total


def position_weights(bins: int, weight_range: float, weight_exp: float) -> np.ndarray:
    """Weights of the bins, the largest 1: (bins,) float64.

    Calico's code raises the signed distance to the power, which for the even exponents it is meant for is the same.

    Raises
    ------
    ConfigError
        See `check_weights`.
    """
    check_weights(weight_range, weight_exp)
    if weight_range == 1:
        return np.ones(bins)
    outermost = bins / 2 - 0.5
    distance = np.abs(np.arange(bins) - outermost)
    sigma = outermost / math.log(weight_range) ** (1 / weight_exp)
    weights = np.exp(-((distance / sigma) ** weight_exp)) if sigma else np.ones(bins)
    return weights / weights.max()


def check_weights(weight_range: float, weight_exp: float) -> None:
    """Raise `ConfigError` unless ``weight_range`` is 1 or more and ``weight_exp`` positive."""
    if not 1 <= weight_range < math.inf:
        raise ConfigError(f"weight_range is {weight_range}, expected 1 (all bins alike) or more")
    if not 0 < weight_exp < math.inf:
        raise ConfigError(f"weight_exp is {weight_exp}, expected a number greater than 0")
