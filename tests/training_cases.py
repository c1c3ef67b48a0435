"""A small problem to train on: a store in memory whose coverage follows from the sequence, and networks for it."""

import hashlib

import numpy as np
from network_cases import borzoi_like

from kipoi_borzoi.adapters.sites import make_adapter
from kipoi_borzoi.genome import Interval
from kipoi_borzoi.network.config import NetworkConfig
from kipoi_borzoi.network.network import Network, random_weights
from kipoi_borzoi.tracks import Tracks
from kipoi_borzoi.training.losses import poisson_multinomial
from kipoi_borzoi.training.step import TrainingStep

LENGTH, BIN, CROP = 256, 8, 3
BINS = LENGTH // BIN // 1 - 2 * CROP


def some_tracks(count=2, pairs=None):
    """Unstranded tracks, or with the partners ``pairs``."""
    return Tracks(
        index=range(count), identifiers=[f"t{i}" for i in range(count)], descriptions=[f"RNA: tissue {i}" for i in range(count)],
        files=[""] * count, clip=[np.inf] * count, clip_soft=[np.inf] * count, scale=[1.0] * count, sum_stat=["sum"] * count,
        strand_pair=range(count) if pairs is None else pairs,
    )  # fmt: skip


class MemoryStore:
    """What `kipoi_borzoi.training.store.Store` is to a run. Coverage is the share of G, or of T, around each bin."""

    def __init__(self, config, counts=(("train", 12), ("valid", 4), ("test", 2)), seed=0, tracks=None, transform="new"):
        layout = config.layout
        self.tracks, self.transform = tracks or some_tracks(), transform
        self.seq_length, self.bin_size = layout.seq_length, layout.bin_size
        self.crop_bp, self.bins = layout.crop * layout.bin_size, layout.bins
        self.folds = tuple(name for name, _ in counts)
        self._fold = np.repeat(np.arange(len(counts)), [count for _, count in counts])
        random = np.random.default_rng(seed)
        self._x = np.eye(4, dtype=bool)[random.integers(0, 4, (len(self._fold), self.seq_length))]
        per_bin = self._x.reshape(len(self._fold), -1, self.bin_size, 4).mean(axis=2)
        kept = per_bin[:, layout.crop : per_bin.shape[1] - layout.crop]
        columns = [2 * kept[..., (2, 3)[i % 2]] ** 2 * (i + 1) for i in range(len(self.tracks))]
        self._y = np.stack(columns, axis=-1).astype(np.float16)
        self.key = hashlib.sha256(self._x.tobytes() + self._y.tobytes()).hexdigest()

    def __len__(self):
        return len(self._fold)

    def indices(self, fold):
        return np.flatnonzero(self._fold == self.folds.index(fold)).astype(np.int64)

    def interval(self, i):
        return Interval("chr1", i * self.seq_length, (i + 1) * self.seq_length)

    def sequence(self, i, dtype=np.float32):
        return self._x[i].astype(dtype)

    def targets(self, i, tracks=None):
        return self._y[i] if tracks is None else self._y[i][:, tracks]


def small_config(dropout=0.2, **model):
    """The published network's order of blocks, very small, with dropout or without."""
    rates = {"dropout": dropout, "attention_dropout": dropout / 4, "position_dropout": dropout / 20}
    params = borzoi_like(rates, head={"name": "final", "units": 2, "activation": "softplus"}, **model)
    params["model"]["trunk"][-1]["dropout"] = dropout / 2
    return NetworkConfig.from_params(params)


def small_network(config=None, seed=3, dtype="float32"):
    """A network with random weights."""
    network = Network(config or small_config(), dtype=dtype)
    random_weights(network, seed)
    return network


def loss(y_true, y_pred):
    return poisson_multinomial(y_true, y_pred, 0.2)


def training_step(network, method, tensors=None, **options):
    """A step for ``method``, with the adapter's weights set to ``tensors`` (a function of the adapter)."""
    sites = make_adapter(network, method, 2)
    if tensors is not None:
        sites.assign(tensors(sites.adapter))
    return TrainingStep(network, sites, loss, **options)
