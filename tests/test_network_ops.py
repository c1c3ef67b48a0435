"""The tensor operations, with values that can be counted by hand."""

import keras
import numpy as np
import pytest

from kipoi_borzoi.network.layers import Conv1D, Scale
from kipoi_borzoi.network.ops import activate, max_pool, repeat_twice, same_padded, take
from kipoi_borzoi.network.span import Span

INF = float("inf")


def column(*values):
    """One sequence of one channel."""
    return keras.ops.convert_to_tensor(np.array(values, dtype="float32")[None, :, None])


def listed(x):
    return keras.ops.convert_to_numpy(x)[0, :, 0].tolist()


def test_take_cuts_by_position_on_the_level():
    x = column(10, 11, 12, 13)  # positions 5 to 8 of 20
    assert listed(take(x, Span(5, 9, 20), Span(6, 8, 20))) == [11, 12]
    assert take(x, Span(5, 9, 20), Span(5, 9, 20)) is x
    with pytest.raises(ValueError, match="does not lie within"):
        take(x, Span(5, 9, 20), Span(4, 8, 20))


@pytest.mark.parametrize(
    ("out", "kernel", "dilation", "expected"),
    [
        (Span(0, 4, 4), 3, 1, [0, 1, 2, 3, 4, 0]),
        (Span(0, 4, 4), 4, 1, [0, 1, 2, 3, 4, 0, 0]),
        (Span(0, 2, 4), 3, 1, [0, 1, 2, 3]),
        (Span(3, 4, 4), 3, 1, [3, 4, 0]),
        (Span(1, 2, 4), 3, 1, [1, 2, 3]),
        (Span(2, 3, 4), 3, 2, [1, 2, 3, 4, 0]),
        (Span(0, 1, 4), 7, 3, [0] * 9 + [1, 2, 3, 4] + [0] * 6),
    ],
)
def test_same_padding_stands_only_where_the_level_ends(out, kernel, dilation, expected):
    x = column(1, 2, 3, 4)
    assert listed(same_padded(x, Span.whole(4), out, kernel, dilation)) == expected


@pytest.mark.parametrize(
    ("values", "size", "expected"),
    [
        ((3, 1, 2, 5), 2, [3, 5]),
        ((3, 1, 2, 5, -4), 2, [3, 5, -4]),  # the missing position is at the end and is no zero
        ((-3, -1, -2, -5, -4, -6, -9), 3, [-1, -2, -6]),  # 0-1, 2-4, 5-6: one missing at each end
        ((-7, -8), 5, [-7]),
        ((1, 2, 3), 1, [1, 2, 3]),
    ],
)
def test_max_pooling_of_any_length(values, size, expected):
    given = Span.whole(len(values))
    assert listed(max_pool(column(*values), given, Span.whole(len(expected)), size)) == expected
    for place, value in enumerate(expected):
        assert listed(max_pool(column(*values), given, Span(place, place + 1, len(expected)), size)) == [value]


def test_repeating_keeps_batch_and_channels_apart():
    x = np.arange(12, dtype="float32").reshape(2, 3, 2)
    y = keras.ops.convert_to_numpy(repeat_twice(keras.ops.convert_to_tensor(x)))
    assert y[0].tolist() == [[0, 1], [0, 1], [2, 3], [2, 3], [4, 5], [4, 5]]
    assert y[1, :, 0].tolist() == [6, 6, 8, 8, 10, 10]


@pytest.mark.parametrize("kernel_size", [2, 5, 9])
@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("length", [15, 16, 24, 37, 64])
def test_framed_convolution_equals_the_plain_one(kernel_size, dilation, length):
    random = np.random.default_rng(0)
    layer = Conv1D(3, kernel_size, padding="valid", dilation_rate=dilation, dtype="float64", name="conv")
    layer.build((None, None, 2))
    layer.bias.assign(random.normal(size=3))
    reach = (kernel_size - 1) * dilation
    x = keras.ops.convert_to_tensor(random.normal(size=(3, length + reach, 2)))
    plain = keras.ops.convert_to_numpy(layer(x))
    assert plain.shape == (3, length, 3)
    layer.frame = 8  # shorter than the reach of the widest kernels here
    framed = keras.ops.convert_to_numpy(layer(x))
    np.testing.assert_allclose(framed, plain, rtol=1e-12, atol=1e-12)


def test_scale_multiplies_each_channel():
    layer = Scale(name="scale")
    layer.build((None, None, 3))
    assert keras.ops.convert_to_numpy(layer.scale).tolist() == [0, 0, 0]
    layer.scale.assign([1, 2, -1])
    assert keras.ops.convert_to_numpy(layer(np.array([[[1.0, 2, 3], [4, 5, 6]]]))).tolist() == [
        [[1, 4, -3], [4, 10, -6]]
    ]


def test_gelu_is_the_tanh_approximation():
    x = np.array([-3.0, -1, 0, 0.5, 2], dtype="float32")
    # 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), counted to 6 places; the exact one gives -0.004050 at -3
    expected = [-0.003637, -0.158808, 0, 0.345714, 1.954598]
    np.testing.assert_allclose(keras.ops.convert_to_numpy(activate(x, "gelu")), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "expected"),
    [(None, [-1, 0, 2]), ("linear", [-1, 0, 2]), ("relu", [0, 0, 2]), ("tanh", [-0.761594, 0, 0.964028]),
     ("sigmoid", [0.268941, 0.5, 0.880797]), ("softplus", [0.313262, 0.693147, 2.126928])],
)  # fmt: skip
def test_activations_by_name(name, expected):
    y = activate(keras.ops.convert_to_tensor(np.array([-1.0, 0, 2], dtype="float32")), name)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(y), expected, atol=1e-6)
