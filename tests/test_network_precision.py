"""Computing in bfloat16 for a while: close results, and the network as it was afterwards."""

import keras
import numpy as np
import pytest
from network_cases import CASES, borzoi_like, largest_difference, make_network, random_dna, weights_of

pytestmark = pytest.mark.usefixtures("uncompiled")


def policies(network):
    return [layer.dtype_policy.name for layer in network._flatten_layers()]


def predict(network, x):
    return keras.ops.convert_to_numpy(network(x))


@pytest.mark.parametrize(
    "params", [borzoi_like(), borzoi_like({"num_position_features": 0}, norm_type="layer"), CASES["conv_nac"]]
)
def test_bfloat16_is_close_and_leaves_nothing_behind(params):
    network, x = make_network(params, dtype="float32"), random_dna(params["model"]["seq_length"]).astype("float32")
    before, weights, expected = policies(network), weights_of(network), predict(network, x)
    with network.precision("mixed_bfloat16") as same:
        assert same is network
        assert {layer.compute_dtype for layer in network._flatten_layers() if layer is not network} == {"bfloat16"}
        y = predict(network, x)
    assert y.dtype == np.float32 and np.isfinite(y).all()
    assert 1e-4 < largest_difference(y, expected) < 0.1
    assert np.corrcoef(y.ravel(), expected.ravel())[0, 1] > 0.99
    assert policies(network) == before
    for name, value in weights_of(network).items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, weights[name])
    np.testing.assert_array_equal(predict(network, x), expected)


def test_policies_are_restored_after_an_error():
    network = make_network(borzoi_like(), dtype="float32")
    before = policies(network)
    with pytest.raises(KeyError), network.precision("mixed_bfloat16"):
        raise KeyError
    with pytest.raises(ValueError), network.precision("mixed_float7"):
        pass
    assert policies(network) == before


def test_network_may_be_made_in_bfloat16():
    params = borzoi_like()
    network, x = make_network(params, dtype="mixed_bfloat16"), random_dna(256).astype("float32")
    assert {str(value.dtype) for value in weights_of(network).values()} == {"float32"}
    y = predict(network, x)
    assert y.dtype == np.float32
    assert np.corrcoef(y.ravel(), predict(make_network(params, dtype="float32"), x).ravel())[0, 1] > 0.99
