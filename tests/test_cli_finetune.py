"""`kipoi-borzoi finetune` as a user runs it, from a store on disk to an adapter that predicts."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from network_cases import borzoi_like
from training_cases import MemoryStore, small_network

from kipoi_borzoi.adapters.directory import load_adapter
from kipoi_borzoi.cli import main
from kipoi_borzoi.network.config import NetworkConfig
from kipoi_borzoi.network.network import named_weights
from kipoi_borzoi.network.weights import save_safetensors
from kipoi_borzoi.training.store import Layout, StoreWriter

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="training needs TensorFlow")
TRAIN = {"optimizer": "adam", "loss": "poisson_mn", "batch_size": 2, "learning_rate": 0.01, "train_epochs_max": 2, "patience": 3}


def write_store(path, config, **changes):
    memory = MemoryStore(config)
    layout = Layout(
        memory.tracks, changes.get("transform", "new"), memory.seq_length, memory.crop_bp, memory.bin_size,
        [memory.interval(i) for i in range(len(memory))], [memory.folds[fold] for fold in memory._fold],
    )  # fmt: skip
    with StoreWriter(path, layout) as writer:
        for i in range(len(memory)):
            writer.append(memory.sequence(i), memory.targets(i))
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with params.json, base.safetensors, store/ and old/, a store of the other transform."""
    folder = tmp_path_factory.mktemp("lab")
    params = borzoi_like(head={"name": "final", "units": 2, "activation": "softplus"})
    network = small_network(NetworkConfig.from_params(params))
    params |= {"train": TRAIN, "transfer": {"mode": "linear"}}
    (folder / "params.json").write_text(json.dumps(params))
    tensors = {name: keras.ops.convert_to_numpy(v.value) for name, v in named_weights(network).items()}
    save_safetensors(folder / "base.safetensors", tensors)
    write_store(folder / "store", network.config)
    write_store(folder / "old", network.config, transform="old")
    return folder


def command(place, out, *options, base=True, data="store"):
    words = ["finetune", "--data", str(place / data), "--out", str(out), *options]
    return words + (["--base", str(place / "base.safetensors")] if base else [])


def test_from_a_store_to_an_adapter(place, tmp_path, capsys, monkeypatch, uncompiled):
    monkeypatch.chdir(tmp_path)
    params = ["--params", str(place / "params.json")]
    assert main(command(place, "run", *params, "--method", "ia3", "--epochs-max", "1", "--base-name", "lab/base")) == 0
    said = capsys.readouterr().out
    summary = json.loads(Path("run/summary.json").read_text())
    assert said.startswith(f"epoch 1 of 1 was the best: validation loss {summary['valid_loss']:.4f}, r ")
    assert "run/adapter is ready: kipoi-borzoi zoo publish run/adapter NAME" in said
    stored = load_adapter("run/adapter")
    assert stored.training == summary and stored.base_name == "lab/base" and stored.adapter.method.name == "ia3"
    assert summary["learning_rate"] == 0.01 and summary["train_folds"] == "train"
    assert main(command(place, "run", *params, "--method", "ia3", "--epochs-max", "1", "--base-name", "lab/base")) == 0
    assert capsys.readouterr().out == said


def test_from_scratch(place, tmp_path, capsys, uncompiled):
    words = command(place, tmp_path / "run", "--params", str(place / "params.json"), "--from-scratch", "--epochs-max", "1", base=False)
    assert main(words) == 0
    assert {path.name for path in (tmp_path / "run" / "base").iterdir()} == {"weights.safetensors", "params.json", "targets.txt"}


@pytest.mark.parametrize(
    ("options", "changes", "message"),
    [
        ([], {}, "give Calico's params.json with --params"),
        (["--params", "P"], {"base": False}, "give one of --base and --from-scratch"),
        (["--params", "P", "--from-scratch"], {}, "give one of --base and --from-scratch"),
        (["--params", "P", "--method", "lokon"], {}, "unknown method 'lokon'"),
        (["--params", "P", "--config", "absent.yaml"], {}, "absent.yaml: cannot be read"),
        (["--params", "P", "--train", "fold9"], {}, "no fold 'fold9'; its folds: train, valid, test"),
        (["--params", "P", "--tracks", "t7"], {}, "t7"),
        (["--params", "P", "--base-transform", "new"], {"data": "old"}, "trained with the new transform"),
        (["--params", "P"], {"data": "absent"}, "absent"),
        (["--params", "P", "--batch-size", "99"], {}, "fewer than one batch of 99"),
        (["--params", "P", "--devices", "3"], {}, "devices is 3, but TensorFlow sees"),
        (["--params", "P", "--cache-trunk"], {}, "off"),
    ],
)
def test_bad_input_is_one_line(options, changes, message, place, tmp_path, capsys):
    options = [str(place / "params.json") if option == "P" else option for option in options]
    assert main(command(place, tmp_path / "run", *options, **changes)) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(errors) == 1 and message in errors[0] and "fault of the program" not in errors[0]
    assert not (tmp_path / "run").exists()


def test_weights_of_another_network_are_refused(place, tmp_path, capsys):
    save_safetensors(tmp_path / "other.safetensors", {"conv_dna.conv.kernel": np.zeros((5, 4, 6), dtype=np.float32)})
    words = command(place, tmp_path / "run", "--params", str(place / "params.json"), base=False)
    assert main([*words, "--base", str(tmp_path / "other.safetensors")]) == 1
    assert "missing" in capsys.readouterr().err and not (tmp_path / "run").exists()
