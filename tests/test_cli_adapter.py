"""`kipoi-borzoi adapter`: one JSON object on standard output, one line for an error."""

import json
import logging

import numpy as np
import pytest
from adapter_cases import METHOD_CASES, adapt, targets_file
from calico_checkpoints import write_unmerged
from network_cases import borzoi_like, make_network

from kipoi_borzoi.adapters.merge import merge
from kipoi_borzoi.adapters.sites import BaseWeights
from kipoi_borzoi.cli import main
from kipoi_borzoi.network.calico_h5 import write_calico_h5
from kipoi_borzoi.network.weights import read_weights, save_safetensors

PARAMS = borzoi_like()


@pytest.fixture(scope="module")
def network():
    return make_network(PARAMS, dtype="float32")


@pytest.fixture
def files(network, tmp_path, monkeypatch):
    """base.h5, params.json and targets.txt, in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    write_calico_h5("base.h5", dict(BaseWeights(network)), network.config)
    transfer = {"mode": "adapter", "adapter": "locon", "conv_select": 2, "conv_latent": 3, "locon_alpha": 2}
    (tmp_path / "params.json").write_text(json.dumps({**PARAMS, "transfer": transfer}))
    targets_file(tmp_path / "targets.txt", 3)
    return tmp_path


CONVERT = ["adapter", "convert", "--base", "base.h5", "--params", "params.json", "--checkpoint", "model_best.h5",
           "--targets", "targets.txt", "--out", "mine"]  # fmt: skip


def locon(network):
    method = type(METHOD_CASES["locon"])(conv_select=2, rank=3, alpha=2)
    return adapt(network, method, tracks=3).current()


def checkpoint(network):
    adapter = locon(network)
    write_unmerged("model_best.h5", dict(BaseWeights(network)), adapter)
    return adapter


def test_plan_prints_one_object(files, capsys):
    assert main(["adapter", "plan", "--params", "params.json"]) == 0
    counts = json.loads(capsys.readouterr().out)
    # LoRA 2 x 8 x 16, convolutions 3 x (18 + 8) and 3 x (8 + 10), head 33
    assert counts["trainable"] == 256 + 78 + 54 + 33
    assert list(counts) == ["method", "trainable", "frozen", "head", "total", "adapter_bytes"]
    assert counts["trainable"] + counts["frozen"] == counts["total"] and counts["adapter_bytes"] == 4 * 421
    assert main(["adapter", "plan", "--params", "params.json", "--tracks", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["head"] == 11


def test_plan_needs_no_keras(files):
    import subprocess
    import sys

    code = (
        "import sys; from kipoi_borzoi.cli import main; main(['adapter', 'plan', '--params', 'params.json']);"
        " sys.exit(any(name in sys.modules for name in ('keras', 'tensorflow', 'kipoi')))"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0


def test_convert_then_merge(files, network, capsys, caplog):
    adapter = checkpoint(network)
    assert main(CONVERT) == 0
    out = capsys.readouterr()
    assert json.loads(out.out) == {"method": "locon", "merged": False, "gelu": "erf", "recovered": {}}
    expected = merge(adapter, BaseWeights(network))
    for name in ("merged.h5", "merged.safetensors"):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "kipoi_borzoi"):
            assert main(["adapter", "merge", "mine", "--out", name]) == 0  # the base is where the adapter says
        report = json.loads(capsys.readouterr().out)
        assert (report["method"], report["out"], report["tracks"], report["gelu"]) == ("locon", name, 3, "erf")
        assert "trained with the exact GELU" in caplog.text
        for key, value in read_weights(name, adapter.config):
            np.testing.assert_array_equal(value, expected[key])


def test_convert_merged(files, network, capsys):
    adapter = locon(network)
    write_calico_h5("model_best.h5", merge(adapter, BaseWeights(network)), adapter.config)
    assert main([*CONVERT, "--base-name", "Borzoi/human/rep0"]) == 0
    out = capsys.readouterr()
    report = json.loads(out.out)
    attention = "transformer_tower.0.attention"
    ranks = {f"{attention}.q": 8, f"{attention}.v": 8, "res_tower.1.conv": 3, "conv_nac.conv": 3}
    assert (report["merged"], {site: found["rank"] for site, found in report["recovered"].items()}) == (True, ranks)
    assert "kept whole" not in out.err
    assert (
        json.loads((files / "mine" / "adapter_config.json").read_text())["base_model_name_or_path"]
        == "Borzoi/human/rep0"
    )


def test_whole_layers_are_said(files, network, capsys):
    adapter = locon(network)
    tensors = merge(adapter, BaseWeights(network))
    kernel = tensors["conv_nac.conv.kernel"]
    tensors["conv_nac.conv.kernel"] = kernel + np.random.default_rng(0).normal(size=kernel.shape).astype(np.float32)
    write_calico_h5("model_best.h5", tensors, adapter.config)
    assert main(CONVERT) == 0
    out = capsys.readouterr()
    assert "1 merged layers differ" in out.err and "kept whole: conv_nac.conv" in out.err
    assert json.loads(out.out)["recovered"]["conv_nac.conv"] == {"stored": "layer", "rank": 8, "residual": 0.0}


def error_of(arguments, capsys):
    assert main(arguments) == 1
    out = capsys.readouterr()
    assert not out.out and out.err.count("kipoi-borzoi: error: ") == 1 and "Traceback" not in out.err
    return out.err


def test_errors_are_one_line(files, network, capsys, tmp_path):
    checkpoint(network)
    assert main(CONVERT) == 0
    capsys.readouterr()
    assert "mine: exists already; choose another name" in error_of(CONVERT, capsys)
    assert main([*CONVERT, "--replace"]) == 0
    capsys.readouterr()
    merge_to = ["adapter", "merge", "mine", "--out"]
    assert "merged.bin: the suffix says the format" in error_of([*merge_to, "merged.bin"], capsys)
    assert "absent: no such adapter directory" in error_of(["adapter", "merge", "absent", "--out", "m.h5"], capsys)
    save_safetensors("other.safetensors", {name: value + np.float32(1) for name, value in BaseWeights(network).items()})
    wrong = error_of([*merge_to, "m.h5", "--base", "other.safetensors"], capsys)
    assert "trained on the base 'base.h5'" in wrong and "other.safetensors' (sha256" in wrong
    assert "no entry 'Borzoi/nobody'" in error_of([*merge_to, "m.h5", "--base", "Borzoi/nobody"], capsys)
    ensemble = error_of([*merge_to, "m.h5", "--base", "Borzoi/human/ensemble"], capsys)
    assert "'Borzoi/human/ensemble' is an ensemble of 4 networks; an adapter has one base" in ensemble
    assert "m.h5: cannot be written" in error_of([*merge_to, "nowhere/m.h5"], capsys)
    (tmp_path / "base.h5").rename("moved.h5")
    assert "its base 'base.h5' was not found" in error_of([*merge_to, "m.h5"], capsys)
    assert "transfer: unknown setting" in plan_error({"rank": 8}, capsys)
    assert not (tmp_path / "m.h5").exists()


def plan_error(transfer, capsys):
    with open("bad.json", "w") as file:
        json.dump({**PARAMS, "transfer": transfer}, file)
    return error_of(["adapter", "plan", "--params", "bad.json"], capsys)


def test_what_cannot_be_merged(files, network, capsys):
    (files / "params.json").write_text(
        json.dumps({**PARAMS, "transfer": {"mode": "adapter", "adapter": "houlsby", "adapter_latent": 3}})
    )
    write_unmerged(
        "model_best.h5", dict(BaseWeights(network)), adapt(network, METHOD_CASES["houlsby"], tracks=3).current()
    )
    assert main(CONVERT) == 0
    capsys.readouterr()
    message = error_of(["adapter", "merge", "mine", "--out", "m.h5"], capsys)
    assert "mine: houlsby cannot be merged: its bottlenecks put a ReLU between layers" in message
