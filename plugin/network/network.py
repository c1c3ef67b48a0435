"""The network: units in a row, U-net steps that reach back, one dense layer per head."""

from __future__ import annotations

from contextlib import contextmanager

import keras
import numpy as np
from keras import ops

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.network.config import NetworkConfig
from kipoi_borzoi.network.layers import Conv1D
from kipoi_borzoi.network.layout import Layout
from kipoi_borzoi.network.ops import CPU_FRAME, activate, on_cpu, take
from kipoi_borzoi.network.sites import PLAIN, Sites
from kipoi_borzoi.network.span import Span
from kipoi_borzoi.network.units import Head, make_unit


class Network(keras.Model):
    """Borzoi, or any network of the same blocks.

    Parameters
    ----------
    config : NetworkConfig
    dtype : str
        Keras dtype policy: ``float32``, ``mixed_bfloat16``, ``float64`` (for checks).
    initialize : bool
        Draw initial weights as Calico does; False leaves zeros, for weights that are about to be loaded.
    """

    def __init__(self, config: NetworkConfig, dtype: str = "float32", initialize: bool = True):
        super().__init__(name="borzoi", dtype=dtype)
        # A crop can then be asked for at prediction of any network.
        self.config = config.with_crop(0) if config.crop == 0 else config
        self.layout = self.config.layout
        self.units = [make_unit(unit, dtype=dtype) for unit in self.layout.units]
        self.heads = [Head(head, self.layout.width, dtype=dtype) for head in config.heads]
        if not initialize:
            _zero_initializers(self)
        for part in [*self.units, *self.heads]:
            part.build()
            part.built = True
        frame = CPU_FRAME if on_cpu() else None
        for layer in leaf_layers(self).values():
            if isinstance(layer, Conv1D):
                layer.frame = frame
        self.built = True

    def call(self, x, head: str | None = None, tracks=None, training: bool = False, run: Sites = PLAIN):
        """Predict coverage.

        Parameters
        ----------
        x : (batch, seq_length, 4) float
            One-hot sequence.
        head : str, optional
            Which head; None for the only one.
        tracks : (n,) int32, optional
            Columns of the head to compute instead of all.
        training : bool
        run : Sites
            Runs the leaf layers; adapters come in here.

        Returns
        -------
        (batch, bins, tracks) float32
        """
        x = self.trunk(x, run=run, training=training)
        if tracks is not None:
            tracks = ops.cast(tracks, "int32")  # early releases of Keras 3 turn every tensor argument into floats
        return (run.head or self.head(head)).forward(x, run, tracks)

    def head(self, key: str | None = None) -> Head:
        """The layer of a head."""
        return self.heads[self.config.heads.index(self.config.head(key))]

    def trunk(self, x, run: Sites = PLAIN, training: bool = False, layout: Layout | None = None):
        """Everything before the heads: (batch, seq_length, 4) to (batch, bins, width)."""
        layout = layout or self.layout
        out, given = Span.whole(layout.bins), Span.whole(layout.seq_length)
        x = self.run_units(x, 0, len(self.units), out, {}, run, training, given=given, layout=layout)
        return activate(x, run.activation(self.config.activation))

    def run_units(self, x, first: int, last: int, out: Span, skips: dict, run: Sites = PLAIN, training: bool = False,
                  keep: dict | None = None, given: Span | None = None, layout: Layout | None = None):  # fmt: skip
        """Run the units ``first`` to ``last`` (exclusive).

        Parameters
        ----------
        x : (batch, given.size, width) tensor
            Input of unit ``first``.
        out : Span
            Wanted output of unit ``last - 1``.
        skips : dict
            Unit index to (representation, span), read by U-net steps and added to.
        keep : dict, optional
            Unit index to span of representations that are wanted in ``skips`` beside those used within.
        given : Span, optional
            What ``x`` covers; None for exactly the span that `Layout.spans` asks of it.
        layout : Layout, optional
            For another window or crop than the config's own; the weights depend on neither.

        Returns
        -------
        (batch, out.size, width) tensor
        """
        layout = (layout or self.layout).with_whole(run.whole_units)
        if run.crop not in (None, layout.crop):
            raise InputError(
                f"the adapter averages over the bins that remain when {run.crop} are cropped at each end;"
                f" it cannot be used with a crop of {layout.crop}"
            )
        plan = layout.spans(first, last, out, keep or {})
        given = given or plan[0].input
        for index, spans in zip(range(first, last), plan, strict=True):
            source = layout.units[index].skip_from
            skip, skip_span = skips[source] if source is not None else (None, None)
            x, kept = self.units[index].forward(take(x, given, spans.input), spans, run, training, skip, skip_span)
            given = spans.out
            if kept is not None:
                skips[index] = (kept, spans.skip_out)
        return take(x, given, out)

    def activation(self, x, name: str, run: Sites = PLAIN, layout: Layout | None = None):
        """What comes out of a unit, whole: ``conv_dna``, ``res_tower.0``, ..., or ``trunk`` after the last activation.

        For the levels of a residual tower that is the representation before pooling, which the U-net
        steps add.

        Parameters
        ----------
        x : (batch, seq_length, 4) float
        name : str
            One of `activation_names`.
        layout : Layout, optional
            For another crop than the config's own.

        Raises
        ------
        InputError
            No such unit.
        """
        if name not in self.activation_names:
            raise InputError(f"no layer {name!r}; the layers are: {', '.join(self.activation_names)}")
        layout = layout or self.layout
        if name == "trunk":
            return self.trunk(x, run, layout=layout)
        skips: dict = {}
        last = self.activation_names.index(name)
        for index, unit in enumerate(layout.units[: last + 1]):
            keep, out = {index: Span.whole(unit.skip_length)}, Span.whole(unit.out_length)
            given = Span.whole(unit.in_length)
            x = self.run_units(x, index, index + 1, out, skips, run, keep=keep, given=given, layout=layout)
        return skips[last][0] if last in skips else x

    @property
    def activation_names(self) -> list[str]:
        """Names that `activation` knows."""
        return [unit.name for unit in self.layout.units] + ["trunk"]

    @contextmanager
    def precision(self, policy: str):
        """Let all layers compute under another dtype policy while the block runs (weights stay float32)."""
        layers = [layer for layer in self._flatten_layers() if layer is not self]
        before = [layer.dtype_policy for layer in layers]
        try:
            for layer in layers:
                layer.dtype_policy = policy
            yield self
        finally:
            for layer, old in zip(layers, before, strict=True):
                layer.dtype_policy = old


