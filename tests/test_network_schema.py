"""The names and shapes of weights can be told from the config alone, and are those of the built network."""

import pytest
from network_cases import CASES, borzoi_like, case_network, make_network, weights_of

from kipoi_borzoi.network.config import NetworkConfig
from kipoi_borzoi.network.network import Network, count_weights, leaf_layers
from kipoi_borzoi.network.schema import KINDS, layer_weights, weight_shapes


@pytest.mark.parametrize("name", CASES)
def test_schema_equals_the_built_network(name):
    network = case_network(name)
    built = {weight: value.shape for weight, value in weights_of(network).items()}
    assert list(built.items()) == list(weight_shapes(network.config).items())
    assert {layer.kind for layer in layer_weights(network.config)} <= set(KINDS)


def test_names_of_a_network_of_the_published_order_of_blocks():
    names = list(weight_shapes(NetworkConfig.from_params(borzoi_like())))
    assert names[:8] == [
        "conv_dna.conv.kernel", "conv_dna.conv.bias", "res_tower.0.norm.gamma", "res_tower.0.norm.beta",
        "res_tower.0.norm.moving_mean", "res_tower.0.norm.moving_variance", "res_tower.0.conv.kernel",
        "res_tower.0.conv.bias",
    ]  # fmt: skip
    attention = [name.removeprefix("transformer_tower.0.attention.") for name in names if ".attention." in name]
    assert attention == ["r_w_bias", "r_r_bias", "q.kernel", "k.kernel", "v.kernel", "out.kernel", "out.bias",
                         "positions.kernel"]  # fmt: skip
    unet = dict.fromkeys(name.split(".")[1] for name in names if name.startswith("unet_conv_1."))
    assert list(unet) == ["norm", "skip_norm", "dense", "skip_dense", "conv"]
    assert names[-2:] == ["head.dense.kernel", "head.dense.bias"]


def test_initial_weights_are_drawn_or_left_zero():
    config = NetworkConfig.from_params(borzoi_like({"qkv_width": 3}))
    zero = weights_of(Network(config, initialize=False))
    drawn = weights_of(Network(config))
    kernels = [name for name in zero if name.endswith("kernel")]
    assert not any(zero[name].any() for name in kernels)
    # The attention's output starts from zero in Calico's networks too.
    assert [name for name in kernels if not drawn[name].any()] == ["transformer_tower.0.attention.out.kernel"]
    for values in (zero, drawn):
        assert (values["res_tower.0.norm.moving_variance"] == 1).all() and (values["res_tower.0.norm.gamma"] == 1).all()
        assert not values["res_tower.0.norm.moving_mean"].any() and not values["conv_dna.conv.bias"].any()


def test_random_weights_are_seeded_and_leave_nothing_trivial():
    first, again, other = (weights_of(make_network(borzoi_like(), seed)) for seed in (1, 1, 2))
    for name, value in first.items():
        assert (value == again[name]).all() and (value != other[name]).any()
        assert value.std() > 0, name


def test_leaf_layers_and_counts():
    network = make_network(borzoi_like(), dtype="float32")
    leaves = leaf_layers(network)
    for name in ("conv_dna.conv", "res_tower.1.norm", "transformer_tower.0.attention", "transformer_tower.0.attention.q",
                 "transformer_tower.0.up", "unet_conv_0.skip_dense", "conv_nac.conv", "head.dense"):  # fmt: skip
        assert name in leaves
    assert count_weights(network) == sum(value.size for value in weights_of(network).values())
