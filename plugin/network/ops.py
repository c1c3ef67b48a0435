"""The tensor operations that keras.ops lacks, or that need care to be fast on a CPU."""

from __future__ import annotations

from functools import wraps

import keras
import numpy as np
from keras import ops

from kipoi_borzoi.network.span import Span, conv_input, conv_reach, pool_input, pool_offset

# Convolutions over long sequences run markedly faster on CPUs as a batch of short frames (measured
# with oneDNN: 215 against 125 GFLOP/s for 736 -> 896 channels on 32,768 positions).
CPU_FRAME = 512


def on_cpu() -> bool:
    """Whether the Keras backend computes on the CPU."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return not tf.config.list_physical_devices("GPU")
    if backend == "jax":
        import jax

        return jax.default_backend() == "cpu"
    import torch

    return not torch.cuda.is_available()


def fused(function):
    """Compile an elementwise function of tensors into one pass over memory where the backend allows it.

    With TensorFlow this uses XLA for this function alone: chains of elementwise operations are bound
    by memory bandwidth and gain about threefold, while matrix products are faster outside of XLA.
    The other backends compile whole programs themselves.
    """
    compiled = {}

    @wraps(function)
    def call(*args):
        if keras.backend.backend() != "tensorflow":
            return function(*args)
        if not compiled:
            import tensorflow as tf

            compiled["function"] = tf.function(function, jit_compile=True, autograph=False)
            compiled["by shape"] = by_shape(compiled["function"])
        import tensorflow as tf

        return compiled["by shape" if tf.executing_eagerly() else "function"](*args)

    return call


def by_shape(traced):
    """Call a ``tf.function`` through one program per set of shapes and types, kept here.

    It would keep them itself, but warns of every further one.
    """
    import tensorflow as tf

    programs: dict = {}

    def call(*args):
        if tf.config.functions_run_eagerly():
            return traced(*args)
        key = tuple((tensor.shape, tensor.dtype) for tensor in tf.nest.flatten(args))
        if key not in programs:
            programs[key] = traced.get_concrete_function(*args)
        return programs[key](*args)

    return call


def in_sequence(x, before: list):
    """Return ``x``, to be computed on only after the last tensor of ``before`` is done (bounds memory)."""
    if before and keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.control_dependencies(before[-1:]):
            return tf.identity(x)
    if before and keras.backend.backend() == "jax":
        import jax

        return jax.lax.optimization_barrier((x, before[-1]))[0]
    return x


def activate(x, activation: str | None):
    """Apply a named activation; ``gelu`` is the tanh approximation, as in Calico's networks, ``gelu_erf`` the exact one."""
    if activation in (None, "linear"):
        return x
    if activation == "gelu":
        return ops.gelu(x, approximate=True)
    if activation == "gelu_erf":
        return ops.gelu(x, approximate=False)
    return getattr(ops, activation)(x)


def take(x, given: Span, wanted: Span):
    """Cut the stretch ``wanted`` out of ``x`` (batch, given.size, channels)."""
    if given == wanted:
        return x
    start = wanted.offset_in(given)
    return x[:, start : start + wanted.size]


def pad_length(x, left: int, right: int, value: float = 0.0):
    """Pad ``x`` (batch, length, channels) along its length."""
    if not (left or right):
        return x
    return ops.pad(x, [[0, 0], [left, right], [0, 0]], constant_values=value)


def same_padded(x, given: Span, out: Span, kernel_size: int, dilation_rate: int = 1):
    """The stretch of ``x`` that a "same" convolution reads for ``out``, padded where the level ends.

    A "valid" convolution of the result gives exactly the positions ``out``.
    """
    needed = conv_input(out, kernel_size, dilation_rate)
    left, right = conv_reach(kernel_size, dilation_rate)
    x = take(x, given, needed)
    return pad_length(x, left - (out.start - needed.start), right - (needed.end - out.end))


def max_pool(x, given: Span, out: Span, pool_size: int):
    """ "Same" max pooling of ``x`` (batch, given.size, channels), for the output positions ``out``."""
    if pool_size == 1:
        return take(x, given, out)
    needed = pool_input(out, pool_size, given.length)
    x = take(x, given, needed)
    left = needed.start - (out.start * pool_size - pool_offset(given.length, pool_size))
    x = pad_length(x, left, out.size * pool_size - left - needed.size, float("-inf"))
    return ops.max(ops.reshape(x, (-1, out.size, pool_size, x.shape[-1])), axis=2)


def repeat_twice(x):
    """Repeat every position of ``x`` (batch, length, channels) twice."""
    length, width = x.shape[1], x.shape[2]
    return ops.reshape(ops.tile(ops.expand_dims(x, 2), (1, 1, 2, 1)), (-1, 2 * length, width))


def framed_conv(convolve, x, kernel_size: int, dilation_rate: int, frame: int):
    """Run the "valid" convolution ``convolve`` over ``x`` as a batch of frames of up to ``frame`` output positions."""
    reach = (kernel_size - 1) * dilation_rate
    batch, out_length, width = x.shape[0] or -1, x.shape[1] - reach, x.shape[2]
    frames = -(-out_length // frame)
    frame = -(-out_length // frames)
    # Each frame reads on into the next one; what the last reads beyond the end is cut off again.
    positions = np.arange(frames)[:, None] * frame + np.arange(frame + reach)
    positions = np.minimum(positions, x.shape[1] - 1).astype(np.int32)
    y = convolve(ops.reshape(ops.take(x, positions, axis=1), (-1, frame + reach, width)))
    y = ops.reshape(y, (batch, frames * frame, y.shape[-1]))
    return y if frames * frame == out_length else y[:, :out_length]
