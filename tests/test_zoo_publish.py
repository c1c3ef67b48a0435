"""zoo_publish makes whole entries of fitting adapters and bases, and nothing of others."""

import json
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from adapter_cases import METHOD_CASES
from tuned_models import make_base, parts_of, write_adapter
from zoo_parts import make_parts

from kipoi_borzoi.adapters.directory import load_adapter
from kipoi_borzoi.adapters.houlsby_se import HoulsbySE
from kipoi_borzoi.adapters.linear import Linear
from kipoi_borzoi.adapters.sites import AdapterSites
from kipoi_borzoi.errors import InputError, WeightsError, ZooError
from kipoi_borzoi.files import sha256_of_file
from kipoi_borzoi.model import BorzoiModel
from kipoi_borzoi.network.network import Network
from kipoi_borzoi.network.weights import load_weights, read_weights
from kipoi_borzoi.zoo import load_model, zoo_import, zoo_ls, zoo_publish, zoo_verify
from kipoi_borzoi.zoo.entries import find_entries, read_zoo
from kipoi_borzoi.zoo.yaml_text import dump_yaml, read_yaml

TOLERANCE = 1e-5  # of the largest output: float32 rounding over a dozen layers

# By structure alone: the small network has no layer that Calico's rule for ia3 finds by its width.
METHODS = {name: method for name, method in METHOD_CASES.items() if name != "ia3 by width"}


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """A zoo with the model lab/base, the base's network, and a folder with an adapter directory per method."""
    folder = tmp_path_factory.mktemp("publish")
    network = make_base(folder / "parts", seed=1)
    (folder / "zoo").mkdir()
    zoo_import("lab/base", **parts_of(folder / "parts"), head="human", zoo=folder / "zoo")
    for name, method in METHODS.items():
        write_adapter(folder / "adapters" / name.replace(" ", "_"), network, method)
    return folder, network


@pytest.fixture
def zoo(bench, tmp_path):
    """A copy of the zoo, for tests that change it."""
    shutil.copytree(bench[0] / "zoo", tmp_path / "zoo")
    return tmp_path / "zoo"


@pytest.fixture
def adapters(bench):
    return bench[0] / "adapters"


@pytest.fixture(scope="module")
def x():
    return np.eye(4, dtype=np.float32)[np.random.default_rng(5).integers(0, 4, (2, 256))]


def close(got, expected):
    return got.shape == expected.shape and np.abs(got - expected).max() <= TOLERANCE * np.abs(expected).max()


