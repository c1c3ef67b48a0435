"""Calico's weights files (Keras 2 ``.h5``), read and written by order and shape.

Layer names in these files carry counters that depend on what else was built in the process
(``conv1d_7``, ``conv1d_14``), so layers are matched by their order within each kind, and weights
within a layer by name. Only datasets are read: the pickled-function-bearing ``model_config`` is not.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from kipoi_borzoi.errors import WeightsError
from kipoi_borzoi.files import atomic_write
from kipoi_borzoi.network.config import NetworkConfig
from kipoi_borzoi.network.schema import LayerWeights, layer_weights, weight_shapes

# Our name of a projection within an attention layer, and Calico's.
PROJECTIONS = {
    "q": "q_layer",
    "k": "k_layer",
    "v": "v_layer",
    "out": "embedding_layer",
    "positions": "r_k_layer",
}
_KIND_BY_WEIGHTS = {
    frozenset({"depthwise_kernel", "pointwise_kernel", "bias"}): "separable_conv",
    frozenset({"gamma", "beta", "moving_mean", "moving_variance"}): "batch_norm",
    frozenset({"gamma", "beta"}): "layer_norm",
    frozenset({"scale"}): "scale",
}
_KERAS_NAME = {
    "conv": "conv1d",
    "dense": "dense",
    "separable_conv": "separable_conv1d",
    "batch_norm": "batch_normalization",
    "layer_norm": "layer_normalization",
    "attention": "multihead_attention",
    "scale": "scale",
}


def read_calico_h5(path: str | Path, config: NetworkConfig) -> Iterator[tuple[str, np.ndarray]]:
    """Read the weights of ``config``'s network one tensor at a time; names, shapes and types are checked before the first.

    Parameters
    ----------
    path : path
        A file that Calico's code saved: trunk and one head, or the trunk only.
    config : NetworkConfig
        With exactly the heads that the file holds (``config.with_heads("human")``; ``with_heads()`` for
        a trunk-only file).

    Yields
    ------
    name, float32 array
        By dotted name, in the order of `kipoi_borzoi.network.schema.weight_shapes`.

    Raises
    ------
    WeightsError
        Not an HDF5 file, or a tensor that is missing, too many, of another shape, not of floats, not
        finite, or not stored in the file itself.
    """
    with open_h5(path) as file:
        matched = match_layers(path, layers_by_kind(path, stored_datasets(path, file)), config)
        for layer, h5_name, datasets in matched:
            for weight in layer.shapes:
                name = f"{layer.name}.{weight}"
                yield name, read_dataset(path, f"{h5_name}/{weight}", name, datasets[weight])


def write_calico_h5(path: str | Path, tensors: dict[str, np.ndarray], config: NetworkConfig) -> None:
    """Write weights as a file that Calico's code loads (``SeqNN.restore``).

    Parameters
    ----------
    path : path
        Written atomically.
    tensors : dict
        Every weight of ``config``'s network by dotted name.
    config : NetworkConfig

    Raises
    ------
    WeightsError
        A tensor that is missing, unknown or of another shape; nothing is written.
    """
    shapes = weight_shapes(config)
    for name in [*shapes, *tensors]:
        if name not in tensors or name not in shapes:
            raise WeightsError(f"{name} is {'missing' if name in shapes else 'not a weight of the network'}")
    counts: Counter[str] = Counter()
    with atomic_write(path) as temporary, h5py.File(temporary, "w") as file:
        root = file.create_group("model_weights")
        names = []
        for layer in layer_weights(config):
            number, keras_name = counts[layer.kind], _KERAS_NAME[layer.kind]
            counts[layer.kind] += 1
            h5_name = f"{keras_name}_{number}" if number else keras_name
            group = root.create_group(h5_name)
            weight_names = []
            for weight, shape in layer.shapes.items():
                value = np.asarray(tensors[f"{layer.name}.{weight}"], dtype=np.float32)
                if value.shape != shape:
                    raise WeightsError(f"{layer.name}.{weight} has shape {value.shape}, expected {shape}")
                weight_name = f"{h5_name}/{_calico_weight(layer.kind, weight)}:0"
                group.create_dataset(weight_name, data=value)
                weight_names.append(weight_name.encode())
            group.attrs["weight_names"] = weight_names
            names.append(h5_name.encode())
        for owner in (file, root):
            owner.attrs["backend"] = b"tensorflow"
            owner.attrs["keras_version"] = b"2.15.0"
        root.attrs["layer_names"] = names


def open_h5(path: str | Path) -> h5py.File:
    """Open an HDF5 file for reading; one clear `WeightsError` when it is something else."""
    try:
        return h5py.File(path, "r")
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no such file") from error
    except OSError as error:
        try:
            with open(path, "rb") as file:
                head = file.read(512)
        except OSError as reason:
            raise WeightsError(f"{path}: cannot be read ({reason.strerror})") from reason
        if not head:
            found = "the file is empty"
        elif head.lstrip()[:1] == b"<":
            found = "it looks like an HTML page, so the download went wrong"
        elif head.startswith(b"\x89HDF"):
            found = "the file is truncated or damaged; fetch it again"
        else:
            found = "it is not an HDF5 file"
        raise WeightsError(f"{path}: expected Calico's weights (.h5), but {found}") from error


def stored_datasets(path: str | Path, file: h5py.File) -> dict[str, dict[str, h5py.Dataset]]:
    """The file's layers that hold weights, in order: layer name to weight name, both as in the file, to dataset.

    Raises
    ------
    WeightsError
        No list of layers, or a dataset that is not in the file itself.
    """
    with _damage_named(path):
        group = _hard(path, file, "model_weights") if "model_weights" in file else file
        if "layer_names" not in group.attrs:
            raise WeightsError(f"{path}: no list of layers; expected a file saved by Keras 2 (Calico's SeqNN.save)")
        layers: dict[str, dict[str, h5py.Dataset]] = {}
        for h5_name in _listed(path, group, "layer_names"):
            layer = _hard(path, group, h5_name)
            datasets: dict[str, h5py.Dataset] = {}
            for weight_name in _listed(path, layer, "weight_names"):
                dataset = _hard(path, layer, weight_name)
                if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
                    raise WeightsError(f"{path}: {weight_name} is not a dataset stored in the file itself")
                datasets[weight_name] = dataset
            if datasets:
                layers[h5_name] = datasets
        return layers


def weight_path(weight_name: str) -> list[str]:
    """The parts of a weight's name in the file: ``multihead_attention_1/q_layer/kernel:0`` (``:0:0`` in merged files)."""
    return re.sub(r"(:\d+)+$", "", weight_name).split("/")


