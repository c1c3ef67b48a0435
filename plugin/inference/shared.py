"""One copy of each base's weights per process, however many views and adapters are loaded on it."""

from __future__ import annotations

import threading
import weakref
from pathlib import Path

from kipoi_borzoi.adapters.adapter import Adapter
from kipoi_borzoi.adapters.base import trunk_hash
from kipoi_borzoi.adapters.merge import fold
from kipoi_borzoi.adapters.sites import AdapterSites, BaseWeights
from kipoi_borzoi.files import sha256_of_file
from kipoi_borzoi.inference.predictor import Predictor
from kipoi_borzoi.network.config import NetworkConfig
from kipoi_borzoi.network.network import Network
from kipoi_borzoi.network.weights import content_hash, load_weights, read_weights

# Networks are kept by content, predictors (which hold the compiled programs) by network and adapter;
# both live as long as somebody uses them.
_NETWORKS: weakref.WeakValueDictionary[tuple, Network] = weakref.WeakValueDictionary()
_PREDICTORS: weakref.WeakValueDictionary[tuple, Predictor] = weakref.WeakValueDictionary()
_TRUNK_HASHES: weakref.WeakKeyDictionary[Network, str] = weakref.WeakKeyDictionary()
_LOCK = threading.RLock()


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
    key = (sha256 or sha256_of_file(weights), config.with_crop(0))
    with _LOCK:
        network = _NETWORKS.get(key)
        if network is None:
            network = Network(config, initialize=False)
            load_weights(network, read_weights(weights, config))
            _NETWORKS[key] = network
        return _predictor((id(network),), lambda: Predictor(network))


def shared_adapter(base: Predictor, adapter: Adapter, merged: bool = False) -> Predictor:
    """Return the predictor of an adapter on the network of ``base``, which it shares; made on first use.

    Parameters
    ----------
    base : Predictor
    adapter : Adapter
        Equal adapters are attached once.
    merged : bool
        Whether to fold the adapter into copies of the layers it changes.

    Raises
    ------
    WeightsError
        The adapter was made for a network of another shape or sequence length.
    InputError
        ``merged``, and the method cannot be merged.
    """
    network = base.network
    key = (id(network), content_hash(adapter.tensors), adapter.scheme, adapter.gelu, merged)

    def make() -> Predictor:
        attached = fold(adapter, BaseWeights(network)) if merged else adapter
        return Predictor(network, AdapterSites(network, attached), base.tile_bp)

    with _LOCK:
        return _predictor(key, make)


def trunk_hash_of(network: Network) -> str:
    """`trunk_hash` of a network, computed once: what adapters know their base by."""
    with _LOCK:
        if network not in _TRUNK_HASHES:
            _TRUNK_HASHES[network] = trunk_hash(BaseWeights(network), network.config)
        return _TRUNK_HASHES[network]


def _predictor(key: tuple, make) -> Predictor:
    # A predictor holds its network, so that the id in the key cannot be another one's while it lives.
    predictor = _PREDICTORS.get(key)
    if predictor is None:
        predictor = _PREDICTORS[key] = make()
    return predictor
