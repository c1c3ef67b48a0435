"""The gradients that the network defines itself equal those of the plain operations."""

import keras
import numpy as np
import pytest
from keras import ops

from kipoi_borzoi.network import layers
from kipoi_borzoi.network.attention import attend, position_table, sum_by_row
from kipoi_borzoi.network.layers import Conv1D
from kipoi_borzoi.network.ops import convolve, fused, largest

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the gradients are TensorFlow's")


def gradients(function, *args, compiled=True):
    """Gradients of a weighted sum of the function's values."""
    import tensorflow as tf

    args = [tf.constant(arg) for arg in args]

    def run(*args):
        with tf.GradientTape() as tape:
            tape.watch(args)
            y = function(*args)
            weights = tf.cast(tf.sin(tf.range(tf.size(y), dtype=tf.float64) * 0.7), y.dtype)
            total = tf.reduce_sum(tf.reshape(y, (-1,)) * weights)
        return tape.gradient(total, args)

    return [np.asarray(gradient) for gradient in (tf.function(run, autograph=False) if compiled else run)(*args)]


def some(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize(("size", "dilation", "length"), [(5, 1, 67), (3, 2, 80), (1, 1, 33), (5, 1, 20), (4, 1, 66)])
def test_convolution(size, dilation, length):
    x, kernel = some(2, length, 3), some(size, 3, 4, seed=1)
    plain = gradients(lambda x, k: ops.conv(x, k, padding="valid", dilation_rate=dilation), x, kernel)
    framed = gradients(lambda x, k: convolve(x, k, dilation, 16), x, kernel)
    for a, b in zip(framed, plain, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_the_layer_convolves_in_frames(monkeypatch):
    layer = Conv1D(4, 3, padding="valid", dtype="float64", bias_initializer="ones")
    layer.build((None, None, 3))
    seen = []
    monkeypatch.setattr(layers, "convolve", lambda *args: seen.append(args[2:]) or convolve(*args))
    layer.frame = 16
    x = some(1, 50, 3)
    framed = layer(x)
    assert seen == [(1, 16)]
    np.testing.assert_allclose(framed, ops.conv(x, layer.kernel, padding="valid") + 1, atol=1e-12)


@pytest.mark.parametrize("pool", [2, 3])
def test_pooling_gives_the_gradient_to_the_largest(pool):
    x = some(2, 5, pool, 3)
    (found,) = gradients(largest, x)
    (plain,) = gradients(lambda x: ops.max(x, axis=2), x)
    np.testing.assert_array_equal(found, plain)
    (tied,) = gradients(largest, np.ones((1, 1, 2, 1)))
    assert tied.ravel()[1] == 0  # the first of equals


@pytest.mark.parametrize("compiled", [True, False])
def test_fused_functions(compiled):
    def function(x, factor, index):
        return ops.tanh(x * factor) * ops.cast(index, x.dtype)

    x, factor, index = some(3, 4), some(4, seed=2), np.arange(4, dtype=np.int32)
    found = gradients(lambda x, f: fused(function)(x, f, index), x, factor, compiled=compiled)
    plain = gradients(lambda x, f: function(x, f, index), x, factor)
    for a, b in zip(found, plain, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("queries", [1, 2, 5])
def test_sum_by_row_adds_what_has_the_same_distance_band(queries):
    length = 7
    _, row = position_table(length, 4)
    row, rows = row[: queries + length - 1], int(row.max()) + 1
    x = some(2, 3, queries, length)
    expected = np.zeros((2, 3, queries, rows))
    for q in range(queries):
        for k in range(length):
            expected[:, :, q, row[k - q + queries - 1]] += x[:, :, q, k]
    np.testing.assert_allclose(sum_by_row(ops.convert_to_tensor(x), ops.convert_to_tensor(row), rows), expected, atol=1e-12)


@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize("positions", [False, True])
def test_attention(positions, dropped):
    queries, length = 4, 6
    _, row = position_table(length, 4)
    row, rows = row[: queries + length - 1], int(row.max()) + 1
    q, k, v = some(2, 3, queries, 5), some(2, 3, length, 5, seed=1), some(2, 3, length, 2, seed=2)
    relative = some(2, 3, queries, rows, seed=3)
    mask = (np.random.default_rng(4).random((2, 3, queries, length)) > 0.3) * 1.4
    keep = (lambda shape, dtype: ops.convert_to_tensor(mask, dtype=dtype)) if dropped else None
    band = row[np.arange(length)[None] - np.arange(queries)[:, None] + queries - 1]

    def plain(q, k, v, *relative):
        logits = ops.matmul(q, ops.swapaxes(k, -1, -2))
        if relative:
            index = ops.convert_to_tensor(np.broadcast_to(band, logits.shape).astype(np.int32))
            logits = logits + ops.take_along_axis(relative[0], index, axis=-1)
        weights = ops.softmax(logits, axis=-1)
        return ops.matmul(weights * mask if dropped else weights, v)

    args = (q, k, v, relative) if positions else (q, k, v)
    ours = gradients(lambda q, k, v, *r: attend(q, k, v, r[0] if r else None, ops.convert_to_tensor(row), keep), *args)
    for a, b in zip(ours, gradients(plain, *args), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)
