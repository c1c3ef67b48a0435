"""Which weights a config's network has, by name, kind and shape, without building it (and without Keras)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kipoi_borzoi.network.config import ConvDNA, ConvNAC, Cropping, NetworkConfig, ResTower, TransformerTower
from kipoi_borzoi.network.layout import Unit

KINDS = ("conv", "dense", "separable_conv", "batch_norm", "layer_norm", "attention", "scale")


@dataclass(frozen=True)
class LayerWeights:
    """The weights of one layer.

    Attributes
    ----------
    name : str
        Dotted name, the prefix of its weights' names: ``res_tower.0.conv``.
    kind : str
        One of `KINDS`.
    shapes : dict
        Weight name within the layer (``kernel``, ``q.kernel``) to shape, in Calico's order.
    """

    name: str
    kind: str
    shapes: dict[str, tuple[int, ...]]


def layer_weights(config: NetworkConfig) -> list[LayerWeights]:
    """The layers of the network that hold weights, in the order in which Calico's code creates them."""
    layers = [layer for unit in config.layout.units for layer in _unit_layers(unit)]
    for head in config.heads:
        layers.append(_dense(f"{head.name}.dense", config.layout.width, head.units))
    return layers


def weight_shapes(config: NetworkConfig) -> dict[str, tuple[int, ...]]:
    """Every weight of the network by dotted name, with its shape."""
    return {
        f"{layer.name}.{weight}": shape for layer in layer_weights(config) for weight, shape in layer.shapes.items()
    }


def _unit_layers(unit: Unit) -> Iterator[LayerWeights]:
    block, name = unit.block, unit.name
    if isinstance(block, ConvDNA):
        yield _conv(f"{name}.conv", block.kernel_size, unit.in_width, unit.out_width, bias=block.has_bias)
        yield from _norm(f"{name}.norm", block.norm_type, unit.out_width)
    elif isinstance(block, ConvNAC):
        yield from _norm(f"{name}.norm", block.norm_type, unit.in_width)
        yield _conv(f"{name}.conv", block.kernel_size, unit.in_width, unit.out_width)
    elif isinstance(block, ResTower):
        width, kernel = unit.in_width, block.kernel_size
        for index in range(block.num_convs):
            step = name if block.num_convs == 1 else f"{name}.{index}"
            yield from _norm(f"{step}.norm", block.norm_type, width)
            yield _conv(f"{step}.conv", kernel, width, unit.out_width)
            width, kernel = unit.out_width, 1
        if block.num_convs > 1:
            yield LayerWeights(f"{name}.scale", "scale", {"scale": (unit.out_width,)})
    elif isinstance(block, TransformerTower):
        yield from _transformer(name, block, unit.out_width)
    elif not isinstance(block, Cropping):
        width = unit.out_width
        yield from _norm(f"{name}.norm", block.norm_type, unit.in_width)
        yield from _norm(f"{name}.skip_norm", block.norm_type, unit.skip_width)
        if block.upsample_conv:
            yield _dense(f"{name}.dense", unit.in_width, width)
        yield _dense(f"{name}.skip_dense", unit.skip_width, width)
        shapes = _separable("", block.kernel_size, width, width) | {"bias": (width,)}
        yield LayerWeights(f"{name}.conv", "separable_conv", shapes)


def _transformer(name: str, block: TransformerTower, width: int) -> Iterator[LayerWeights]:
    keys, features = block.heads * block.key_size, block.num_position_features
    if features is None:
        features = width // block.heads // 2 * 2
    bias = (1, block.heads, 1, block.key_size)
    shapes: dict[str, tuple[int, ...]] = {"r_w_bias": bias, "r_r_bias": bias}
    for part, units in (("q", keys), ("k", keys), ("v", width)):
        if block.qkv_width == 1:
            shapes[f"{part}.kernel"] = (width, units)
        else:
            shapes |= _separable(f"{part}.", block.qkv_width, width, units)
    shapes |= {"out.kernel": (width, width), "out.bias": (width,)}
    if features:
        shapes["positions.kernel"] = (features, keys)
    yield from _norm(f"{name}.attention_norm", "layer", width)
    yield LayerWeights(f"{name}.attention", "attention", shapes)
    if block.dense_expansion:
        units = int(block.dense_expansion * width)
        yield from _norm(f"{name}.mlp_norm", "layer", width)
        yield _dense(f"{name}.up", width, units)
        yield _dense(f"{name}.down", units, width)


def _norm(name: str, norm_type: str | None, width: int) -> Iterator[LayerWeights]:
    if norm_type == "layer":
        yield LayerWeights(name, "layer_norm", {"gamma": (width,), "beta": (width,)})
    elif norm_type is not None:
        weights = ("gamma", "beta", "moving_mean", "moving_variance")
        yield LayerWeights(name, "batch_norm", dict.fromkeys(weights, (width,)))


def _conv(name: str, kernel_size: int, width: int, filters: int, bias: bool = True) -> LayerWeights:
    shapes: dict[str, tuple[int, ...]] = {"kernel": (kernel_size, width, filters)}
    return LayerWeights(name, "conv", shapes | ({"bias": (filters,)} if bias else {}))


def _dense(name: str, width: int, units: int) -> LayerWeights:
    return LayerWeights(name, "dense", {"kernel": (width, units), "bias": (units,)})


def _separable(prefix: str, kernel_size: int, width: int, filters: int) -> dict[str, tuple[int, ...]]:
    return {
        f"{prefix}depthwise_kernel": (kernel_size, width, 1),
        f"{prefix}pointwise_kernel": (1, width, filters),
    }
