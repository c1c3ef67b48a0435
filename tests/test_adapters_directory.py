"""Adapter directories: saved and loaded alike, written whole or not at all, refused when anything in them is off."""

import json
import os
import pickle
import struct

import numpy as np
import pytest
from adapter_cases import METHOD_CASES, adapt, targets_file
from network_cases import borzoi_like, make_network
from safetensors.numpy import load_file, save_file

from kipoi_borzoi.adapters import directory
from kipoi_borzoi.adapters.adapter import Adapter
from kipoi_borzoi.adapters.base import trunk_hash
from kipoi_borzoi.adapters.directory import check_base, load_adapter, save_adapter
from kipoi_borzoi.adapters.sites import BaseWeights
from kipoi_borzoi.errors import ConfigError, InputError, KipoiBorzoiError, WeightsError
from kipoi_borzoi.network.weights import content_hash

SHA256 = "0123456789abcdef" * 4


@pytest.fixture(scope="module")
def network():
    return make_network(borzoi_like(), dtype="float32")


@pytest.fixture
def targets(tmp_path):
    return targets_file(tmp_path / "tracks.txt", 2)


@pytest.fixture
def saved(network, targets, tmp_path):
    adapter = adapt(network, METHOD_CASES["lora"], tracks=2).current()
    save_adapter(tmp_path / "adapter", adapter, targets, "Borzoi/human/rep0", SHA256, "new", {"epochs": 3, "r": 0.75})
    return tmp_path / "adapter"


@pytest.mark.parametrize("name", METHOD_CASES)
def test_round_trip(name, network, targets, tmp_path):
    adapter = adapt(network, METHOD_CASES[name], tracks=2, gelu="erf").current()
    save_adapter(tmp_path / "a", adapter, targets, "base", SHA256, "old")
    stored = load_adapter(tmp_path / "a")
    assert stored.adapter.scheme == adapter.scheme and stored.adapter.method == METHOD_CASES[name]
    assert (stored.adapter.gelu, stored.base_name, stored.base_sha256) == ("erf", "base", SHA256)
    assert (stored.transform, stored.training, stored.tracks.identifiers) == ("old", None, ("track0", "track1"))
    assert list(stored.adapter.tensors) == list(adapter.tensors)
    for key, value in adapter.tensors.items():
        np.testing.assert_array_equal(stored.adapter.tensors[key], value)
    assert (tmp_path / "a" / "targets.txt").read_bytes() == targets.read_bytes()
    assert sorted(os.listdir(tmp_path / "a")) == [
        "README.md", "adapter_config.json", "adapter_model.safetensors", "targets.txt",
    ]  # fmt: skip


def test_config_is_in_pefts_convention(saved, network):
    config = json.loads((saved / "adapter_config.json").read_text())
    attention = "transformer_tower.0.attention"
    ours = config.pop("kipoi_borzoi")
    assert config == {
        "peft_type": "LORA",
        "base_model_name_or_path": "Borzoi/human/rep0",
        "r": 3,
        "lora_alpha": 5,
        "target_modules": [f"{attention}.q", f"{attention}.v"],
        "modules_to_save": ["head.dense"],
    }
    assert ours["method"] == {"name": "lora", "rank": 3, "alpha": 5}
    assert (ours["base_sha256"], ours["seq_length"], ours["crop"], ours["gelu"]) == (SHA256, 256, 3, "tanh")
    assert ours["training"] == {"epochs": 3, "r": 0.75}
    names = set(load_file(saved / "adapter_model.safetensors"))
    assert names == {f"{attention}.{part}.lora_{side}.kernel" for part in "qv" for side in "ab"} | {
        "head.dense.kernel",
        "head.dense.bias",
    }


def test_card_tells_what_the_config_does(saved):
    card = (saved / "README.md").read_text()
    for text in ("# 2 tracks on Borzoi/human/rep0", SHA256, "name lora, rank 3, alpha 5", "256 bp, 3 bins cropped",
                 "new transform", "- track1: RNA: tissue 1", "| epochs | 3 |"):  # fmt: skip
        assert text in card
    assert card.startswith("---\nlibrary_name: kipoi-borzoi\n")


def test_card_keeps_markup_in_names_harmless(network, tmp_path):
    table = targets_file(tmp_path / "tracks.txt", 2)
    table.write_text(table.read_text().replace("tissue 1", "a | <b> `c`"))
    save_adapter(
        tmp_path / "a", adapt(network, METHOD_CASES["linear"], tracks=2).current(), table, "x|y", SHA256, "new"
    )
    card = (tmp_path / "a" / "README.md").read_text()
    assert "a \\| \\<b> \\`c\\`" in card and "| base | x\\|y |" in card


def test_files_can_be_read_by_whoever_may_read_the_directory(saved):
    modes = {path.name: path.stat().st_mode & 0o777 for path in saved.iterdir()}
    assert len(set(modes.values())) == 1, modes


# The base


