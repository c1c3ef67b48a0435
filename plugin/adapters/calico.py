"""Reads the checkpoints of Calico's fine-tuning code: the network's own weights, and apart from them the adapter's.

Layers are matched by their order within each kind, as in `kipoi_borzoi.network.calico_h5`; an adapter's
weights by the name that Calico's code gives to the small layer which holds them.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from kipoi_borzoi.adapters.adapter import Scheme
from kipoi_borzoi.adapters.houlsby import Bottleneck
from kipoi_borzoi.adapters.houlsby_se import SqueezeExcite
from kipoi_borzoi.errors import WeightsError
from kipoi_borzoi.network.calico_h5 import (
    PROJECTIONS,
    layers_by_kind,
    match_layers,
    open_h5,
    read_dataset,
    stored_datasets,
    weight_path,
)

# Calico's name of the small layer within an adapted one, and ours of its weight.
_WITHIN = {
    "lora_a": "lora_a.kernel",
    "lora_b": "lora_b.kernel",
    "locon_down": "locon_down.kernel",
    "locon_up": "locon_up.kernel",
    "ia3": "ia3.scale",
    "ia3_ff": "ia3.scale",
}
_OWNERS = {calico: ours for ours, calico in PROJECTIONS.items()}
# Layers that hold nothing else: how their names begin, and the insert they are.
_ALONE = {"adapter_houlsby": Bottleneck, "squeeze_excite": SqueezeExcite}


@dataclass(frozen=True)
class Checkpoint:
    """What a file of Calico's fine-tuning code holds.

    Attributes
    ----------
    network : dict
        Every weight of the network with its new head, by name.
    inserts : dict
        The adapter's weights by the names that an `Adapter` gives them; empty when they are merged, or
        when the method has none.
    """

    network: dict[str, np.ndarray]
    inserts: dict[str, np.ndarray]


def read_checkpoint(path: str | Path, scheme: Scheme) -> Checkpoint:
    """Read ``model_best.h5`` or ``model_best.mergeW.h5``.

    Parameters
    ----------
    path : path
    scheme : Scheme
        The method and the network with its new head.

    Raises
    ------
    WeightsError
        See `kipoi_borzoi.network.calico_h5.read_calico_h5`; or an adapter's weights that are not those
        of the method.
    """
    with open_h5(path) as file:
        layers = stored_datasets(path, file)
        own: dict[str, dict[str, h5py.Dataset]] = {}
        added: dict[tuple[str, str], h5py.Dataset] = {}
        for layer, weights in layers.items():
            for weight, dataset in weights.items():
                if _is_added(layer, weight):
                    added[layer, weight] = dataset
                else:
                    own.setdefault(layer, {})[weight] = dataset
        matched = match_layers(path, layers_by_kind(path, own), scheme.config)
        sites = {h5_name: layer.name for layer, h5_name, _ in matched}
        network = {
            f"{layer.name}.{weight}": read_dataset(
                path, f"{h5_name}/{weight}", f"{layer.name}.{weight}", datasets[weight]
            )
            for layer, h5_name, datasets in matched
            for weight in layer.shapes
        }
        inserts = _read_added(path, added, sites, scheme)
    return Checkpoint(network, inserts)


def _is_added(layer: str, weight: str) -> bool:
    return layer.startswith(tuple(_ALONE)) or any(part in _WITHIN for part in weight_path(weight))


def _read_added(
    path, added: dict[tuple[str, str], h5py.Dataset], sites: dict[str, str], scheme: Scheme
) -> dict[str, np.ndarray]:
    """Read the adapter's weights; ``sites`` says which of our layers each of the file's is."""
    shapes = scheme.insert_shapes()
    tensors: dict[str, np.ndarray] = {}
    for name, (h5_name, dataset) in _named(path, added, sites, scheme).items():
        if name not in shapes:
            raise WeightsError(
                f"{path}: {h5_name} (for {name}) has no place in method {scheme.method.name}; is the transfer section"
                " that of this checkpoint?"
            )
        value = read_dataset(path, h5_name, name, dataset)
        if value.size != np.prod(shapes[name]) or value.shape[-1] != shapes[name][-1]:
            raise WeightsError(f"{path}: {h5_name} has shape {value.shape}, but {name} needs {shapes[name]}")
        tensors[name] = value.reshape(shapes[name])  # Calico keeps the factors of ia3 as (1, channels)
    missing = [name for name in shapes if name not in tensors]
    if tensors and missing:
        raise WeightsError(f"{path}: nothing for {missing[0]}, which method {scheme.method.name} has")
    return tensors


def _named(path, added, sites: dict[str, str], scheme: Scheme) -> dict[str, tuple[str, h5py.Dataset]]:
    """Our names for the adapter's weights: name to (name in the file, dataset)."""
    inserts = scheme.inserts
    alone = {
        kind: [site for site, insert in inserts.items() if isinstance(insert, cls)] for kind, cls in _ALONE.items()
    }
    seen: dict[str, list[str]] = defaultdict(list)  # layers of each kind so far
    named: dict[str, tuple[str, h5py.Dataset]] = {}
    kernels: dict[str, int] = defaultdict(int)
    for (layer, weight), dataset in added.items():
        parts = weight_path(weight)
        kind = next((kind for kind in _ALONE if layer.startswith(kind)), None)
        if kind is None:
            marker = next(index for index, part in enumerate(parts) if part in _WITHIN)
            site = sites.get(layer, layer)
            owner = _OWNERS.get(parts[marker - 1]) if marker else None
            name = f"{site}.{owner}.{_WITHIN[parts[marker]]}" if owner else f"{site}.{_WITHIN[parts[marker]]}"
        else:
            if layer not in seen[kind]:
                seen[kind].append(layer)
            number = seen[kind].index(layer)
            site = alone[kind][number] if number < len(alone[kind]) else layer
            if kind == "adapter_houlsby":
                name = f"{site}.{parts[-2].removeprefix('adapter_')}.{parts[-1]}"
            else:  # two dense layers whose names are mere counters, in order
                name = f"{site}.{('squeeze', 'excite')[min(kernels[layer], 1)]}.{parts[-1]}"
                kernels[layer] += 1
        if name in named:
            raise WeightsError(f"{path}: {layer}/{weight} and {named[name][0]} are both {name}")
        named[name] = (f"{layer}/{weight}", dataset)
    return named
