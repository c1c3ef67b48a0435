"""Whole networks equal a second, plain implementation, for every block and option."""

import keras
import numpy as np
import pytest
from network_cases import (
    CASES,
    CLOSE,
    borzoi_like,
    case_network,
    largest_difference,
    make_network,
    random_dna,
    weights_of,
)
from plain_network import PlainNetwork

from kipoi_borzoi.errors import ConfigError, InputError
from kipoi_borzoi.network.config import NetworkConfig
from kipoi_borzoi.network.network import Network, count_weights
from kipoi_borzoi.network.weights import load_weights


def plain(params, network):
    return PlainNetwork(params, weights_of(network).values())


def all_heads(network, x):
    return {head.name: network(x, head=head.name) for head in network.config.heads}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("uncompiled")
def test_every_head_equals_the_plain_network(name):
    network, x = case_network(name), random_dna(CASES[name]["model"]["seq_length"])
    expected = plain(CASES[name], network).run(x)
    heads = all_heads(network, x)
    assert list(heads) == [network.config.head(key).name for key in expected]
    for key, y in expected.items():
        assert y.std() > 0.01  # the weights are such that the comparison means something
        assert largest_difference(heads[network.config.head(key).name], y) < CLOSE
        assert y.shape[1] == network.config.bins


def test_compiled_network_in_float32_equals_the_plain_network(small_params):
    network, x = make_network(small_params, dtype="float32"), random_dna(512)
    for key, y in plain(small_params, network).run(x).items():
        assert largest_difference(network(x, head=key), y) < 1e-5


@pytest.mark.usefixtures("uncompiled")
def test_every_activation_equals_the_plain_network(small_params):
    network, x = make_network(small_params), random_dna(512)
    reference = plain(small_params, network)
    reference.run(x)
    towers = reference.representations  # conv_dna, four levels, the tower's end, ...
    expected = dict(zip(["conv_dna", *(f"res_tower.{level}" for level in range(4))], towers, strict=False))
    expected |= dict(zip(["transformer_tower.1", "unet_conv", "cropping1d", "conv_nac"], towers[6:], strict=True))
    expected["trunk"] = reference.trunk
    assert set(network.activation_names) == {*expected, "transformer_tower.0"}
    for name, y in expected.items():
        assert largest_difference(network.activation(x, name), y) < CLOSE, name


def test_unknown_activation_is_named(small_params):
    network = make_network(small_params)
    with pytest.raises(InputError, match=r"no layer 'conv9'; the layers are: conv_dna, res_tower\.0, "):
        network.activation(random_dna(512), "conv9")


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("crop", [0, 1, 14])
def test_crop_can_be_changed_with_the_same_weights(crop):
    params = borzoi_like()
    network, x = make_network(params), random_dna(256)
    whole = [{**block, "cropping": 0} if block["name"] == "Cropping1D" else block for block in params["model"]["trunk"]]
    expected = plain({"model": {**params["model"], "trunk": whole}}, network).run(x)["head"]
    other = Network(network.config.with_crop(crop), dtype="float64", initialize=False)
    load_weights(other, weights_of(network))
    assert largest_difference(other(x), expected[:, crop : 128 - crop]) < CLOSE


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("length", [64, 136, 512])
def test_window_can_be_changed_with_the_same_weights(length):
    params = borzoi_like()
    network, x = make_network(params), random_dna(length)
    other = Network(network.config.with_seq_length(length), dtype="float64", initialize=False)
    load_weights(other, weights_of(network))
    assert other.config.bins == length // 2 - 6 and other.config.bin_size == 2
    assert largest_difference(other(x), plain(params, network).run(x)["head"]) < CLOSE


@pytest.mark.usefixtures("uncompiled")
def test_chosen_tracks_equal_these_columns_of_all(small_params):
    network, x = make_network(small_params), random_dna(512)
    tracks = np.array([5, 0, 0, 3], dtype="int32")
    everything = keras.ops.convert_to_numpy(network(x, head="human"))
    assert largest_difference(network(x, head="human", tracks=tracks), everything[..., tracks]) < CLOSE


def test_head_must_be_chosen_among_several(small_params):
    network = make_network(small_params)
    with pytest.raises(ConfigError, match=r"2 heads \(human, mouse\): say which"):
        network(random_dna(512))
    with pytest.raises(ConfigError, match="no head 'yeast'; it has: human, mouse"):
        network(random_dna(512), head="yeast")


def test_trunk_may_stand_alone(small_params):
    config = NetworkConfig.from_params(small_params)
    network = Network(config.with_heads(), dtype="float64")
    assert network.heads == []
    assert network.trunk(random_dna(512)).shape == (2, 28, 24)
    assert count_weights(network) == count_weights(Network(config)) - 25 * (6 + 4)
