"""BorzoiModel, the class that Kipoi loads, on files of a small network."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from network_cases import borzoi_like

from kipoi_borzoi.errors import ConfigError, InputError, KipoiBorzoiError, ZooError
from kipoi_borzoi.files import sha256_of_file
from kipoi_borzoi.inference import recent
from kipoi_borzoi.model import BorzoiModel
from kipoi_borzoi.network.config import NetworkConfig
from kipoi_borzoi.network.network import Network, named_weights, random_weights
from kipoi_borzoi.network.weights import save_safetensors
from kipoi_borzoi.tracks import unsquash

HEADER = "\tidentifier\tfile\tclip\tclip_soft\tscale\tsum_stat\tstrand_pair\tdescription\n"
ROWS = ["0\tA+\ta\t384\t2\t0.5\tsum_sqrt\t1\tRNA:a", "1\tA-\ta\t384\t2\t0.5\tsum_sqrt\t0\tRNA:a", "2\tB\tb\t384\t2\t1\tsum\t2\tDNase:b"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Params with two heads, two replicates' weights for the human one, and its target table."""
    folder = tmp_path_factory.mktemp("model")
    head = {"name": "final", "units": 3, "activation": "softplus"}
    params = borzoi_like(seq_length=256, head_human=head, head_mouse={**head, "units": 2})
    (folder / "params.json").write_text(json.dumps(params))
    config = NetworkConfig.from_params(params).with_heads("human")
    for replicate in (0, 1):
        network = Network(config)
        random_weights(network, seed=replicate)
        save_safetensors(folder / f"rep{replicate}.safetensors", {k: np.asarray(v) for k, v in named_weights(network).items()})
    (folder / "targets.txt").write_text(HEADER + "\n".join(ROWS) + "\n")
    return SimpleNamespace(
        params=str(folder / "params.json"), targets=str(folder / "targets.txt"),
        weights=[str(folder / f"rep{i}.safetensors") for i in (0, 1)], folder=folder,
    )  # fmt: skip


@pytest.fixture(scope="module")
def x():
    return np.eye(4, dtype=np.float32)[np.random.default_rng(8).integers(0, 4, (3, 256))]


def model(files, **options):
    settings = {"weights": files.weights[0], "head": "human", **options}
    return BorzoiModel(files.params, settings.pop("weights"), files.targets, **settings)


def test_views_share_weights_and_agree(files, x):
    coverage, sums, logsums = (model(files, view=view) for view in ("coverage", "sum", "logsum"))
    assert sums.predictors[0] is coverage.predictors[0] is logsums.predictors[0]
    y = coverage.predict_on_batch(x)
    assert y.dtype == np.float32
    assert y.shape == (3, coverage.config.bins, 3)
    expected = unsquash(y, coverage.tracks, "new").astype(np.float64).sum(axis=1)
    got = sums.predict_on_batch(x)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    np.testing.assert_allclose(logsums.predict_on_batch(x), np.log2(1 + expected), rtol=1e-6)


def test_replicates_are_averaged(files, x):
    both = model(files, weights=files.weights).predict_on_batch(x)
    single = [model(files, weights=one).predict_on_batch(x) for one in files.weights]
    np.testing.assert_allclose(both, (single[0] + single[1]) / 2, rtol=1e-6)
    assert np.abs(single[0] - single[1]).max() > 0.01


def test_near_windows_are_reused_unless_switched_off(files, x, monkeypatch):
    monkeypatch.setattr(recent, "LEAST_BP", 0)
    entry, alternative = model(files, weights=files.weights, view="sum"), x.copy()
    alternative[:, 128] = np.roll(alternative[:, 128], 1, axis=-1)
    recent.RECENT.clear()
    entry.predict_on_batch(x, reuse=False)
    monkeypatch.setenv("KIPOI_BORZOI_REUSE", "0")
    plain = entry.predict_on_batch(alternative, rc=True)
    assert recent.RECENT.nbytes == 0
    monkeypatch.delenv("KIPOI_BORZOI_REUSE")
    entry.predict_on_batch(x, rc=True)
    kept = recent.RECENT.nbytes
    np.testing.assert_allclose(entry.predict_on_batch(alternative, rc=True), plain, rtol=1e-5)
    # Both replicates' windows on both strands were kept, and the alternatives, made from them, were not.
    assert recent.RECENT.nbytes == kept > 0
    recent.RECENT.clear()


def test_transform_matters_for_sums_only(files, x):
    old, new = (model(files, view="sum", transform=transform).predict_on_batch(x) for transform in ("old", "new"))
    assert not np.allclose(old, new)


