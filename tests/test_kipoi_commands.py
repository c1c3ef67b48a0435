"""Kipoi's own commands, offline, in processes of their own, on a zoo made by zoo init with a model imported into it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import yaml
from zoo_parts import make_parts, write_targets

from kipoi_borzoi.adapters.adapter import Adapter, Scheme, with_head
from kipoi_borzoi.adapters.base import read_trunk, trunk_hash
from kipoi_borzoi.adapters.directory import save_adapter
from kipoi_borzoi.adapters.locon import Locon
from kipoi_borzoi.network.config import NetworkConfig
from kipoi_borzoi.zoo.place import packaged_zoo

KIPOI = Path(sys.executable).with_name("kipoi")
VIEWS = ["coverage", "logsum", "sum"]

pytestmark = pytest.mark.skipif(not KIPOI.exists(), reason="no kipoi command beside this Python: pip install kipoi")


class Home:
    """A user: a home folder, a working directory, and the zoo."""

    def __init__(self, folder: Path):
        self.work = folder / "work"
        self.zoo = folder / "home" / ".kipoi" / "borzoi_zoo"
        self.work.mkdir()
        (folder / "home").mkdir()
        self.env = {**os.environ, "HOME": str(folder / "home"), "KIPOI_BORZOI_CACHE": str(folder / "cache")}

    def run(self, program, *args, status=0, **env):
        command = [str(arg) for arg in ([KIPOI] if program == "kipoi" else [sys.executable, "-m", "kipoi_borzoi.cli"])]
        command += [str(arg) for arg in args]
        result = subprocess.run(
            command, cwd=self.work, env={**self.env, **env}, capture_output=True, text=True, timeout=300
        )
        assert result.returncode == status, f"{command}\n{result.stdout}\n{result.stderr}"
        assert "WARNING" not in result.stdout, result.stdout  # where Kipoi's own messages go
        return result.stdout

    def example(self, model):
        folder = self.zoo / model / "example"
        return {"intervals_file": str(folder / "regions.bed"), "fasta_file": str(folder / "genome.fa.gz")}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("user")
    home = Home(folder)
    home.run("kipoi-borzoi", "zoo", "init")
    parts = make_parts(folder / "parts", SMALL)
    home.run(
        "kipoi-borzoi",
        "zoo",
        "import",
        "BorzoiLab/mine",
        "--head=human",
        *(f"--{key}={file}" for key, file in parts.items()),
    )
    write_adapter(folder / "adapter", folder / "parts")
    home.run("kipoi-borzoi", "zoo", "publish", folder / "adapter", "BorzoiLab/tuned")
    return home


def write_adapter(directory, parts):
    """A locon adapter with three tracks and random weights on the imported model."""
    config = NetworkConfig.from_params(parts / "params.json")
    scheme = Scheme(Locon(conv_select=2), with_head(config, tracks=3))
    random = np.random.default_rng(1)
    tensors = {name: random.normal(0, 0.2, shape).astype(np.float32) for name, shape in scheme.shapes().items()}
    write_targets(parts / "tuned.txt", ["treated", "control", "other"])
    base = trunk_hash(read_trunk(parts / "model.h5", config), config)
    save_adapter(directory, Adapter(scheme, tensors), parts / "tuned.txt", "BorzoiLab/mine", base, "new")


SMALL = {
    "model": {
        "seq_length": 512,
        "activation": "gelu",
        "norm_type": "batch",
        "bn_momentum": 0.9,
        "kernel_initializer": "lecun_normal",
        "trunk": [
            {"name": "conv_dna", "filters": 8, "kernel_size": 15, "norm_type": None, "activation": "linear",
             "pool_size": 2},
            {"name": "res_tower", "filters_init": 8, "filters_end": 16, "divisible_by": 4, "kernel_size": 5,
             "num_convs": 1, "pool_size": 2, "repeat": 4},
            {"name": "transformer_tower", "key_size": 4, "heads": 2, "num_position_features": 8, "repeat": 1},
            {"name": "unet_conv", "kernel_size": 3, "upsample_conv": True},
            {"name": "Cropping1D", "cropping": 2},
        ],
        "head_human": {"name": "final", "units": 6, "activation": "softplus"},
    }
}  # fmt: skip


@pytest.fixture(scope="module")
def demo(home):
    """`kipoi predict` of the packaged demo, three windows at a time; the file holds the inputs too."""
    home.run(
        "kipoi", "predict", "BorzoiDemo/base/coverage", "--source", "borzoi", "--batch_size", 3, "-k", "-m",
        "--dataloader_args", json.dumps(home.example("BorzoiDemo/base")), "-o", "demo.h5",
    )  # fmt: skip
    return home.work / "demo.h5"


@pytest.fixture(scope="module")
def formats(home):
    """`kipoi predict` of the imported model in all formats at once."""
    files = {suffix: home.work / f"out.{suffix}" for suffix in ("h5", "tsv", "parquet", "bed")}
    home.run(
        "kipoi", "predict", "BorzoiLab/mine/coverage", "--source", "borzoi", "--batch_size", 1, "-m",
        "--dataloader_args", json.dumps(home.example("BorzoiLab/mine")), "-o", *files.values(),
    )  # fmt: skip
    return files


def test_ls(home):
    assert home.run("kipoi", "ls", "--source", "borzoi").split("\n")[:-1] == [
        "Borzoi/ (30)", "BorzoiDemo/ (9)", "BorzoiLab/ (6)", "BorzoiMini/ (6)",
    ]  # fmt: skip
    assert sorted(home.run("kipoi", "ls", "BorzoiLab/mine", "--source", "borzoi").split()) == [
        f"BorzoiLab/mine/{v}" for v in VIEWS
    ]
    names = home.run("kipoi", "ls", "all", "--source", "borzoi").split()
    assert len(names) == 51 and "Borzoi/human/ensemble/logsum" in names


def test_ls_of_the_packaged_zoo_in_place(home, tmp_path):
    """Kipoi can use the package's folder itself as a source, without zoo init."""
    (tmp_path / ".kipoi").mkdir()
    source = {"type": "local", "local_path": str(packaged_zoo())}
    (tmp_path / ".kipoi" / "config.yaml").write_text(yaml.safe_dump({"model_sources": {"here": source}}))
    assert home.run("kipoi", "ls", "--source", "here", HOME=str(tmp_path)).split()[0] == "Borzoi/"
    assert "simulated" in home.run(
        "kipoi", "info", "BorzoiDemo/base/sum", "--source", "here", HOME=str(tmp_path)
    )


