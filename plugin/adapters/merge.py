"""Folds an adapter into the weights of its base, where plain weights can compute the same."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kipoi_borzoi.adapters.adapter import Adapter, Scheme
from kipoi_borzoi.adapters.leaves import trunk_leaves
from kipoi_borzoi.adapters.linear import Linear
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.network.schema import weight_shapes


def merge(adapter: Adapter, base: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The plain weights that compute what the base and the adapter compute together.

    Parameters
    ----------
    adapter : Adapter
    base : mapping
        The weights of the base's trunk by name (others are not looked at).

    Returns
    -------
    dict
        Every weight of the network with the adapter's head, by name, in the network's order.

    Raises
    ------
    InputError
        The method cannot be merged.
    """
    changed = fold(adapter, base).tensors
    return {name: changed[name] if name in changed else base[name] for name in weight_shapes(adapter.config)}


def fold(adapter: Adapter, base: Mapping[str, np.ndarray]) -> Adapter:
    """The adapter that holds every changed layer whole, with nothing inserted: as fast to run as the base itself.

    Parameters
    ----------
    adapter : Adapter
    base : mapping
        The weights of the base's trunk by name; only those of adapted layers are read.

    Raises
    ------
    InputError
        The method cannot be merged.
    """
    if adapter.method.not_mergeable:
        raise InputError(f"an adapter of method {adapter.method.name} cannot be merged: {adapter.method.not_mergeable}")
    old = adapter.scheme
    sites = [site for site in old.inserts if site != f"{old.head.name}.dense"]
    new = Scheme(Linear(), old.config, replaced=(*old.layers, *sites))
    held = old.layer_shapes() | old.head_shapes()
    tensors = {name: adapter.tensors[name] if name in held else base[name] for name in new.shapes()}
    leaves = trunk_leaves(old.config)
    for site, insert in old.inserts.items():
        weights = leaves[site].shapes if site in leaves else ("kernel", "bias")
        layer = {weight: tensors[f"{site}.{weight}"] for weight in weights}
        merged = insert.merged(layer, adapter.insert_weights(site))
        tensors |= {f"{site}.{weight}": value for weight, value in merged.items()}
    return Adapter(new, tensors, adapter.gelu)
