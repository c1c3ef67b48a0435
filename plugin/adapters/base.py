"""The trunk of a base network, read from any file that holds it, whatever heads are there beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from kipoi_borzoi.errors import WeightsError
from kipoi_borzoi.network.calico_h5 import layers_by_kind, open_h5, stored_datasets
from kipoi_borzoi.network.config import Head, NetworkConfig
from kipoi_borzoi.network.schema import layer_weights, weight_shapes
from kipoi_borzoi.network.weights import content_hash, is_hdf5, read_weights


def read_trunk(path: str | Path, config: NetworkConfig) -> dict[str, np.ndarray]:
    """Read the weights of the trunk of ``config`` from ``.safetensors`` or Calico's ``.h5``.

    Parameters
    ----------
    path : path
        Trunk alone, or with any heads; these are left out.
    config : NetworkConfig
        Its heads do not matter.

    Returns
    -------
    dict
        Name to float32 array, in the network's order.

    Raises
    ------
    WeightsError
        See `kipoi_borzoi.network.weights.read_weights`.
    """
    trunk = config.with_heads()
    heads = _heads_h5(path, trunk) if is_hdf5(path) or not str(path).endswith(".safetensors") else _heads(path, trunk)
    wanted = weight_shapes(trunk)
    return {name: value for name, value in read_weights(path, replace(trunk, heads=heads)) if name in wanted}


def trunk_hash(tensors: Mapping[str, np.ndarray], config: NetworkConfig) -> str:
    """What an adapter knows its base by: `content_hash` of the trunk's weights, heads left out."""
    return content_hash(tensors, weight_shapes(config.with_heads()))


def _heads_h5(path: str | Path, trunk: NetworkConfig) -> tuple[Head, ...]:
    """Heads of the file's dense layers beyond those of the trunk."""
    used = sum(layer.kind == "dense" for layer in layer_weights(trunk))
    with open_h5(path) as file:
        dense = layers_by_kind(path, stored_datasets(path, file))["dense"]
        return tuple(
            Head(name=f"head_{number}", units=weights["kernel"].shape[-1])
            for number, (_, weights) in enumerate(dense[used:])
        )


def _heads(path: str | Path, trunk: NetworkConfig) -> tuple[Head, ...]:
    """Heads of a safetensors file: tensors called ``head...``."""
    try:
        with safe_open(path, framework="numpy") as file:
            biases = [name for name in file.keys() if name.startswith("head") and name.endswith(".dense.bias")]
            return tuple(
                Head(name=name.removesuffix(".dense.bias"), units=int(np.prod(file.get_slice(name).get_shape())))
                for name in biases
            )
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no such file") from error
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a whole safetensors file ({error})") from error
