"""Writes the network that an adapter directory and its base make together as one file of plain weights."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from kipoi_borzoi.adapters.base import read_trunk, trunk_hash
from kipoi_borzoi.adapters.directory import StoredAdapter, check_base, load_adapter
from kipoi_borzoi.adapters.merge import merge
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.files import sha256_of_file
from kipoi_borzoi.network.calico_h5 import write_calico_h5
from kipoi_borzoi.network.weights import save_safetensors

logger = logging.getLogger("kipoi_borzoi")


def merge_directory(directory: str | Path, out: str | Path, base: str | Path) -> dict[str, Any]:
    """Merge an adapter into its base and write the result.

    Parameters
    ----------
    directory : path
        The adapter directory.
    out : path
        ``.safetensors``, or ``.h5`` in Calico's layout.
    base : path
        Weights of the base.

    Returns
    -------
    dict
        ``method``, ``out``, ``sha256`` of the file, ``tracks``, ``gelu``.

    Raises
    ------
    InputError
        The method cannot be merged, or ``out`` is called something else.
    WeightsError
        Another base than the adapter's.
    """
    out = Path(out)
    if out.suffix not in (".h5", ".safetensors"):
        raise InputError(f"{out}: the suffix says the format; expected .h5 (Calico's layout) or .safetensors")
    stored = load_adapter(directory)
    adapter = stored.adapter
    if adapter.method.not_mergeable:
        raise InputError(f"{directory}: {adapter.method.name} cannot be merged: {adapter.method.not_mergeable}")
    tensors = merge(adapter, _trunk_of(stored, directory, base))
    try:
        if out.suffix == ".h5":
            write_calico_h5(out, tensors, adapter.config)
        else:
            params = json.dumps(adapter.config.to_params())
            save_safetensors(out, tensors, {"format": "kipoi-borzoi", "params": params, "transform": stored.transform})
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror or error})") from error
    if adapter.gelu == "erf":
        logger.warning(
            "%s was trained with the exact GELU; plain weights are used with the tanh approximation, which changes"
            " predictions slightly", directory
        )  # fmt: skip
    return {
        "method": adapter.method.name,
        "out": str(out),
        "sha256": sha256_of_file(out),
        "tracks": len(stored.tracks),
        "gelu": adapter.gelu,
    }


def _trunk_of(stored: StoredAdapter, directory, base) -> dict:
    trunk = read_trunk(base, stored.adapter.config)
    check_base(directory, stored, trunk_hash(trunk, stored.adapter.config), str(base))
    return trunk
