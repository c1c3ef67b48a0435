"""The layers of the trunk's units: what one level, one transformer block or one U-net step computes.

Each ``forward`` is told which stretch of its input it is given and which stretch of its output is
wanted (`UnitSpans`), and returns the output and the representation that later units add.
"""

from __future__ import annotations

from functools import partial

import keras
from keras import ops

from kipoi_borzoi.network.attention import Attention
from kipoi_borzoi.network.config import ConvDNA, ConvNAC, Cropping, ResTower, TransformerTower, UnetConv
from kipoi_borzoi.network.layers import Conv1D, Scale, keras_name, make_norm, norm_activate
from kipoi_borzoi.network.layout import Unit, UnitSpans
from kipoi_borzoi.network.ops import activate, max_pool, repeat_twice, same_padded, take
from kipoi_borzoi.network.sites import Sites
from kipoi_borzoi.network.span import Span, conv_input, pool_input, upsample_input


class UnitLayer(keras.layers.Layer):
    """Base of all units.

    Attributes
    ----------
    dotted : str
        Name of the unit, first part of its sites and weights.
    PARTS : tuple of str
        Attributes that hold the unit's layers (or lists of them), in Calico's order of creation;
        the weights are named and stored by it.
    """

    PARTS: tuple[str, ...] = ()

    def __init__(self, unit: Unit, dtype=None):
        super().__init__(name=keras_name(unit.name), dtype=dtype)
        self.dotted = unit.name
        self.unit = unit
        self.block = unit.block
        self.make_parts()

    def make_parts(self):
        """Create the layers."""

    def build(self, input_shape=None):
        """Create the weights; a unit without layers has none."""

    def site(self, part: str) -> str:
        """Dotted name of a part."""
        return f"{self.dotted}.{part}"

    def dropout(self, rate: float | None = None):
        """Make a dropout layer with the block's rate."""
        return keras.layers.Dropout(self.block.dropout if rate is None else rate, dtype=self.dtype_policy)

    def forward(self, x, spans: UnitSpans, run: Sites, training: bool = False, skip=None, skip_span: Span | None = None):
        """Compute the unit.

        Parameters
        ----------
        x : (batch, spans.input.size, in_width)
        spans : UnitSpans
        run : Sites
        training : bool
            Whether dropout and the statistics of batch norm are those of training.
        skip : (batch, skip_span.size, skip_width), optional
            For U-net steps, the representation to add.

        Returns
        -------
        out : (batch, spans.out.size, out_width)
        skip_out : the representation over ``spans.skip_out``, or None when none is wanted
        """
        raise TypeError(f"{type(self).__name__} does not say what it computes")


class NormActConv(keras.layers.Layer):
    """Norm, activation, convolution: the step that conv_nac and the residual tower are made of."""

    PARTS = ("norm", "conv")

    def __init__(self, block: ConvNAC | ResTower, in_width: int, filters: int, kernel_size: int, name: str, dtype):
        super().__init__(name=keras_name(name), dtype=dtype)
        self.dotted = name
        self.block, self.in_width = block, in_width
        self.norm = make_norm(block.norm_type, block.bn_momentum, dtype, "norm")
        self.conv = Conv1D(
            filters, kernel_size, padding="valid", dilation_rate=block.dilation_rate, dtype=dtype, name="conv",
            kernel_initializer=block.kernel_initializer,
        )  # fmt: skip

    def build(self, input_shape=None):
        """Create the weights."""
        for part in (self.norm, self.conv):
            if part is not None:
                part.build((None, None, self.in_width))

    def forward(self, x, given: Span, out: Span, run: Sites, training: bool):
        """Compute the positions ``out`` from ``x``, which holds the positions ``given``."""
        needed = conv_input(out, self.conv.kernel_size[0], self.block.dilation_rate)
        site = f"{self.dotted}.norm"
        x = _norm_activate(take(x, given, needed), run, site, self.norm, self.block.activation, training)
        x = same_padded(x, needed, out, self.conv.kernel_size[0], self.block.dilation_rate)
        return run(f"{self.dotted}.conv", self.conv, x)


