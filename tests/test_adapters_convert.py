"""Calico's checkpoints become adapters: every method from unmerged files, the mergeable ones from merged files."""

import json

import h5py
import keras
import numpy as np
import pytest
from adapter_cases import adapt, targets_file
from calico_checkpoints import write_unmerged
from network_cases import borzoi_like, largest_difference, make_network

from kipoi_borzoi.adapters import params as transfer_params
from kipoi_borzoi.adapters.adapter import Scheme, with_head
from kipoi_borzoi.adapters.base import read_trunk, trunk_hash
from kipoi_borzoi.adapters.calico import read_checkpoint
from kipoi_borzoi.adapters.convert import convert, take_apart
from kipoi_borzoi.adapters.directory import load_adapter
from kipoi_borzoi.adapters.ia3 import Ia3
from kipoi_borzoi.adapters.merge import merge
from kipoi_borzoi.adapters.params import read_transfer
from kipoi_borzoi.adapters.recover import factor
from kipoi_borzoi.adapters.sites import AdapterSites, BaseWeights
from kipoi_borzoi.errors import ConfigError, InputError, KipoiBorzoiError, WeightsError
from kipoi_borzoi.network.calico_h5 import write_calico_h5
from kipoi_borzoi.network.config import NetworkConfig
from kipoi_borzoi.network.network import Network
from kipoi_borzoi.network.weights import load_weights, read_weights, save_safetensors

PARAMS = borzoi_like({"repeat": 2})
PARAMS["model"]["head"]["units"] = 2
# What the methods of METHOD_CASES are called in a transfer section; those whose settings it cannot state are left out.
TRANSFERS = {
    "full": {"mode": "full"},
    "linear": {"mode": "linear"},
    "lora": {"adapter": "lora", "adapter_latent": 3, "lora_alpha": 5},
    "lora_full": {"adapter": "lora_full", "adapter_latent": 2, "lora_alpha": 3},
    "lora_conv": {"adapter": "lora_conv", "conv_select": 2},
    "ia3": {"adapter": "ia3"},
    "locon": {"adapter": "locon", "conv_select": 2, "conv_latent": 3, "locon_alpha": 2},
    "locon all": {"adapter": "locon", "conv_select": "all", "conv_latent": 2, "locon_alpha": 3},
    "houlsby": {"adapter": "houlsby", "adapter_latent": 3},
    "houlsby_se": {"adapter": "houlsby_se", "conv_select": 2, "conv_latent": 3},
}
MERGED = ["lora", "lora_full", "lora_conv", "ia3", "locon", "locon all"]
EXACT = ["ia3", "locon", "locon all", "houlsby", "houlsby_se"]


def params_of(name):
    return {**PARAMS, "transfer": {"mode": "adapter", **TRANSFERS[name]}}


@pytest.fixture(scope="module")
def network():
    return make_network(PARAMS, dtype="float32")


@pytest.fixture(scope="module")
def weights(network):
    return dict(BaseWeights(network))


@pytest.fixture
def files(tmp_path, weights):
    """The base's file (with another head than the params) and the table of two tracks."""
    config = NetworkConfig.from_params(PARAMS)
    other = dict(weights) | {
        "head.dense.kernel": np.ones((10, 5), np.float32),
        "head.dense.bias": np.ones(5, np.float32),
    }
    write_calico_h5(tmp_path / "base.h5", other, with_head(config, 5))
    targets_file(tmp_path / "targets.txt", 2)
    return tmp_path


def trained(network, name):
    """An adapter of the method that the transfer section asks for, as if trained."""
    return adapt(network, read_transfer(params_of(name))[1], tracks=2, seed=len(name)).current()


def run(files, name, checkpoint, **options):
    arguments = {"params": params_of(name), "checkpoint": files / checkpoint, "base": files / "base.h5"}
    arguments |= {"targets": files / "targets.txt", "out": files / "adapter"}
    return convert(**(arguments | options))


