"""Five optimizer steps of locon equal those that Calico's code took from the same weights on the same batches."""

import json

import keras
import numpy as np
import pytest

from kipoi_borzoi.adapters.leaves import last_convolutions
from kipoi_borzoi.adapters.locon import Locon
from kipoi_borzoi.adapters.sites import make_adapter
from kipoi_borzoi.network.config import NetworkConfig
from kipoi_borzoi.network.network import Network
from kipoi_borzoi.network.weights import load_weights, read_weights
from kipoi_borzoi.training.losses import poisson_multinomial
from kipoi_borzoi.training.optimizer import WarmUp, make_optimizer
from kipoi_borzoi.training.step import TrainingStep

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="training needs TensorFlow")


def our_name(theirs, convolutions):
    """Dotted name of one of Calico's trainable weights."""
    parts = theirs.removesuffix(":0").split("/")
    if parts[0].startswith("conv1d"):
        return f"{convolutions[int(parts[0].split('_')[1])]}.{parts[1]}.{parts[2]}"
    if parts[0].startswith("dense"):
        return f"head_human.dense.{parts[1]}"
    block = parts[1].removeprefix("multihead_attention").lstrip("_") or "0"
    return f"transformer_tower.{block}.attention.{parts[2][0]}.{parts[3]}.{parts[4]}"


@pytest.mark.parametrize("step", [0, 1, 2, 3, 4, 5, 7])
def test_warm_up_begins_at_zero_and_ends_at_the_learning_rate(step):
    rate = WarmUp(1e-3, 4)
    assert float(rate(step)) == pytest.approx(min(step / 4, 1) * 1e-3)


def test_the_optimizer_equals_calicos(shared_data):
    recorded = np.load(shared_data / "reference" / "training" / "losses.npz")["warmup_lr_steps0_7"]
    variable = keras.Variable(np.zeros(1, dtype=np.float32))
    optimizer = make_optimizer([variable], 1e-3, 4)
    np.testing.assert_allclose([optimizer.learning_rate_at(step) for step in range(8)], recorded, rtol=1e-6)


def test_five_steps_equal_calicos(shared_data):
    import tensorflow as tf

    folder = shared_data / "reference"
    recorded = np.load(folder / "training" / "steps_locon4.npz")
    info = json.loads((folder / "training" / "steps_locon4.json").read_text())
    data = np.load(folder / "training" / "steps_data.npz")
    params = json.loads((folder / "adapters" / "params.json").read_text())
    config = NetworkConfig.from_params({"model": params["model"]})
    network = Network(config, initialize=False)
    load_weights(network, read_weights(folder / "adapters" / "base.h5", config))
    sites = make_adapter(network, Locon(conv_select=4, rank=4, alpha=1), gelu="erf")
    convolutions = [leaf.site for leaf in last_convolutions(config, "all")]
    names = [our_name(theirs, convolutions) for theirs, _ in info["trainable"]]
    sites.assign({name: recorded[f"w_init_{i:03d}"] for i, name in enumerate(names)})
    step = TrainingStep(network, sites, lambda y, p: poisson_multinomial(y, p, 0.2), dropout=False)
    assert sorted(step.variables) == sorted(names)
    optimizer = make_optimizer(list(step.variables.values()), 1e-3, 4, 0.1)
    eye = np.concatenate([np.eye(4, dtype=np.float32), np.zeros((1, 4), dtype=np.float32)])
    crop = (data["y"].shape[2] - config.layout.bins) // 2
    for number, expected in enumerate(info["steps"]):
        x, y = eye[data["seq_index"][number]], data["y"][number]
        y = y[:, crop : y.shape[1] - crop] if crop else y
        found, gradients = step(x, y, (0, number))
        assert float(found) == pytest.approx(expected["loss"], abs=1e-5)
        assert float(tf.linalg.global_norm(gradients)) == pytest.approx(expected["grad_global_norm"], rel=1e-4)
        assert optimizer.learning_rate_at(number) == pytest.approx(expected["lr"], rel=1e-6)
        if number == 0:
            by_name = dict(zip(step.variables, gradients, strict=True))
            for i, name in enumerate(names):
                gradient = recorded[f"grad_step0_{i:03d}"]
                assert np.abs(by_name[name] - gradient).max() < 1e-4 * np.abs(gradient).max() + 1e-8, name
        optimizer.apply(gradients, list(step.variables.values()))
        for when in {1: ["w_after2"], 4: ["w_after5"]}.get(number, []):
            for i, name in enumerate(names):
                value = keras.ops.convert_to_numpy(step.variables[name].value)
                # Adam divides by the root of the second moment: where a gradient is nearly 0, its rounding decides.
                assert np.abs(value - recorded[f"{when}_{i:03d}"]).max() < 2e-5, (when, name)
