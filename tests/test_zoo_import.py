"""zoo_import makes whole entries of fitting parts, and nothing of others."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from http_server import Page, serve
from zoo_parts import make_parts, write_targets

from kipoi_borzoi.errors import ConfigError, DownloadError, InputError, KipoiBorzoiError, WeightsError, ZooError
from kipoi_borzoi.files import sha256_of_file
from kipoi_borzoi.network import NetworkConfig
from kipoi_borzoi.network.weights import read_weights
from kipoi_borzoi.zoo import folders, make, zoo_import
from kipoi_borzoi.zoo.entries import read_zoo
from kipoi_borzoi.zoo.yaml_text import read_yaml


@pytest.fixture
def zoo(tmp_path):
    (tmp_path / "zoo").mkdir()
    return tmp_path / "zoo"


@pytest.fixture
def parts(tmp_path, small_params):
    return make_parts(tmp_path / "parts", small_params)


def everything(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_entries(zoo, parts, small_params):
    assert zoo_import("lab/m", **parts, head="human", zoo=zoo) == ["lab/m/coverage", "lab/m/sum", "lab/m/logsum"]
    entries = {entry.name: entry for entry in read_zoo(zoo)}
    assert sorted(entries) == ["lab/m/coverage", "lab/m/logsum", "lab/m/sum"]
    labels = [f"human{index}" for index in range(6)]
    # 512 bp / 32 = 16 positions after the tower, x 2 by the U-net = 32 bins of 16 bp, 2 cropped at each end.
    assert "28 bins of 16 bp" in entries["lab/m/coverage"].description["info"]["doc"]
    for view, shape in (("coverage", (None, 6)), ("sum", (6,)), ("logsum", (6,))):
        entry = entries[f"lab/m/{view}"]
        assert entry.args["view"] == view
        assert (entry.args["head"], entry.args["transform"], "crop" in entry.args) == ("human", "new", False)
        assert entry.shape("inputs") == (512, 4)
        assert entry.shape("targets") == shape
        assert entry.description["schema"]["targets"]["column_labels"] == labels
        for file in entry.files():
            assert file.sha256 == sha256_of_file(file.path)
    assert len(list(zoo.rglob("*.safetensors"))) == 1
    config = NetworkConfig.from_params(small_params).with_heads("human")
    stored = dict(read_weights(zoo / "lab/m/weights.safetensors", config))
    for name, value in read_weights(parts["weights"], config):
        np.testing.assert_array_equal(stored[name], value)
    assert (zoo / "lab/m/params.json").read_bytes() == parts["params"].read_bytes()
    assert not list(zoo.glob(".*"))


def test_options_are_recorded(zoo, parts):
    zoo_import("m", **parts, head="human", crop=5, transform="old", zoo=zoo)
    args = read_yaml(zoo / "m/sum/model.yaml")["args"]
    assert (args["crop"], args["transform"]) == (5, "old")
    assert "22 bins" in read_yaml(zoo / "m/coverage/model.yaml")["info"]["doc"]


def test_only_head_needs_no_name(zoo, tmp_path, small_params):
    del small_params["model"]["head_mouse"]
    parts = make_parts(tmp_path / "parts", small_params)
    zoo_import("m", **parts, zoo=zoo)
    assert read_yaml(zoo / "m/sum/model.yaml")["args"]["head"] == "human"


def test_second_head(zoo, tmp_path, small_params):
    parts = make_parts(tmp_path / "parts", small_params, head="mouse")
    zoo_import("m", **parts, head="mouse", zoo=zoo)
    assert read_zoo(zoo)[0].shape("targets") == (None, 4)


def test_safetensors_are_taken_too(zoo, parts):
    zoo_import("a", **parts, head="human", zoo=zoo)
    zoo_import("b", **{**parts, "weights": zoo / "a/weights.safetensors"}, head="human", zoo=zoo)
    assert (zoo / "a/weights.safetensors").read_bytes() == (zoo / "b/weights.safetensors").read_bytes()


def test_urls(zoo, parts, tmp_path, monkeypatch):
    monkeypatch.setenv("KIPOI_BORZOI_CACHE", str(tmp_path / "cache"))
    with serve({f"/{file.name}": Page(file.read_bytes()) for file in parts.values()}) as server:
        zoo_import("m", **{key: server.url(f"/{file.name}") for key, file in parts.items()}, head="human", zoo=zoo)
        origin = json.loads((zoo / "m/import.json").read_text())
        assert origin["weights"] == server.url("/model.h5")
        with pytest.raises(DownloadError, match="404"):
            zoo_import("n", **{**parts, "weights": server.url("/none.h5")}, head="human", zoo=zoo)
    assert (zoo / "m/params.json").read_bytes() == parts["params"].read_bytes()
    assert not (zoo / "n").exists()


def text(path, content):
    path.write_text(content)
    return path


def break_parts(parts, how):
    folder = parts["params"].parent
    if how == "fewer tracks":
        write_targets(parts["targets"], ["a", "b"])
    elif how == "more tracks":
        write_targets(parts["targets"], list("abcdefgh"))
    elif how == "html params":
        text(parts["params"], "<html></html>")
    elif how == "html weights":
        text(parts["weights"], "<!doctype html>")
    elif how == "truncated weights":
        parts["weights"].write_bytes(parts["weights"].read_bytes()[:-2000])
    elif how == "other network":
        params = json.loads(parts["params"].read_text())
        params["model"]["trunk"][0]["filters"] = 9
        text(parts["params"], json.dumps(params))
    elif how == "nan":
        with h5py.File(parts["weights"], "r+") as file:
            file["model_weights/conv1d/conv1d/kernel:0"][0, 0, 0] = np.nan
    elif how == "no file":
        parts["targets"].unlink()
    elif how == "folder":
        parts["targets"] = folder


@pytest.mark.parametrize(
    "how, error, message",
    [
        ("fewer tracks", InputError, "targets.txt: .*2 tracks, but the head has 6"),
        ("more tracks", InputError, "targets.txt, line 8: index 6 is out of range: the head has 6 tracks"),
        ("html params", ConfigError, "params.json: not JSON .it looks like an HTML page"),
        ("html weights", WeightsError, "model.h5"),
        ("truncated weights", WeightsError, "model.h5"),
        ("other network", WeightsError, "model.h5: .*shape"),
        ("nan", WeightsError, "model.h5: .*not finite"),
        ("no file", InputError, "targets.txt: no such file"),
        ("folder", InputError, "parts: is not a file"),
    ],
)
def test_parts_that_do_not_fit(zoo, parts, how, error, message):
    break_parts(parts, how)
    with pytest.raises(error, match=message):
        zoo_import("m", **parts, head="human", zoo=zoo)
    assert everything(zoo) == []


@pytest.mark.parametrize(
    "options, message",
    [
        ({}, "2 heads .human, mouse."),
        ({"head": "rat"}, "no head 'rat'"),
        ({"head": "human", "crop": 16}, "crop"),
        ({"head": "human", "crop": -1}, "crop"),
        ({"head": "human", "transform": "newest"}, "'newest'"),
        ({"head": "mouse"}, "targets.txt, line 6: .*4 tracks"),
    ],
)
def test_bad_options(zoo, parts, options, message):
    with pytest.raises(KipoiBorzoiError, match=message):
        zoo_import("m", **parts, **options, zoo=zoo)
    assert everything(zoo) == []


def test_taken_names(zoo, parts):
    zoo_import("a/b", **parts, head="human", zoo=zoo)
    before = {path: path.stat().st_mtime_ns for path in zoo.rglob("*")}
    for name, message in [
        ("a/b", "such a model .* already.*--replace"),
        ("a/b/c", "'a/b' is a model"),
        ("a", "exists and is not an imported model"),
        ("a/b/sum", "'a/b' is a model"),
    ]:
        with pytest.raises(ZooError, match=message):
            zoo_import(name, **parts, head="human", zoo=zoo)
    assert {path: path.stat().st_mtime_ns for path in zoo.rglob("*")} == before


def test_replacing_needs_an_import(zoo, parts):
    (zoo / "theirs").mkdir()
    (zoo / "theirs" / "model.yaml").write_text("a: 1\n")
    with pytest.raises(ZooError, match="not an imported model"):
        zoo_import("theirs", **parts, head="human", zoo=zoo, replace=True)
    assert everything(zoo / "theirs") == ["model.yaml"]


def test_replacing(zoo, parts, tmp_path, small_params):
    zoo_import("m", **parts, head="human", zoo=zoo)
    (zoo / "m" / "left_over").write_text("")
    before = sha256_of_file(zoo / "m/weights.safetensors")
    other = make_parts(tmp_path / "other", small_params, seed=1)
    zoo_import("m", **other, head="human", zoo=zoo, replace=True)
    assert sha256_of_file(zoo / "m/weights.safetensors") != before
    assert not (zoo / "m/left_over").exists()
    assert [path.name for path in zoo.iterdir()] == ["m"]


def test_failed_replacement_leaves_the_old_one(zoo, parts, monkeypatch):
    zoo_import("m", **parts, head="human", zoo=zoo)
    before = {path: path.read_bytes() for path in zoo.rglob("*") if path.is_file()}
    rename, calls = os.rename, []

    def fail_second(source, target):
        calls.append((source, target))
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(folders, "exchange", lambda *names: False)  # a filesystem that cannot
    monkeypatch.setattr(folders.os, "rename", fail_second)
    with pytest.raises(ZooError, match="cannot be written .*No space left"):
        zoo_import("m", **parts, head="human", zoo=zoo, replace=True)
    assert len(calls) == 3  # aside, the one that failed, back again
    assert {path: path.read_bytes() for path in zoo.rglob("*") if path.is_file()} == before


def test_full_disk(zoo, parts, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(make.shutil, "copyfile", full)
    with pytest.raises(ZooError, match="zoo: cannot be written .*No space left.*nothing was changed"):
        zoo_import("m", **parts, head="human", zoo=zoo)
    assert everything(zoo) == []


def test_another_process_was_first(zoo, parts, monkeypatch):
    write = make.write_model

    def write_slowly(folder, *args, **kwargs):
        write(folder, *args, **kwargs)
        shutil.copytree(folder, zoo / "m")

    monkeypatch.setattr(make, "write_model", write_slowly)
    with pytest.raises(ZooError, match="another process has just made"):
        zoo_import("m", **parts, head="human", zoo=zoo)
    assert [path.name for path in zoo.iterdir()] == ["m"]


def test_killed_import_leaves_no_entry(zoo, parts):
    code = """