class ConvDNAUnit(UnitLayer):
    """Convolution, norm, activation, dropout, pooling."""

    PARTS = ("conv", "norm")

    def make_parts(self):
        """Create the layers."""
        block: ConvDNA = self.block
        self.conv = Conv1D(
            self.unit.out_width, block.kernel_size, padding="valid", use_bias=block.has_bias, name="conv",
            kernel_initializer=block.kernel_initializer, dtype=self.dtype_policy,
        )  # fmt: skip
        self.norm = make_norm(block.norm_type, block.bn_momentum, self.dtype_policy, "norm")
        self.drop = self.dropout()

    def build(self, input_shape=None):
        """Create the weights."""
        self.conv.build((None, None, self.unit.in_width))
        if self.norm is not None:
            self.norm.build((None, None, self.unit.out_width))

    def forward(self, x, spans, run, training=False, skip=None, skip_span=None):
        """See `UnitLayer.forward`."""
        block: ConvDNA = self.block
        out = spans.out.union(spans.skip_out)
        level = pool_input(out, block.pool_size, spans.input.length)
        x = same_padded(x, spans.input, level, block.kernel_size)
        x = run(self.site("conv"), self.conv, x)
        if self.norm is not None or block.activation != "linear":
            x = _norm_activate(x, run, self.site("norm"), self.norm, block.activation, training)
        x = max_pool(self.drop(x, training=training), level, out, block.pool_size)
        return take(x, out, spans.out), _skip(x, out, spans)


class ConvNACUnit(UnitLayer):
    """Norm, activation, convolution, dropout, residual, pooling."""

    PARTS = ("norm", "conv")

    def make_parts(self):
        """Create the layers."""
        block: ConvNAC = self.block
        self.step = NormActConv(
            block, self.unit.in_width, self.unit.out_width, block.kernel_size, self.dotted, self.dtype_policy
        )
        self.drop = self.dropout()

    @property
    def norm(self):
        """The norm layer."""
        return self.step.norm

    @property
    def conv(self):
        """The convolution."""
        return self.step.conv

    def build(self, input_shape=None):
        """Create the weights."""
        self.step.build()

    def forward(self, x, spans, run, training=False, skip=None, skip_span=None):
        """See `UnitLayer.forward`."""
        block: ConvNAC = self.block
        out = spans.out.union(spans.skip_out)
        level = pool_input(out, block.pool_size, spans.input.length)
        y = self.drop(self.step.forward(x, spans.input, level, run, training), training=training)
        if block.residual:
            y = y + take(x, spans.input, level)
        y = max_pool(y, level, out, block.pool_size)
        return take(y, out, spans.out), _skip(y, out, spans)


class ResLevelUnit(UnitLayer):
    """One level of the residual tower; what later units may add is its output before pooling."""

    PARTS = ("convs", "scale")

    def make_parts(self):
        """Create the layers."""
        block: ResTower = self.block
        widths = [self.unit.in_width] + [self.unit.out_width] * (block.num_convs - 1)
        kernels = [block.kernel_size] + [1] * (block.num_convs - 1)
        self.convs = [
            NormActConv(block, width, self.unit.out_width, kernel, self._step_name(index), self.dtype_policy)
            for index, (width, kernel) in enumerate(zip(widths, kernels, strict=True))
        ]
        self.scale = Scale(dtype=self.dtype_policy, name="scale") if block.num_convs > 1 else None
        self.drop = self.dropout()

    def _step_name(self, index: int) -> str:
        """Dotted name of a step; a level of one convolution needs no number."""
        return self.dotted if self.block.num_convs == 1 else f"{self.dotted}.{index}"

    def build(self, input_shape=None):
        """Create the weights."""
        for step in self.convs:
            step.build()
        if self.scale is not None:
            self.scale.build((None, None, self.unit.out_width))

    def forward(self, x, spans, run, training=False, skip=None, skip_span=None):
        """See `UnitLayer.forward`."""
        pooled_from = pool_input(spans.out, self.block.pool_size, spans.input.length)
        level = pooled_from.union(spans.skip_out)
        first = x = self.convs[0].forward(x, spans.input, level, run, training)
        for step in self.convs[1:]:
            x = step.forward(x, level, level, run, training)
        x = self.drop(x, training=training)
        if self.scale is not None:
            x = first + run(self.site("scale"), self.scale, x)
        return max_pool(x, level, spans.out, self.block.pool_size), _skip(x, level, spans)


