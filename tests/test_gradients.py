"""Input gradients equal finite differences of the network, in float64."""

import numpy as np
import pytest
from network_cases import CONV_DNA, TOWER, borzoi_like, make_params

from kipoi_borzoi.inference.gradients import input_gradient
from kipoi_borzoi.inference.predictor import Predictor
from kipoi_borzoi.network.config import NetworkConfig
from kipoi_borzoi.network.network import Network, random_weights

STEP = 1e-5


@pytest.mark.parametrize(
    ("params", "crop"),
    [
        (borzoi_like(seq_length=512), None),
        (borzoi_like(seq_length=512), 20),
        (borzoi_like(seq_length=512, norm_type="layer"), None),
        (make_params(CONV_DNA, {**TOWER, "num_convs": 2}, seq_length=128), None),
    ],
    ids=["borzoi", "cropped", "layer norm", "no transformer"],
)
def test_gradient_equals_finite_differences(params, crop, uncompiled):
    network = Network(NetworkConfig.from_params(params), dtype="float64")
    random_weights(network, seed=5)
    predictor = Predictor(network, tile_bp=64)
    length = network.config.seq_length
    random = np.random.default_rng(6)
    x = random.uniform(0, 1, (1, length, 4))  # not one-hot: ties in max pooling have no derivative
    weights = random.standard_normal(predictor.predict(x, crop=crop).shape)
    gradient = input_gradient(predictor, x, lambda coverage: weights, crop=crop)
    for position in (0, 63, 64, length // 2, length - 1):
        for base in (0, 3):
            up, down = x.copy(), x.copy()
            up[0, position, base] += STEP
            down[0, position, base] -= STEP
            change = (predictor.predict(up, crop=crop) - predictor.predict(down, crop=crop)) * weights
            expected = change.sum() / (2 * STEP)
            assert gradient[0, position, base] == pytest.approx(expected, rel=1e-4, abs=1e-6 * np.abs(gradient).max())


def test_compiled_gradient_equals_the_uncompiled_one(request):
    network = Network(NetworkConfig.from_params(borzoi_like()))
    random_weights(network, seed=7)
    x = np.eye(4)[np.random.default_rng(8).integers(0, 4, (1, 256))]
    compiled = input_gradient(Predictor(network), x, np.ones_like)
    request.getfixturevalue("uncompiled")
    plain = input_gradient(Predictor(network), x, np.ones_like)
    assert np.abs(compiled - plain).max() <= 1e-5 * np.abs(plain).max()
