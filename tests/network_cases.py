"""Small networks that between them use every block and option, and what tests need to run them."""

import functools

import keras
import numpy as np

from kipoi_borzoi.network.config import NetworkConfig
from kipoi_borzoi.network.network import Network, named_weights, random_weights

# Largest relative difference between two implementations in float64. TensorFlow's GELU holds one of its
# constants in float32, which costs 1e-9; with the other backends Keras does some of the arithmetic in float32.
EXACT = keras.backend.backend() == "tensorflow"
CLOSE = 5e-9 if EXACT else 5e-6

CONV_DNA = {
    "name": "conv_dna",
    "filters": 6,
    "kernel_size": 5,
    "norm_type": None,
    "activation": "linear",
    "pool_size": 2,
}
TOWER = {"name": "res_tower", "filters_init": 6, "filters_end": 8, "kernel_size": 3, "num_convs": 1, "repeat": 2}
TRANSFORMER = {"name": "transformer_tower", "key_size": 4, "heads": 2, "num_position_features": 6, "repeat": 1}
UNET = {"name": "unet_conv", "kernel_size": 3, "upsample_conv": True}
CROP = {"name": "Cropping1D", "cropping": 3}
CONV_NAC = {"name": "conv_nac", "filters": 10, "dropout": 0.1}
HEAD = {"name": "final", "units": 3, "activation": "softplus"}


def make_params(*trunk, seq_length=128, **model):
    """Params with this trunk; every setting of the model section can be replaced, and heads added."""
    settings = {"seq_length": seq_length, "activation": "gelu", "norm_type": "batch", "bn_momentum": 0.9}
    settings.update(model)
    if not any(key.startswith("head") for key in settings):
        settings["head"] = dict(HEAD)
    return {"model": {**settings, "trunk": [dict(block) for block in trunk]}}


def borzoi_like(transformer=None, seq_length=256, **model):
    """Params of the published network's order of blocks, with other transformer or model settings."""
    return make_params(
        CONV_DNA,
        TOWER,
        {**TRANSFORMER, **(transformer or {})},
        UNET,
        UNET,
        CROP,
        CONV_NAC,
        seq_length=seq_length,
        **model,
    )


CASES = {
    "as published": borzoi_like(),
    "batch-sync": borzoi_like(norm_type="batch-sync"),
    "layer norm": borzoi_like(norm_type="layer"),
    "no norm": borzoi_like(norm_type=None),
    "relu": borzoi_like(activation="relu"),
    "two heads": borzoi_like(
        head_mouse={**HEAD, "units": 2}, head_human=[{**HEAD, "units": 5, "activation": "linear"}]
    ),
    "heads in natural order": borzoi_like(head10=HEAD, head9={**HEAD, "units": 2, "activation": "relu"}),
    "no content bias": borzoi_like({"content_position_bias": False}),
    "position features by width": borzoi_like({"num_position_features": None}),
    "no position features": borzoi_like({"num_position_features": 0}),
    "positions of a longer window": borzoi_like({"seqlen_train": 61}),
    "separable projections": borzoi_like({"qkv_width": 3}),
    "even separable projections": borzoi_like({"qkv_width": 4}),
    "no perceptron": borzoi_like({"dense_expansion": 0}),
    "odd perceptron": borzoi_like({"dense_expansion": 1.3, "repeat": 3}),
    "one attention head": borzoi_like({"heads": 1, "key_size": 3}),
    "two convolutions": make_params(CONV_DNA, {**TOWER, "num_convs": 2}, TRANSFORMER, UNET),
    "three convolutions": make_params(CONV_DNA, {**TOWER, "num_convs": 3, "norm_type": "layer"}, TRANSFORMER, UNET),
    "default convolutions, factor": make_params(
        CONV_DNA, {"name": "res_tower", "filters_init": 4, "filters_mult": 1.6, "divisible_by": 2, "repeat": 3}
    ),
    "wide and dilated tower": make_params(
        CONV_DNA, {**TOWER, "kernel_size": 4, "pool_size": 3, "dilation_rate": 2, "num_convs": 2}, seq_length=117
    ),
    "tower without pooling": make_params(CONV_DNA, {**TOWER, "pool_size": 1}, TRANSFORMER),
    "no upsample_conv": make_params(CONV_DNA, TOWER, {**UNET, "upsample_conv": False, "kernel_size": 4}),
    "no transformer": make_params(CONV_DNA, TOWER, UNET, UNET, CROP, CONV_NAC),
    "transformer alone": make_params({**CONV_DNA, "pool_size": 8}, TRANSFORMER, seq_length=200),
    "conv_nac": make_params(
        CONV_DNA,
        {"name": "conv_nac", "filters": 8, "kernel_size": 4, "dilation_rate": 3, "pool_size": 3},
        {"name": "conv_nac", "kernel_size": 3, "residual": True, "pool_size": 2, "norm_type": "layer"},
        {"name": "conv_nac", "activation": "tanh", "norm_type": None},
        seq_length=131,
    ),
    "conv_dna with norm": make_params(
        {"name": "conv_dna", "filters": 6, "kernel_size": 4, "activation": "relu", "pool_size": 5, "dropout": 0.1},
        {"name": "conv_dna", "filters": 5, "use_bias": True, "norm_type": "layer", "activation": None},
        {"name": "conv_dna", "filters": 7, "use_bias": False, "norm_type": None, "activation": "sigmoid"},
        seq_length=103,
    ),
    "odd lengths": make_params(CONV_DNA, TOWER, CROP, {**CONV_NAC, "kernel_size": 5}, seq_length=101),
    "no crop": make_params(CONV_DNA, TOWER, TRANSFORMER, UNET, {**CROP, "cropping": 0}, CONV_NAC),
    "crop between": make_params(
        CONV_DNA, CROP, {**CONV_NAC, "pool_size": 2}, UNET, {**CROP, "cropping": 5}, {**CONV_NAC, "kernel_size": 3}
    ),
    "two towers": make_params(CONV_DNA, TOWER, TRANSFORMER, {**TOWER, "filters_init": 8}, TRANSFORMER, UNET, UNET),
    "activations": make_params(
        CONV_DNA,
        {**CONV_NAC, "activation": "softplus"},
        {**CONV_NAC, "activation": "linear", "pool_size": 2},
        {**UNET, "activation": "sigmoid"},
        activation="tanh",
        head={"name": "final", "units": 2, "activation": "sigmoid"},
    ),
}


def make_network(params, seed=1, dtype="float64"):
    """A network with random weights."""
    network = Network(NetworkConfig.from_params(params), dtype=dtype, initialize=False)
    random_weights(network, seed)
    return network


@functools.cache
def case_network(name):
    """The network of a case in float64, shared by all tests that only read it."""
    return make_network(CASES[name])


def weights_of(network):
    """Its weights as arrays by name."""
    return {name: keras.ops.convert_to_numpy(variable) for name, variable in named_weights(network).items()}


def random_dna(length, batch=2, seed=0):
    """One-hot sequences (batch, length, 4), some letters N."""
    letters = np.random.default_rng(seed).choice(5, size=(batch, length), p=[0.24, 0.24, 0.24, 0.24, 0.04])
    return np.eye(5, 4)[letters]


def largest_difference(x, expected):
    """Largest |difference| relative to the largest expected value."""
    x = keras.ops.convert_to_numpy(x)
    assert x.shape == expected.shape
    return np.abs(x - expected).max() / np.abs(expected).max()