import os, sys, time
from kipoi_borzoi.zoo import folders, zoo_import
def wait(folder):
    print("built", flush=True)
    time.sleep(60)
folders._flush = wait
zoo_import("m", *sys.argv[2:], head="human", zoo=sys.argv[1])
"""
    command = [sys.executable, "-c", code, str(zoo), *map(str, (parts["params"], parts["weights"], parts["targets"]))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "built\n"
        assert read_zoo(zoo) == [] and len(list(zoo.iterdir())) == 1
        process.send_signal(signal.SIGKILL)
    assert read_zoo(zoo) == []
    zoo_import("m", **parts, head="human", zoo=zoo)
    assert len(read_zoo(zoo)) == 3


def test_two_at_a_time(zoo, parts):
    command = [sys.executable, "-m", "kipoi_borzoi.cli", "zoo", "import", "m", "--head", "human", "--zoo", str(zoo)]
    command += [f"--{key}={file}" for key, file in parts.items()]
    processes = [
        subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) for _ in range(2)
    ]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    statuses = sorted(process.returncode for process in processes)
    assert statuses == [0, 1], errors
    assert any("already" in error or "another process" in error for error in errors)
    assert [path.name for path in zoo.iterdir()] == ["m"] and len(read_zoo(zoo)) == 3


def test_read_only_zoo(zoo, parts, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: not (mode & os.W_OK and Path(path) == zoo))
    with pytest.raises(ZooError, match="zoo: this zoo cannot be written"):
        zoo_import("m", **parts, head="human", zoo=zoo)


def test_labels_with_yaml_and_template_characters(zoo, parts):
    labels = ["{{ 7 * 7 }}", "a: b", "- c", "#d", "'e\"", "f\\"]
    write_targets(parts["targets"], labels)
    zoo_import("m", **parts, head="human", zoo=zoo)
    assert read_yaml(zoo / "m/sum/model.yaml")["schema"]["targets"]["column_labels"] == labels


def test_thousands_of_labels_are_read_quickly(zoo, tmp_path, small_params):
    small_params["model"]["head_human"]["units"] = 7611
    parts = make_parts(tmp_path / "parts", small_params)
    zoo_import("m", **parts, head="human", zoo=zoo)
    start = time.perf_counter()
    assert [entry.shape("targets")[-1] for entry in read_zoo(zoo)] == [7611] * 3
    assert time.perf_counter() - start < 5  # measured: 0.15 s
