"""One copy of each base's weights per process, however many views and adapters are loaded on it."""

from __future__ import annotations

import threading
import weakref
from pathlib import Path

from kipoi_borzoi.files import sha256_of_file
from kipoi_borzoi.inference.predictor import Predictor
from kipoi_borzoi.network.config import NetworkConfig
from kipoi_borzoi.network.network import Network
from kipoi_borzoi.network.weights import load_weights, read_weights

_PREDICTORS: weakref.WeakValueDictionary[tuple, Predictor] = weakref.WeakValueDictionary()
_LOCK = threading.Lock()


def shared_predictor(config: NetworkConfig, weights: str | Path, sha256: str | None = None) -> Predictor:
    """Return the predictor of the network ``config`` with the weights of a file, loading it on first use.

    Parameters
    ----------
    config : NetworkConfig
        Its crop does not matter: that is an option of prediction.
    weights : path
        ``.safetensors``, or Calico's ``.h5``.
    sha256 : str, optional
        Of the file, where the caller has just verified it; computed otherwise. Equal content is
        loaded once, wherever it lies.

    Raises
    ------
    WeightsError
        The file does not hold exactly the network's weights.
    """
    uncropped = config.with_crop(0)
    key = (sha256 or sha256_of_file(weights), uncropped)
    with _LOCK:
        predictor = _PREDICTORS.get(key)
        if predictor is None:
            network = Network(config, initialize=False)
            load_weights(network, read_weights(weights, config))
            predictor = _PREDICTORS[key] = Predictor(network)
        return predictor