def everything(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", METHODS)
def test_a_published_adapter_predicts_as_the_adapter_on_its_base(name, bench, zoo, adapters, x, uncompiled):
    folder, network = bench
    directory = adapters / name.replace(" ", "_")
    assert zoo_publish(directory, "lab/tuned", zoo=zoo) == ["lab/tuned/coverage", "lab/tuned/sum", "lab/tuned/logsum"]
    # The independent route: the reference file's own tensors in a network, called without tiles or sharing.
    fresh = Network(network.config, initialize=False)
    load_weights(fresh, read_weights(folder / "parts" / "base.safetensors", network.config))
    expected = keras.ops.convert_to_numpy(fresh(x, run=AdapterSites(fresh, load_adapter(directory).adapter)))
    model = load_model("lab/tuned", zoo=zoo)
    assert isinstance(model, BorzoiModel) and model.transform == "old"
    assert close(model.predict_on_batch(x), expected)
    base = load_model("lab/base", zoo=zoo)
    assert model.predictors[0].network is base.predictors[0].network
    assert not close(base.predict_on_batch(x, tracks=[0, 1, 2]), expected)
    if not METHODS[name].not_mergeable:
        merged = load_model("lab/tuned", zoo=zoo, merge=True)
        assert close(merged.predict_on_batch(x), expected)
        assert merged.predictors[0] is not model.predictors[0]
    (line,) = zoo_verify("lab/tuned/coverage", zoo=zoo)
    assert line.status == "ok", line.detail


def test_the_entry_says_what_it_is(zoo, adapters):
    zoo_publish(adapters / "lora", "lab/tuned", zoo=zoo)
    entries = {entry.name: entry for entry in find_entries(zoo, "lab/tuned")}
    assert sorted(entries) == ["lab/tuned/coverage", "lab/tuned/logsum", "lab/tuned/sum"]
    for view, shape in (("coverage", (None, 3)), ("sum", (3,)), ("logsum", (3,))):
        entry = entries[f"lab/tuned/{view}"]
        assert entry.shape("targets") == shape and entry.shape("inputs") == (256, 4)
        assert entry.description["schema"]["targets"]["column_labels"] == ["track0", "track1", "track2"]
        assert entry.args["weights"] == "../../base/weights.safetensors"
        for file in entry.files():
            assert file.sha256 == sha256_of_file(file.path)
    (listed,) = [line for line in zoo_ls(zoo) if line.name == "lab/tuned/sum"]
    assert (listed.method, listed.window, listed.tracks, listed.weights) == ("lora on lab/base", 256, 3, "here")
    assert list(zoo.rglob("weights.safetensors")) == [zoo / "lab/base/weights.safetensors"]
    assert (zoo / "lab/tuned/adapter/README.md").is_file()


def test_views_and_copies_of_an_adapter_share_its_variables(zoo, adapters, x):
    zoo_publish(adapters / "locon", "lab/one", zoo=zoo)
    zoo_publish(adapters / "locon", "lab/two", zoo=zoo)
    one, two = load_model("lab/one", zoo=zoo), load_model("lab/two", view="logsum", zoo=zoo)
    assert one.predictors[0] is two.predictors[0]
    assert close(two.predict_on_batch(x), load_model("lab/one", view="logsum", zoo=zoo).predict_on_batch(x))


def test_a_wider_crop_is_available_except_where_the_adapter_averages_over_bins(bench, zoo, tmp_path, x):
    _, network = bench
    write_adapter(tmp_path / "a" / "se", network, HoulsbySE(latent=2, conv_select=1, bottleneck=3))
    zoo_publish(tmp_path / "a" / "se", "lab/se", zoo=zoo)
    model = load_model("lab/se", zoo=zoo)
    assert model.predict_on_batch(x).shape[1] == model.config.bins
    with pytest.raises(InputError, match="cannot be used with a crop of 0"):
        model.predict_on_batch(x, crop=0)
    write_adapter(tmp_path / "a" / "linear", network, Linear())
    zoo_publish(tmp_path / "a" / "linear", "lab/linear", zoo=zoo)
    linear = load_model("lab/linear", zoo=zoo)
    whole = linear.predict_on_batch(x, crop=0)
    assert whole.shape[1] == linear.config.bins + 4
    assert close(whole[:, 2:-2], linear.predict_on_batch(x))


def test_merged_entries(zoo, adapters, x):
    zoo_publish(adapters / "lora", "lab/merged", zoo=zoo, merge=True)
    zoo_publish(adapters / "lora", "lab/plain", zoo=zoo)
    merged, plain = load_model("lab/merged", zoo=zoo), load_model("lab/plain", zoo=zoo)
    assert merged.predictors[0] is not plain.predictors[0]
    assert close(merged.predict_on_batch(x), plain.predict_on_batch(x))
    before = everything(zoo)
    with pytest.raises(InputError, match="cannot be merged: its bottlenecks"):
        zoo_publish(adapters / "houlsby", "lab/h", zoo=zoo, merge=True)
    assert everything(zoo) == before


def test_another_base_is_refused_by_name(zoo, adapters, tmp_path):
    make_base(tmp_path / "other", seed=2)
    zoo_import("lab/other", **parts_of(tmp_path / "other"), head="human", zoo=zoo)
    before = everything(zoo)
    with pytest.raises(WeightsError, match="trained on the base 'lab/base' .*, not on 'lab/other'"):
        zoo_publish(adapters / "lora", "lab/tuned", zoo=zoo, base="lab/other")
    assert everything(zoo) == before


def test_a_base_of_another_shape_is_refused(zoo, adapters, tmp_path, small_params):
    parts = make_parts(tmp_path / "wide", small_params)
    zoo_import("lab/wide", **parts, head="human", zoo=zoo)
    with pytest.raises(ZooError, match="does not fit 'lab/wide': .*shape"):
        zoo_publish(adapters / "lora", "lab/tuned", zoo=zoo, base="lab/wide")


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("nothing/like/it", "its base 'nothing/like/it' is not a model of .*zoo import"),
        ("lab/tuned0", "'lab/tuned0' is itself an adapter; name its base .with --base"),
        ("lab", "'lab' is not a model of .*folder of 2 models"),
    ],
)
def test_unusable_bases(base, message, zoo, adapters):
    zoo_publish(adapters / "linear", "lab/tuned0", zoo=zoo)
    with pytest.raises(ZooError, match=message):
        zoo_publish(adapters / "lora", "lab/tuned", zoo=zoo, base=base)


def test_a_taken_name_needs_replace_and_only_adapters_are_replaced(zoo, adapters, x):
    zoo_publish(adapters / "lora", "lab/tuned", zoo=zoo)
    before = everything(zoo)
    with pytest.raises(ZooError, match="there is such a model .*--replace"):
        zoo_publish(adapters / "locon", "lab/tuned", zoo=zoo)
    with pytest.raises(ZooError, match="exists and is not a published adapter"):
        zoo_publish(adapters / "locon", "lab/base", zoo=zoo, replace=True)
    with pytest.raises(ZooError, match="'lab/tuned' is a model of .* itself"):
        zoo_publish(adapters / "locon", "lab/tuned/more", zoo=zoo)
    with pytest.raises(ZooError, match="is a group of this package"):
        zoo_publish(adapters / "locon", "borzoi/more", zoo=zoo)
    assert everything(zoo) == before
    zoo_publish(adapters / "locon", "lab/tuned", zoo=zoo, replace=True)
    assert load_model("lab/tuned", zoo=zoo).adapter.adapter.method.name == "locon"
    assert sorted(path.name for path in (zoo / "lab").iterdir()) == ["base", "tuned"]
    assert sorted(path.name for path in zoo.iterdir()) == ["lab"]