def test_tracks_are_chosen_by_identifier(files, x):
    entry = model(files, view="sum")
    np.testing.assert_allclose(entry.predict_on_batch(x, tracks=["B", "A+"]), entry.predict_on_batch(x)[:, [2, 0]], rtol=1e-6)
    both_strands = entry.predict_on_batch(x, rc=True)
    np.testing.assert_allclose(entry.predict_on_batch(x, tracks=["A-"], rc=True), both_strands[:, [1]], rtol=1e-6)


def test_crop_option_overrides_the_entry(files, x):
    entry = model(files, crop=5)
    wide = entry.predict_on_batch(x, crop=0)
    np.testing.assert_allclose(entry.predict_on_batch(x), wide[:, 5:-5], rtol=1e-5, atol=1e-6)


def test_one_input_in_a_list_or_dict_is_taken(files, x):
    entry = model(files)
    expected = entry.predict_on_batch(x)
    assert np.array_equal(entry.predict_on_batch([x]), expected)
    assert np.array_equal(entry.predict_on_batch({"seq": x}), expected)


def test_activation_by_name_and_position(files, x):
    entry = model(files)
    assert entry.predict_activation_on_batch(x, "conv_dna").shape == (3, 128, 6)
    assert np.array_equal(entry.predict_activation_on_batch(x, "0"), entry.predict_activation_on_batch(x, "conv_dna"))
    with pytest.raises(InputError, match="no layer 'head'; the layers are: conv_dna"):
        entry.predict_activation_on_batch(x, "head")
    with pytest.raises(InputError, match="layer 99 does not exist"):
        entry.predict_activation_on_batch(x, 99)


def test_activation_has_the_entrys_own_crop_though_the_network_is_shared(files, x):
    first, second = model(files, crop=3), model(files, crop=9)
    assert second.predictors[0] is first.predictors[0]
    wide, narrow = (entry.predict_activation_on_batch(x, "trunk") for entry in (first, second))
    assert narrow.shape[1] == second.config.bins == first.config.bins - 12
    np.testing.assert_allclose(narrow, wide[:, 6:-6], rtol=1e-4, atol=1e-5)


def test_input_grad_predicts_small_changes(files, x, uncompiled):
    entry = model(files, view="logsum")
    soft = x[:1] * 0.9 + 0.025  # away from the ties of max pooling over one-hot input
    gradient = entry.input_grad(soft, 1)
    assert gradient.shape == (1, 256, 4)
    slope = np.linalg.norm(gradient)
    step = 0.02 * gradient / slope  # uphill, so that the change stands well above float32 rounding
    change = entry.predict_on_batch(soft + step) - entry.predict_on_batch(soft - step)
    assert slope == pytest.approx(change[0, 1] / 0.04, rel=0.02)


def test_input_grad_refuses_other_layers(files, x):
    with pytest.raises(InputError, match="own output only"):
        model(files).input_grad(x[:1], layer="trunk")


def test_missing_labels_are_filled_in_from_the_table(files):
    entry = model(files)
    entry.schema = SimpleNamespace(targets=SimpleNamespace(column_labels=None))
    assert entry.schema.targets.column_labels == ["A+", "A-", "B"]
    entry.schema = SimpleNamespace(targets=SimpleNamespace(column_labels=["x", "y", "z"]))
    assert entry.schema.targets.column_labels == ["x", "y", "z"]


def test_checksums_are_verified(files):
    good = sha256_of_file(files.weights[0])
    assert model(files, checksums={files.weights[0]: good})
    with pytest.raises(ZooError, match=f"sha256 is {good}, expected 0000"):
        model(files, checksums={files.weights[0]: "0" * 64})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"head": "yeast"}, ConfigError, "no head 'yeast'; it has: human, mouse"),
        ({"head": None}, ConfigError, "2 heads"),
        ({"head": "mouse"}, KipoiBorzoiError, "head has 2 tracks"),
        ({"view": "mean"}, InputError, "unknown view 'mean'"),
        ({"transform": "middle"}, InputError, "unknown transform 'middle'"),
        ({"weights": "nowhere.h5"}, InputError, "nowhere.h5: no such file"),
        ({"weights": []}, ZooError, "names no weights"),
        ({"crop": 1000}, ConfigError, "leaves none"),
    ],
)
def test_bad_entries_are_refused(files, options, error, message):
    with pytest.raises(error, match=message):
        model(files, **options)


def test_an_empty_batch_is_refused(files):
    with pytest.raises(InputError, match="batch is empty"):
        model(files).predict_on_batch(np.zeros((0, 256, 4)))
