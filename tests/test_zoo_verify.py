"""zoo_ls and zoo_verify say what is there, and what is wrong with it."""

import re
import sys
import types

import numpy as np
import pytest
from http_server import Page, serve
from zoo_parts import make_parts, write_targets

from kipoi_borzoi.errors import ZooError
from kipoi_borzoi.files import sha256_of_file
from kipoi_borzoi.zoo import zoo_import, zoo_ls, zoo_verify
from kipoi_borzoi.zoo.yaml_text import dump_yaml, read_yaml


@pytest.fixture
def zoo(tmp_path, small_params):
    (tmp_path / "zoo").mkdir()
    zoo_import("m", **make_parts(tmp_path / "parts", small_params), head="human", zoo=tmp_path / "zoo")
    return tmp_path / "zoo"


@pytest.fixture
def model(monkeypatch):
    """In place of the real model class, one that returns ``model.output`` and records what it was given."""
    record = types.SimpleNamespace(output=None, args=[], inputs=[])

    class BorzoiModel:
        def __init__(
            self, params, weights, targets, head=None, view="coverage", transform="new", crop=None, checksums=None
        ):
            record.args.append({"params": params, "weights": weights, "targets": targets, "view": view, "crop": crop})
            self.shape = (28, 6) if view == "coverage" else (6,)

        def predict_on_batch(self, x):
            record.inputs.append(x)
            return np.ones((1, *self.shape)) if record.output is None else record.output

    module = types.ModuleType("kipoi_borzoi.model")
    module.BorzoiModel = BorzoiModel
    monkeypatch.setitem(sys.modules, "kipoi_borzoi.model", module)
    return record


def edit(zoo, change, view="sum"):
    path = zoo / "m" / view / "model.yaml"
    description = read_yaml(path)
    change(description)
    path.write_text(dump_yaml(description))


def test_listing(zoo):
    (zoo / "other").mkdir()
    (zoo / "other" / "model.yaml").write_text("defined_as: theirs.Model\nargs: {}\n")
    edit(
        zoo, lambda text: text["args"].update(weights=["../weights.safetensors", "https://example.org/w.h5"]), "logsum"
    )
    (zoo / "m" / "coverage" / "model.yaml").write_text("a: 1\na: 2\n")
    lines = {line.name: line for line in zoo_ls(zoo)}
    assert list(lines) == ["m/coverage", "m/logsum", "m/sum", "other"]
    line = lines["m/sum"]
    assert (line.method, line.window, line.tracks, line.weights, line.problem) == ("base", 512, 6, "here", None)
    assert (lines["m/logsum"].method, lines["m/logsum"].weights) == ("ensemble of 2", "not downloaded")
    assert lines["m/coverage"].weights == "broken" and "given twice" in lines["m/coverage"].problem
    assert (lines["other"].method, lines["other"].weights, lines["other"].problem) == ("-", "-", None)


def test_listing_missing_weights(zoo):
    (zoo / "m/weights.safetensors").unlink()
    assert {line.weights for line in zoo_ls(zoo)} == {"missing"}


def test_whole_entries(zoo, model):
    assert [(line.status, line.name, line.detail) for line in zoo_verify(zoo=zoo)] == [
        ("ok", "m/coverage", "512 bp -> 28 x 6, predicts 1 to 1"),
        ("ok", "m/logsum", "512 bp -> 6, predicts 1 to 1"),
        ("ok", "m/sum", "512 bp -> 6, predicts 1 to 1"),
    ]
    assert [args["view"] for args in model.args] == ["coverage", "logsum", "sum"]
    assert model.args[0]["weights"] == str(zoo / "m/weights.safetensors")
    for x in model.inputs:
        assert x.shape == (1, 512, 4) and (x.sum(axis=-1) == 1).all()


def test_no_prediction_on_request(zoo, model):
    assert zoo_verify("m/sum", zoo=zoo, predict=False)[0].detail == "512 bp -> 6"
    assert model.args == []


@pytest.mark.parametrize(
    "output, message",
    [(np.ones((1, 7)), "shape .1, 7., expected .1, 6."), (np.full((1, 6), np.nan), "not finite")],
)
def test_bad_predictions(zoo, model, output, message):
    model.output = output
    (line,) = zoo_verify("m/sum", zoo=zoo)
    assert line.status == "failed"
    assert re.search(message, line.detail)