@pytest.mark.parametrize("name", TRANSFERS)
def test_unmerged_checkpoints(name, network, weights, files):
    adapter = trained(network, name)
    write_unmerged(files / "model_best.h5", weights, adapter)
    conversion = run(files, name, "model_best.h5")
    stored = load_adapter(files / "adapter")
    assert conversion.report() == {
        "method": adapter.method.name, "merged": False, "gelu": "erf" if name in EXACT else "tanh", "recovered": {},
    }  # fmt: skip
    assert stored.adapter.scheme.shapes() == adapter.scheme.shapes()
    for key, value in adapter.tensors.items():
        np.testing.assert_array_equal(stored.adapter.tensors[key], value, err_msg=key)
    assert stored.base_name == "base.h5" and stored.transform == "new"
    assert stored.base_sha256 == trunk_hash(weights, adapter.config)
    assert stored.adapter.gelu == conversion.adapter.gelu


@pytest.mark.parametrize("name", MERGED)
def test_merged_checkpoints(name, network, weights, files):
    adapter = trained(network, name)
    tensors = merge(adapter, weights)
    write_calico_h5(files / "merged.h5", tensors, adapter.config)
    conversion = run(files, name, "merged.h5", transform="old", base_name="Borzoi/human/rep0")
    assert (conversion.merged, conversion.adapter.gelu) == (True, "tanh")
    assert list(conversion.recovered) == list(adapter.scheme.inserts)
    for site, found in conversion.recovered.items():
        rank = getattr(adapter.scheme.inserts[site], "rank", None)
        assert found.rank == rank and found.residual < 3e-7, site
    stored = load_adapter(files / "adapter")
    assert (stored.transform, stored.base_name) == ("old", "Borzoi/human/rep0")
    assert stored.adapter.scheme == adapter.scheme
    again = merge(stored.adapter, weights)
    for key, value in tensors.items():
        assert np.abs(again[key] - value).max() <= 3e-7 * np.abs(value).max(), key
    if name == "ia3":  # factors have one solution only
        for key, value in adapter.tensors.items():
            np.testing.assert_allclose(stored.adapter.tensors[key], value, rtol=1e-6)


def test_what_is_not_low_rank_is_kept_whole(network, weights, files):
    adapter = trained(network, "lora")
    site = "transformer_tower.1.attention.v"
    tensors = merge(adapter, weights)
    tensors[f"{site}.kernel"] = tensors[f"{site}.kernel"] + np.random.default_rng(0).normal(0, 0.1, (8, 8)).astype("f4")
    write_calico_h5(files / "merged.h5", tensors, adapter.config)
    report = run(files, "lora", "merged.h5").report()["recovered"]
    assert report[site] == {"stored": "layer", "rank": 8, "residual": 0.0}
    assert all(found["stored"] == "adapter" and found["rank"] == 3 for other, found in report.items() if other != site)
    stored = load_adapter(files / "adapter").adapter
    assert stored.scheme.replaced == (site,)
    np.testing.assert_array_equal(merge(stored, weights)[f"{site}.kernel"], tensors[f"{site}.kernel"])


def test_what_is_no_factor_is_kept_whole(network, weights, files):
    adapter = trained(network, "ia3")
    tensors = merge(adapter, weights)
    tensors["transformer_tower.0.down.kernel"][3, 2] += 0.01
    write_calico_h5(files / "merged.h5", tensors, adapter.config)
    report = run(files, "ia3", "merged.h5").report()["recovered"]
    assert [site for site, found in report.items() if found["stored"] == "layer"] == ["transformer_tower.0.down"]


