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
    by memory bandwidth and gain about threefold, while matrix products are faster outside of XLA. Its
    gradient is compiled alike and computes the function again, so that training stores its arguments
    and nothing in between. The other backends compile whole programs themselves.
    """
    compiled = {}

    @wraps(function)
    def call(*args):
        if keras.backend.backend() != "tensorflow":
            return function(*args)
        if not compiled:
            compiled["function"] = _fused_tensorflow(function)
        return compiled["function"](*args)

    return call


def _fused_tensorflow(function):
    """See `fused`."""
    import tensorflow as tf

    traced = tf.function(function, jit_compile=True, autograph=False)
    eager = by_shape(traced)
    pulls: dict = {}

    def pull(index):
        """Gradient with respect to one argument: each is a program of its own, left out where it is not needed."""

        def gradient(upstream, *args):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(args[index])
                y = function(*args)
            return tape.gradient(y, args[index], upstream)

        if index not in pulls:
            pulls[index] = tf.function(gradient, jit_compile=True, autograph=False)
        return pulls[index]

    @tf.custom_gradient
    def differentiable(*args):
        def gradient(upstream):
            return [pull(i)(upstream, *args) if arg.dtype.is_floating else None for i, arg in enumerate(args)]

        return traced(*args), gradient

    def call(*args):
        args = [tf.convert_to_tensor(arg) for arg in args]
        return eager(*args) if tf.executing_eagerly() else differentiable(*args)

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


def repeatable_uniform(generator: keras.random.SeedGenerator):
    """A function from a shape to uniform random numbers in [0, 1): with TensorFlow, the same at every call."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        seed = tf.cast(generator.next(), "int64")
        return lambda shape: tf.random.stateless_uniform(shape, seed)
    return lambda shape: keras.random.uniform(shape, seed=generator)


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
    return largest(ops.reshape(x, (-1, out.size, pool_size, x.shape[-1])))


def largest(x):
    """The largest over the third axis of ``x`` (batch, out, pool, channels); the first of equals gets the gradient."""
    if keras.backend.backend() != "tensorflow":
        return ops.max(x, axis=2)
    import tensorflow as tf

    @tf.custom_gradient
    def pooled(x):
        return ops.max(x, axis=2), lambda upstream: _unpooled(x, upstream)

    return pooled(x)


@fused
def _unpooled(x, upstream):
    """Gradient of `largest`."""
    first = ops.expand_dims(ops.argmax(x, axis=2), 2)
    chosen = ops.equal(ops.reshape(ops.arange(x.shape[2], dtype=first.dtype), (1, 1, -1, 1)), first)
    return ops.where(chosen, ops.expand_dims(upstream, 2), ops.zeros((), x.dtype))


def repeat_twice(x):
    """Repeat every position of ``x`` (batch, length, channels) twice."""
    length, width = x.shape[1], x.shape[2]
    return ops.reshape(ops.tile(ops.expand_dims(x, 2), (1, 1, 2, 1)), (-1, 2 * length, width))


def convolve(x, kernel, dilation_rate: int, frame: int | None):
    """ "Valid" convolution of ``x`` (batch, length, channels) with ``kernel`` (size, channels, filters).

    Parameters
    ----------
    frame : int or None
        Output positions per frame on CPUs (see `CPU_FRAME`); None for one piece, and the backend's own gradient.
    """
    if frame is None:
        return _plain_conv(x, kernel, dilation_rate)
    if keras.backend.backend() != "tensorflow":
        return _framed_conv(x, kernel, dilation_rate, frame)
    import tensorflow as tf

    @tf.custom_gradient
    def convolved(x, kernel):
        def gradient(upstream):
            # Both as products that run at full speed: a convolution with the kernel turned round, and one
            # matrix product per tap. oneDNN's own backward passes take up to three times as long.
            reach = (kernel.shape[0] - 1) * dilation_rate
            turned = ops.transpose(ops.flip(kernel, axis=0), (0, 2, 1))
            to_x = _framed_conv(pad_length(upstream, reach, reach), turned, dilation_rate, frame)
            length, flat = upstream.shape[1], ops.reshape(upstream, (-1, upstream.shape[-1]))
            taps = [x[:, tap : tap + length] for tap in range(0, reach + 1, dilation_rate)]
            taps = [ops.reshape(tap, (-1, tap.shape[-1])) for tap in taps]
            return to_x, ops.stack([tf.matmul(tap, flat, transpose_a=True) for tap in taps])

        return _framed_conv(x, kernel, dilation_rate, frame), gradient

    # Twice: Keras's own gives the variable itself, which has no place among the arguments of a custom gradient.
    return convolved(*(tf.convert_to_tensor(ops.convert_to_tensor(tensor)) for tensor in (x, kernel)))


def _plain_conv(x, kernel, dilation_rate: int):
    return ops.conv(x, kernel, padding="valid", dilation_rate=dilation_rate)


def _framed_conv(x, kernel, dilation_rate: int, frame: int):
    """Run a convolution over ``x`` as a batch of frames of up to ``frame`` output positions."""
    reach = (kernel.shape[0] - 1) * dilation_rate
    # A frame reads on into the next one only, so it has to be as long as the kernel's reach.
    if reach == 0 or reach > frame or x.shape[1] < 2 * frame:
        return _plain_conv(x, kernel, dilation_rate)
    batch, out_length, width = x.shape[0] or -1, x.shape[1] - reach, x.shape[2]
    frames = -(-out_length // frame)
    frame = -(-out_length // frames)
    # Each frame reads on into the next one; what the last reads beyond the end is cut off again.
    positions = np.arange(frames)[:, None] * frame + np.arange(frame + reach)
    positions = np.minimum(positions, x.shape[1] - 1).astype(np.int32)
    y = _plain_conv(ops.reshape(ops.take(x, positions, axis=1), (-1, frame + reach, width)), kernel, dilation_rate)
    y = ops.reshape(y, (batch, frames * frame, y.shape[-1]))
    return y if frames * frame == out_length else y[:, :out_length]
