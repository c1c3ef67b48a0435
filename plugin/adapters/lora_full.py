"""LoRA on all four projections of attention: query, key, value and output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kipoi_borzoi.adapters.lora import Lora


@dataclass(frozen=True)
class LoraFull(Lora):
    """Settings of ``lora_full``: those of ``lora``."""

    name: ClassVar[str] = "lora_full"
    parts: ClassVar[tuple[str, ...]] = ("q", "k", "v", "out")