def test_an_adapter_that_changed_nothing_has_rank_zero(network, weights, files):
    adapter = trained(network, "linear")
    write_calico_h5(files / "merged.h5", merge(adapter, weights), adapter.config)
    found = run(files, "lora", "merged.h5").recovered
    assert {one.rank for one in found.values()} == {0} and {one.residual for one in found.values()} == {0.0}
    tensors = load_adapter(files / "adapter").adapter.tensors
    products = {key: value for key, value in tensors.items() if "lora" in key}
    assert products and all(value.any() == ("lora_a" in key) for key, value in products.items())  # it can train on


def test_factor_finds_the_rank_and_the_product():
    random = np.random.default_rng(0)
    product = random.normal(size=(20, 3)) @ random.normal(size=(3, 7))
    left, right, found = factor(product, 5, 1e-12)
    assert (left.shape, right.shape, found) == ((20, 5), (5, 7), 3)
    np.testing.assert_allclose(left @ right, product, atol=1e-12)
    assert factor(product, 2, 1e-12)[2] == 3
    assert factor(product + random.normal(0, 1e-6, product.shape), 3, 1e-6)[2] == 3
    wide = random.normal(size=(60, 25)) @ random.normal(size=(25, 50))
    assert factor(wide, 4, 1e-12)[2] == 25 and factor(wide, 25, 1e-12)[2] == 25


def test_options_override_what_is_assumed(network, weights, files):
    write_unmerged(files / "model_best.h5", weights, trained(network, "locon"))
    assert run(files, "locon", "model_best.h5", gelu="tanh").adapter.gelu == "tanh"
    with pytest.raises(InputError, match="adapter: exists already"):
        run(files, "locon", "model_best.h5")
    run(files, "locon", "model_best.h5", replace_existing=True)
    with pytest.raises(InputError, match="gelu is 'exact'; known: auto, tanh, erf"):
        run(files, "locon", "model_best.h5", gelu="exact")
    with pytest.raises(InputError, match="unknown transform 'sqrt'"):
        run(files, "locon", "model_best.h5", transform="sqrt")


def test_ia3_by_calicos_width_rule():
    """Where the rule meets other layers than the structure, and the head too."""
    config = with_head(NetworkConfig.from_params(PARAMS), 2)
    sites = set(Scheme(Ia3(input_width=8), config).inserts)
    dense = {f"transformer_tower.{block}.up" for block in (0, 1)}
    dense |= {"unet_conv_0.dense", "unet_conv_0.skip_dense", "unet_conv_1.dense"}  # the second skip is 6 wide
    assert {site for site in sites if ".attention." not in site} == dense
    assert "head.dense" in Scheme(Ia3(input_width=10), config).inserts


@pytest.mark.parametrize("width", [8, 10])
def test_checkpoints_of_calicos_width_rule(width, network, weights, files, monkeypatch):
    monkeypatch.setattr(transfer_params, "CALICO_IA3_WIDTH", width)
    adapter = adapt(network, Ia3(input_width=width), tracks=2).current()
    write_unmerged(files / "model_best.h5", weights, adapter)
    converted = run(files, "ia3", "model_best.h5", ia3_rule="calico").adapter
    for key, value in adapter.tensors.items():
        np.testing.assert_array_equal(converted.tensors[key], value, err_msg=key)
    with pytest.raises(
        WeightsError, match="has no place in method ia3; is the transfer section that of this checkpoint"
    ):
        run(files, "ia3", "model_best.h5", out=files / "other")
    merged = merge(adapter, weights)
    write_calico_h5(files / "merged.h5", merged, adapter.config)
    again = merge(run(files, "ia3", "merged.h5", ia3_rule="calico", out=files / "third").adapter, weights)
    for key, value in merged.items():
        assert np.abs(again[key] - value).max() <= 3e-7 * np.abs(value).max(), key


# The base


