"""The ``transfer`` section of Calico's params: which method, with which settings, as Calico's code takes it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from kipoi_borzoi.adapters.adapter import Scheme, with_head
from kipoi_borzoi.adapters.counts import count
from kipoi_borzoi.adapters.ia3 import Ia3
from kipoi_borzoi.adapters.method import Method
from kipoi_borzoi.adapters.registry import make_method
from kipoi_borzoi.errors import ConfigError
from kipoi_borzoi.network.config import NetworkConfig, read_params

logger = logging.getLogger("kipoi_borzoi")

MODES = ("full", "linear", "adapter")
ADAPTERS = ("lora", "lora_full", "lora_conv", "ia3", "locon", "houlsby", "houlsby_se")
IA3_RULES = ("structure", "calico")
CALICO_IA3_WIDTH = 1536

_DEFAULTS: dict[str, Any] = {
    "adapter_latent": 8,
    "conv_select": 4,
    "conv_latent": 4,
    "lora_alpha": 16,
    "locon_alpha": 1,
}
# Which setting of the section becomes which of the method. Calico's code fixes the ranks of the LoRA
# within lora_conv and locon (8, alpha 16) and the bottlenecks of houlsby_se (8), whatever adapter_latent says.
_SETTINGS = {
    "lora": {"rank": "adapter_latent", "alpha": "lora_alpha"},
    "lora_full": {"rank": "adapter_latent", "alpha": "lora_alpha"},
    "lora_conv": {"conv_select": "conv_select"},
    "ia3": {},
    "locon": {"conv_select": "conv_select", "rank": "conv_latent", "alpha": "locon_alpha"},
    "houlsby": {"latent": "adapter_latent"},
    "houlsby_se": {"conv_select": "conv_select", "bottleneck": "conv_latent"},
}
_USED_BY_NONE = {"lora_conv": ("adapter_latent", "lora_alpha"), "locon": ("adapter_latent", "lora_alpha"),
                 "houlsby_se": ("adapter_latent",)}  # fmt: skip


def read_transfer(params: str | Path | dict, ia3_rule: str = "structure") -> tuple[NetworkConfig, Method]:
    """Read the ``model`` and ``transfer`` sections of a Calico params file.

    Calico's code moves the settings of houlsby and houlsby_se from ``transfer`` into ``model`` after
    training; they are read from there as well.

    Parameters
    ----------
    params : path, or the parsed dict
    ia3_rule : {'structure', 'calico'}
        Which dense layers ia3 adapts: the down-projections of the transformer, or, as Calico's code
        does, all whose input is 1,536 wide (the same in Calico's small model, other ones in Borzoi).

    Raises
    ------
    ConfigError
        No such sections, an unknown setting, or an impossible value.
    """
    source = "params"
    if not isinstance(params, dict):
        source = str(params)
        params = read_params(params)
    if ia3_rule not in IA3_RULES:
        raise ConfigError(f"ia3 rule {ia3_rule!r} is not known; known: {', '.join(IA3_RULES)}")
    if not isinstance(params.get("model"), dict):
        raise ConfigError(f"{source}: no model section; expected Calico's params.json with 'model' and 'transfer'")
    model, moved = _split(params["model"])
    try:
        config = NetworkConfig.from_params({"model": model})
        method = _method(_section(params, moved), ia3_rule)
    except ConfigError as error:
        raise ConfigError(f"{source}: {str(error).removeprefix('params: ')}") from error
    return config, method


def plan(params: str | Path | dict, tracks: int | None = None, ia3_rule: str = "structure",
         head: str | None = None) -> dict[str, Any]:  # fmt: skip
    """Count what fine-tuning by a Calico params file would train, without building a network.

    Parameters
    ----------
    params : path, or the parsed dict
    tracks : int, optional
        Tracks of the new head, instead of the params' own number.
    ia3_rule : {'structure', 'calico'}
        See `read_transfer`.
    head : str, optional
        Which head of the params to go by, when there are several; the first one by default.

    Returns
    -------
    dict
        See `kipoi_borzoi.adapters.counts.count`.

    Raises
    ------
    ConfigError
        See `read_transfer`; or a method that matches no layer.
    """
    config, method = read_transfer(params, ia3_rule)
    counts = count(Scheme(method, with_head(config, tracks, head)))
    if isinstance(method, Ia3) and ia3_rule == "structure":
        calico = count(Scheme(Ia3(CALICO_IA3_WIDTH), with_head(config, tracks, head)))
        if calico != counts:
            logger.warning(
                "ia3: Calico's code would choose other layers, those whose input is %d wide, and train %d weights;"
                " ask for the ia3 rule 'calico' to count these",
                CALICO_IA3_WIDTH,
                calico["trainable"],
            )
    return counts


def _split(model: dict) -> tuple[dict, dict]:
    """Take the settings of an adapter, which Calico's code writes there after training, out of the model section."""
    names = {
        "adapter": "adapter",
        "adapter_latent": "adapter_latent",
        "conv_select": "conv_select",
        "se_rank": "conv_latent",
    }
    if "adapter" not in model:
        return model, {}
    moved = {names[key]: value for key, value in model.items() if key in names}
    return {key: value for key, value in model.items() if key not in names}, {"mode": "adapter", **moved}


def _section(params: dict, moved: dict) -> dict:
    section = params.get("transfer")
    if section is None:
        if not moved:
            raise ConfigError("no transfer section, which says by which method to fine-tune")
        return moved
    if not isinstance(section, dict):
        raise ConfigError(f"the transfer section is a {type(section).__name__}, expected an object")
    for key, value in moved.items():
        if key in section and section[key] != value:
            raise ConfigError(f"{key} is {section[key]!r} in the transfer section, but {value!r} in the model section")
    return {**moved, **section}


def _method(section: dict, ia3_rule: str) -> Method:
    known = ("mode", "adapter", *_DEFAULTS)
    for key in section:
        if key not in known:
            raise ConfigError(f"transfer: unknown setting {key!r}; known: {', '.join(known)}")
    mode = section.get("mode", "full")
    if mode not in MODES:
        raise ConfigError(f"transfer: mode is {mode!r}; known: {', '.join(MODES)}")
    if mode != "adapter":
        if section.get("adapter") is not None:
            logger.warning("transfer: adapter = %r is not used with mode %r", section["adapter"], mode)
        return make_method(mode)
    name = section.get("adapter")
    if name not in ADAPTERS:
        raise ConfigError(f"transfer: adapter is {name!r}; known: {', '.join(ADAPTERS)}")
    values = _DEFAULTS | {key: section[key] for key in _DEFAULTS if key in section}
    if values["conv_select"] is None:  # what Calico's functions take for all
        values["conv_select"] = "all"
    for key in _USED_BY_NONE.get(name, ()):
        if values[key] != _DEFAULTS[key]:
            logger.warning("transfer: %s = %r is not used with %s, as in Calico's code", key, values[key], name)
    settings = {ours: values[theirs] for ours, theirs in _SETTINGS[name].items()}
    if name == "ia3" and ia3_rule == "calico":
        settings["input_width"] = CALICO_IA3_WIDTH
    try:
        return make_method(name, settings)
    except ConfigError as error:
        raise ConfigError(f"transfer: {error}") from error