def test_hash_is_of_the_trunks_contents(network):
    weights = dict(BaseWeights(network))
    sha256 = trunk_hash(weights, network.config)
    assert sha256 == trunk_hash(dict(reversed(weights.items())), network.config.with_heads())
    trunk = {name: value for name, value in weights.items() if not name.startswith("head")}
    assert sha256 == content_hash(trunk) != content_hash(weights)
    changed = {**trunk, "conv_dna.conv.bias": np.nextafter(trunk["conv_dna.conv.bias"], np.float32(9))}
    assert content_hash(changed) != sha256
    flat = {**trunk, "conv_nac.conv.kernel": trunk["conv_nac.conv.kernel"].reshape(8, 1, 10)}
    assert content_hash(flat) != sha256
    import hashlib

    assert (
        content_hash({"b": np.array([1, 2], "<f4"), "a": np.float32([[3]])})
        == hashlib.sha256(b"a [1, 1]\n\x00\x00\x40\x40b [2]\n\x00\x00\x80\x3f\x00\x00\x00\x40").hexdigest()
    )


def test_wrong_base_names_both(saved):
    stored = load_adapter(saved)
    check_base(saved, stored, SHA256, "Borzoi/human/rep0")
    with pytest.raises(WeightsError) as error:
        check_base(saved, stored, "f" * 64, "Borzoi/human/rep1")
    for text in (str(saved), "'Borzoi/human/rep0'", SHA256, "'Borzoi/human/rep1'", "f" * 64):
        assert text in str(error.value)


# Writing


def test_nothing_is_overwritten_unless_asked(saved, network, targets, tmp_path):
    adapter = adapt(network, METHOD_CASES["linear"], tracks=2).current()
    with pytest.raises(InputError, match="adapter: exists already; choose another name, or ask for it to be replaced"):
        save_adapter(saved, adapter, targets, "base", SHA256, "new")
    assert load_adapter(saved).adapter.method.name == "lora"
    save_adapter(saved, adapter, targets, "base", SHA256, "new", replace=True)
    assert load_adapter(saved).adapter.method.name == "linear"
    other = tmp_path / "mine"
    other.mkdir()
    with pytest.raises(InputError, match="mine: exists already; choose another name$"):
        save_adapter(other, adapter, targets, "base", SHA256, "new", replace=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "mine", "tracks.txt"]


def test_failure_leaves_what_was_there(saved, network, targets, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(directory, "model_card", full)
    adapter = adapt(network, METHOD_CASES["linear"], tracks=2).current()
    for target in (saved, tmp_path / "new"):
        with pytest.raises(OSError, match="No space"):
            save_adapter(target, adapter, targets, "base", SHA256, "new", replace=True)
    assert load_adapter(saved).adapter.method.name == "lora"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "tracks.txt"]


def test_what_does_not_fit_is_not_written(network, tmp_path):
    adapter = adapt(network, METHOD_CASES["linear"], tracks=2).current()
    with pytest.raises(InputError, match="3 tracks, but the head has 2|out of range"):
        save_adapter(tmp_path / "a", adapter, targets_file(tmp_path / "t", 3), "base", SHA256, "new")
    with pytest.raises(InputError, match="unknown transform 'sqrt'"):
        save_adapter(tmp_path / "a", adapter, targets_file(tmp_path / "t", 2), "base", SHA256, "sqrt")
    with pytest.raises(InputError, match="nowhere/a: cannot be written"):
        save_adapter(tmp_path / "nowhere" / "a", adapter, tmp_path / "t", "base", SHA256, "new")
    assert not (tmp_path / "a").exists()


# Reading what is damaged


def edit_config(folder, change):
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def edit_tensors(folder, change):
    path = folder / "adapter_model.safetensors"
    tensors = dict(load_file(path))
    change(tensors)
    save_file(tensors, path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(task_type="X"), "unknown key 'task_type'; known: peft_type"),
        (lambda c: c.pop("r"), "the key 'r' is missing"),
        (lambda c: c["kipoi_borzoi"].update(dropout=0), "unknown key 'kipoi_borzoi.dropout'"),
        (lambda c: c["kipoi_borzoi"].pop("gelu"), "the key 'kipoi_borzoi.gelu' is missing"),
        (lambda c: c.update(kipoi_borzoi=[]), "kipoi_borzoi is a list"),
        (lambda c: c["kipoi_borzoi"].update(format=2), "format 2 is not known to this version"),
        (lambda c: c["kipoi_borzoi"]["method"].update(name="dora"), "unknown method 'dora'; known: full"),
        (lambda c: c["kipoi_borzoi"]["method"].update(r=8), "lora: unknown setting 'r'"),
        (lambda c: c["kipoi_borzoi"].update(method="lora"), "method is 'lora', expected an object"),
        (lambda c: c["kipoi_borzoi"].update(gelu="relu"), "gelu is 'relu'; known: tanh, erf"),
        (lambda c: c["kipoi_borzoi"].update(transform="sqrt"), "unknown transform 'sqrt'"),
        (
            lambda c: c["kipoi_borzoi"].update(base_sha256="12ab"),
            "base_sha256 is '12ab', expected 64 hexadecimal digits",
        ),
        (lambda c: c.update(base_model_name_or_path=None), "base_model_name_or_path is None"),
        (lambda c: c["kipoi_borzoi"].update(training=3), "training is a int, expected an object or null"),
        (lambda c: c["kipoi_borzoi"].update(replaced=["x.conv"]), "the network has no layer x.conv"),
        (lambda c: c["kipoi_borzoi"].update(replaced=[1]), r"replaced is \[1\]"),
        (lambda c: c["kipoi_borzoi"].update(model=1), "model is 1, expected an object"),
        (lambda c: c["kipoi_borzoi"]["model"].pop("trunk"), "params: the model section has no 'trunk'"),
        (lambda c: c.update(r=4), "r is 4, but the method and the model make it 3"),
        (lambda c: c.update(target_modules=[]), r"target_modules is \[\], but"),
        (
            lambda c: c["kipoi_borzoi"].update(seq_length=512),
            "seq_length is 512, but the method and the model make it 256",
        ),
        (lambda c: c["kipoi_borzoi"]["counts"].update(head=1), "counts is .*'head': 1"),
    ],
)
def test_bad_config(saved, change, message):
    edit_config(saved, change)
    with pytest.raises(ConfigError, match=f"adapter_config.json: {message}"):
        load_adapter(saved)


