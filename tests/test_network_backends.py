"""The other Keras backends compute the same forward pass, where they are installed."""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from network_cases import CASES, borzoi_like, largest_difference, make_network, random_dna, weights_of
from plain_network import PlainNetwork

from kipoi_borzoi.network.weights import save_safetensors

PROGRAM = """
import sys
import keras, numpy as np
from kipoi_borzoi.network.config import NetworkConfig
from kipoi_borzoi.network.network import Network
from kipoi_borzoi.network.weights import load_weights, read_weights

folder, names = sys.argv[1], sys.argv[2:]
assert keras.backend.backend() == BACKEND
for name in names:
    config = NetworkConfig.from_params(f"{folder}/{name}.json")
    network = Network(config, initialize=False)
    load_weights(network, read_weights(f"{folder}/{name}.safetensors", config))
    y = network(np.load(f"{folder}/{name}.x.npy"))
    np.save(f"{folder}/{name}.y.npy", keras.ops.convert_to_numpy(y))
"""

NETWORKS = {
    "published": borzoi_like({"num_position_features": None}, norm_type="batch-sync"),
    "separable": borzoi_like({"qkv_width": 4, "dense_expansion": 1.5}, norm_type="layer"),
    "convolutions": CASES["conv_nac"],
    "tower": CASES["wide and dilated tower"],
}


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_forward_pass_equals_the_plain_network(tmp_path, backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"the Keras backend {backend} is not installed")
    expected = {}
    for name, params in NETWORKS.items():
        network, x = make_network(params, dtype="float32"), random_dna(params["model"]["seq_length"])
        expected[name] = PlainNetwork(params, weights_of(network).values()).run(x)["head"]
        (tmp_path / f"{name}.json").write_text(json.dumps(params))
        save_safetensors(tmp_path / f"{name}.safetensors", weights_of(network))
        np.save(tmp_path / f"{name}.x.npy", x.astype("float32"))
    program = f"BACKEND = {backend!r}\n{PROGRAM}"
    command = [sys.executable, "-W", "ignore", "-c", program, str(tmp_path), *NETWORKS]
    subprocess.run(command, env={**os.environ, "KERAS_BACKEND": backend}, check=True, timeout=300)
    for name, y in expected.items():
        assert largest_difference(np.load(tmp_path / f"{name}.y.npy"), y) < 1e-5, name
