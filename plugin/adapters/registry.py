"""The methods by name."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from kipoi_borzoi.adapters.full import Full
from kipoi_borzoi.adapters.houlsby import Houlsby
from kipoi_borzoi.adapters.houlsby_se import HoulsbySE
from kipoi_borzoi.adapters.ia3 import Ia3
from kipoi_borzoi.adapters.linear import Linear
from kipoi_borzoi.adapters.locon import Locon
from kipoi_borzoi.adapters.lora import Lora
from kipoi_borzoi.adapters.lora_conv import LoraConv
from kipoi_borzoi.adapters.lora_full import LoraFull
from kipoi_borzoi.adapters.method import Method
from kipoi_borzoi.errors import ConfigError

METHODS: dict[str, type[Method]] = {
    cls.name: cls for cls in (Full, Linear, Lora, LoraFull, LoraConv, Ia3, Locon, Houlsby, HoulsbySE)
}


def make_method(name: str, settings: dict[str, Any] | None = None) -> Method:
    """Make the method called ``name`` with the given settings, the others at their defaults.

    Raises
    ------
    ConfigError
        Unknown method or setting, or a value of the wrong type or range.
    """
    if not isinstance(name, str) or name not in METHODS:
        raise ConfigError(f"unknown method {name!r}; known: {', '.join(METHODS)}")
    cls, settings = METHODS[name], settings or {}
    known = [field.name for field in fields(cls)]
    for key in settings:
        if key not in known:
            raise ConfigError(f"{name}: unknown setting {key!r}; known: {', '.join(known) or 'none'}")
    return cls(**settings)