class TransformerUnit(UnitLayer):
    """Attention and a two-layer perceptron, each with a layer norm before and added to its input."""

    PARTS = ("attention_norm", "attention", "mlp_norm", "up", "down")

    def make_parts(self):
        """Create the layers."""
        block: TransformerTower = self.block
        width, dtype = self.unit.out_width, self.dtype_policy
        self.attention_norm = make_norm("layer", 0, dtype, "attention_norm")
        self.attention = Attention(block, width, name=self.site("attention"), dtype=dtype)
        self.mlp_norm = self.up = self.down = None
        if block.dense_expansion:
            self.mlp_norm = make_norm("layer", 0, dtype, "mlp_norm")
            units = int(block.dense_expansion * width)
            self.up = keras.layers.Dense(units, kernel_initializer=block.kernel_initializer, dtype=dtype, name="up")
            self.down = keras.layers.Dense(width, kernel_initializer=block.kernel_initializer, dtype=dtype, name="down")
        self.drops = [self.dropout() for _ in range(3)]

    def build(self, input_shape=None):
        """Create the weights."""
        width = self.unit.out_width
        for part in (self.attention_norm, self.attention, self.mlp_norm, self.up):
            if part is not None:
                part.build((None, None, width))
        if self.down is not None:
            self.down.build((None, None, self.up.units))

    def forward(self, x, spans, run, training=False, skip=None, skip_span=None):
        """See `UnitLayer.forward`."""
        out = spans.out.union(spans.skip_out)
        y = run.layer(self.site("attention_norm"), self.attention_norm)(x)
        y = self.drops[0](self.attention.forward(y, out, run, training), training=training)
        x = take(x, spans.input, out) + run(self.site("attention_output"), None, y)
        if self.up is not None:
            y = run.layer(self.site("mlp_norm"), self.mlp_norm)(x)
            y = self.drops[1](run(self.site("up"), self.up, y), training=training)
            y = run(self.site("down"), self.down, ops.relu(y))
            x = x + run(self.site("mlp_output"), None, self.drops[2](y, training=training))
        return take(x, out, spans.out), _skip(x, out, spans)


class UnetConvUnit(UnitLayer):
    """Doubles the length, adds the representation of that length, convolves."""

    PARTS = ("norm", "skip_norm", "dense", "skip_dense", "conv")

    def make_parts(self):
        """Create the layers."""
        block: UnetConv = self.block
        width, dtype = self.unit.out_width, self.dtype_policy
        self.norm = make_norm(block.norm_type, block.bn_momentum, dtype, "norm")
        self.skip_norm = make_norm(block.norm_type, block.bn_momentum, dtype, "skip_norm")
        init = block.kernel_initializer
        self.dense = None
        if block.upsample_conv:
            self.dense = keras.layers.Dense(width, kernel_initializer=init, dtype=dtype, name="dense")
        self.skip_dense = keras.layers.Dense(width, kernel_initializer=init, dtype=dtype, name="skip_dense")
        self.conv = keras.layers.SeparableConv1D(
            width, block.kernel_size, padding="valid", dtype=dtype, name="conv",
            depthwise_initializer=init, pointwise_initializer=init,
        )  # fmt: skip
        self.drop = self.dropout()

    def build(self, input_shape=None):
        """Create the weights."""
        for part in (self.norm, self.dense, self.conv):
            if part is not None:
                part.build((None, None, self.unit.in_width))
        for part in (self.skip_norm, self.skip_dense):
            if part is not None:
                part.build((None, None, self.unit.skip_width))

    def forward(self, x, spans, run, training=False, skip=None, skip_span=None):
        """See `UnitLayer.forward`."""
        block: UnetConv = self.block
        out, wanted = spans.out.union(spans.skip_out), spans.skip_input
        current = _norm_activate(x, run, self.site("norm"), self.norm, block.activation, training)
        if self.dense is not None:
            current = run(self.site("dense"), self.dense, current)
        half = upsample_input(wanted)
        current = take(repeat_twice(current), Span(2 * half.start, 2 * half.end, wanted.length), wanted)
        added = take(skip, skip_span, wanted)
        added = _norm_activate(added, run, self.site("skip_norm"), self.skip_norm, block.activation, training)
        current = current + run(self.site("skip_dense"), self.skip_dense, added)
        y = run(self.site("conv"), self.conv, same_padded(current, wanted, out, block.kernel_size))
        y = self.drop(y, training=training)
        return take(y, out, spans.out), _skip(y, out, spans)


