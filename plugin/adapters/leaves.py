"""The trunk's leaf layers by site name, kind and shape: what adapter methods choose from, by structure alone."""

from __future__ import annotations

from dataclasses import dataclass

from kipoi_borzoi.errors import ConfigError
from kipoi_borzoi.network.config import NetworkConfig, TransformerTower
from kipoi_borzoi.network.schema import layer_weights


@dataclass(frozen=True)
class Leaf:
    """A layer that is run at a site of its own.

    Attributes
    ----------
    site : str
        Dotted name: ``res_tower.5.conv``, ``transformer_tower.0.attention.q``.
    kind : str
        As in `kipoi_borzoi.network.schema.KINDS`, but attention is taken apart: ``projection`` for its
        dense layers (or separable convolutions), ``attention`` for its two biases.
    shapes : dict
        Weight name within the layer to shape, in Calico's order.
    """

    site: str
    kind: str
    shapes: dict[str, tuple[int, ...]]

    @property
    def kernel(self) -> str:
        """Name of the weight that maps input to output channels."""
        return "pointwise_kernel" if "pointwise_kernel" in self.shapes else "kernel"

    @property
    def widths(self) -> tuple[int, int]:
        """Input and output channels of a layer with a kernel."""
        return self.shapes[self.kernel][-2:]

    def weights(self) -> dict[str, tuple[int, ...]]:
        """The layer's weights by full name, with their shapes."""
        return {f"{self.site}.{weight}": shape for weight, shape in self.shapes.items()}


def trunk_leaves(config: NetworkConfig) -> dict[str, Leaf]:
    """The leaf layers of the trunk of ``config`` by site, in Calico's order of creation."""
    leaves: dict[str, Leaf] = {}
    for layer in layer_weights(config.with_heads()):
        if layer.kind != "attention":
            leaves[layer.name] = Leaf(layer.name, layer.kind, layer.shapes)
            continue
        parts: dict[str, dict] = {}
        for weight, shape in layer.shapes.items():
            part, _, name = weight.rpartition(".")
            parts.setdefault(part, {})[name] = shape
        for part, shapes in parts.items():
            site = f"{layer.name}.{part}" if part else layer.name
            leaves[site] = Leaf(site, "projection" if part else "attention", shapes)
    return leaves


def transformer_blocks(config: NetworkConfig) -> list[str]:
    """Unit names of the transformer blocks, in order."""
    return [unit.name for unit in config.layout.units if isinstance(unit.block, TransformerTower)]


def last_convolutions(config: NetworkConfig, select: int | str) -> list[Leaf]:
    """The last ``select`` Conv1D layers in the order of the graph (separable ones do not count).

    Parameters
    ----------
    config : NetworkConfig
    select : int or 'all'

    Raises
    ------
    ConfigError
        The network has fewer.
    """
    convolutions = [leaf for leaf in trunk_leaves(config).values() if leaf.kind == "conv"]
    if select == "all":
        return convolutions
    if select > len(convolutions):
        raise ConfigError(f"conv_select is {select}, but the network has {len(convolutions)} Conv1D layers")
    return convolutions[-select:]


def unit_of(site: str, config: NetworkConfig) -> int:
    """Index in the layout of the unit that ``site`` lies in."""
    for index, unit in enumerate(config.layout.units):
        if site.startswith(f"{unit.name}."):
            return index
    raise ValueError(f"{site} is not a site of the trunk")