def layers_by_kind(
    path: str | Path, layers: dict[str, dict[str, h5py.Dataset]]
) -> dict[str, list[tuple[str, dict[str, h5py.Dataset]]]]:
    """Sort what `stored_datasets` gives by kind of layer: lists of (name in the file, weights by our names)."""
    stored: dict[str, list] = defaultdict(list)
    for h5_name, datasets in layers.items():
        with _damage_named(path):
            kind, named = _classify(path, h5_name, datasets)
        stored[kind].append((h5_name, named))
    return stored


def _classify(path, h5_name: str, datasets: dict[str, h5py.Dataset]) -> tuple[str, dict[str, h5py.Dataset]]:
    """Tell the kind of a layer from its weights, and name these as we do."""
    parts = [(weight_path(name), data) for name, data in datasets.items()]
    if any(path_parts[-1] == "r_w_bias" for path_parts, _ in parts):
        ours = {calico: name for name, calico in PROJECTIONS.items()}
        named = {}
        for path_parts, data in parts:
            owner = ours.get(path_parts[-2]) if len(path_parts) > 1 else None
            named[f"{owner}.{path_parts[-1]}" if owner else path_parts[-1]] = data
        if len(named) == len(datasets):
            return "attention", named
    named = {path_parts[-1]: data for path_parts, data in parts}
    if len(named) == len(datasets):
        if set(named) in ({"kernel"}, {"kernel", "bias"}) and named["kernel"].ndim in (2, 3):
            return ("dense" if named["kernel"].ndim == 2 else "conv"), named
        kind = _KIND_BY_WEIGHTS.get(frozenset(named))
        if kind:
            return kind, named
    raise WeightsError(
        f"{path}: layer {h5_name!r} holds {', '.join(datasets)}, which no layer of a Borzoi network has"
        " (an adapter's unmerged checkpoint?)"
    )


