"""An adapter as plain data: its method, the network it was made for, and its tensors by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from kipoi_borzoi.adapters.leaves import trunk_leaves, unit_of
from kipoi_borzoi.adapters.method import Insert, Method
from kipoi_borzoi.errors import ConfigError, WeightsError
from kipoi_borzoi.network.config import Cropping, Head, NetworkConfig
from kipoi_borzoi.network.sites import GELUS


@dataclass(frozen=True)
class Scheme:
    """Which weights a method adds and trains in a network, by name.

    Attributes
    ----------
    method : Method
    config : NetworkConfig
        With exactly one head: the adapter's.
    replaced : tuple of str
        Sites of the trunk whose layers the adapter holds whole, beside those that its method trains. An
        insert there is left out. For adapters read from files in which such a layer differs from the
        base by more than the method can express.
    """

    method: Method
    config: NetworkConfig
    replaced: tuple[str, ...] = ()

    def __post_init__(self):
        if len(self.config.heads) != 1:
            raise ConfigError(f"an adapter has one head, the config has {len(self.config.heads)}")
        unknown = sorted(set(self.replaced) - set(trunk_leaves(self.config)))
        if unknown:
            raise ConfigError(f"the network has no layer {unknown[0]}")
        if self.method.name != "linear" and not (self.inserts or self.layers):
            raise ConfigError(f"{self.method.name} matches no layer of this network; it would train the head only")

    @property
    def head(self) -> Head:
        """The adapter's head."""
        return self.config.heads[0]

    @property
    def inserts(self) -> dict[str, Insert]:
        """What is put at which site."""
        inserts = self.method.inserts(self.config)
        return {site: insert for site, insert in inserts.items() if site not in self.replaced}

    @property
    def layers(self) -> list[str]:
        """Sites of the trunk whose layers the adapter holds whole, in the order of the network."""
        held = {*self.method.trained(self.config), *self.replaced}
        return [site for site in trunk_leaves(self.config) if site in held]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor of the adapter by name: inserts, whole layers, head."""
        return self.insert_shapes() | self.layer_shapes() | self.head_shapes()

    def insert_shapes(self) -> dict[str, tuple[int, ...]]:
        """The tensors of the inserts."""
        return {
            f"{site}.{name}": weight.shape
            for site, insert in self.inserts.items()
            for name, weight in insert.weights().items()
        }

    def layer_shapes(self) -> dict[str, tuple[int, ...]]:
        """The tensors of the trunk's layers that the adapter holds whole."""
        leaves = trunk_leaves(self.config)
        return {name: shape for site in self.layers for name, shape in leaves[site].weights().items()}

    def head_shapes(self) -> dict[str, tuple[int, ...]]:
        """The tensors of the head."""
        width, head = self.config.layout.width, self.head
        return {f"{head.name}.dense.kernel": (width, head.units), f"{head.name}.dense.bias": (head.units,)}

    @property
    def first_unit(self) -> int:
        """Index of the first unit that the adapter changes; the number of units when it is only the head."""
        return min((unit_of(site, self.config) for site in self._trunk_sites()), default=len(self.config.layout.units))

    @property
    def whole_units(self) -> frozenset[str]:
        """Names of the units whose every output depends on every position, because of an insert."""
        units = self.config.layout.units
        return frozenset(
            units[unit_of(site, self.config)].name for site, insert in self.inserts.items() if insert.whole
        )

    @property
    def depends_on_crop(self) -> bool:
        """Whether the adapter averages over a level that is cropped, so that another crop changes what it computes."""
        units = self.config.layout.units
        crops = [index for index, unit in enumerate(units) if isinstance(unit.block, Cropping)]
        return any(unit.name in self.whole_units for unit in units[min(crops, default=len(units)) :])

    def _trunk_sites(self) -> set[str]:
        return {*self.inserts, *self.layers} - {f"{self.head.name}.dense"}


@dataclass(frozen=True, eq=False)
class Adapter:
    """The trained difference to a base network.

    Attributes
    ----------
    scheme : Scheme
    tensors : dict
        Name to float32 array, exactly `Scheme.shapes`; in its order.
    gelu : {'tanh', 'erf'}
        Which GELU the adapter was trained with. With ``erf`` it changes the whole network.

    Raises
    ------
    WeightsError
        A tensor that is missing, too many, of another shape or type, or not finite.
    """

    scheme: Scheme
    tensors: Mapping[str, np.ndarray]
    gelu: str = "tanh"

    def __post_init__(self):
        if self.gelu not in GELUS:
            raise ConfigError(f"gelu is {self.gelu!r}; known: {', '.join(GELUS)}")
        shapes = self.scheme.shapes()
        for name in self.tensors:
            if name not in shapes:
                raise WeightsError(f"{name} is not part of a {self.method.name} adapter of this network")
        for name, shape in shapes.items():
            if name not in self.tensors:
                raise WeightsError(f"{name} is missing")
            value = self.tensors[name]
            if value.shape != shape:
                raise WeightsError(f"{name} has shape {value.shape}, expected {shape}")
            if value.dtype != np.float32:
                raise WeightsError(f"{name} is of type {value.dtype}, expected float32")
            if not np.isfinite(value).all():
                raise WeightsError(f"{name} has values that are not finite")
        object.__setattr__(self, "tensors", {name: self.tensors[name] for name in shapes})

    @property
    def method(self) -> Method:
        """The method."""
        return self.scheme.method

    @property
    def config(self) -> NetworkConfig:
        """The network with the adapter's head."""
        return self.scheme.config

    def insert_weights(self, site: str) -> dict[str, np.ndarray]:
        """The weights of the insert at ``site``, by the insert's names."""
        return {name: self.tensors[f"{site}.{name}"] for name in self.scheme.inserts[site].weights()}


def with_head(config: NetworkConfig, tracks: int | None = None, head: str | None = None) -> NetworkConfig:
    """The config with one head, of ``tracks`` tracks.

    Parameters
    ----------
    config : NetworkConfig
        Of the base. Without heads (a trunk only), the new one is called ``head`` and gives softplus.
    tracks : int, optional
        None keeps the number of the config's head.
    head : str, optional
        Which of the config's heads to go by; the first one by default, as Calico's code does.

    Raises
    ------
    ConfigError
        No such head, or no number of tracks.
    """
    if config.heads or head is not None:
        chosen = config.heads[0] if head is None else config.head(head)
    else:
        chosen = Head(name="head", units=0, activation="softplus")
    units = chosen.units if tracks is None else tracks
    if units < 1:
        raise ConfigError(f"a head of {units} tracks is not possible; give their number, 1 or more")
    return replace(config, heads=(replace(chosen, units=units),))
