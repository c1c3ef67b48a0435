"""LoRA (Hu et al. 2021): a product of two narrow matrices added to the query and value projections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kipoi_borzoi.adapters.leaves import Leaf, transformer_blocks, trunk_leaves
from kipoi_borzoi.adapters.method import Insert, Method, Weight
from kipoi_borzoi.errors import ConfigError
from kipoi_borzoi.network.config import NetworkConfig


@dataclass(frozen=True)
class LowRank(Insert):
    """Adds ``scale`` times (x A) B, with A (in, rank) and B (rank, out), to a projection.

    Attributes
    ----------
    widths : (int, int)
        Input and output channels of the projection.
    kernel : str
        The weight that the product is added to: ``kernel``, or for separable projections (which have
        their depthwise part before it) ``pointwise_kernel``.
    """

    widths: tuple[int, int]
    rank: int
    scale: float
    kernel: str = "kernel"

    @classmethod
    def of(cls, leaf: Leaf, rank: int, alpha: float) -> LowRank:
        """The insert for a projection.

        Raises
        ------
        ConfigError
            The rank exceeds the projection's width.
        """
        check_rank(leaf, rank)
        return cls(leaf.widths, rank, alpha / rank, leaf.kernel)

    def weights(self) -> dict[str, Weight]:
        """See `Insert.weights`; with B = 0 the start is the identity."""
        return {
            "lora_a.kernel": Weight((self.widths[0], self.rank), "he_uniform"),
            "lora_b.kernel": Weight((self.rank, self.widths[1]), "zeros"),
        }

    def forward(self, layer, x, weights):
        """See `Insert.forward`."""
        from keras import ops

        y = layer(x)
        x = ops.cast(x, y.dtype)
        if self.kernel == "pointwise_kernel":
            x = ops.depthwise_conv(x, ops.cast(layer.depthwise_kernel, x.dtype), padding="same")
        narrow = ops.matmul(x, ops.cast(weights["lora_a.kernel"], x.dtype))
        return y + ops.matmul(narrow, ops.cast(weights["lora_b.kernel"], x.dtype)) * self.scale

    def merged(self, base, weights):
        """See `Insert.merged`."""
        a, b = (weights[f"lora_{part}.kernel"].astype(np.float64) for part in "ab")
        return {self.kernel: (base[self.kernel] + self.scale * (a @ b)).astype(np.float32)}


def check_rank(leaf: Leaf, rank: int) -> None:
    """Raise `ConfigError` when ``rank`` exceeds the output width of ``leaf``."""
    if rank > leaf.widths[1]:
        raise ConfigError(f"rank {rank} is larger than the {leaf.widths[1]} output channels of {leaf.site}")


def attention_inserts(config: NetworkConfig, parts: tuple[str, ...], rank: int, alpha: float) -> dict[str, Insert]:
    """LoRA on the projections called ``parts`` of every attention layer."""
    leaves = trunk_leaves(config)
    sites = [f"{block}.attention.{part}" for block in transformer_blocks(config) for part in parts]
    return {site: LowRank.of(leaves[site], rank, alpha) for site in sites}


@dataclass(frozen=True)
class Lora(Method):
    """Settings of ``lora``: the product of rank ``rank`` counts ``alpha / rank`` times."""

    name: ClassVar[str] = "lora"
    peft_type: ClassVar[str] = "LORA"
    peft_fields: ClassVar[tuple[str | None, str | None]] = ("rank", "alpha")
    parts: ClassVar[tuple[str, ...]] = ("q", "v")
    rank: int = 8
    alpha: float = 16

    def inserts(self, config: NetworkConfig) -> dict[str, Insert]:
        """LoRA on ``parts`` of every attention layer."""
        return attention_inserts(config, self.parts, self.rank, self.alpha)
