"""Multi-head attention with Borzoi's relative position features, computed from a table of the few distinct ones.

The features are masks: feature i is 1 where the distance is below a width c_i, and once more times
the sign of the distance. They are therefore constant over bands of distances, at most 2F + 1 of them
for F masks, and the relative logits of a query need one product per band instead of one per distance
(2L - 1). Each logit then looks up its band. Exact; described in the Enformer paper (Avsec et al.
2021, the features) and in this package's documentation (the table).
"""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from kipoi_borzoi.network.config import TransformerTower
from kipoi_borzoi.network.layers import keras_name
from kipoi_borzoi.network.ops import fused, in_sequence, repeatable_uniform
from kipoi_borzoi.network.span import Span

# Queries handled at a time: bounds the memory for the logits to heads x QUERIES x length.
QUERIES = 256


def band_widths(length: int, masks: int) -> np.ndarray:
    """Widths c_i = (length + 1)^(i / masks) - 1 of the central masks, i = 1..masks, as float32.

    Parameters
    ----------
    length : int
        Positions the network was trained on.
    masks : int
    """
    rate = np.exp(np.log(length + 1) / masks).astype(np.float32)
    # NumPy's float32 power is an ulp off more often than TensorFlow's, and where a width is close to
    # a whole number that ulp decides on a position: so raise in float64 and round once.
    return np.power(rate.astype(np.float64), np.arange(1, masks + 1)).astype(np.float32) - np.float32(1)


