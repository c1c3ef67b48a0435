"""Locon: LoRA carried over to convolutions (LyCORIS, Yeh et al. 2023), together with LoRA in attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kipoi_borzoi.adapters.leaves import Leaf, last_convolutions
from kipoi_borzoi.adapters.lora import attention_inserts, check_rank
from kipoi_borzoi.adapters.method import Insert, Method, Weight
from kipoi_borzoi.network.config import NetworkConfig


@dataclass(frozen=True)
class LowRankConv(Insert):
    """Adds ``scale`` times a convolution to ``rank`` channels, as wide as the adapted one, and a 1-wide one back.

    Attributes
    ----------
    shape : (int, int, int)
        Of the adapted kernel: width, input and output channels.
    """

    shape: tuple[int, int, int]
    rank: int
    scale: float

    @classmethod
    def of(cls, leaf: Leaf, rank: int, alpha: float) -> LowRankConv:
        """The insert for a convolution.

        Raises
        ------
        ConfigError
            The rank exceeds the number of filters.
        """
        check_rank(leaf, rank)
        return cls(leaf.shapes["kernel"], rank, alpha / rank)

    def weights(self) -> dict[str, Weight]:
        """See `Insert.weights`."""
        width, channels, filters = self.shape
        return {
            "locon_down.kernel": Weight((width, channels, self.rank), "he_uniform"),
            "locon_up.kernel": Weight((1, self.rank, filters), "zeros"),
        }

    def forward(self, layer, x, weights):
        """See `Insert.forward`; ``x`` is padded, so that the way down is a "valid" convolution as the layer itself."""
        from keras import ops

        y = layer(x)
        x = ops.cast(x, y.dtype)
        down = ops.cast(weights["locon_down.kernel"], x.dtype)
        narrow = ops.conv(x, down, padding="valid", dilation_rate=layer.dilation_rate)
        return y + ops.matmul(narrow, ops.cast(weights["locon_up.kernel"][0], x.dtype)) * self.scale

    def merged(self, base, weights):
        """See `Insert.merged`."""
        down, up = (weights[f"locon_{part}.kernel"].astype(np.float64) for part in ("down", "up"))
        return {"kernel": (base["kernel"] + self.scale * (down @ up[0])).astype(np.float32)}


@dataclass(frozen=True)
class Locon(Method):
    """Settings of ``locon``.

    Attributes
    ----------
    conv_select : int or 'all'
        How many of the last Conv1D layers are adapted. When these are all, the first one is trained as it is instead.
    rank, alpha : int, float
        Of the convolutions' product, which counts ``alpha / rank`` times.
    lora_rank, lora_alpha : int, float
        The same of the LoRA in attention.
    """

    name: ClassVar[str] = "locon"
    peft_type: ClassVar[str] = "LOCON"
    peft_fields: ClassVar[tuple[str | None, str | None]] = ("lora_rank", "lora_alpha")
    conv_select: int | str = 4
    rank: int = 4
    alpha: float = 1
    lora_rank: int = 8
    lora_alpha: float = 16

    def inserts(self, config: NetworkConfig) -> dict[str, Insert]:
        """LoRA on queries and values, and the convolutions' products."""
        inserts = attention_inserts(config, ("q", "v"), self.lora_rank, self.lora_alpha)
        first = self.trained(config)
        for leaf in last_convolutions(config, self.conv_select):
            if leaf.site not in first:
                inserts[leaf.site] = LowRankConv.of(leaf, self.rank, self.alpha)
        return inserts

    def trained(self, config: NetworkConfig) -> list[str]:
        """The first convolution when all are selected, else none."""
        every = last_convolutions(config, "all")
        selected = last_convolutions(config, self.conv_select)
        return [every[0].site] if every and len(selected) == len(every) else []
