"""A run as a whole: it learns, ends when it should, and after any kill goes on to where it would have come."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import yaml
from training_cases import MemoryStore, small_config, small_network, some_tracks

from kipoi_borzoi.adapters.directory import load_adapter
from kipoi_borzoi.adapters.registry import METHODS
from kipoi_borzoi.errors import ConfigError, InputError, KipoiBorzoiError, TrainingError
from kipoi_borzoi.network.config import NetworkConfig
from kipoi_borzoi.network.network import named_weights
from kipoi_borzoi.network.schema import weight_shapes
from kipoi_borzoi.network.weights import load_safetensors, save_safetensors
from kipoi_borzoi.tracks import read_tracks
from kipoi_borzoi.training import examples, fit
from kipoi_borzoi.training.config import RunConfig
from kipoi_borzoi.training.finetune import Base, finetune, fitted, train_base

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="training needs TensorFlow")
QUICK = {"learning_rate": 0.01, "warmup_steps": 0, "epochs_min": 1, "global_clipnorm": 1.0, "batch_size": 2}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    path = tmp_path_factory.mktemp("base") / "base.safetensors"
    network = small_network()
    save_safetensors(path, {name: keras.ops.convert_to_numpy(v.value) for name, v in named_weights(network).items()})
    return Base("lab/base", network.config, path, "new")


@pytest.fixture(scope="module")
def store(base):
    return MemoryStore(base.config)


def settings(method, **others):
    small = {"locon": {"conv_select": 2, "lora_rank": 2}, "houlsby_se": {"conv_select": 2}, "lora_conv": {"conv_select": 1}}
    small |= dict.fromkeys(["lora", "lora_full"], {"rank": 2})
    return RunConfig(**{"method": method, "settings": small.get(method, {}), "epochs_max": 2, **QUICK, **others})


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_learns_and_is_written(method, base, store, tmp_path, uncompiled):
    summary = finetune(base, store, tmp_path / "run", settings(method, epochs_max=3, dropout=False))
    losses = [float(row["train_loss"]) for row in rows(tmp_path / "run" / "epochs.csv")]
    assert losses[-1] < losses[0] and len(losses) == 3 == summary["epochs"]
    stored = load_adapter(tmp_path / "run" / "adapter")
    assert stored.adapter.method.name == method and stored.base_name == "lab/base" and stored.training == summary
    assert list(stored.tracks.identifiers) == ["t0", "t1"]
    written = yaml.safe_load((tmp_path / "run" / "run.yaml").read_text())
    assert written["method"] == method and written["learning_rate"] == 0.01 and written["train"] == ["train"]
    assert written["settings"] == stored.adapter.method.settings()


def test_the_adapter_is_the_best_epochs(base, store, tmp_path, uncompiled, monkeypatch):
    scores = iter([0.5, 0.7, 0.6, 0.65, 0.2, 0.1])
    monkeypatch.setattr(fit.RunningAccuracy, "mean", lambda self: (next(scores), 0.0))
    config = settings("linear", epochs_max=20, patience=2)
    summary = finetune(base, store, tmp_path / "run", config)
    # Best after epoch 2; epochs 3, 4 and 5 do not improve, more than the patience of 2.
    assert summary["best_epoch"] == 2 and summary["epochs"] == 5 and summary["valid_r"] == 0.7
    tensors = load_adapter(tmp_path / "run" / "adapter").adapter.tensors
    monkeypatch.setattr(fit.RunningAccuracy, "mean", lambda self: (0.0, 0.0))
    finetune(base, store, tmp_path / "two", settings("linear", epochs_max=2, epochs_min=2))
    from safetensors.numpy import load_file

    last = load_file(tmp_path / "two" / "checkpoints" / "last.safetensors")
    for name, value in tensors.items():
        np.testing.assert_array_equal(value, last[f"weights/{name}"])


def test_an_epoch_goes_through_every_example_once(store):
    batches = examples.Batches(store, store.indices("train"), 5, 3, examples.Augmentation(False, 0))
    seen = [batch.indices for batch in batches(0)]
    assert [len(chosen) for chosen in seen] == [5, 5] and len(set(np.concatenate(seen))) == 10
    again = [batch.indices for batch in batches(0, 1)]
    np.testing.assert_array_equal(again[0], seen[1])
    assert not np.array_equal(next(iter(batches(1))).indices, seen[0])


def test_augmentation_turns_targets_round_with_their_strands():
    tracks = some_tracks(3, [1, 0, 2])
    x = np.zeros((1, 6, 4), dtype=np.float32)
    x[0, np.arange(6), [0, 1, 2, 3, 0, 0]] = 1  # ACGTAA
    y = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    turned, targets = examples.augmented(x, y, 1, True, tracks.pair_rows())
    # Moved right: NACGTA; reverse complement: TACGTN.
    assert turned[0].argmax(axis=-1).tolist()[:5] == [3, 0, 1, 2, 3] and not turned[0, 5].any()
    assert targets[0].tolist() == [[4, 3, 5], [1, 0, 2]]
    draws = {examples.Augmentation(True, 2).draw(0, number) for number in range(200)}
    assert draws == {(by, reverse) for by in range(-2, 3) for reverse in (False, True)}
    assert {examples.Augmentation(False, 0).draw(0, number) for number in range(20)} == {(0, False)}


def test_a_reading_error_is_raised_and_the_thread_ends(store):
    class Broken(MemoryStore):
        def targets(self, i, tracks=None):
            raise InputError("example damaged")

    broken = Broken(small_config())
    batches = examples.Batches(broken, broken.indices("train"), 2, 0, examples.Augmentation())
    with pytest.raises(InputError, match="damaged"):
        list(batches(0))
    import threading

    assert not [thread for thread in threading.enumerate() if thread.name == "read ahead"]


def test_accumulated_batches_are_one_large_batch(base, store, tmp_path, uncompiled):
    options = {"dropout": False, "augment_rc": False, "augment_shift": 0, "epochs_max": 1}
    finetune(base, store, tmp_path / "one", settings("lora", batch_size=4, **options))
    finetune(base, store, tmp_path / "two", settings("lora", **{**options, "accumulate": 2}))
    one, two = (rows(tmp_path / name / "steps.csv") for name in ("one", "two"))
    assert len(one) == len(two) == 3
    for a, b in zip(one, two, strict=True):
        assert float(a["loss"]) == pytest.approx(float(b["loss"]), rel=1e-4)
        assert float(a["gradient_norm"]) == pytest.approx(float(b["gradient_norm"]), rel=1e-3)


def test_a_cached_trunk_gives_the_same_run(base, store, tmp_path, uncompiled):
    options = {"dropout": False, "augment_rc": False, "augment_shift": 0, "epochs_max": 2}
    finetune(base, store, tmp_path / "plain", settings("linear", **options))
    finetune(base, store, tmp_path / "cached", settings("linear", cache_trunk=True, **options))
    plain, cached = (rows(tmp_path / name / "epochs.csv") for name in ("plain", "cached"))
    for a, b in zip(plain, cached, strict=True):
        for key in ("train_loss", "valid_loss", "valid_r"):
            assert float(a[key]) == pytest.approx(float(b[key]), rel=1e-5)
    assert not (tmp_path / "cached" / "trunk_cache.npy").exists()


def test_a_loss_that_is_not_finite_is_an_error(base, tmp_path, uncompiled):
    broken = MemoryStore(base.config)
    broken._y[broken.indices("train")[3]] = np.nan
    with pytest.raises(TrainingError, match=r"the loss is nan at step \d"):
        finetune(base, broken, tmp_path / "run", settings("linear"))
    assert not (tmp_path / "run" / "adapter").exists()


PROGRAM = """
import os, sys, time
sys.path.insert(0, {tests!r})
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np
from kipoi_borzoi.training import fit
from kipoi_borzoi.training.finetune import Base, finetune
from kipoi_borzoi.training.config import RunConfig
from training_cases import MemoryStore, small_config
config = small_config()
slow = float(sys.argv[2])
optimize = fit.Trainer._optimize
def slowly(self, batches):
    time.sleep(slow)
    return optimize(self, batches)
