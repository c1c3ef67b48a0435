"""Runs an adapter on a base network: the adapter's own weights as variables, the base's left as they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import keras
import numpy as np

from kipoi_borzoi.adapters.adapter import Adapter, Scheme, with_head
from kipoi_borzoi.adapters.leaves import Leaf, trunk_leaves
from kipoi_borzoi.adapters.method import Method
from kipoi_borzoi.errors import WeightsError
from kipoi_borzoi.network.layers import Conv1D
from kipoi_borzoi.network.network import Network, leaf_layers, named_weights, own_variables
from kipoi_borzoi.network.schema import weight_shapes
from kipoi_borzoi.network.sites import Sites
from kipoi_borzoi.network.units import Head


class AdapterSites(Sites):
    """An adapter at work on a base network, which it shares with any number of others.

    Pass it as ``run`` to the network, as ``sites`` to a predictor. The base's variables are neither
    changed nor trained; batch norm of layers that the adapter does not hold stays in inference mode.

    Parameters
    ----------
    network : Network
        The base.
    adapter : Adapter

    Attributes
    ----------
    adapter : Adapter
        As it was attached; `current` gives what it has become.
    variables : dict
        Every tensor of the adapter as a variable, by name.
    first_unit : int
        Index of the first unit that the adapter changes: the units before it compute what they compute
        under ``Sites(adapter.gelu)``. The number of units when only the head differs.

    Raises
    ------
    WeightsError
        The adapter was made for a network of another shape or sequence length.
    """

    def __init__(self, network: Network, adapter: Adapter):
        super().__init__(adapter.gelu)
        _check_fits(network, adapter)
        self.adapter = adapter
        scheme = adapter.scheme
        self.whole_units, self.first_unit = scheme.whole_units, scheme.first_unit
        self.crop = scheme.config.crop if scheme.depends_on_crop else None
        self._inserts = scheme.inserts
        self._weights = {
            site: {
                name: keras.Variable(value, dtype="float32", name=f"{site}.{name}")
                for name, value in adapter.insert_weights(site).items()
            }
            for site in self._inserts
        }
        base = leaf_layers(network)
        leaves = trunk_leaves(scheme.config)
        self._layers = {site: _own_layer(leaves[site], base, adapter.tensors) for site in scheme.layers}
        self._head = Head(scheme.head, network.layout.width, dtype=network.dtype_policy)
        self._head.build()
        self._like_head = network.units[-1]
        _assign(self._head.dense, f"{scheme.head.name}.dense", adapter.tensors)
        self.variables = self._variables()

    @property
    def head(self) -> Head:
        """The adapter's head, computing in the type in which the network computes at present."""
        _follow(self._head, self._like_head)
        _follow(self._head.dense, self._like_head)
        return self._head

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        """What training changes: all variables but the moving averages of batch norm."""
        return [variable for variable in self.variables.values() if variable.trainable]

    def layer(self, site: str, layer):
        """See `Sites.layer`: the adapter's own layer where it holds one."""
        own = self._layers.get(site)
        if own is None:
            return layer
        if isinstance(own, keras.layers.Layer):
            _follow(own, layer)
        return own

    def trains(self, site: str) -> bool:
        """See `Sites.trains`."""
        return site in self._layers

    def __call__(self, site: str, layer, x):
        """See `Sites`."""
        layer = self.layer(site, layer)
        insert = self._inserts.get(site)
        if insert is None:
            return super().__call__(site, layer, x)
        return insert.forward(layer, x, self._weights[site])

    def current(self) -> Adapter:
        """The adapter with the present values of its variables."""
        return Adapter(self.adapter.scheme, {name: _array(value) for name, value in self.variables.items()}, self.gelu)

    def assign(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Set the variables to ``tensors`` (all of them, as `Scheme.shapes` names them)."""
        values = Adapter(self.adapter.scheme, tensors, self.gelu).tensors
        for name, variable in self.variables.items():
            variable.assign(values[name])

    def _variables(self) -> dict[str, keras.Variable]:
        held = {f"{site}.{name}": variable for site in self._weights for name, variable in self._weights[site].items()}
        layers = {**self._layers, f"{self.adapter.scheme.head.name}.dense": self._head.dense}
        for site, layer in layers.items():
            held |= {f"{site}.{name}": variable for name, variable in _by_name(layer).items()}
        return {name: held[name] for name in self.adapter.tensors}


class _Biases:
    """The two biases of an attention layer, in the place of the layer."""

    def __init__(self, site: str, tensors: Mapping[str, np.ndarray]):
        self.r_w_bias = keras.Variable(tensors[f"{site}.r_w_bias"], dtype="float32", name=f"{site}.r_w_bias")
        self.r_r_bias = keras.Variable(tensors[f"{site}.r_r_bias"], dtype="float32", name=f"{site}.r_r_bias")


class BaseWeights(Mapping):
    """The weights of a network by name, each read when it is asked for."""

    def __init__(self, network: Network):
        self._variables = named_weights(network)

    def __getitem__(self, name: str) -> np.ndarray:
        return _array(self._variables[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)


def make_adapter(
    network: Network,
    method: Method,
    tracks: int | None = None,
    head: str | None = None,
    seed: int = 0,
    gelu: str = "tanh",
) -> AdapterSites:
    """Make a new adapter for a network and attach it; it starts as the identity, with a new head.

    Parameters
    ----------
    network : Network
        The base.
    method : Method
    tracks : int, optional
        Of the new head; by default as many as the base's.
    head : str, optional
        Which of the base's heads the new one is named after and takes its activation from; by default
        the first.
    seed : int
        Of the initial values.
    gelu : {'tanh', 'erf'}
        Which GELU to train with; ``erf`` only to repeat what Calico's code did.

    Raises
    ------
    ConfigError
        The method matches no layer, or asks for more than there is.
    """
    scheme = Scheme(method, with_head(network.config, tracks, head))
    seeds = np.random.default_rng(seed)
    tensors: dict[str, np.ndarray] = {}
    for site, insert in scheme.inserts.items():
        for name, weight in insert.weights().items():
            tensors[f"{site}.{name}"] = _initial(weight.initializer, weight.shape, seeds)
    base = BaseWeights(network)
    tensors |= {name: base[name] for name in scheme.layer_shapes()}
    kernel, bias = scheme.head_shapes().items()
    tensors[kernel[0]] = _initial(scheme.head.kernel_initializer, kernel[1], seeds)
    tensors[bias[0]] = _initial("zeros", bias[1], seeds)
    return AdapterSites(network, Adapter(scheme, tensors, gelu))


def _initial(initializer: str, shape: tuple[int, ...], seeds: np.random.Generator) -> np.ndarray:
    chosen = keras.initializers.get(
        initializer if initializer != "near_zero" else keras.initializers.TruncatedNormal(stddev=1e-3)
    )
    if hasattr(chosen, "seed"):
        chosen.seed = int(seeds.integers(2**31))
    return _array(chosen(shape, dtype="float32"))


def _array(x) -> np.ndarray:
    """A variable or tensor as a float32 array of its own."""
    tensor = x.value if isinstance(x, keras.Variable) else x
    return np.array(keras.ops.convert_to_numpy(tensor), dtype=np.float32)


def _check_fits(network: Network, adapter: Adapter) -> None:
    wanted, found = adapter.config, network.config
    if wanted.seq_length != found.seq_length:
        raise WeightsError(
            f"the adapter was made for sequences of {wanted.seq_length} bp, the network reads {found.seq_length} bp"
        )
    ours, theirs = weight_shapes(wanted.with_heads()), weight_shapes(found.with_heads())
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            raise WeightsError(
                f"the adapter was made for another network: there {name} is {ours.get(name) or 'absent'},"
                f" here {theirs.get(name) or 'absent'}"
            )


def _own_layer(leaf: Leaf, base: Mapping, tensors: Mapping[str, np.ndarray]):
    """What stands for the base's layer at ``leaf``: one like it, with variables of its own that hold ``tensors``."""
    if leaf.kind == "attention":
        return _Biases(leaf.site, tensors)
    layer = base[leaf.site]
    own = type(layer).from_config(layer.get_config())
    own.trainable = True
    own.build_from_config(layer.get_build_config())
    if isinstance(layer, Conv1D):
        own.frame = layer.frame
    _assign(own, leaf.site, tensors)
    return own


def _assign(layer, site: str, tensors: Mapping[str, np.ndarray]) -> None:
    for variable in own_variables(layer):
        variable.assign(tensors[f"{site}.{variable.name}"])


def _by_name(layer) -> dict[str, keras.Variable]:
    if isinstance(layer, _Biases):
        return vars(layer)
    return {variable.name: variable for variable in own_variables(layer)}


def _follow(layer, like) -> None:
    """Let ``layer`` compute in the type that ``like`` computes in at present (see `Network.precision`)."""
    if layer.dtype_policy.name != like.dtype_policy.name:
        layer.dtype_policy = like.dtype_policy.name
