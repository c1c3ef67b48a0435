"""The predictor gives the network's own output, however the work is cut up."""

import numpy as np
import pytest
from network_cases import borzoi_like

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.inference.predictor import Predictor
from kipoi_borzoi.inference.shared import shared_predictor
from kipoi_borzoi.network.config import NetworkConfig
from kipoi_borzoi.network.network import Network, named_weights, random_weights
from kipoi_borzoi.network.weights import save_safetensors

TOLERANCE = 1e-5  # of the largest output: float32 rounding over a dozen layers


def one_hot_windows(n, length, seed=0):
    """Random windows with an unknown stretch in each."""
    codes = np.random.default_rng(seed).integers(0, 4, (n, length))
    x = np.eye(4, dtype=np.float32)[codes]
    x[:, length // 3 : length // 3 + 7] = 0
    return x


@pytest.fixture(scope="module")
def network():
    """A small network with random, non-trivial weights and stranded tracks."""
    config = NetworkConfig.from_params(borzoi_like(seq_length=1024, head={"name": "final", "units": 5, "activation": "softplus"}))
    network = Network(config)
    random_weights(network, seed=1)
    return network


@pytest.fixture(scope="module")
def whole(network):
    """Two windows and what the network itself makes of them."""
    x = one_hot_windows(2, 1024)
    return x, np.asarray(network(x))


PAIR = [1, 0, 2, 4, 3]


def close(got, expected):
    """Whether two arrays agree to float rounding."""
    return got.shape == expected.shape and np.abs(got - expected).max() <= TOLERANCE * np.abs(expected).max()


@pytest.mark.parametrize("tile_bp", [None, 64, 128, 384, 512, 4096])
def test_tiles_do_not_change_the_prediction(network, whole, tile_bp):
    x, expected = whole
    predictor = Predictor(network, tile_bp=tile_bp)
    assert close(predictor.predict(x), expected)
    if tile_bp == 64:
        assert len(list(predictor.tiles(network.layout))) == 16


def test_a_window_that_is_not_a_multiple_of_the_pooling_is_run_whole():
    params = borzoi_like(seq_length=1024)
    params["model"]["trunk"] = [b for b in params["model"]["trunk"] if b["name"] != "unet_conv"]
    config = NetworkConfig.from_params(params).with_seq_length(1021)
    network = Network(config)
    random_weights(network, seed=2)
    x = one_hot_windows(1, 1021)
    predictor = Predictor(network, tile_bp=64)
    assert len(list(predictor.tiles(network.layout))) == 1
    assert close(predictor.predict(x), np.asarray(network(x)))


def test_bool_input_equals_float_input(network, whole):
    x, expected = whole
    assert close(Predictor(network).predict(x.astype(bool)), expected)


def test_chosen_tracks_come_in_the_order_asked(network, whole):
    x, expected = whole
    assert close(Predictor(network).predict(x, tracks=[3, 0]), expected[..., [3, 0]])


def test_crop_can_be_changed_at_prediction(network, whole):
    x, expected = whole
    predictor = Predictor(network)
    assert network.config.crop == 3
    assert close(predictor.predict(x, crop=10), expected[:, 7:-7])
    assert close(predictor.predict(x, crop=0)[:, 3:-3], expected)


def test_a_network_without_a_crop_can_be_cropped():
    params = borzoi_like(seq_length=512)
    params["model"]["trunk"] = [b for b in params["model"]["trunk"] if b["name"] != "Cropping1D"]
    network = Network(NetworkConfig.from_params(params))
    random_weights(network, seed=3)
    x = one_hot_windows(1, 512)
    predictor = Predictor(network)
    assert close(predictor.predict(x, crop=4), predictor.predict(x)[:, 4:-4])


def test_reverse_complement_average_by_hand(network, whole):
    x, expected = whole
    reverse = np.asarray(network(np.ascontiguousarray(x[:, ::-1, ::-1])))[:, ::-1][..., PAIR]
    predictor = Predictor(network)
    assert close(predictor.predict(x, strand_pair=PAIR, rc=True), (expected + reverse) / 2)
    some = predictor.predict(x, strand_pair=PAIR, rc=True, tracks=[4, 0])
    assert close(some, ((expected + reverse) / 2)[..., [4, 0]])


def test_shift_average_by_hand(network, whole):
    x, expected = whole
    right, left = np.zeros_like(x), np.zeros_like(x)
    right[:, 2:], left[:, :-1] = x[:, :-2], x[:, 1:]
    mean = (expected + np.asarray(network(right)) + np.asarray(network(left))) / 3
    assert close(Predictor(network).predict(x, shifts=[0, 2, -1]), mean)


def test_windows_are_handled_a_few_at_a_time(network, monkeypatch):
    monkeypatch.setattr("kipoi_borzoi.inference.predictor.MICRO_BATCH_BP", 2048)
    x = one_hot_windows(5, 1024, seed=4)
    predictor = Predictor(network)
    starts = [(start, len(coverage)) for start, coverage in predictor.batches(x)]
    assert starts == [(0, 2), (2, 2), (4, 1)]
    assert close(predictor.predict(x), np.asarray(network(x)))


def test_no_window_gives_an_empty_result(network):
    assert Predictor(network).predict(np.zeros((0, 1024, 4)), tracks=[1]).shape == (0, network.config.bins, 1)


def test_activation_of_every_named_unit_has_its_shape(network, whole):
    x, _ = whole
    predictor = Predictor(network)
    for unit in network.layout.units:
        assert predictor.activation(x, unit.name).shape[0::2] == (2, unit.out_width)
    with pytest.raises(InputError, match="no layer 'nonsense'; the layers are: conv_dna, res_tower.0"):
        predictor.activation(x, "nonsense")


def test_bfloat16_is_close_and_leaves_float32_as_it_was(network, whole):
    x, expected = whole
    predictor = Predictor(network)
    coarse = predictor.predict(x, precision="mixed_bfloat16")
    assert np.corrcoef(coarse.ravel(), expected.ravel())[0, 1] > 0.999
    assert not np.array_equal(coarse, expected)
    assert close(predictor.predict(x), expected)


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (np.zeros((1024, 4)), {}, r"shape \(1024, 4\), expected \(windows, 1024, 4\)"),
        (np.zeros((1, 512, 4)), {}, r"shape \(1, 512, 4\), expected \(windows, 1024, 4\)"),
        (np.zeros((1, 4, 1024)), {}, "expected"),
        (np.full((1, 1024, 4), "A"), {}, "expected float or bool"),
        (np.zeros((1, 1024, 4)), {"tracks": [5]}, "track 5 does not exist: the head has tracks 0 to 4"),
        (np.zeros((1, 1024, 4)), {"tracks": [-1]}, "track -1 does not exist"),
        (np.zeros((1, 1024, 4)), {"tracks": []}, "one or more"),
        (np.zeros((1, 1024, 4)), {"tracks": [0.5]}, "track indices"),
        (np.zeros((1, 1024, 4)), {"rc": True}, "strand pairs"),
        (np.zeros((1, 1024, 4)), {"rc": True, "strand_pair": [0, 1]}, "one index for each of 5"),
        (np.zeros((1, 1024, 4)), {"shifts": []}, "shifts is empty"),
        (np.zeros((1, 1024, 4)), {"precision": "float8"}, "known: float32, mixed_bfloat16"),
        (np.zeros((1, 1024, 4)), {"crop": 256}, "leaves none"),
    ],
)
def test_bad_arguments_are_refused(network, x, options, message):
    with pytest.raises((InputError, ValueError), match=message):
        Predictor(network).predict(x, **options)