def match_layers(
    path: str | Path, stored: dict[str, list[tuple[str, dict[str, h5py.Dataset]]]], config: NetworkConfig
) -> list[tuple[LayerWeights, str, dict[str, h5py.Dataset]]]:
    """Find the stored layer of each layer of ``config``'s network, by order within its kind.

    Returns
    -------
    list of (layer, name in the file, datasets by the layer's weight names), in the network's order

    Raises
    ------
    WeightsError
        A layer or weight that is missing, too many, of another shape or type.
    """
    matched = []
    counts: Counter[str] = Counter()
    for layer in layer_weights(config):
        of_kind = stored[layer.kind]
        if counts[layer.kind] == len(of_kind):
            raise WeightsError(
                f"{path}: no layer left for {layer.name}: the network needs more layers of kind"
                f" {layer.kind!r} than the {len(of_kind)} in the file"
            )
        h5_name, datasets = of_kind[counts[layer.kind]]
        counts[layer.kind] += 1
        with _damage_named(path):
            _check_layer(path, layer, h5_name, datasets)
        matched.append((layer, h5_name, datasets))
    for kind, layers in stored.items():
        if len(layers) > counts[kind]:
            h5_name = layers[counts[kind]][0]
            raise WeightsError(
                f"{path}: layer {h5_name!r} is not part of the network: the file has {len(layers)} layers of"
                f" kind {kind!r}, the params and heads ask for {counts[kind]}"
            )
    return matched


def read_dataset(path: str | Path, h5_name: str, name: str, dataset: h5py.Dataset) -> np.ndarray:
    """Read one dataset as float32; ``h5_name`` and ``name`` are what errors call it in the file and in the network."""
    with _damage_named(path):
        if dataset.dtype.kind != "f":
            raise WeightsError(f"{path}: {h5_name} (for {name}) is of type {dataset.dtype}, expected floats")
        value = dataset[()].astype(np.float32, copy=False)
    if not np.isfinite(value).all():
        raise WeightsError(f"{path}: {h5_name} (for {name}) has values that are not finite")
    return value


def _check_layer(path, layer: LayerWeights, h5_name: str, datasets: dict[str, h5py.Dataset]) -> None:
    """Check the names, shapes and types of one layer's weights."""
    for weight in datasets:
        if weight not in layer.shapes:
            raise WeightsError(f"{path}: {h5_name}/{weight} has no place in {layer.name}")
    for weight, shape in layer.shapes.items():
        name = f"{layer.name}.{weight}"
        if weight not in datasets:
            raise WeightsError(f"{path}: {h5_name} has no {weight} (for {name})")
        data = datasets[weight]
        if data.shape != shape:
            raise WeightsError(f"{path}: {h5_name}/{weight} has shape {data.shape}, but {name} needs {shape}")
        if data.dtype.kind != "f":
            raise WeightsError(f"{path}: {h5_name}/{weight} is of type {data.dtype}, expected floats")


@contextmanager
def _damage_named(path):
    """Turn what h5py raises on damaged content into a `WeightsError`."""
    try:
        yield
    except WeightsError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise WeightsError(f"{path}: cannot be read: the file is truncated or damaged ({error})") from error


def _listed(path, group: h5py.Group, attribute: str) -> list[str]:
    """The names in an attribute of ``group``, each once."""
    names = [value.decode() if isinstance(value, bytes) else str(value) for value in group.attrs.get(attribute, [])]
    for name, count in Counter(names).items():
        if count > 1:
            raise WeightsError(f"{path}: {name} is listed {count} times in {attribute} of {group.name}")
    return names


def _hard(path, group: h5py.Group, name: str):
    """Follow ``name`` inside ``group``, refusing soft and external links on the way."""
    current = group
    for part in filter(None, name.split("/")):
        inside = isinstance(current, h5py.Group) and part != "."
        link = current.get(part, getlink=True) if inside else None
        if link is None:
            raise WeightsError(f"{path}: {group.name}/{name} is listed but not in the file")
        if not isinstance(link, h5py.HardLink):
            raise WeightsError(f"{path}: {group.name}/{name} is a link, not data stored in the file itself")
        current = current[part]
    return current


def _calico_weight(kind: str, weight: str) -> str:
    """Calico's name of a weight within its layer."""
    if kind == "attention" and "." in weight:
        owner, weight = weight.split(".")
        return f"{PROJECTIONS[owner]}/{weight}"
    return weight
