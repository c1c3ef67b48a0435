"""Linear probing: only the new head trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kipoi_borzoi.adapters.method import Method


@dataclass(frozen=True)
class Linear(Method):
    """Settings of ``linear``: none."""

    name: ClassVar[str] = "linear"
    peft_type: ClassVar[str] = "LINEAR"
