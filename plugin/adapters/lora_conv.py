"""LoRA in attention, and the last convolutions trained as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kipoi_borzoi.adapters.leaves import last_convolutions
from kipoi_borzoi.adapters.lora import Lora
from kipoi_borzoi.network.config import NetworkConfig


@dataclass(frozen=True)
class LoraConv(Lora):
    """Settings of ``lora_conv``: those of ``lora``, and how many of the last Conv1D layers train (or ``"all"``)."""

    name: ClassVar[str] = "lora_conv"
    conv_select: int | str = 4

    def trained(self, config: NetworkConfig) -> list[str]:
        """The last ``conv_select`` convolutions."""
        return [leaf.site for leaf in last_convolutions(config, self.conv_select)]