def test_duplicate_keys_and_no_json(saved):
    path = saved / "adapter_config.json"
    text = path.read_text()
    path.write_text(text.replace('"r": 3,', '"r": 3, "r": 3,'))
    with pytest.raises(ConfigError, match="the key 'r' appears twice"):
        load_adapter(saved)
    path.write_text(text[:100])
    with pytest.raises(ConfigError, match="adapter_config.json: not JSON"):
        load_adapter(saved)
    path.unlink()
    with pytest.raises(ConfigError, match="adapter_config.json: cannot be read .*expected the config of an adapter"):
        load_adapter(saved)
    with pytest.raises(InputError, match="no such adapter directory"):
        load_adapter(saved / "missing")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("head.dense.bias"), "head.dense.bias is missing"),
        (lambda t: t.update(extra=np.zeros(1, np.float32)), "extra is not part of"),
        (
            lambda t: t.update({"head.dense.bias": np.zeros(3, np.float32)}),
            r"head.dense.bias has shape \(3,\), expected \(2,\)",
        ),
        (lambda t: t.update({"head.dense.bias": np.zeros(2, np.float16)}), "head.dense.bias is of type F16"),
        (
            lambda t: t.update({"head.dense.bias": np.float32([0, np.nan])}),
            "head.dense.bias has values that are not finite",
        ),
        (
            lambda t: t.update({"head.dense.bias": np.float32([0, np.inf])}),
            "head.dense.bias has values that are not finite",
        ),
    ],
)
def test_bad_tensors(saved, change, message):
    edit_tensors(saved, change)
    with pytest.raises(WeightsError, match=f"adapter_model.safetensors: {message}"):
        load_adapter(saved)


class _Harmful:
    def __reduce__(self):
        return os.mkdir, ("harm",)


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(_Harmful()),
        struct.pack("<Q", 1 << 40) + b"{}",  # a header that claims a terabyte
        struct.pack("<Q", 2) + b"[]",
        b"",
        b"<html>not found</html>",
    ],
    ids=["pickle", "oversized header", "no object", "empty", "html"],
)
def test_files_that_are_no_safetensors(saved, content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (saved / "adapter_model.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match="adapter_model.safetensors: not a whole safetensors file"):
        load_adapter(saved)
    assert not (tmp_path / "harm").exists()


def test_truncated_tensors(saved):
    path = saved / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        load_adapter(saved)
    path.unlink()
    with pytest.raises(WeightsError, match="no such file"):
        load_adapter(saved)


def test_tracks_of_another_head(saved):
    targets_file(saved / "targets.txt", 1)
    with pytest.raises(InputError, match="lists 1 tracks, but the head has 2"):
        load_adapter(saved)


def test_every_error_is_one_of_ours(saved):
    for damage in (
        lambda: (saved / "targets.txt").unlink(),
        lambda: (saved / "adapter_config.json").write_bytes(b"\xff"),
    ):
        damage()
        with pytest.raises(KipoiBorzoiError):
            load_adapter(saved)


def test_replaced_layers_are_kept(network, targets, tmp_path):
    adapter = adapt(network, METHOD_CASES["lora"], tracks=2).current()
    site = "transformer_tower.0.attention.q"
    scheme = type(adapter.scheme)(adapter.method, adapter.config, (site,))
    tensors = {name: value for name, value in adapter.tensors.items() if not name.startswith(site)}
    tensors[f"{site}.kernel"] = np.ones((8, 8), np.float32)
    save_adapter(tmp_path / "a", Adapter(scheme, tensors), targets, "base", SHA256, "new")
    stored = load_adapter(tmp_path / "a")
    assert stored.adapter.scheme.replaced == (site,) and list(stored.adapter.scheme.inserts) == [site[:-1] + "v"]
    np.testing.assert_array_equal(stored.adapter.tensors[f"{site}.kernel"], 1)
