"""The leaf layers of the network: stock Keras layers where these will do, with "same" padding left to the caller."""

from __future__ import annotations

import keras
from keras import ops

from kipoi_borzoi.network.ops import activate, convolve, fused


def keras_name(dotted: str) -> str:
    """Name of the Keras layer for a dotted name: PyTorch allows no dots in the names of parameters."""
    return dotted.replace(".", "_")


class Conv1D(keras.layers.Conv1D):
    """A "valid" convolution that may run as a batch of short frames.

    Attributes
    ----------
    frame : int or None
        Output positions per frame; None convolves the sequence in one piece. Has no effect on the
        result beyond float rounding.
    """

    frame: int | None = None

    def call(self, inputs):
        """Convolve (batch, length, channels). Late releases of Keras 3 do not pass through ``convolution_op`` any more."""
        y = convolve(inputs, self.kernel, self.dilation_rate[0], self.frame)
        return ops.add(y, self.bias) if self.use_bias else y


class Scale(keras.layers.Layer):
    """Multiplication of each channel by a learned factor, zero at first."""

    def build(self, input_shape):
        """Create the factors, one per channel."""
        self.scale = self.add_weight(name="scale", shape=(input_shape[-1],), initializer="zeros")

    def call(self, x):
        """Scale ``x`` (..., channels)."""
        return x * self.scale

    def get_config(self):
        """What ``from_config`` needs to make another layer of this kind."""
        return {"name": self.name, "dtype": self.dtype_policy.name}


def make_norm(norm_type: str | None, momentum: float, dtype, name: str):
    """Make the norm layer that ``norm_type`` names, or None. Both epsilons are Keras's default, 1e-3."""
    if norm_type is None:
        return None
    if norm_type == "layer":
        return keras.layers.LayerNormalization(epsilon=1e-3, dtype=dtype, name=name)
    # Keras synchronises replicas in training with TensorFlow only; predictions are the same without.
    synchronized = norm_type == "batch-sync" and keras.backend.backend() == "tensorflow"
    return keras.layers.BatchNormalization(
        momentum=momentum, epsilon=1e-3, synchronized=synchronized, dtype=dtype, name=name
    )


def norm_activate(x, norm, activation: str | None, training: bool):
    """Normalise and activate ``x``; in inference, batch norm and activation are one pass over memory."""
    if isinstance(norm, keras.layers.BatchNormalization) and not training:
        factor = ops.multiply(norm.gamma, ops.rsqrt(ops.add(norm.moving_variance, norm.epsilon)))
        offset = ops.subtract(norm.beta, ops.multiply(norm.moving_mean, factor))
        return _SCALE_ACTIVATE[activation](x, factor, offset)
    if norm is not None:
        x = norm(x, training=training) if isinstance(norm, keras.layers.BatchNormalization) else norm(x)
    return _ACTIVATE[activation](x)


def _scale_activate(activation):
    @fused
    def scale_activate(x, factor, offset):
        # In float32 or wider whatever the type of x, as Keras's batch norm does.
        wide = ops.cast(x, keras.backend.result_type(x.dtype, "float32"))
        return ops.cast(activate(wide * factor + offset, activation), x.dtype)

    return scale_activate


def _activate(activation):
    @fused
    def activate_only(x):
        return activate(x, activation)

    return activate_only


class _ByName(dict):
    """Compiled functions by activation, made when first asked for."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def __missing__(self, activation):
        self[activation] = self.make(activation)
        return self[activation]


_SCALE_ACTIVATE = _ByName(_scale_activate)
_ACTIVATE = _ByName(_activate)