def test_publishers_at_once_lose_nothing(zoo, adapters):
    jobs = [("linear", "lab/a"), ("lora", "lab/b"), ("locon", "lab/same"), ("ia3", "lab/same")]
    command = [sys.executable, "-m", "kipoi_borzoi.cli", "zoo", "publish", "--zoo", zoo]
    processes = [
        subprocess.Popen([*command, adapters / method, name], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for method, name in jobs
    ]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes[:2]] == [0, 0]
    assert sorted(process.returncode for process in processes[2:]) == [0, 1]
    refused = next(error for error in errors if "error" in error)
    assert "lab/same" in refused and ("another process has just made" in refused or "there is such a model" in refused)
    assert {entry.model for entry in read_zoo(zoo)} == {"lab/base", "lab/a", "lab/b", "lab/same"}
    assert all(line.status == "ok" for line in zoo_verify(zoo=zoo, predict=False))
    assert [path.name for path in zoo.iterdir()] == ["lab"]


@pytest.mark.parametrize("file", ["adapter_config.json", "adapter_model.safetensors", "targets.txt"])
def test_a_file_that_changed_after_publishing_is_refused(file, zoo, adapters):
    zoo_publish(adapters / "lora", "lab/tuned", zoo=zoo)
    path = zoo / "lab/tuned/adapter" / file
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ZooError, match=f"{file}: the file is damaged or another one"):
        load_model("lab/tuned", zoo=zoo)
    assert {line.status for line in zoo_verify("lab/tuned", zoo=zoo)} == {"failed"}


def test_a_replaced_base_is_noticed(zoo, adapters, tmp_path):
    zoo_publish(adapters / "lora", "lab/tuned", zoo=zoo)
    make_base(tmp_path / "other", seed=2)
    zoo_import("lab/base", **parts_of(tmp_path / "other"), head="human", zoo=zoo, replace=True)
    with pytest.raises(ZooError, match="weights.safetensors: the file is damaged or another one"):
        load_model("lab/tuned", zoo=zoo)
    # Without checksums the contents of the base still tell.
    forget_checksums(zoo / "lab/tuned")
    with pytest.raises(WeightsError, match="trained on the base 'lab/base'"):
        load_model("lab/tuned", zoo=zoo)
    (line,) = zoo_verify("lab/tuned/sum", zoo=zoo, predict=False)
    assert line.status == "failed" and "trained on the base" in line.detail


def forget_checksums(model):
    for path in model.glob("*/model.yaml"):
        description = read_yaml(path)
        del description["args"]["checksums"]
        path.write_text(dump_yaml(description))


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("adapter", "../../base", "leads out of"),
        ("adapter", "https://example.org/adapter", "expected the path of a folder"),
        ("adapter", 7, "expected the path of a folder"),
        ("weights", "../../../../outside.safetensors", "leads out of"),
        ("weights", ["../../base/weights.safetensors"] * 2, "an adapter has one base, but 2 files"),
        ("targets", "../adapter/targets.txt", "an adapter brings its own table of tracks"),
        ("transform", "new", "squashed by the 'old' transform, not by the 'new' one"),
        ("rank", 8, "unexpected keyword argument 'rank'"),
    ],
)
def test_entries_that_say_something_else(argument, value, message, zoo, adapters, tmp_path):
    (tmp_path / "outside.safetensors").write_bytes((zoo / "lab/base/weights.safetensors").read_bytes())
    zoo_publish(adapters / "lora", "lab/tuned", zoo=zoo)
    path = zoo / "lab/tuned/sum/model.yaml"
    description = read_yaml(path)
    description["args"][argument] = value
    path.write_text(dump_yaml(description))
    (line,) = zoo_verify("lab/tuned/sum", zoo=zoo)
    assert line.status == "failed" and message in line.detail


def test_a_failed_publication_leaves_nothing(zoo, adapters, monkeypatch):
    from kipoi_borzoi.zoo import publish

    before = everything(zoo)

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(publish.shutil, "copyfile", full)
    with pytest.raises(ZooError, match="cannot be written .*No space left.*nothing was changed"):
        zoo_publish(adapters / "lora", "lab/tuned", zoo=zoo)
    assert everything(zoo) == before


def test_the_mark_says_where_it_came_from(zoo, adapters):
    zoo_publish(adapters / "lora", "lab/tuned", zoo=zoo)
    mark = json.loads((zoo / "lab/tuned/publish.json").read_text())
    assert mark["base"] == "lab/base" and mark["adapter"] == str(adapters / "lora")