@pytest.mark.parametrize(
    "name", ["Borzoi/mouse/ensemble/coverage", "BorzoiMini/k562_rna/f1/sum", "BorzoiLab/mine/logsum", "BorzoiLab/tuned/sum"]
)
def test_info(home, name):
    text = home.run("kipoi", "info", name, "--source", "borzoi")
    assert f"'{name}' from source 'borzoi'" in text
    assert "intervals_file:" in text and "fasta_file:" in text


def test_info_by_folder(home):
    assert "simulated" in home.run("kipoi", "info", packaged_zoo() / "BorzoiDemo/base/sum", "--source", "dir")


def test_pull(home):
    home.run("kipoi", "pull", "BorzoiLab/mine/sum", "--source", "borzoi")
    assert "Found 9 models" in home.run("kipoi", "pull", "BorzoiDemo", "--source", "borzoi")


@pytest.mark.parametrize("name", ["BorzoiDemo/base/sum", "Borzoi/human/rep0/sum", "BorzoiLab/mine/sum"])
def test_get_example(home, name):
    folder = name.replace("/", "_")
    text = home.run("kipoi", "get-example", name, "--source", "borzoi", "-o", folder)
    assert json.loads(text.strip().splitlines()[-1]) == {
        "intervals_file": f"{folder}/regions.bed",
        "fasta_file": f"{folder}/genome.fa.gz",
    }
    for file in ("regions.bed", "genome.fa.gz"):
        group = name.rpartition("/")[0] if "rep0" not in name else "Borzoi"
        assert (home.work / folder / file).read_bytes() == (home.zoo / group / "example" / file).read_bytes()


def test_preproc(home):
    home.run(
        "kipoi", "preproc", "BorzoiLab/mine", "--source", "borzoi",
        "--dataloader_args", json.dumps(home.example("BorzoiLab/mine")), "-o", "windows.h5",
    )  # fmt: skip
    with h5py.File(home.work / "windows.h5") as file:
        assert file["inputs"].shape == (2, 512, 4)
        assert file["metadata/ranges/chr"].asstr()[:].tolist() == ["example1", "example2"]
        # Regions 20,000-20,032 and 0-32, resized to 512 bp around their centres.
        assert file["metadata/ranges/start"][:].tolist() == [20016 - 256, 16 - 256]
        assert not file["inputs"][1, :240].any()  # before the contig's first base


def test_predict(demo):
    from kipoi_borzoi.model import BorzoiModel

    with h5py.File(demo) as file:
        x, preds = file["inputs"][:], file["preds"][:]
        names = file["metadata/ranges/id"].asstr()[:].tolist()
    assert names == [f"window{number}" for number in range(1, 25)]
    assert x.shape == (24, 4096, 4) and preds.shape == (24, 112, 32)
    assert np.isfinite(preds).all() and (preds >= 0).all() and preds.std(axis=1).min() > 0
    folder = packaged_zoo() / "BorzoiDemo" / "base"
    model = BorzoiModel(*(str(folder / file) for file in ("params.json", "weights.safetensors", "targets.txt")))
    np.testing.assert_allclose(model.predict_on_batch(x), preds, rtol=1e-5, atol=1e-6)