class CroppingUnit(UnitLayer):
    """Removes bins at each end."""

    def forward(self, x, spans, run, training=False, skip=None, skip_span=None):
        """See `UnitLayer.forward`; what is cropped was already left out of ``x``."""
        out = spans.out.union(spans.skip_out)
        return take(x, out, spans.out), _skip(x, out, spans)


class Head(keras.layers.Layer):
    """Dense layer with one unit per track, and its activation.

    Parameters
    ----------
    config : kipoi_borzoi.network.config.Head
    width : int
        Channels of the trunk's output.
    """

    PARTS = ("dense",)

    def __init__(self, config, width: int, dtype=None):
        super().__init__(name=keras_name(config.name), dtype=dtype)
        self.dotted = config.name
        self.config, self.width = config, width
        self.dense = keras.layers.Dense(
            config.units, kernel_initializer=config.kernel_initializer, dtype=dtype, name="dense"
        )

    def build(self, input_shape=None):
        """Create the weights."""
        self.dense.build((None, None, self.width))

    def forward(self, x, run: Sites, tracks=None):
        """Compute the tracks.

        Parameters
        ----------
        x : (batch, bins, width)
        run : Sites
        tracks : (n,) int32 tensor, optional
            Columns to compute instead of all.

        Returns
        -------
        (batch, bins, tracks), in float32 at least
        """
        dense = self.dense if tracks is None else partial(self._columns, tracks=tracks)
        y = run(f"{self.dotted}.dense", dense, x)
        y = ops.cast(y, keras.backend.result_type(y.dtype, "float32"))
        return activate(y, self.config.activation)

    def _columns(self, x, tracks):
        """The dense layer for the columns ``tracks`` only."""
        kernel = ops.cast(ops.take(self.dense.kernel, tracks, axis=1), x.dtype)
        return ops.matmul(x, kernel) + ops.cast(ops.take(self.dense.bias, tracks, axis=0), x.dtype)


_UNITS = {
    ConvDNA: ConvDNAUnit,
    ConvNAC: ConvNACUnit,
    ResTower: ResLevelUnit,
    TransformerTower: TransformerUnit,
    UnetConv: UnetConvUnit,
    Cropping: CroppingUnit,
}


def make_unit(unit: Unit, dtype=None) -> UnitLayer:
    """Make the layer of a unit."""
    return _UNITS[type(unit.block)](unit, dtype=dtype)


def _skip(x, given: Span, spans: UnitSpans):
    """The part of ``x`` that later units need, or None."""
    return None if spans.skip_out is None else take(x, given, spans.skip_out)


def _norm_activate(x, run: Sites, site: str, norm, activation: str | None, training: bool):
    """Normalise and activate ``x``, with the norm, the activation and the statistics that ``run`` decides on."""
    return norm_activate(x, run.layer(site, norm), run.activation(activation), training and run.trains(site))
