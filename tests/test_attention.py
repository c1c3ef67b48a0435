"""Attention: the position table stands for all 2L - 1 distances, and blocks of queries for all of them."""

import keras
import numpy as np
import pytest
from network_cases import CLOSE, largest_difference
from plain_network import PlainNetwork, position_features

from kipoi_borzoi.network import attention
from kipoi_borzoi.network.attention import Attention, band_widths, position_table
from kipoi_borzoi.network.config import TransformerTower
from kipoi_borzoi.network.network import own_variables
from kipoi_borzoi.network.sites import PLAIN
from kipoi_borzoi.network.span import Span

pytestmark = pytest.mark.usefixtures("uncompiled")

OPTIONS = {
    "plain": {},
    "no content bias": {"content_position_bias": False},
    "no position features": {"num_position_features": 0},
    "position features by width": {"num_position_features": None},
    "widths of a longer window": {"seqlen_train": 61},
    "separable projections": {"qkv_width": 3},
}


def make_attention(channels=12, **options):
    """An attention layer with random weights, and these weights in Calico's order."""
    block = TransformerTower(**{"key_size": 4, "heads": 2, "num_position_features": 8, **options})
    layer = Attention(block, channels, name="attention", dtype="float64")
    layer.build(None)
    layers = [layer, layer.q, layer.k, layer.v, layer.out, layer.positions]
    variables = [variable for part in layers if part is not None for variable in own_variables(part)]
    random = np.random.default_rng(5)
    for variable in variables:
        variable.assign(random.normal(0, 0.5, variable.shape))
    return layer, [keras.ops.convert_to_numpy(variable) for variable in variables]


def expected_attention(weights, x, options):
    settings = {"key_size": 4, "heads": 2, "num_position_features": 8, **options}
    block = {"name": "attention", **settings}
    plain = PlainNetwork({"model": {"activation": "linear", "trunk": [block]}}, weights)
    plain.run(x)
    return plain.trunk


def test_table_of_four_masks_over_16_positions():
    # 17^(i/4) - 1 = 1.03, 3.12, 7.37, 16: masks reach |d| = 1, 3, 7, 15
    np.testing.assert_allclose(band_widths(16, 4), [1.030543, 3.123106, 7.372070, 16], rtol=1e-5)
    table, row = position_table(16, 8)
    bands = [(-15, -8), (-7, -4), (-3, -2), (-1, -1), (0, 0), (1, 1), (2, 3), (4, 7), (8, 15)]
    assert row.tolist() == [band for band, (first, last) in enumerate(bands) for _ in range(first, last + 1)]
    left, right = [0, 0, 0, 1, 0, 0, 0, -1], [0, 1, 1, 1, 0, 1, 1, 1]
    assert table[0].tolist() == left and table[6].tolist() == right
    assert table[4].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("length", "features", "trained"),
    [(128, 32, None), (100, 6, None), (40, 8, 4096), (4096, 32, None), (3072, 32, None), (1, 4, None), (2, 2, None),
     (5, 64, None), (30, 12, 61)],
)  # fmt: skip
def test_table_holds_the_features_of_every_distance(length, features, trained):
    table, row = position_table(length, features, trained)
    assert row.shape == (2 * length - 1,)
    assert len(table) <= features + 1
    np.testing.assert_array_equal(table[row], position_features(length, features, trained or length))


def test_window_longer_than_the_trained_one_has_distances_beyond_every_mask():
    table, row = position_table(50, 8, 20)
    assert not table[row[0]].any() and not table[row[-1]].any()
    assert row[0] != row[-1]  # two bands, of equal features, on both sides
    assert table[row[49]].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]


def test_a_distance_equal_to_the_width_of_a_mask_is_outside_it():
    table, row = position_table(20, 2, 7)  # one mask of width 8^(1/1) - 1 = 7
    assert table[row, 0].tolist() == [0] * 13 + [1] * 13 + [0] * 13


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("length", [1, 2, 31])
def test_attention_equals_the_plain_one(name, length):
    layer, weights = make_attention(**OPTIONS[name])
    x = np.random.default_rng(1).normal(size=(2, length, 12))
    y = layer.forward(keras.ops.convert_to_tensor(x), Span.whole(length), PLAIN)
    assert largest_difference(y, expected_attention(weights, x, OPTIONS[name])) < CLOSE


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("block", [1, 5, 16])
def test_blocks_of_queries_and_chosen_queries_equal_all_at_once(name, block, monkeypatch):
    layer, weights = make_attention(**OPTIONS[name])
    x = np.random.default_rng(2).normal(size=(2, 23, 12))
    expected = expected_attention(weights, x, OPTIONS[name])
    monkeypatch.setattr(attention, "QUERIES", block)
    for start, end in [(0, 23), (0, 1), (22, 23), (7, 18)]:
        y = layer.forward(keras.ops.convert_to_tensor(x), Span(start, end, 23), PLAIN)
        assert largest_difference(y, expected[:, start:end]) < CLOSE


def test_compiled_blocks_of_queries_equal_the_plain_attention(monkeypatch):
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.run_functions_eagerly(False)
    layer, weights = make_attention()
    x = np.random.default_rng(2).normal(size=(2, 23, 12))
    monkeypatch.setattr(attention, "QUERIES", 10)
    y = layer.forward(keras.ops.convert_to_tensor(x), Span.whole(23), PLAIN)
    assert largest_difference(y, expected_attention(weights, x, {})) < CLOSE


def test_training_drops_attention_weights_and_position_features():
    layer, _ = make_attention(attention_dropout=0.5, position_dropout=0.0)
    x = keras.ops.convert_to_tensor(np.random.default_rng(2).normal(size=(1, 12, 12)))
    still = keras.ops.convert_to_numpy(layer.forward(x, Span.whole(12), PLAIN))
    once, again = (keras.ops.convert_to_numpy(layer.forward(x, Span.whole(12), PLAIN, training=True)) for _ in "ab")
    assert np.abs(once - still).max() > 1e-3 and np.abs(once - again).max() > 1e-3
    layer, _ = make_attention(attention_dropout=0.0, position_dropout=0.5)
    still = keras.ops.convert_to_numpy(layer.forward(x, Span.whole(12), PLAIN))
    once, again = (keras.ops.convert_to_numpy(layer.forward(x, Span.whole(12), PLAIN, training=True)) for _ in "ab")
    assert np.abs(once - still).max() > 1e-3 and np.abs(once - again).max() > 1e-3
