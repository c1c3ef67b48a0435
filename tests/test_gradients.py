"""Input gradients equal finite differences of the network, in float64."""

import numpy as np
import pytest
from adapter_cases import METHOD_CASES, adapt
from network_cases import CONV_DNA, TOWER, borzoi_like, make_params

from kipoi_borzoi.inference import gradients
from kipoi_borzoi.inference.gradients import Part, input_gradient, summed_gradient
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


def test_gradients_of_adapters_are_summed_and_share_the_stem(uncompiled, monkeypatch):
    network = Network(NetworkConfig.from_params(borzoi_like(seq_length=128)), dtype="float64")
    random_weights(network, seed=9)
    predictors = [Predictor(network)]
    predictors += [Predictor(network, adapt(network, METHOD_CASES[name])) for name in ("lora", "houlsby", "full")]
    x = np.eye(4)[np.random.default_rng(8).integers(0, 4, (1, 128))]
    parts = [
        Part(predictor, lambda coverage, sign=sign: sign * np.cos(coverage), tracks=tracks)
        for predictor, sign, tracks in zip(predictors, (1, -1, 2, 0.5), (None, [0, 2], [1], None), strict=True)
    ]
    separate = [input_gradient(part.predictor, x, part.coverage_gradient, tracks=part.tracks) for part in parts]
    assert all(np.abs(one).max() > 0 for one in separate)
    calls = []
    through = gradients._Backward.through_stem
    monkeypatch.setattr(gradients._Backward, "through_stem", lambda self, *args: calls.append(1) or through(self, *args))
    together = summed_gradient(parts, x)
    np.testing.assert_allclose(together, sum(separate), atol=1e-9 * np.abs(together).max())
    assert len(calls) == 2  # one for the base, lora and houlsby; one for full, which changes the stem
