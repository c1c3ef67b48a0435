"""`kipoi-borzoi evaluate`: a model of a zoo on a data store, in one folder."""

import json

import numpy as np
import pandas as pd
import pytest
from evaluation_cases import NAMES, make_zoo_and_store

from kipoi_borzoi.cli import main
from kipoi_borzoi.cli.evaluate import base_name


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a zoo and a store."""
    folder = tmp_path_factory.mktemp("evaluate")
    make_zoo_and_store(folder)
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
