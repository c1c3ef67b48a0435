"""The network agrees with activations recorded from Calico's own code, block by block."""

import json

import keras
import numpy as np
import pytest

from kipoi_borzoi.network.attention import Attention, position_table
from kipoi_borzoi.network.config import NetworkConfig, TransformerTower
from kipoi_borzoi.network.network import Network, count_weights, own_variables
from kipoi_borzoi.network.ops import activate, max_pool, repeat_twice
from kipoi_borzoi.network.sites import PLAIN
from kipoi_borzoi.network.span import Span
from kipoi_borzoi.network.weights import load_weights, read_weights

CLOSE = 1e-5  # of the largest activation; 1e-6 is seen

# The unit whose representation each recorded one is; 07 is the pooled end of the tower.
UNITS = {
    "repr00": "conv_dna", **{f"repr0{level + 1}": f"res_tower.{level}" for level in range(6)},
    "repr08": "transformer_tower.1", "repr09": "unet_conv_0", "repr10": "unet_conv_1", "repr11": "cropping1d",
    "repr12": "conv_nac", "trunk_out": "trunk",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(shared_data):
    return shared_data / "reference" / "network"


@pytest.fixture(scope="module")
def activations(folder):
    return np.load(folder / "acts.npz")


@pytest.fixture(scope="module")
def sequences(activations):
    return np.eye(5, 4, dtype="float32")[activations["seq_index"]]


@pytest.fixture(scope="module")
def layers(folder):
    return np.load(folder / "layers.npz")


def read_network(folder, file, *heads):
    network = Network(NetworkConfig.from_params(folder / "params.json").with_heads(*heads), initialize=False)
    load_weights(network, read_weights(folder / file, network.config))
    return network


def assert_close(x, expected, what=""):
    x = keras.ops.convert_to_numpy(x)
    assert x.shape == expected.shape, what
    assert np.abs(x - expected).max() < CLOSE * np.abs(expected).max(), what


@pytest.mark.usefixtures("uncompiled")
def test_every_block(folder, activations, sequences):
    network = read_network(folder, "model0.h5", "human")
    assert {*UNITS.values(), "transformer_tower.0"} == set(network.activation_names)
    for key, name in UNITS.items():
        expected = activations[key]
        y = keras.ops.convert_to_numpy(network.activation(sequences[: len(expected)], name))
        assert_close(y[:, :: y.shape[1] // expected.shape[1]], expected, name)  # long ones keep every 4th position


@pytest.mark.parametrize(("file", "head", "key"), [("model0.h5", "human", "head0"), ("model1.h5", "mouse", "head1")])
def test_heads(folder, activations, sequences, file, head, key):
    network = read_network(folder, file, head)
    assert_close(network(sequences), activations[key])
    recorded = json.loads((folder / "info.json").read_text())
    index = ["head0", "head1"].index(key)
    assert count_weights(network) == recorded["n_params"][index]
    assert (network.config.bin_size, network.config.bins) == (
        recorded["model_strides"][index],
        recorded["target_lengths"][index],
    )


@pytest.mark.usefixtures("uncompiled")
def test_trunk_only_file(folder, activations, sequences):
    assert_close(read_network(folder, "trunk.h5").trunk(sequences), activations["trunk_out"])


@pytest.mark.parametrize(
    ("length", "features", "trained"), [(16, 8, 16), (128, 32, 128), (128, 32, 4096), (64, 12, 64)]
)
def test_position_features(layers, length, features, trained):
    table, row = position_table(length, features, trained)
    np.testing.assert_array_equal(table[row], layers[f"posfeat_L{length}_nf{features}_sl{trained}"])


@pytest.mark.parametrize(("length", "trained"), [(1024, 1024), (4096, 4096), (3072, 3072), (1536, 1536), (128, 4096)])
def test_reach_of_the_position_features(layers, length, trained):
    table, row = position_table(length, 32, trained)
    inside = table[row[length - 1 :], :16].sum(axis=0)  # how many of the distances 0, 1, 2, ... each mask holds
    np.testing.assert_array_equal(inside, layers[f"posfeat_L{length}_nf32_sl{trained}_halfwidths"])


@pytest.mark.parametrize("name", ["mha_plain", "mha_no_content_bias", "mha_no_pos", "mha_seqlen_train", "mha_qkv3"])
def test_attention(folder, layers, name):
    options = json.loads((folder / "layers.json").read_text())[name]
    channels = options.pop("value_size") * options["heads"]
    attention = Attention(TransformerTower(**options), channels, name="attention")
    attention.build(None)
    for ours, theirs in {"q": "q", "k": "k", "v": "v", "out": "embedding", "positions": "r_k"}.items():
        part = getattr(attention, ours)
        for variable in own_variables(part) if part is not None else ():
            variable.assign(layers[f"{name}::{theirs}_layer/{variable.name}:0"])
    attention.r_w_bias.assign(layers[f"{name}::r_w_bias:0"])
    attention.r_r_bias.assign(layers[f"{name}::r_r_bias:0"])
    x = layers[f"{name}_in"]
    y = attention.forward(keras.ops.convert_to_tensor(x), Span.whole(x.shape[1]), PLAIN)
    assert_close(y, layers[f"{name}_out"])


@pytest.mark.parametrize("name", ["gelu", "softplus"])
def test_activations(layers, name):
    assert_close(activate(keras.ops.convert_to_tensor(layers[f"{name}_in"]), name), layers[f"{name}_out"])


def test_pooling_and_repeating_of_odd_lengths(layers):
    x = keras.ops.convert_to_tensor(layers["pool_in"])
    assert_close(max_pool(x, Span.whole(9), Span.whole(5), 2), layers["maxpool2_same_odd"])
    assert_close(repeat_twice(x), layers["upsample2"])