def damage(zoo, how):
    folder = zoo / "m"
    if how == "weights":
        with open(folder / "weights.safetensors", "r+b") as file:
            file.seek(-1, 2)
            file.write(b"\x55")
    elif how == "no weights":
        (folder / "weights.safetensors").unlink()
    elif how == "targets":
        write_targets(folder / "targets.txt", list("abcdef"))
    elif how == "other targets":
        write_targets(folder / "targets.txt", list("abcdef"))
        checksum = sha256_of_file(folder / "targets.txt")
        edit(zoo, lambda text: text["args"]["checksums"].update({"../targets.txt": checksum}))
    elif how == "input shape":
        edit(zoo, lambda text: text["schema"]["inputs"].update(shape="(1024, 4)"))
    elif how == "target shape":
        edit(zoo, lambda text: text["schema"]["targets"].update(shape="(5,)"))
    elif how == "unknown argument":
        edit(zoo, lambda text: text["args"].update(speed=11))
    elif how == "head":
        edit(zoo, lambda text: text["args"].update(head="rat"))
    elif how == "outside":
        edit(zoo, lambda text: text["args"].update(weights="../../../etc/passwd"))
    elif how == "yaml":
        (folder / "sum" / "model.yaml").write_text("{")


@pytest.mark.parametrize(
    "how, message",
    [
        ("weights", "weights.safetensors: the file has changed: sha256"),
        ("no weights", "weights.safetensors: no such file"),
        ("targets", "targets.txt: the file has changed"),
        ("other targets", "column_labels are not the identifiers"),
        ("input shape", "inputs: shape is (1024, 4), but its params and tracks make (512, 4)"),
        ("target shape", "targets: shape is (5,), but its params and tracks make (6,)"),
        ("unknown argument", "unexpected keyword argument 'speed'"),
        ("head", "no head 'rat'"),
        ("outside", "leads out of"),
        ("yaml", "not valid YAML"),
    ],
)
def test_damaged_entries(zoo, model, how, message):
    damage(zoo, how)
    (line,) = zoo_verify("m/sum", zoo=zoo)
    assert line.status == "failed"
    assert message in line.detail


def test_entry_of_another_package(zoo, model):
    (zoo / "other").mkdir()
    (zoo / "other" / "model.yaml").write_text("defined_as: theirs.Model\nargs: {}\n")
    (line,) = zoo_verify("other", zoo=zoo)
    assert (line.status, line.detail) == ("skipped", "a model of another package (theirs.Model)")


def use_weights(text, url):
    """Let an entry take its weights from elsewhere; a checksum of a file that it no longer has would be refused."""
    text["args"].update(weights=url)
    text["args"]["checksums"].pop("../weights.safetensors")


def test_remote_files(zoo, model, tmp_path, monkeypatch):
    monkeypatch.setenv("KIPOI_BORZOI_CACHE", str(tmp_path / "cache"))
    weights = zoo / "m/weights.safetensors"
    with serve({"/w.safetensors": Page(weights.read_bytes())}) as server:
        url = server.url("/w.safetensors")
        edit(zoo, lambda text: use_weights(text, url))
        (line,) = zoo_verify("m/sum", zoo=zoo)
        assert (line.status, line.detail) == ("not downloaded", f"1 of 3 files, such as {url}")
        assert server.requests == [] and model.args == []
        assert zoo_ls(zoo)[2].weights == "not downloaded"

        assert zoo_verify("m/sum", zoo=zoo, download=True)[0].status == "ok"
        assert zoo_ls(zoo)[2].weights == "downloaded"
        assert str(model.args[0]["weights"]).startswith(str(tmp_path / "cache"))
        assert zoo_verify("m/sum", zoo=zoo)[0].status == "ok"
        assert len(server.requests) == 1

        edit(zoo, lambda text: text["args"]["checksums"].update({url: "0" * 64}))
        (line,) = zoo_verify("m/sum", zoo=zoo)
        assert line.status == "failed" and "checksum mismatch" in line.detail


def test_local_faults_are_found_before_anything_is_downloaded(zoo, model):
    edit(zoo, lambda text: use_weights(text, "https://example.org/w.h5"))
    damage(zoo, "targets")
    (line,) = zoo_verify("m/sum", zoo=zoo)
    assert line.status == "failed" and "targets.txt: the file has changed" in line.detail


def test_unknown_name(zoo):
    with pytest.raises(ZooError, match="no entry 'n'"):
        zoo_verify("n", zoo=zoo)
