"""A zoo and a store that belong together, for tests of evaluations."""

import numpy as np
from zoo_parts import make_parts

from kipoi_borzoi.genome import Interval
from kipoi_borzoi.tracks import read_tracks
from kipoi_borzoi.training.store import Layout, StoreWriter
from kipoi_borzoi.zoo import zoo_import

NAMES = ["a.control+", "a.control-", "a.treated+", "a.treated-", "b+", "b-"]


def make_zoo_and_store(folder, seed=0):
    """In ``folder``: a zoo (lab/m: 512 bp, 28 bins of 16 bp) and a store of six windows, four of them of the fold test.

    ``seed`` is that of the model's weights.
    """
    params = {
        "model": {
            "seq_length": 512, "activation": "gelu", "norm_type": "batch", "bn_momentum": 0.9,
            "trunk": [
                {"name": "conv_dna", "filters": 6, "kernel_size": 7, "norm_type": None, "activation": "linear", "pool_size": 4},
                {"name": "res_tower", "filters_init": 6, "filters_mult": 1.0, "kernel_size": 3, "num_convs": 1, "repeat": 2},
                {"name": "Cropping1D", "cropping": 2},
            ],
            "head_human": {"name": "final", "units": 6, "activation": "softplus"},
        }
    }  # fmt: skip
    parts = make_parts(folder / "parts", params, seed=seed)
    lines = ["\tidentifier\tfile\tclip\tclip_soft\tscale\tsum_stat\tstrand_pair\tdescription"]
    lines += [f"{i}\t{name}\tnone\t384\t64\t1.0\tsum_sqrt\t{i + 1 - 2 * (i % 2)}\tRNA" for i, name in enumerate(NAMES)]
    parts["targets"].write_text("\n".join(lines) + "\n")
    (folder / "zoo").mkdir()
    zoo_import("lab/m", **parts, zoo=folder / "zoo")
    random = np.random.default_rng(0)
    intervals = tuple(Interval("chr1", 512 * i, 512 * i + 512) for i in range(6))
    layout = Layout(
        read_tracks(parts["targets"]), "new", 512, 32, 16, intervals, ("train", "test", "test", "test", "valid", "test")
    )
    with StoreWriter(folder / "store", layout) as writer:
        for _ in intervals:
            writer.append(random.integers(0, 4, 512).astype(np.uint8), random.gamma(1, 2, (28, 6)))
