"""Runs the demonstration's commands, and puts their results beside the truth of the simulated genome."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from kipoi_borzoi.demo.results import Effects, Expression, read_effects, read_expression, read_predictions
from kipoi_borzoi.errors import InputError, KipoiBorzoiError
from kipoi_borzoi.zoo.place import packaged_zoo

CELLS = ("unseen1", "unseen2")
CONTROL = "control"
SHOWN = 4
"""Windows in the picture of coverage."""
SIMULATED = "The demo's genome is simulated: its models show how the tools work, and mean nothing for real DNA."


@dataclass(frozen=True)
class DemoResult:
    """What the demonstration made.

    Attributes
    ----------
    predictions : dict of str to Path
        HDF5 file that `kipoi predict` wrote, by cell type.
    scores : Path
        Table that `kipoi-borzoi score` wrote.
    pictures : tuple of Path
        PNG.
    expression : Expression
    effects : Effects
    """

    predictions: dict[str, Path]
    scores: Path
    pictures: tuple[Path, ...]
    expression: Expression
    effects: Effects


def example_folder() -> Path:
    """Genome, regions, genes and variants of the demonstration, and the truth about them."""
    return packaged_zoo() / "BorzoiDemo" / "base" / "example"


def run_demo(out: str | os.PathLike = "demo_output") -> DemoResult:
    """Register the packaged zoo, predict coverage in two cell types by ``kipoi predict``, score variants, compare with the truth.

    Kipoi's configuration of the demo lies in ``out`` as well, so that yours is not touched.

    Parameters
    ----------
    out : path
        Folder for the results; made when absent.

    Raises
    ------
    KipoiBorzoiError
        The folder cannot be written, matplotlib is missing, or one of the commands fails.
    """
    out = Path(out).absolute()
    home, scores = out / "home", out / "effects.tsv"
    predictions = {cell: out / f"{cell}.h5" for cell in CELLS}
    try:
        home.mkdir(parents=True, exist_ok=True)
        for file in (*predictions.values(), scores):
            file.unlink(missing_ok=True)  # neither kipoi nor score writes over a result
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}); choose another folder with --out") from error
    _require_matplotlib()
    example = example_folder()
    genome, genes = str(example / "genome.fa.gz"), str(example / "genes.gtf")
    _show("kipoi-borzoi", "zoo", "init", home=home)
    arguments = json.dumps({"intervals_file": str(example / "regions.bed"), "fasta_file": genome})
    for cell, file in predictions.items():
        _show(
            "kipoi", "predict", f"BorzoiDemo/{cell}/coverage", "--source", "borzoi", "--dataloader_args", arguments,
            "--keep_metadata", "--output", str(file), home=home,
        )  # fmt: skip
    _show(
        "kipoi-borzoi", "score", "--model", ",".join(f"BorzoiDemo/{cell}" for cell in CELLS), "--separate",
        "--vcf", str(example / "variants.vcf"), "--fasta", genome, "--genes", genes, "--scores", "gene:logSED",
        "--out", str(scores), home=home,
    )  # fmt: skip
    coverage = {cell: read_predictions(file) for cell, file in predictions.items()}
    expression = read_expression(coverage, example, CONTROL)
    effects = read_effects(scores, example, CELLS, CONTROL)
    return DemoResult(predictions, scores, _draw(out, coverage, expression, effects), expression, effects)


def _draw(out: Path, coverage, expression: Expression, effects: Effects) -> tuple[Path, ...]:
    from kipoi_borzoi.demo.pictures import plot_coverage, plot_effects, plot_expression

    pictures = out / "coverage.png", out / "expression.png", out / "effects.png"
    plot_coverage(pictures[0], coverage, example_folder() / "genes.gtf", CONTROL, SHOWN)
    plot_expression(pictures[1], expression)
    plot_effects(pictures[2], effects)
    return pictures


def _require_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise KipoiBorzoiError("pictures need matplotlib: pip install 'kipoi-borzoi[plot]'") from error


def _show(program: str, *arguments: str, home: Path) -> None:
    """Print a command as a user would type it, and run it with ``home`` as the user's folder."""
    print("$", shlex.join([program, *arguments]), flush=True)
    module = {"kipoi": "kipoi", "kipoi-borzoi": "kipoi_borzoi.cli"}[program]
    environment = {**os.environ, "HOME": str(home), "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2")}
    done = subprocess.run([sys.executable, "-m", module, *arguments], env=environment, check=False)
    if done.returncode:
        raise KipoiBorzoiError(f"the command above failed with exit status {done.returncode}")
