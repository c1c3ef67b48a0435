"""The whole way of a user, by the commands: a simulated genome, stores, a base, an adapter, its evaluation, an entry, a prediction."""

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import pandas as pd
import pytest

from kipoi_borzoi.cli import main

KIPOI = Path(sys.executable).with_name("kipoi")

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="training needs TensorFlow")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs a command in a folder of its own and returns what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        status = main([str(word) for word in words])
        printed = capsys.readouterr()
        assert status == 0, printed.err
        return printed.out

    return run


def test_from_a_genome_to_a_published_adapter(run, tmp_path):
    run(
        "simulate", "--out", "sim", "--seed", 1, "--genes", 120, "--genome-length", 96 * 4096, "--pretrain-cells", 2,
        "--transfer-cells", 1, "--replicates", 1, "--variants", 20,
    )  # fmt: skip
    for group in ("pretrain", "transfer"):
        run(
            "data", "build", "--targets", f"sim/targets_{group}.txt", "--fasta", "sim/genome.fa.gz",
            "--sequences", "sim/sequences.bed", "--crop-bp", 256, "--out", group,
        )  # fmt: skip
    options = ["--epochs-min", 1, "--epochs-max", 2, "--batch-size", 4, "--learning-rate", 0.002, "--warmup-steps", 4]
    run("finetune", "--from-scratch", "--params", "sim/params_pretrain.json", "--data", "pretrain", "--out", "base", *options)
    (tmp_path / "zoo").mkdir()
    zoo = ["--zoo", tmp_path / "zoo"]
    parts = {"params": "params.json", "weights": "weights.safetensors", "targets": "targets.txt"}
    run("zoo", "import", "sim/base", *zoo, *(word for role, file in parts.items() for word in (f"--{role}", f"base/base/{file}")))
    weights = tmp_path / "zoo/sim/base/weights.safetensors"
    run(
        "finetune", "--base", weights, "--params", "base/base/params.json", "--base-name", "sim/base",
        "--data", "transfer", "--method", "locon", "--out", "run", *options,
    )  # fmt: skip
    losses = pd.read_csv("run/epochs.csv")
    assert np.isfinite(losses.select_dtypes("number").to_numpy()).all() and len(losses) == 2
    assert run("zoo", "publish", "run/adapter", "sim/unseen", *zoo).split()[0] == "sim/unseen/coverage"
    run(
        "evaluate", "--model", "sim/unseen", *zoo, "--data", "transfer", "--split", "test", "--genes", "sim/genes.gtf",
        "--contrast", "treated-control", "--no-pictures", "--out", "evaluation",
    )  # fmt: skip
    tracks = pd.read_csv("evaluation/tracks.tsv", sep="\t")
    assert len(tracks) == 4 and tracks["pearson"].between(-1, 1).all()

    # Kipoi's own command, and the same numbers from the run's adapter directory on the base.
    Path("test.bed").write_text("sim1\t4096\t4128\nsim1\t20000\t20032\n")
    arguments = json.dumps({"intervals_file": "test.bed", "fasta_file": "sim/genome.fa.gz"})
    subprocess.run(
        [KIPOI, "predict", tmp_path / "zoo/sim/unseen/coverage", "--source", "dir", "--dataloader_args", arguments, "-k",
         "-o", "out.h5"],
        check=True, capture_output=True, timeout=300, env={**os.environ, "HOME": str(tmp_path)},
    )  # fmt: skip
    from kipoi_borzoi import load_model

    with h5py.File("out.h5") as file:
        x, predicted = file["inputs"][:], file["preds"][:]
    group = load_model("sim/base", adapters=["run/adapter"], zoo=tmp_path / "zoo")
    np.testing.assert_allclose(group.predict_on_batch(x)["run/adapter"], predicted, rtol=1e-4, atol=1e-6)
