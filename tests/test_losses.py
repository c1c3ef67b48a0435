"""The loss equals Calico's recorded values and a plain float64 implementation, and so do its gradients."""

import keras
import numpy as np
import pytest

from kipoi_borzoi.errors import ConfigError
from kipoi_borzoi.training.losses import poisson_multinomial, position_weights

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="gradients are taken with TensorFlow")
EPSILON = 1e-7


def plain(y_true, y_pred, total_weight=1.0, weights=None):
    """The formula, bin by bin and track by track."""
    batch, bins, tracks = y_true.shape
    weights = np.ones(bins) if weights is None else weights
    total = 0.0
    for b in range(batch):
        for t in range(tracks):
            y, p = y_true[b, :, t] * weights, y_pred[b, :, t] * weights
            multinomial = sum(-(y[i] + EPSILON) * np.log((p[i] + EPSILON) / p.sum()) for i in range(bins))
            poisson = p.sum() - y.sum() * np.log(p.sum() + EPSILON)
            total += (multinomial + total_weight * poisson) / weights.sum()
    return total / (batch * tracks)


def plain_gradient(function, y_pred):
    """Central differences."""
    gradient = np.zeros_like(y_pred)
    for index in np.ndindex(y_pred.shape):
        step = np.zeros_like(y_pred)
        step[index] = 1e-6 * max(1, y_pred[index])
        gradient[index] = (function(y_pred + step) - function(y_pred - step)) / (2 * step[index])
    return gradient


def value_and_gradient(y_true, y_pred, *options):
    y_pred = tf.constant(y_pred)
    with tf.GradientTape() as tape:
        tape.watch(y_pred)
        value = poisson_multinomial(tf.constant(y_true), y_pred, *options)
    return float(value), tape.gradient(value, y_pred).numpy()


def some_coverage(seed, shape=(2, 8, 3)):
    random = np.random.default_rng(seed)
    y_true = random.gamma(0.3, 4, shape)
    y_true[random.random(shape) < 0.3] = 0
    return y_true, random.gamma(2, 1, shape)


def test_a_case_counted_by_hand():
    # Two bins, one track: y = (1, 3), p = (2, 2), so s_y = s_p = 4 and p / s = 1/2 in both bins.
    y_true, y_pred = np.array([[[1.0], [3.0]]]), np.array([[[2.0], [2.0]]])
    expected = (4 * np.log(2) + 0.5 * (4 - 4 * np.log(4))) / 2
    assert float(poisson_multinomial(y_true, y_pred, 0.5)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("weight_range", "weight_exp"), [(1, 4), (3, 4), (5.5, 2), (2, 3)])
def test_value_and_gradient_equal_a_plain_implementation(weight_range, weight_exp):
    y_true, y_pred = some_coverage(1)
    weights = position_weights(8, weight_range, weight_exp)
    value, gradient = value_and_gradient(y_true, y_pred, 0.2, weight_range, weight_exp)
    assert value == pytest.approx(plain(y_true, y_pred, 0.2, weights), rel=1e-12)
    # Central differences of float64 values are good to about 1e-9.
    np.testing.assert_allclose(gradient, plain_gradient(lambda p: plain(y_true, p, 0.2, weights), y_pred), atol=1e-8)


def test_float32_is_close_to_float64():
    y_true, y_pred = some_coverage(2, (2, 500, 4))
    value, gradient = value_and_gradient(y_true.astype(np.float32), y_pred.astype(np.float32), 0.2)
    exact, exact_gradient = value_and_gradient(y_true, y_pred, 0.2)
    assert value == pytest.approx(exact, rel=2e-6)
    np.testing.assert_allclose(gradient, exact_gradient, rtol=1e-4, atol=1e-6 * np.abs(exact_gradient).max())


@pytest.mark.parametrize("bins", [7, 8])
def test_position_weights_fall_from_the_middle_to_both_ends(bins):
    weights = position_weights(bins, 4.0, 2)
    np.testing.assert_allclose(weights, weights[::-1])
    assert weights.max() == 1 and (np.diff(weights[: bins // 2]) > 0).all()
    middle = np.exp(-((0.5 / 3.5 * np.sqrt(np.log(4))) ** 2)) if bins == 8 else 1
    assert weights[0] == pytest.approx(1 / 4 / middle)


@pytest.mark.parametrize("options", [(0.5, 4), (0, 4), (float("nan"), 4), (2, 0), (2, -1)])
def test_impossible_position_weights_are_refused(options):
    with pytest.raises(ConfigError, match="weight_range|weight_exp"):
        position_weights(8, *options)


def test_a_halved_target_of_float16_is_taken_as_it_is():
    y_true, y_pred = some_coverage(3)
    half = y_true.astype(np.float16)
    expected = plain(half.astype(np.float64), y_pred.astype(np.float32).astype(np.float64))
    assert float(poisson_multinomial(half, y_pred.astype(np.float32))) == pytest.approx(expected, rel=1e-5)


def test_calico_values(shared_data):
    recorded = np.load(shared_data / "reference" / "training" / "losses.npz")
    value, gradient = value_and_gradient(recorded["y_true"], recorded["y_pred"], 0.2)
    assert value == pytest.approx(float(recorded["poisson_mn_tw0.2_loss"]), abs=1e-5)
    np.testing.assert_allclose(gradient, recorded["poisson_mn_tw0.2_grad"], atol=1e-5)