def position_table(length: int, features: int, seqlen_train: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The distinct position features and the band of every distance.

    Parameters
    ----------
    length : int
        Positions L.
    features : int
        Number of features, masks and signed masks together (rounded down to even).
    seqlen_train : int, optional
        Length that sets the widths of the masks, when it is not ``length``.

    Returns
    -------
    table : (rows, features) float32
    row : (2 * length - 1,) int32
        Row of the table for each distance -(L-1)..L-1 (key minus query).
    """
    masks = features // 2
    distance = np.arange(-(length - 1), length)
    inside = band_widths(seqlen_train or length, masks) > np.abs(distance)[:, None].astype(np.float32)
    every = np.concatenate([inside, np.sign(distance)[:, None] * inside], axis=1).astype(np.float32)
    # A row begins wherever the features change from one distance to the next.
    begins = np.concatenate([[True], np.any(every[1:] != every[:-1], axis=1)])
    return every[begins], (np.cumsum(begins) - 1).astype(np.int32)


@fused
def _softmax_with_positions(logits, relative, row):
    """Softmax of ``logits`` plus the relative logits, each looked up by its distance.

    logits: (batch, heads, queries, length); relative: (batch, heads, queries, rows);
    row: (queries + length - 1,) row of the position table for each distance from the first key minus
    the last query to the last key minus the first query.
    """
    queries, length, rows = logits.shape[2], logits.shape[3], relative.shape[3]
    query = ops.expand_dims(ops.arange(queries), 1)
    # Worked out here, inside the compiled function, the lookup costs no memory of its own.
    band = ops.take(row, ops.expand_dims(ops.arange(length), 0) + (queries - 1) - query)
    index = ops.reshape(query * rows + band, (-1,))
    by_query = ops.reshape(relative, (-1, relative.shape[1], queries * rows))
    looked_up = ops.reshape(ops.take(by_query, index, axis=2), (-1, *logits.shape[1:]))
    wide = keras.backend.result_type(logits.dtype, "float32")
    return ops.cast(ops.softmax(ops.cast(logits, wide) + ops.cast(looked_up, wide), axis=-1), logits.dtype)


@fused
def _softmax_pull(weights, upstream):
    """Gradient with respect to the logits, from the ``weights`` that their softmax gave."""
    wide = keras.backend.result_type(weights.dtype, "float32")
    w, g = ops.cast(weights, wide), ops.cast(upstream, wide)
    return ops.cast(w * (g - ops.sum(g * w, axis=-1, keepdims=True)), weights.dtype)


def sum_by_row(x, row, rows: int):
    """Sum what belongs to the same row of the position table: the gradient of the lookup in `_softmax_with_positions`.

    x: (batch, heads, queries, length); row: as there. Returns (batch, heads, queries, rows). Each query's
    values are moved so that they are sorted by distance, and one matrix product adds them up.
    """
    heads, queries, length = x.shape[1:]
    if queries > 1:
        x = ops.reshape(ops.pad(x, [[0, 0], [0, 0], [0, 0], [0, queries - 2]]), (-1, heads, queries * (length + queries - 2)))
        x = ops.pad(x, [[0, 0], [0, 0], [queries - 1, 1]])
    x = ops.reshape(x, (-1, heads, queries, length + queries - 1))
    return ops.matmul(x, ops.one_hot(row, rows, dtype=x.dtype))


def attend(q, k, v, relative, row, keep=None):
    """Attention of a block of queries, of which training stores the arguments only, not the weights.

    Parameters
    ----------
    q : (batch, heads, queries, key size)
    k : (batch, heads, length, key size)
    v : (batch, heads, length, value size)
    relative : (batch, heads, queries, rows), or None without position features
    row : see `_softmax_with_positions`
    keep : callable, optional
        Dropout: gives the factors for weights of a shape and type, the same at every call.

    Returns
    -------
    (batch, heads, queries, value size)
    """

    def weigh(q, k, relative):
        logits = ops.matmul(q, ops.swapaxes(k, -1, -2))
        return ops.softmax(logits, axis=-1) if relative is None else _softmax_with_positions(logits, relative, row)

    def dropped(weights):
        return weights if keep is None else weights * keep(ops.shape(weights), weights.dtype)

    if keras.backend.backend() != "tensorflow":
        return ops.matmul(dropped(weigh(q, k, relative)), v)
    import tensorflow as tf

    @tf.custom_gradient
    def attended(q, k, v, *relative):
        def gradient(upstream):
            weights = weigh(q, k, *(relative or [None]))
            to_weights = dropped(tf.matmul(upstream, v, transpose_b=True))
            to_v = tf.matmul(dropped(weights), upstream, transpose_a=True)
            to_logits = _softmax_pull(weights, to_weights)
            to_q, to_k = tf.matmul(to_logits, k), tf.matmul(to_logits, q, transpose_a=True)
            return [to_q, to_k, to_v, *(sum_by_row(to_logits, row, table.shape[3]) for table in relative)]

        return tf.matmul(dropped(weigh(q, k, *(relative or [None]))), v), gradient

    return attended(q, k, v, *([] if relative is None else [relative]))


class Attention(keras.layers.Layer):
    """Self-attention over (batch, length, channels).

    Parameters
    ----------
    block : TransformerTower
        Settings; value size is channels / heads.
    channels : int
    name : str
        Dotted name, first part of its sites and weights.
    """

    PARTS = ("q", "k", "v", "out", "positions")

    def __init__(self, block: TransformerTower, channels: int, name: str, dtype=None):
        super().__init__(name=keras_name(name), dtype=dtype)
        self.dotted = name
        self.block = block
        self.channels = channels
        features = block.num_position_features
        if features is None:
            features = channels // block.heads // 2 * 2
        self.features = features
        keys = block.heads * block.key_size
        self.q = self._projection(keys, "q")
        self.k = self._projection(keys, "k")
        self.v = self._projection(channels, "v")
        self.out = keras.layers.Dense(channels, kernel_initializer="zeros", dtype=self.dtype_policy, name="out")
        self.positions = None
        if features:
            self.positions = self._dense(keys, "positions")
        self.weights_dropout = keras.layers.Dropout(block.attention_dropout, dtype=self.dtype_policy)
        self.position_dropout = keras.layers.Dropout(block.position_dropout, dtype=self.dtype_policy)

    def _dense(self, units: int, name: str):
        return keras.layers.Dense(
            units, use_bias=False, kernel_initializer=self.block.mha_initializer, dtype=self.dtype_policy, name=name
        )

    def _projection(self, units: int, name: str):
        """Dense layer, or separable convolution when the block asks for one (qkv_width > 1)."""
        if self.block.qkv_width == 1:
            return self._dense(units, name)
        return keras.layers.SeparableConv1D(
            units, self.block.qkv_width, padding="same", use_bias=False, dtype=self.dtype_policy, name=name,
            depthwise_initializer=self.block.mha_initializer, pointwise_initializer=self.block.mha_initializer,
        )  # fmt: skip

    def build(self, input_shape):
        """Create the weights."""
        shape = (1, self.block.heads, 1, self.block.key_size)
        self.r_w_bias = self.add_weight(name="r_w_bias", shape=shape, initializer=self.block.mha_initializer)
        self.r_r_bias = self.add_weight(name="r_r_bias", shape=shape, initializer=self.block.mha_initializer)
        for part in (self.q, self.k, self.v, self.out):
            part.build((None, None, self.channels))
        if self.positions is not None:
            self.positions.build((None, self.features))

    def forward(self, x, queries: Span, run, training: bool = False):
        """Attend from the positions ``queries`` to all.

        Parameters
        ----------
        x : (batch, length, channels)
        queries : Span
        run : kipoi_borzoi.network.sites.Sites
            Runs the projections; what it returns as the layer ``self.dotted`` gives the two biases.

        Returns
        -------
        (batch, queries.size, channels)
        """
        length = queries.length
        # The separable q reads beyond its place; take what it needs and let the projection of all stand for it.
        source = x if queries.size == length or self.block.qkv_width > 1 else x[:, queries.start : queries.end]
        q = run(f"{self.dotted}.q", self.q, source)
        if q.shape[1] != queries.size:
            q = q[:, queries.start : queries.end]
        q = self._heads(q) * self.block.key_size**-0.5
        k = self._heads(run(f"{self.dotted}.k", self.k, x))
        v = self._heads(run(f"{self.dotted}.v", self.v, x))
        biases = run.layer(self.dotted, self)
        content = q + ops.cast(biases.r_w_bias, q.dtype)
        relative = self._relative_by_row(q, ops.cast(biases.r_r_bias, q.dtype), length, run, training)
        attended: list = []
        for start in range(0, queries.size, QUERIES):
            stop = min(start + QUERIES, queries.size)
            # One block after the other: run side by side, they would all hold their logits at once.
            asked = in_sequence(content[:, :, start:stop], attended)
            table = None if relative is None else relative[:, :, start:stop]
            attended.append(attend(asked, k, v, table, self._rows(start, stop, queries), self._keep(training)))
        y = attended[0] if len(attended) == 1 else ops.concatenate(attended, axis=2)
        y = ops.reshape(ops.transpose(y, (0, 2, 1, 3)), (-1, queries.size, self.channels))
        return run(f"{self.dotted}.out", self.out, y)

    def _heads(self, x):
        """(batch, length, heads * size) to (batch, heads, length, size)."""
        heads = self.block.heads
        x = ops.reshape(x, (-1, x.shape[1], heads, x.shape[2] // heads))
        return ops.transpose(x, (0, 2, 1, 3))

    def _relative_by_row(self, q, bias, length: int, run, training: bool):
        """Relative logits of every query for every row of the position table: (batch, heads, queries, rows)."""
        if self.positions is None:
            return None
        table, _ = position_table(length, self.features, self.block.seqlen_train)
        table = ops.convert_to_tensor(table, dtype=self.compute_dtype)
        if training:
            table = self.position_dropout(table, training=True)
        keys = run(f"{self.dotted}.positions", self.positions, table)
        keys = ops.transpose(ops.reshape(keys, (-1, self.block.heads, self.block.key_size)), (1, 2, 0))
        if self.block.content_position_bias:
            q = q + bias
        else:
            q = ops.zeros_like(q) + bias
        return ops.matmul(q, keys)

    def _rows(self, start: int, stop: int, queries: Span):
        """Row of the position table for every distance of the queries ``start`` to ``stop`` (counted within ``queries``)."""
        if self.positions is None:
            return None
        # From the first key minus the last query, to the last key minus the first query.
        _, row = position_table(queries.length, self.features, self.block.seqlen_train)
        nearest = queries.length - (queries.start + stop)
        return ops.convert_to_tensor(row[nearest : nearest + stop - start + queries.length - 1])

    def _keep(self, training: bool):
        """Factors of dropout on a block of attention weights, or None."""
        rate = self.weights_dropout.rate
        if not (training and rate):
            return None
        draw = repeatable_uniform(self.weights_dropout.seed_generator)

        def keep(shape, dtype):
            return ops.cast(ops.where(draw(shape) < rate, 0.0, 1 / (1 - rate)), dtype)

        return keep