def test_equal_weights_are_loaded_once(network, tmp_path):
    tensors = {name: np.asarray(value) for name, value in named_weights(network).items()}
    for name in ("a.safetensors", "b.safetensors"):
        save_safetensors(tmp_path / name, tensors)
    first = shared_predictor(network.config, tmp_path / "a.safetensors")
    assert shared_predictor(network.config.with_crop(7), tmp_path / "b.safetensors") is first
    tensors["conv_dna.conv.bias"] = tensors["conv_dna.conv.bias"] + 1
    save_safetensors(tmp_path / "b.safetensors", tensors)
    assert shared_predictor(network.config, tmp_path / "b.safetensors") is not first


def test_recorded_ensemble_over_strands_and_shifts(shared_data):
    import json

    from kipoi_borzoi.network.weights import load_weights, read_weights

    folder = shared_data / "reference" / "network"
    config = NetworkConfig.from_params(folder / "params.json").with_heads("human")
    network = Network(config, initialize=False)
    load_weights(network, read_weights(folder / "model0.h5", config))
    with np.load(folder / "acts.npz") as acts:
        x = np.eye(5, 4, dtype=np.float32)[acts["seq_index"]]
        expected = acts["head0_ens_rc_shift_0_1"]
    pair = json.loads((folder / "info.json").read_text())["strand_pair"]
    predictor = Predictor(network, tile_bp=4096)
    assert close(predictor.predict(x, strand_pair=pair, rc=True, shifts=[0, 1]), expected)
