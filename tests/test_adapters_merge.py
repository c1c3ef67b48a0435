"""Merged and unmerged networks give the same, for every method that can be merged; the others say why not."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from adapter_cases import MERGEABLE, METHOD_CASES, adapt
from network_cases import CASES, borzoi_like, largest_difference, make_network, random_dna

from kipoi_borzoi.adapters.ia3 import InputScale, OutputScale
from kipoi_borzoi.adapters.locon import LowRankConv
from kipoi_borzoi.adapters.lora import LowRank
from kipoi_borzoi.adapters.merge import fold, merge
from kipoi_borzoi.adapters.sites import AdapterSites, BaseWeights
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.network.network import Network
from kipoi_borzoi.network.schema import weight_shapes
from kipoi_borzoi.network.sites import Sites
from kipoi_borzoi.network.weights import load_weights


@pytest.fixture(scope="module")
def network():
    return make_network(borzoi_like(), dtype="float32")


def close_after_merging(network, method, gelu="tanh"):
    """Compare in float32: network with adapter, network of merged weights, base with folded layers."""
    x = random_dna(network.config.seq_length, batch=1)
    sites = adapt(network, method, gelu=gelu)
    expected, base = keras.ops.convert_to_numpy(network(x, run=sites)), BaseWeights(network)
    tensors = merge(sites.current(), base)
    assert {name: value.shape for name, value in tensors.items()} == weight_shapes(sites.adapter.config)
    assert all(value.dtype == np.float32 for value in tensors.values())
    merged = Network(sites.adapter.config, initialize=False)
    load_weights(merged, tensors)
    assert largest_difference(merged(x, run=Sites(gelu)), expected) < 2e-6
    folded = AdapterSites(network, fold(sites.current(), base))
    assert not folded.adapter.scheme.inserts and folded.gelu == gelu
    assert largest_difference(network(x, run=folded), expected) < 2e-6


@pytest.mark.parametrize("name", MERGEABLE)
@pytest.mark.usefixtures("uncompiled")
def test_merged_equals_unmerged(name, network):
    close_after_merging(network, METHOD_CASES[name])


@pytest.mark.parametrize(
    ("case", "name"),
    [("separable projections", "lora_full"), ("separable projections", "ia3"), ("two towers", "locon all")],
)
@pytest.mark.usefixtures("uncompiled")
def test_merged_equals_unmerged_in_other_networks(case, name):
    close_after_merging(make_network(CASES[case], dtype="float32"), METHOD_CASES[name], gelu="erf")


@pytest.mark.usefixtures("uncompiled")
def test_factors_on_the_heads_input_merge_too(network):
    method = replace(METHOD_CASES["ia3 by width"], input_width=10)
    assert "head.dense" in method.inserts(network.config)
    close_after_merging(network, method)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("houlsby", "its bottlenecks put a ReLU between layers"),
        ("houlsby_se", "scales channels by what the window holds"),
    ],
)
def test_what_cannot_be_merged_says_why(name, reason, network):
    sites = adapt(network, METHOD_CASES[name])
    with pytest.raises(InputError, match=f"an adapter of method {name} cannot be merged: .*{reason}"):
        merge(sites.adapter, BaseWeights(network))


# Kernels merged by hand


def test_low_rank_product():
    kernel = np.array([[1, 2], [3, 4]], np.float32)
    weights = {"lora_a.kernel": np.array([[1], [2]], np.float32), "lora_b.kernel": np.array([[10, 0]], np.float32)}
    merged = LowRank((2, 2), 1, scale=0.5).merged({"kernel": kernel}, weights)
    np.testing.assert_array_equal(merged["kernel"], [[6, 2], [13, 4]])
    separable = LowRank((2, 2), 1, scale=0.5, kernel="pointwise_kernel")
    merged = separable.merged({"pointwise_kernel": kernel[None]}, weights)
    np.testing.assert_array_equal(merged["pointwise_kernel"], [[[6, 2], [13, 4]]])


def test_low_rank_convolution_per_tap():
    down, up = np.array([[[1], [2]], [[0], [3]]], np.float32), np.array([[[5, 7]]], np.float32)
    weights = {"locon_down.kernel": down, "locon_up.kernel": up}
    merged = LowRankConv((2, 2, 2), 1, scale=2).merged({"kernel": np.ones((2, 2, 2), np.float32)}, weights)
    np.testing.assert_array_equal(merged["kernel"], [[[11, 15], [21, 29]], [[1, 1], [31, 43]]])


def test_factors():
    kernel, factors = np.array([[1, 2], [3, 4]], np.float32), {"ia3.scale": np.array([10, 100], np.float32)}
    np.testing.assert_array_equal(OutputScale(2).merged({"kernel": kernel}, factors)["kernel"], [[10, 200], [30, 400]])
    np.testing.assert_array_equal(InputScale(2).merged({"kernel": kernel}, factors)["kernel"], [[10, 20], [300, 400]])
