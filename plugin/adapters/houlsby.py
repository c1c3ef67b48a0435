"""Houlsby adapters (Houlsby et al. 2019): a bottleneck before each addition of the transformer, and its layer norms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kipoi_borzoi.adapters.leaves import transformer_blocks, trunk_leaves
from kipoi_borzoi.adapters.method import Insert, Method, Weight
from kipoi_borzoi.network.config import NetworkConfig


@dataclass(frozen=True)
class Bottleneck(Insert):
    """Computes x + up(relu(down(x))) at a site without a layer.

    Calico's code also draws the way up close to zero; here it starts at zero, which makes the start
    exactly the identity.
    """

    width: int
    latent: int

    def weights(self) -> dict[str, Weight]:
        """See `Insert.weights`."""
        return {
            "down.kernel": Weight((self.width, self.latent), "near_zero"),
            "down.bias": Weight((self.latent,), "zeros"),
            "up.kernel": Weight((self.latent, self.width), "zeros"),
            "up.bias": Weight((self.width,), "zeros"),
        }

    def forward(self, layer, x, weights):
        """See `Insert.forward`."""
        from keras import ops

        down, down_bias, up, up_bias = (ops.cast(weights[name], x.dtype) for name in self.weights())
        return x + (ops.matmul(ops.relu(ops.matmul(x, down) + down_bias), up) + up_bias)


def bottlenecks(config: NetworkConfig, latent: int) -> dict[str, Insert]:
    """A bottleneck in both halves of every transformer block (in its only one where there is no perceptron)."""
    leaves = trunk_leaves(config)
    inserts: dict[str, Insert] = {}
    for block in transformer_blocks(config):
        width = leaves[f"{block}.attention.out"].widths[1]
        inserts[f"{block}.attention_output"] = Bottleneck(width, latent)
        if f"{block}.down" in leaves:
            inserts[f"{block}.mlp_output"] = Bottleneck(width, latent)
    return inserts


def layer_norms(config: NetworkConfig) -> list[str]:
    """The layer norms of the trunk."""
    return [leaf.site for leaf in trunk_leaves(config).values() if leaf.kind == "layer_norm"]


@dataclass(frozen=True)
class Houlsby(Method):
    """Settings of ``houlsby``: units of the bottlenecks."""

    name: ClassVar[str] = "houlsby"
    peft_type: ClassVar[str] = "HOULSBY"
    peft_fields: ClassVar[tuple[str | None, str | None]] = ("latent", None)
    not_mergeable: ClassVar[str | None] = (
        "its bottlenecks put a ReLU between layers, which no weights of the plain network can stand for"
    )
    latent: int = 8

    def inserts(self, config: NetworkConfig) -> dict[str, Insert]:
        """The bottlenecks."""
        return bottlenecks(config, self.latent)

    def trained(self, config: NetworkConfig) -> list[str]:
        """The layer norms."""
        return layer_norms(config)
