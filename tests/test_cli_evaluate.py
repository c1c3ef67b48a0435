"""`kipoi-borzoi evaluate`: a model of a zoo on a data store, in one folder."""

import json

import numpy as np
import pandas as pd
import pytest
from zoo_parts import make_parts

from kipoi_borzoi.cli import main
from kipoi_borzoi.cli.evaluate import base_name
from kipoi_borzoi.genome import Interval
from kipoi_borzoi.tracks import read_tracks
from kipoi_borzoi.training.store import Layout, StoreWriter
from kipoi_borzoi.zoo import zoo_import

NAMES = ["a.control+", "a.control-", "a.treated+", "a.treated-", "b+", "b-"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a zoo (lab/m: 512 bp, 28 bins of 16 bp) and a store of six windows."""
    folder = tmp_path_factory.mktemp("evaluate")
    params = {
        "model": {
            "seq_length": 512, "activation": "gelu", "norm_type": "batch", "bn_momentum": 0.9,
            "trunk": [
                {"name": "conv_dna", "filters": 6, "kernel_size": 7, "norm_type": None, "activation": "linear", "pool_size": 4},
                {"name": "res_tower", "filters_init": 6, "filters_mult": 1.0, "kernel_size": 3, "num_convs": 1, "repeat": 2},
                {"name": "Cropping1D", "cropping": 2},
            ],
            "head_human": {"name": "final", "units": 6, "activation": "softplus"},
        }
    }  # fmt: skip
    parts = make_parts(folder / "parts", params)
    lines = ["\tidentifier\tfile\tclip\tclip_soft\tscale\tsum_stat\tstrand_pair\tdescription"]
    lines += [f"{i}\t{name}\tnone\t384\t64\t1.0\tsum_sqrt\t{i + 1 - 2 * (i % 2)}\tRNA" for i, name in enumerate(NAMES)]
    parts["targets"].write_text("\n".join(lines) + "\n")
    (folder / "zoo").mkdir()
    zoo_import("lab/m", **parts, zoo=folder / "zoo")
    random = np.random.default_rng(0)
    intervals = tuple(Interval("chr1", 512 * i, 512 * i + 512) for i in range(6))
    layout = Layout(
        read_tracks(parts["targets"]), "new", 512, 32, 16, intervals, ("train", "test", "test", "test", "valid", "test")
    )
    with StoreWriter(folder / "store", layout) as writer:
        for _ in intervals:
            writer.append(random.integers(0, 4, 512).astype(np.uint8), random.gamma(1, 2, (28, 6)))
    return folder


def command(place, out, *more):
    return [
        "evaluate",
        "--model",
        "lab/m",
        "--zoo",
        str(place / "zoo"),
        "--data",
        str(place / "store"),
        "--out",
        str(out),
        *more,
    ]


def test_a_model_of_the_zoo_is_compared_with_the_store(place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(command(place, "out", "--no-pictures")) == 0
    printed = capsys.readouterr().out
    assert "lab/m" in printed and "r over bins, per track" in printed
    figures = json.loads((tmp_path / "out/summary.json").read_text())
    assert (figures["windows"], figures["tracks"], figures["bins"], figures["folds"]) == (4, 6, 4 * 28, ["test"])
    table = pd.read_csv("out/tracks.tsv", sep="\t")
    assert table["identifier"].tolist() == NAMES and (table["fold"] == "test").all()
    # Once more, by hand: the model's own predictions against the store.
    from kipoi_borzoi.training.store import Store
    from kipoi_borzoi.zoo.load import load_model

    with Store.open(place / "store") as store:
        x = np.stack([store.sequence(i) for i in store.indices("test")])
        measured = np.concatenate([store.targets(i) for i in store.indices("test")]).astype(float)
    predicted = load_model("lab/m", zoo=place / "zoo").predict_on_batch(x).reshape(-1, 6)
    expected = [np.corrcoef(measured[:, track], predicted[:, track])[0, 1] for track in range(6)]
    np.testing.assert_allclose(table["pearson"], expected, atol=2e-5)  # written with six digits


def test_windows_predicted_by_workers_give_the_same_figures(place, tmp_path, monkeypatch, capsys):
    pytest.importorskip("distributed", reason="Dask is not installed: pip install 'kipoi-borzoi[dask]'")
    monkeypatch.chdir(tmp_path)
    for out, more in (("one", []), ("many", ["--cluster", "local:2"])):
        assert main(command(place, out, "--no-pictures", "--rc", *more)) == 0
    one, many = (pd.read_csv(f"{out}/tracks.tsv", sep="\t") for out in ("one", "many"))
    # workers have fewer threads, and so add in another order; written with six digits
    pd.testing.assert_frame_equal(one, many, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "more, said",
    [
        (["--split", "fold3"], "no fold 'fold3'; its folds are train, valid, test"),
        (["--contrast", "treated-control"], "give them with --genes"),
        (["--batch-size", "0"], "--batch-size is 0"),
        (["--data", "nothing"], "no such store"),
        (["--model", "lab/other"], "lab/other"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(place, tmp_path, monkeypatch, capsys, more, said):
    monkeypatch.chdir(tmp_path)
    assert main(command(place, "out", "--no-pictures", *more)) == 1
    error = capsys.readouterr().err.strip().splitlines()
    assert said in error[-1] and error[-1].startswith("kipoi-borzoi: error:")
    assert not list(tmp_path.glob("out/*.tsv"))


def test_base_of_a_plain_entry_is_itself(place):
    assert base_name("lab/m", place / "zoo") == "lab/m"
    assert base_name("lab/m/sum", place / "zoo") == "lab/m"


def test_genes_and_contrasts_come_from_files(place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    genes = [("g1", 600, 700, "+"), ("g2", 1100, 1160, "-"), ("g3", 1600, 1700, "+"), ("train", 100, 200, "+")]
    lines = [
        f'chr1\tx\texon\t{start + 1}\t{end}\t.\t{strand}\t.\tgene_id "{name}";' for name, start, end, strand in genes
    ]
    (tmp_path / "genes.gtf").write_text("\n".join(lines) + "\n")
    more = ["--genes", "genes.gtf", "--contrast", "treated-control"]
    assert main(command(place, "out", *more)) == 0
    assert "1 genes left out" in capsys.readouterr().out
    table = pd.read_csv("out/gene_expression.tsv", sep="\t")
    assert table["gene_id"].unique().tolist() == ["g1", "g2", "g3"] and table["column"].unique().tolist() == [
        "a.control", "a.treated", "b",
    ]  # fmt: skip
    changes = pd.read_csv("out/gene_changes.tsv", sep="\t").set_index("gene_id")
    wide = table.pivot(index="gene_id", columns="column", values="measured")
    np.testing.assert_allclose(changes["measured"], wide["a.treated"] - wide["a.control"], atol=2e-5)
    assert (changes["contrast"] == "a.treated-control").all()
    assert (tmp_path / "out/changes.png").exists()