fit.Trainer._optimize = slowly
finetune(Base("lab/base", config, {weights!r}, "new"), MemoryStore(config), sys.argv[1], RunConfig(**{settings!r}))
"""


def test_a_killed_run_goes_on_to_the_same_weights(base, tmp_path):
    config = {"method": "locon", "settings": {"conv_select": 2, "lora_rank": 2}, "epochs_max": 3, **QUICK, "save_minutes": 0.0}
    program = PROGRAM.format(tests=str(Path(__file__).parent), weights=str(base.weights), settings=config)

    def start(out, slow=0.0):
        return subprocess.Popen([sys.executable, "-c", program, str(out), str(slow)], stderr=subprocess.PIPE)

    whole = start(tmp_path / "whole")
    killed = start(tmp_path / "killed", 0.3)
    last = tmp_path / "killed" / "steps.csv"
    deadline = time.monotonic() + 300
    while not (last.exists() and len(rows(last)) >= 9):  # in the second epoch of six steps
        assert killed.poll() is None and time.monotonic() < deadline, killed.stderr.read()
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert whole.wait() == 0, whole.stderr.read()
    assert not (tmp_path / "killed" / "adapter").exists()
    again = start(tmp_path / "killed")
    assert again.wait() == 0, again.stderr.read()
    one, two = (load_adapter(tmp_path / name / "adapter") for name in ("whole", "killed"))
    for name, value in one.adapter.tensors.items():
        # The same sums in the same order: only the threads of a matrix product may differ.
        np.testing.assert_allclose(two.adapter.tensors[name], value, rtol=1e-4, atol=1e-6)
    tables = [rows(tmp_path / name / "steps.csv") for name in ("whole", "killed")]
    assert [row["step"] for row in tables[0]] == [row["step"] for row in tables[1]] == [str(i + 1) for i in range(18)]
    for a, b in zip(*tables, strict=True):
        assert float(a["loss"]) == pytest.approx(float(b["loss"]), rel=1e-4)
    histories = [rows(tmp_path / name / "epochs.csv") for name in ("whole", "killed")]
    assert [row["best"] for row in histories[0]] == [row["best"] for row in histories[1]]


def test_an_interrupted_run_saves_and_goes_on(base, store, tmp_path, uncompiled, monkeypatch):
    config = settings("linear", epochs_max=2)
    finetune(base, store, tmp_path / "whole", config)
    optimize, calls = fit.Trainer._optimize, []

    def interrupted(self, batches):
        calls.append(1)
        if len(calls) == 9:
            os.kill(os.getpid(), signal.SIGTERM)
        return optimize(self, batches)

    monkeypatch.setattr(fit.Trainer, "_optimize", interrupted)
    with pytest.raises(KeyboardInterrupt):
        finetune(base, store, tmp_path / "stopped", config)
    assert len(rows(tmp_path / "stopped" / "steps.csv")) == 9
    finetune(base, store, tmp_path / "stopped", config)
    assert len(calls) == 12
    one, two = (load_adapter(tmp_path / name / "adapter").adapter.tensors for name in ("whole", "stopped"))
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-5, atol=1e-7)


def test_a_damaged_last_checkpoint_falls_back_to_the_one_before(base, store, tmp_path, uncompiled):
    config = settings("linear", epochs_max=2)
    finetune(base, store, tmp_path / "run", config)
    last = tmp_path / "run" / "checkpoints" / "last.safetensors"
    last.write_bytes(last.read_bytes()[:100])
    summary = finetune(base, store, tmp_path / "run", settings("linear", epochs_max=3))
    assert summary["epochs"] == 3
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        path.write_bytes(b"")
    with pytest.raises(TrainingError, match="no checkpoint is whole"):
        finetune(base, store, tmp_path / "run", config)


def test_a_full_disk_is_one_clear_error(base, store, tmp_path, uncompiled, monkeypatch):
    from kipoi_borzoi.training import checkpoint

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_safetensors", full)
    with pytest.raises(TrainingError, match=r"best.safetensors: cannot be written \(No space left on device\)"):
        finetune(base, store, tmp_path / "run", settings("linear"))
    monkeypatch.undo()
    assert finetune(base, store, tmp_path / "run", settings("linear", epochs_max=1))["epochs"] == 1


def test_a_run_of_other_settings_or_data_is_not_continued(base, store, tmp_path, uncompiled):
    finetune(base, store, tmp_path / "run", settings("linear", epochs_max=1))
    kept = (tmp_path / "run" / "run.yaml").read_text()
    with pytest.raises(TrainingError, match="seed 0, this run has 1"):
        finetune(base, store, tmp_path / "run", settings("linear", epochs_max=1, seed=1))
    with pytest.raises(TrainingError, match="store"):
        finetune(base, MemoryStore(base.config, seed=9), tmp_path / "run", settings("linear", epochs_max=1))
    assert (tmp_path / "run" / "run.yaml").read_text() == kept
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("x")
    with pytest.raises(InputError, match="thesis.txt"):
        finetune(base, store, tmp_path / "other", settings("linear"))


def test_a_finished_run_is_not_trained_again(base, store, tmp_path, uncompiled, monkeypatch):
    first = finetune(base, store, tmp_path / "run", settings("linear", epochs_max=1))
    monkeypatch.setattr(fit.Trainer, "_optimize", None)
    again = finetune(base, store, tmp_path / "run", settings("linear", epochs_max=1))
    assert {**again, "wait_fraction": 0} == {**first, "wait_fraction": 0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"transform": "old"}, "trained with the new transform"),
        ({"seq_length": 512}, "sequences of 512 bp"),
        ({"bin_size": 16}, "bins of 16 bp"),
        ({"crop_bp": 5}, "not a whole number"),
        ({"bins": 9}, "9 bins"),
    ],
)
def test_a_store_that_does_not_fit_is_refused(change, message, base):
    other = MemoryStore(base.config)
    for name, value in change.items():
        setattr(other, name, value)
    with pytest.raises(InputError, match=message):
        fitted(base, other)


def test_some_tracks_of_a_store(base, tmp_path, uncompiled):
    store = MemoryStore(base.config, tracks=some_tracks(4, [0, 1, 3, 2]))
    finetune(base, store, tmp_path / "run", settings("linear", epochs_max=1, tracks=["t3", "t2"]))
    tracks = load_adapter(tmp_path / "run" / "adapter").tracks
    assert list(tracks.identifiers) == ["t3", "t2"] and tracks.strand_pair.tolist() == [1, 0]
    with pytest.raises(InputError, match="partner"):
        finetune(base, store, tmp_path / "one", settings("linear", tracks=["t3"]))


def test_training_from_scratch_gives_a_base(base, store, tmp_path, uncompiled):
    config = settings("full", epochs_max=2)
    summary = train_base(base.config, store, tmp_path / "run", config)
    folder = tmp_path / "run" / "base"
    assert summary["epochs"] == 2 and len(read_tracks(folder / "targets.txt", units=2)) == 2
    made = NetworkConfig.from_params(folder / "params.json")
    tensors = dict(load_safetensors(folder / "weights.safetensors", weight_shapes(made)))
    assert made.heads[0].units == 2 and all(np.isfinite(value).all() for value in tensors.values())
    again = train_base(base.config, store, tmp_path / "again", config)
    assert again["valid_loss"] == pytest.approx(summary["valid_loss"], rel=1e-5)
    with pytest.raises(ConfigError, match="full"):
        train_base(base.config, store, tmp_path / "other", settings("lora"))


def test_a_read_only_place_is_one_clear_error(base, store, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(KipoiBorzoiError, match="cannot be written"):
        finetune(base, store, tmp_path / "file" / "run", settings("linear"))


def test_curves_and_tables_are_there(base, store, tmp_path, uncompiled):
    finetune(base, store, tmp_path / "run", settings("linear", epochs_max=2))
    run = tmp_path / "run"
    assert (run / "curves.png").read_bytes()[:4] == b"\x89PNG"
    assert list((run / "tensorboard").iterdir())
    assert json.loads((run / "summary.json").read_text())["epochs"] == 2
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"last.safetensors", "previous.safetensors", "best.safetensors"}
