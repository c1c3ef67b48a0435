"""A small base and adapter directories that stand on it, for tests of zoos and groups."""

from adapter_cases import adapt, targets_file
from zoo_parts import make_parts

from kipoi_borzoi.adapters.base import trunk_hash
from kipoi_borzoi.adapters.directory import save_adapter
from kipoi_borzoi.adapters.sites import BaseWeights
from kipoi_borzoi.network.config import NetworkConfig
from kipoi_borzoi.network.network import Network, random_weights
from kipoi_borzoi.network.weights import save_safetensors

SMALL = {
    "model": {
        "seq_length": 256,
        "activation": "gelu",
        "norm_type": "batch",
        "bn_momentum": 0.9,
        "trunk": [
            {"name": "conv_dna", "filters": 8, "kernel_size": 15, "norm_type": None, "activation": "linear",
             "pool_size": 2},
            {"name": "res_tower", "filters_init": 8, "filters_end": 12, "divisible_by": 4, "kernel_size": 5,
             "num_convs": 1, "pool_size": 2, "repeat": 3},
            {"name": "transformer_tower", "key_size": 4, "heads": 2, "num_position_features": 8, "dropout": 0.2,
             "repeat": 2},
            {"name": "unet_conv", "kernel_size": 3, "upsample_conv": True},
            {"name": "Cropping1D", "cropping": 2},
            {"name": "conv_nac", "filters": 16, "dropout": 0.1},
        ],
        "head_human": {"name": "final", "units": 4, "activation": "softplus"},
        "head_mouse": {"name": "final", "units": 2, "activation": "softplus"},
    }
}  # fmt: skip


def make_base(folder, seed):
    """Write params, safetensors and tracks of a small base with non-trivial weights."""
    make_parts(folder, SMALL)
    network = Network(NetworkConfig.from_params(SMALL).with_heads("human"))
    random_weights(network, seed)
    save_safetensors(folder / "base.safetensors", BaseWeights(network))
    return network


def parts_of(folder):
    """What `zoo_import` takes, of a folder of `make_base`."""
    return {
        "params": folder / "params.json",
        "weights": folder / "base.safetensors",
        "targets": folder / "targets.txt",
    }


def write_adapter(directory, network, method, base="lab/base", **options):
    """Save an adapter of three tracks, every weight random, and return it."""
    directory.parent.mkdir(exist_ok=True)
    targets = targets_file(directory.parent / "tracks.txt", 3)
    adapter = adapt(network, method, tracks=3, **options).current()
    save_adapter(directory, adapter, targets, base, trunk_hash(BaseWeights(network), network.config), "old")
    return adapter
