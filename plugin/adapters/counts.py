"""How many weights a method trains, worked out from shapes alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from kipoi_borzoi.adapters.adapter import Scheme
from kipoi_borzoi.network.schema import weight_shapes

_STATISTICS = ("moving_mean", "moving_variance")


def count(scheme: Scheme) -> dict[str, Any]:
    """Count the weights (scalars) of a network with an adapter, as Calico's code does.

    Returns
    -------
    dict
        ``method``; ``trainable``, the new head included; ``frozen``, everything else, with the moving
        averages of batch norm always among them; ``head``; ``total`` = trainable + frozen, the network
        with its new head and the adapter; ``adapter_bytes``, the tensors of the adapter's file.
    """
    stored = scheme.shapes()
    added = _size(scheme.insert_shapes())
    total = _size(weight_shapes(scheme.config)) + added
    trainable = _size({name: shape for name, shape in stored.items() if not name.endswith(_STATISTICS)})
    return {
        "method": scheme.method.name,
        "trainable": trainable,
        "frozen": total - trainable,
        "head": _size(scheme.head_shapes()),
        "total": total,
        "adapter_bytes": 4 * _size(stored),
    }


def _size(shapes: Mapping[str, tuple[int, ...]]) -> int:
    return sum(math.prod(shape) for shape in shapes.values())