def test_base_is_read_from_any_file_that_holds_it(weights, tmp_path):
    config = NetworkConfig.from_params(PARAMS)
    trunk = {name: value for name, value in weights.items() if not name.startswith("head")}
    heads = {"head_a.dense.kernel": np.ones((10, 4), np.float32), "head_a.dense.bias": np.ones(4, np.float32)}
    save_safetensors(tmp_path / "trunk.safetensors", trunk)
    save_safetensors(tmp_path / "head.safetensors", trunk | heads)
    write_calico_h5(tmp_path / "trunk.h5", trunk, config.with_heads())
    write_calico_h5(tmp_path / "head.h5", weights, config)
    for name in ("trunk.safetensors", "head.safetensors", "trunk.h5", "head.h5"):
        found = read_trunk(tmp_path / name, config)
        assert list(found) == list(trunk), name
        assert trunk_hash(found, config) == trunk_hash(weights, config)
    with pytest.raises(WeightsError, match="nothing.safetensors: no such file"):
        read_trunk(tmp_path / "nothing.safetensors", config)
    (tmp_path / "bad.safetensors").write_bytes(b"\x80\x04pickle..")
    with pytest.raises(WeightsError, match="bad.safetensors: not a whole safetensors file"):
        read_trunk(tmp_path / "bad.safetensors", config)


# Errors


def test_another_base(network, weights, files):
    write_unmerged(files / "model_best.h5", weights, trained(network, "lora"))
    other = dict(weights)
    other["res_tower.0.conv.bias"] = other["res_tower.0.conv.bias"] + np.float32(0.5)
    write_calico_h5(files / "other.h5", other, network.config)
    with pytest.raises(
        WeightsError,
        match="model_best.h5: res_tower.0.conv.bias differs by up to 0.5 from that of .*other.h5, although lora leaves",
    ):
        run(files, "lora", "model_best.h5", base=files / "other.h5")
    assert not (files / "adapter").exists()


def test_another_method(network, weights, files):
    write_unmerged(files / "lora.h5", weights, trained(network, "lora"))
    write_unmerged(files / "locon.h5", weights, trained(network, "locon"))
    write_calico_h5(files / "merged.h5", merge(trained(network, "lora_full"), weights), with_head(network.config, 2))
    with pytest.raises(
        WeightsError, match="locon.h5: conv1d_2/conv1d_2/locon_down/kernel:0 .* has no place in method lora"
    ):
        run(files, "lora", "locon.h5")
    with pytest.raises(
        WeightsError, match="lora.h5: .*lora_a.* has shape|nothing for res_tower.1.conv.locon_down.kernel"
    ):
        run(files, "locon", "lora.h5")
    with pytest.raises(WeightsError, match="lora.h5: .*has no place in method linear"):
        run(files, "linear", "lora.h5")
    with pytest.raises(WeightsError, match="holds no weights of houlsby, which cannot be merged"):
        run(files, "houlsby", "merged.h5")
    with pytest.raises(WeightsError, match="attention.k.kernel differs .* although lora leaves it as it is"):
        run(files, "lora", "merged.h5")
    with pytest.raises(WeightsError, match="has shape .* but .*lora_a.kernel needs"):
        params = params_of("lora")
        params["transfer"]["adapter_latent"] = 2
        run(files, "lora", "lora.h5", params=params)


def test_damaged_checkpoints(network, weights, files):
    write_unmerged(files / "model_best.h5", weights, trained(network, "houlsby"))

    def damaged(change):
        path = files / "damaged.h5"
        path.write_bytes((files / "model_best.h5").read_bytes())
        with h5py.File(path, "r+") as file:
            change(file["model_weights"])
        return path

    def drop(root):
        layer = root["adapter_houlsby_2"]
        layer.attrs["weight_names"] = layer.attrs["weight_names"][:-1]

    def spoil(root):
        root["adapter_houlsby/adapter_houlsby/adapter_up/bias:0"][0] = np.nan

    def extra(root):
        root.copy("adapter_houlsby", "adapter_houlsby_9")
        names = [name if isinstance(name, bytes) else name.encode() for name in root.attrs["layer_names"]]
        root.attrs["layer_names"] = [*names, b"adapter_houlsby_9"]

    for change, message in {
        drop: "nothing for transformer_tower.1.attention_output.up.bias",
        spoil: "values that are not finite",
        extra: "adapter_houlsby_9.* has no place in method houlsby",
    }.items():
        with pytest.raises(WeightsError, match=message):
            run(files, "houlsby", damaged(change))
    (files / "short.h5").write_bytes((files / "model_best.h5").read_bytes()[:20000])
    (files / "page.h5").write_text("<html></html>")
    for name in ("short.h5", "page.h5", "absent.h5"):
        with pytest.raises(KipoiBorzoiError, match=name):
            run(files, "houlsby", name)
    assert not (files / "adapter").exists()


