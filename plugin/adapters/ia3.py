"""IA3 (Liu et al. 2022): learned factors on keys, values and the hidden units of the transformer's perceptron."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kipoi_borzoi.adapters.leaves import transformer_blocks, trunk_leaves
from kipoi_borzoi.adapters.method import Insert, Method, Weight
from kipoi_borzoi.network.config import NetworkConfig


@dataclass(frozen=True)
class OutputScale(Insert):
    """Multiplies each output channel of a layer without bias by a factor, one at first."""

    width: int
    kernel: str = "kernel"

    def weights(self) -> dict[str, Weight]:
        """See `Insert.weights`."""
        return {"ia3.scale": Weight((self.width,), "ones")}

    def forward(self, layer, x, weights):
        """See `Insert.forward`."""
        from keras import ops

        y = layer(x)
        return y * ops.cast(weights["ia3.scale"], y.dtype)

    def merged(self, base, weights):
        """See `Insert.merged`."""
        factor = weights["ia3.scale"].astype(np.float64)
        return {self.kernel: (base[self.kernel] * factor).astype(np.float32)}


@dataclass(frozen=True)
class InputScale(Insert):
    """Multiplies each input channel of a dense layer by a factor, one at first."""

    width: int

    def weights(self) -> dict[str, Weight]:
        """See `Insert.weights`."""
        return {"ia3.scale": Weight((self.width,), "ones")}

    def forward(self, layer, x, weights):
        """See `Insert.forward`."""
        from keras import ops

        return layer(x * ops.cast(weights["ia3.scale"], x.dtype))

    def merged(self, base, weights):
        """See `Insert.merged`."""
        factor = weights["ia3.scale"].astype(np.float64)
        return {"kernel": (base["kernel"] * factor[:, None]).astype(np.float32)}


@dataclass(frozen=True)
class Ia3(Method):
    """Settings of ``ia3``.

    Attributes
    ----------
    input_width : int or None
        None adapts the down-projection of every transformer block. A number adapts instead every dense
        layer outside of attention whose input has that width, the head included: what Calico's code
        does with 1536, whatever the network. Only for reading and counting what it made.
    """

    name: ClassVar[str] = "ia3"
    peft_type: ClassVar[str] = "IA3"
    input_width: int | None = None

    def inserts(self, config: NetworkConfig) -> dict[str, Insert]:
        """Factors on keys, values and the chosen dense layers."""
        leaves = trunk_leaves(config)
        inserts: dict[str, Insert] = {}
        for block in transformer_blocks(config):
            for part in ("k", "v"):
                leaf = leaves[f"{block}.attention.{part}"]
                inserts[leaf.site] = OutputScale(leaf.widths[1], leaf.kernel)
            if self.input_width is None and f"{block}.down" in leaves:
                inserts[f"{block}.down"] = InputScale(leaves[f"{block}.down"].widths[0])
        if self.input_width is not None:
            for leaf in leaves.values():
                if leaf.kind == "dense" and leaf.widths[0] == self.input_width:
                    inserts[leaf.site] = InputScale(self.input_width)
            if config.layout.width == self.input_width:
                inserts |= {f"{head.name}.dense": InputScale(self.input_width) for head in config.heads}
        return inserts
