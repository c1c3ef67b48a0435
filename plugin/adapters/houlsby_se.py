"""Houlsby adapters with squeeze-excite: the last convolutions' channels scaled by what the whole window holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kipoi_borzoi.adapters.houlsby import bottlenecks, layer_norms
from kipoi_borzoi.adapters.leaves import last_convolutions
from kipoi_borzoi.adapters.method import Insert, Method, Weight
from kipoi_borzoi.network.config import NetworkConfig


@dataclass(frozen=True)
class SqueezeExcite(Insert):
    """Computes y + y * tanh(excite(relu(squeeze(mean of y over its length)))) of a convolution's output y.

    As with `kipoi_borzoi.adapters.houlsby.Bottleneck`, the second layer starts at zero.
    """

    whole: ClassVar[bool] = True
    width: int
    bottleneck: int

    def weights(self) -> dict[str, Weight]:
        """See `Insert.weights`."""
        return {
            "squeeze.kernel": Weight((self.width, self.bottleneck), "near_zero"),
            "excite.kernel": Weight((self.bottleneck, self.width), "zeros"),
        }

    def forward(self, layer, x, weights):
        """See `Insert.forward`."""
        import keras
        from keras import ops

        y = layer(x)
        # The mean of tens of thousands of positions, and the few numbers made of it, need float32 whatever y is.
        wide = keras.backend.result_type(y.dtype, "float32")
        mean = ops.mean(ops.cast(y, wide), axis=1, keepdims=True)
        squeezed = ops.relu(ops.matmul(mean, ops.cast(weights["squeeze.kernel"], wide)))
        excited = ops.tanh(ops.matmul(squeezed, ops.cast(weights["excite.kernel"], wide)))
        return y * ops.cast(1 + excited, y.dtype)


@dataclass(frozen=True)
class HoulsbySE(Method):
    """Settings of ``houlsby_se``.

    Attributes
    ----------
    latent : int
        Units of the transformer's bottlenecks.
    conv_select : int or 'all'
        How many of the last Conv1D layers are followed by squeeze-excite.
    bottleneck : int
        Units of the squeeze-excite.
    """

    name: ClassVar[str] = "houlsby_se"
    peft_type: ClassVar[str] = "HOULSBY_SE"
    peft_fields: ClassVar[tuple[str | None, str | None]] = ("latent", None)
    not_mergeable: ClassVar[str | None] = (
        "its squeeze-excite scales channels by what the window holds, and its bottlenecks put a ReLU between"
        " layers; no weights of the plain network can stand for either"
    )
    latent: int = 8
    conv_select: int | str = 4
    bottleneck: int = 16

    def inserts(self, config: NetworkConfig) -> dict[str, Insert]:
        """The bottlenecks and the squeeze-excites."""
        inserts = bottlenecks(config, self.latent)
        for leaf in last_convolutions(config, self.conv_select):
            inserts[leaf.site] = SqueezeExcite(leaf.widths[1], self.bottleneck)
        return inserts

    def trained(self, config: NetworkConfig) -> list[str]:
        """The layer norms."""
        return layer_norms(config)