def test_tracks_and_head_have_to_agree(network, weights, files):
    write_unmerged(files / "model_best.h5", weights, trained(network, "linear"))
    targets_file(files / "targets.txt", 3)
    with pytest.raises(
        WeightsError, match=r"dense_.*kernel has shape \(10, 2\), but head.dense.kernel needs \(10, 3\)"
    ):
        run(files, "linear", "model_best.h5")


def test_params_without_transfer(files):
    with pytest.raises(ConfigError, match="no transfer section"):
        run(files, "linear", "base.h5", params=PARAMS)


# What Calico's code recorded


@pytest.mark.parametrize(
    ("name", "kind"),
    [("lora", "unmerged"), ("locon4", "unmerged"), ("houlsby", "unmerged"), ("lora", "merged_reloaded"),
     ("locon4", "merged_reloaded")],
)  # fmt: skip
def test_reference_outputs(shared_data, tmp_path, name, kind):
    folder = shared_data / "reference" / "adapters"
    outputs = np.load(folder / "outputs.npz")
    params = json.loads((folder / "params.json").read_text())
    params["transfer"] = {"mode": "adapter", "adapter": name.removesuffix("4")}
    checkpoint = folder / f"{name}.model_best{'.h5' if kind == 'unmerged' else '.mergeW.h5'}"
    targets = targets_file(tmp_path / "targets.txt", 12)
    conversion = convert(params, checkpoint, folder / "base.h5", targets, tmp_path / "adapter")
    assert conversion.adapter.gelu == ("erf" if kind == "unmerged" and name != "lora" else "tanh")
    ranks = {found.rank for found in conversion.recovered.values()}
    assert ranks == ({"lora": {8}, "locon4": {8, 4}}[name] if conversion.merged else set())
    config = NetworkConfig.from_params(params)
    network = Network(config, initialize=False)
    load_weights(network, read_weights(folder / "base.h5", config))
    x = np.eye(5, 4, dtype=np.float32)[outputs["seq_index"]]
    stored = load_adapter(tmp_path / "adapter").adapter
    y = keras.ops.convert_to_numpy(network(x, run=AdapterSites(network, stored)))
    assert largest_difference(y, outputs[f"{name}_{kind}"]) < 1e-5
    if kind == "unmerged":
        known = np.load(folder / f"{name}.adapter_weights.npz")
        assert sum(value.size for value in stored.tensors.values()) == sum(known[key].size for key in known)
        pool = {key.rsplit("|", 1)[1]: known[key] for key in known}
        for value in stored.tensors.values():
            assert any(value.shape == other.shape and np.array_equal(value, other) for other in pool.values())


def test_checkpoint_read_apart(network, weights, files):
    adapter = trained(network, "locon all")
    write_unmerged(files / "model_best.h5", weights, adapter)
    checkpoint = read_checkpoint(files / "model_best.h5", adapter.scheme)
    assert set(checkpoint.inserts) == set(adapter.scheme.insert_shapes())
    np.testing.assert_array_equal(checkpoint.network["conv_dna.conv.kernel"], adapter.tensors["conv_dna.conv.kernel"])
    assert take_apart(checkpoint, adapter.scheme, weights).adapter.scheme == adapter.scheme