def test_predict_with_an_adapter(home):
    """One base and its adapter through Kipoi's command, against the network with the adapter called directly."""
    from kipoi_borzoi.adapters.directory import load_adapter
    from kipoi_borzoi.adapters.sites import AdapterSites
    from kipoi_borzoi.network.network import Network
    from kipoi_borzoi.network.weights import load_weights, read_weights

    home.run(
        "kipoi", "predict", "BorzoiLab/tuned/coverage", "--source", "borzoi", "-k",
        "--dataloader_args", json.dumps(home.example("BorzoiLab/tuned")), "-o", "tuned.h5",
    )  # fmt: skip
    with h5py.File(home.work / "tuned.h5") as file:
        x, preds = file["inputs"][:], file["preds"][:]
    assert preds.shape == (2, 28, 3)
    config = NetworkConfig.from_params(SMALL)
    network = Network(config, initialize=False)
    load_weights(network, read_weights(home.zoo / "BorzoiLab/mine/weights.safetensors", config))
    sites = AdapterSites(network, load_adapter(home.work.parent / "adapter").adapter)
    np.testing.assert_allclose(preds, np.asarray(network(x, run=sites)), rtol=1e-5, atol=1e-6)
    assert "All tests" not in (text := home.run("kipoi", "test", "BorzoiLab/tuned/sum", "--source", "borzoi"))
    assert "Successfully ran test_predict" in text


def test_formats_agree(formats):
    with h5py.File(formats["h5"]) as file:
        preds = file["preds"][:]
    assert preds.shape == (2, 28, 6)
    tables = {
        "tsv": pd.read_csv(formats["tsv"], sep="\t"),
        "parquet": pd.read_parquet(formats["parquet"]),
        "bed": pd.read_csv(formats["bed"], sep="\t"),
    }
    columns = [f"preds/{position}/{track}" for position in range(28) for track in range(6)]
    for suffix, table in tables.items():
        np.testing.assert_allclose(table[columns].values, preds.reshape(2, -1), rtol=1e-6, err_msg=suffix)
    ranges = tables["bed"][["chr", "start", "end", "name"]].values.tolist()
    assert ranges == [["example1", 19760, 20272, "middle"], ["example2", -240, 272, "start"]]


def test_zarr(home):
    zarr = pytest.importorskip("zarr", reason="zarr is not installed: pip install 'zarr<3'")
    if int(zarr.__version__.split(".")[0]) > 2:
        pytest.skip("Kipoi writes with zarr 2 only")
    args = json.dumps(home.example("BorzoiLab/mine"))
    home.run(
        "kipoi", "predict", "BorzoiLab/mine/sum", "--source", "borzoi", "--dataloader_args", args, "-o", "out.zarr"
    )
    assert zarr.open_group(str(home.work / "out.zarr"), mode="r")["preds"].shape == (2, 6)


def test_test_against_expected_values(home, demo):
    text = home.run("kipoi", "test", "BorzoiDemo/base/coverage", "--source", "borzoi", "-e", demo)
    assert "All predictions match" in text and "Successfully ran test_predict" in text


def test_source_selects_what_needs_no_download(home):
    text = home.run("kipoi", "test-source", "borzoi", "--all", "-n")
    chosen = [line[2:].strip() for line in text.splitlines() if line.startswith("- ")]
    chosen = [name.split("\x1b")[0] for name in chosen]
    groups = {"BorzoiDemo": ("base", "unseen1", "unseen2"), "BorzoiLab": ("mine", "tuned")}
    assert sorted(chosen) == [f"{group}/{model}/{view}" for group, models in groups.items() for model in models for view in VIEWS]


def test_test_source(home, tmp_path):
    """With a stand-in for conda, which Kipoi demands; everything else is real."""
    conda = tmp_path / "bin" / "conda"
    conda.parent.mkdir()
    shutil.copyfile(Path(__file__).with_name("fake_conda.py"), conda)
    conda.write_text(f"#!{sys.executable}\n" + conda.read_text())
    conda.chmod(0o755)
    (tmp_path / "envs").mkdir()
    path = os.pathsep.join([str(conda.parent), str(KIPOI.parent), os.environ["PATH"]])
    text = home.run(
        "kipoi", "test-source", "borzoi", "--all", "-k", "BorzoiDemo/base/coverage|BorzoiLab/mine/sum",
        PATH=path, FAKE_CONDA=str(tmp_path / "envs"),
    )  # fmt: skip
    assert "All tests (2) passed" in text
    assert text.count("Successfully ran test_predict") == 2


def test_model_through_python(home):
    """kipoi.get_model and its pipeline, on an imported entry."""
    import kipoi
    from kipoi.sources import LocalSource

    model = kipoi.get_model("BorzoiLab/mine/sum", source=LocalSource(str(home.zoo)))
    preds = model.pipeline.predict_example(batch_size=1)
    assert (preds.shape, preds.dtype) == ((2, 6), np.float64)
    assert list(model.schema.targets.column_labels) == [f"human{index}" for index in range(6)]