def leaf_layers(network: Network) -> dict[str, keras.layers.Layer]:
    """The layers that hold weights by dotted name, in Calico's order of creation.

    Attention counts as one layer of its own (for its two biases) followed by its projections.
    """
    leaves: dict[str, keras.layers.Layer] = {}

    def visit(layer, name):
        parts = getattr(layer, "PARTS", None)
        if parts is None:
            leaves[name] = layer
            return
        if layer._trainable_variables:
            leaves[name] = layer
        for attribute in parts:
            part = getattr(layer, attribute)
            if isinstance(part, list):
                for step in part:
                    visit(step, step.dotted)
            elif part is not None:
                visit(part, f"{name}.{attribute}")

    for part in [*network.units, *network.heads]:
        visit(part, part.dotted)
    return leaves


def named_weights(network: Network) -> dict[str, keras.Variable]:
    """Every weight by dotted name, such as ``res_tower.0.conv.kernel``, in Calico's order."""
    return {
        f"{name}.{variable.name}": variable
        for name, layer in leaf_layers(network).items()
        for variable in own_variables(layer)
    }


def own_variables(layer) -> list[keras.Variable]:
    """The variables that belong to ``layer`` itself, not to layers within it (seeds of dropout excepted)."""
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def random_weights(network: Network, seed: int) -> None:
    """Give every weight a non-trivial random value, batch norm statistics and biases included.

    For tests and demonstrations: zero-initialised layers and unit statistics hide errors. Kernels are
    scaled so that activations keep their size; the heads' outputs spread over several orders of magnitude.
    """
    random = np.random.default_rng(seed)
    for name, variable in named_weights(network).items():
        shape, kind = tuple(variable.shape), name.rsplit(".", 1)[-1]
        if kind in ("kernel", "pointwise_kernel", "depthwise_kernel"):
            fan_in = shape[0] if kind == "depthwise_kernel" else int(np.prod(shape[:-1]))
            value = random.standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(fan_in))
        elif kind == "moving_variance":
            value = random.uniform(0.5, 1.5, shape)
        elif kind == "gamma":
            value = random.uniform(0.7, 1.3, shape)
        elif kind == "scale":
            value = random.uniform(-0.5, 0.5, shape)
        else:
            value = random.normal(0, 0.2, shape)
        variable.assign(np.asarray(value, dtype=np.float32))


def _zero_initializers(network: Network) -> None:
    """Make every layer start from zeros, which costs no random numbers."""
    zeros = keras.initializers.Zeros()
    for layer in network._flatten_layers():
        for attribute in ("kernel_initializer", "depthwise_initializer", "pointwise_initializer"):
            if hasattr(layer, attribute):
                setattr(layer, attribute, zeros)


def count_weights(network: Network) -> int:
    """Number of weights (scalars), statistics of batch norm included."""
    return sum(int(np.prod(variable.shape)) for variable in named_weights(network).values())
