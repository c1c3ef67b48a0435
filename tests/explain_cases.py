"""Small models for tests of explanations: what `make_table` and `Explainer` read of a model, and no more."""

from types import SimpleNamespace

import numpy as np
from network_cases import CONV_DNA, CONV_NAC, TOWER, TRANSFORMER, borzoi_like, make_network, make_params

from kipoi_borzoi.inference.predictor import Predictor
from kipoi_borzoi.tracks import Tracks

STRANDED = {"name": "final", "units": 5, "activation": "softplus"}
PAIRS = [1, 0, 3, 2, 4]
NAMES = ["treated+", "treated-", "control+", "control-", "both"]


def make_tracks(names=NAMES, pairs=PAIRS, clip_soft=3.0):
    """Tracks with two strands; the soft clip is low, so that its branch matters."""
    n = len(names)
    return Tracks(
        np.arange(n), tuple(names), tuple(f"RNA:{name}" for name in names), ("f",) * n, np.full(n, np.inf),
        np.full(n, clip_soft), np.linspace(0.5, 1.5, n), ("sum_sqrt",) * (n - 1) + ("sum",), np.array(pairs),
    )  # fmt: skip


def make_model(seeds=(1,), params=None, dtype="float64", tracks=None, transform="new"):
    """A model of one replicate per seed."""
    params = params or borzoi_like(seq_length=256, head=STRANDED)
    networks = [make_network(params, seed, dtype) for seed in seeds]
    return SimpleNamespace(
        predictors=[Predictor(network) for network in networks],
        tracks=tracks or make_tracks(),
        transform=transform,
        config=networks[0].config,
        head=networks[0].config.heads[0],
    )


def smooth_params(length=64):
    """A network without pooling: its output has a derivative everywhere, also at one-hot sequences."""
    tower = {**TOWER, "pool_size": 1}
    return make_params({**CONV_DNA, "pool_size": 1}, tower, TRANSFORMER, CONV_NAC, seq_length=length, head=STRANDED)


def dna(length, seed=0):
    """A one-hot sequence (length, 4) float32."""
    return np.eye(4, dtype=np.float32)[np.random.default_rng(seed).integers(0, 4, length)]
