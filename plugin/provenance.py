"""What decided the numbers of a result: models, weights and files, named so that equal ones compare equal."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.zoo.hashes import remembered_sha256

logger = logging.getLogger("kipoi_borzoi")


def loaded_models(
    models: str | Sequence[str] | Mapping[str, object], zoo: str | os.PathLike | None = None
) -> dict[str, object]:
    """Models by name: those that are given, or entries of a zoo, loaded.

    Raises
    ------
    KipoiBorzoiError
        A name twice, no name, or a model that cannot be loaded.
    """
    if isinstance(models, Mapping):
        loaded = dict(models)
    else:
        from kipoi_borzoi.zoo.load import load_model

        names = [models] if isinstance(models, str) else list(models)
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"model {name!r} is given twice")
        loaded = {name: load_model(name, zoo=zoo) for name in names}
    if not loaded:
        raise InputError("no model is given")
    return loaded


def describe_model(name: str, model) -> dict:
    """A model's name and what decides its numbers."""
    from kipoi_borzoi.adapters.sites import BaseWeights
    from kipoi_borzoi.network.weights import content_hash

    attached = [getattr(predictor.sites, "adapter", None) for predictor in model.predictors]
    adapters = [adapter for adapter in attached if adapter is not None]
    described = {
        "name": name,
        "weights_sha256": [content_hash(BaseWeights(predictor.network)) for predictor in model.predictors],
        "adapter_sha256": [content_hash(adapter.tensors) for adapter in adapters],
        # Not in the tensors, but in the numbers: how much an adapter counts, and which GELU it was trained with.
        "adapter_method": [
            {"name": adapter.method.name, **adapter.method.settings(), "gelu": adapter.gelu} for adapter in adapters
        ],
        "tracks_sha256": _tracks_hash(model.tracks),
        "transform": model.transform,
        "seq_length": model.config.seq_length,
        "crop": model.config.crop,
    }
    logger.debug("model %s: weights %s", name, ", ".join(described["weights_sha256"]), extra={"event": "model", "data": described})
    return described


def _tracks_hash(tracks) -> str:
    digest = hashlib.sha256()
    for name in ("identifiers", "sum_stat"):
        digest.update(json.dumps(getattr(tracks, name)).encode())
    for name in ("clip_soft", "scale", "strand_pair"):
        digest.update(np.ascontiguousarray(getattr(tracks, name)).tobytes())
    return digest.hexdigest()


def describe_file(path: str | os.PathLike) -> dict:
    """A file's name without its folder, and its content's SHA-256."""
    return {"name": Path(path).name, "sha256": remembered_sha256(path)}
