"""Full fine-tuning: every weight trains, so that the "adapter" is a whole network of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kipoi_borzoi.adapters.leaves import trunk_leaves
from kipoi_borzoi.adapters.method import Method
from kipoi_borzoi.network.config import NetworkConfig


@dataclass(frozen=True)
class Full(Method):
    """Settings of ``full``: none. The only method whose batch norm uses and updates batch statistics."""

    name: ClassVar[str] = "full"
    peft_type: ClassVar[str] = "FULL"

    def trained(self, config: NetworkConfig) -> list[str]:
        """Every layer of the trunk."""
        return list(trunk_leaves(config))
