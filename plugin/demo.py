"""The demonstration: the packaged model run through Kipoi's own command, offline, with a table and a picture of the result."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kipoi_borzoi.errors import InputError, KipoiBorzoiError
from kipoi_borzoi.tracks import Tracks, read_tracks
from kipoi_borzoi.zoo.place import packaged_zoo

ENTRY = "BorzoiDemo/base/coverage"
RANDOM = "The demo's weights are RANDOM: it shows how the tools work, its numbers mean nothing."


@dataclass(frozen=True)
class DemoResult:
    """What the demonstration made.

    Attributes
    ----------
    predictions, picture : Path
        HDF5 file that `kipoi predict` wrote; PNG.
    table : list of (region, {identifier: mean coverage, maximum})
    """

    predictions: Path
    picture: Path
    table: list[tuple[str, dict[str, tuple[float, float]]]]


def run_demo(out: str | os.PathLike = "demo_output") -> DemoResult:
    """Register the packaged zoo, predict the demo's regions with ``kipoi predict``, read the result back and plot it.

    Kipoi's configuration of the demo lies in ``out`` as well, so that yours is not touched.

    Parameters
    ----------
    out : path
        Folder for the results; made when absent.

    Raises
    ------
    KipoiBorzoiError
        The folder cannot be written, or one of the commands fails.
    """
    out = Path(out).absolute()
    home, predictions = out / "home", out / "coverage.h5"
    try:
        home.mkdir(parents=True, exist_ok=True)
        predictions.unlink(missing_ok=True)  # kipoi does not write over an existing .h5
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}); choose another folder with --out") from error
    example = packaged_zoo() / "BorzoiDemo" / "base" / "example"
    arguments = f'{{"intervals_file": "{example / "regions.bed"}", "fasta_file": "{example / "genome.fa.gz"}"}}'
    _show("kipoi-borzoi", "zoo", "init", home=home)
    _show(
        "kipoi", "predict", ENTRY, "--source", "borzoi", "--dataloader_args", arguments,
        "--keep_metadata", "--output", str(predictions), home=home,
    )  # fmt: skip
    tracks = read_tracks(packaged_zoo() / "BorzoiDemo" / "base" / "targets.txt")
    regions, coverage = read_predictions(predictions)
    table = [
        (region, {name: (float(values[:, i].mean()), float(values[:, i].max())) for i, name in enumerate(tracks.identifiers)})
        for region, values in zip(regions, coverage, strict=True)
    ]
    picture = out / "coverage.png"
    plot_coverage(picture, regions, coverage, tracks)
    return DemoResult(predictions, picture, table)


def read_predictions(path: Path) -> tuple[list[str], np.ndarray]:
    """Read what ``kipoi predict --keep_metadata`` wrote.

    Returns
    -------
    regions : list of str
        ``name chrom:start-end`` of each window, 0-based half-open.
    coverage : (windows, bins, tracks) float32
    """
    import h5py

    with h5py.File(path, "r") as file:
        ranges = file["metadata/ranges"]
        text = {key: [_text(value) for value in ranges[key][()]] for key in ("chr", "start", "end", "id")}
        coverage = file["preds"][()]
    fields = zip(text["id"], text["chr"], text["start"], text["end"], strict=True)
    return [f"{name} {chrom}:{int(start):,}-{int(end):,}" for name, chrom, start, end in fields], coverage


def format_table(table: list[tuple[str, dict[str, tuple[float, float]]]]) -> str:
    """The table as text: one line per region and track."""
    width = max(len(region) for region, _ in table)
    lines = [f"{'region':<{width}}  {'track':<12}{'mean':>10}{'max':>10}"]
    for region, tracks in table:
        for name, (mean, high) in tracks.items():
            lines.append(f"{region:<{width}}  {name:<12}{mean:>10.3f}{high:>10.3f}")
    return "\n".join(lines)


def plot_coverage(path: Path, regions: list[str], coverage: np.ndarray, tracks: Tracks) -> None:
    """Draw the coverage of each region (columns) and track (rows) as a PNG.

    Parameters
    ----------
    path : Path
    regions : list of str
    coverage : (windows, bins, tracks)
    tracks : Tracks
    """
    try:
        import matplotlib
    except ImportError as error:
        raise KipoiBorzoiError("pictures need matplotlib: pip install 'kipoi-borzoi[plot]'") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows, columns = len(tracks), len(regions)
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(3.6 * columns, 0.9 * rows + 1), sharex="col", sharey="row", squeeze=False
    )
    for row, (identifier, description) in enumerate(zip(tracks.identifiers, tracks.descriptions, strict=True)):
        for column, region in enumerate(regions):
            axis = axes[row, column]
            values = coverage[column, :, row]
            axis.fill_between(np.arange(len(values)), values, step="mid", color=f"C{row % 10}", linewidth=0)
            axis.set_xlim(0, len(values))
            axis.set_ylim(bottom=0)
            axis.spines[["top", "right"]].set_visible(False)
            if row == 0:
                axis.set_title(region, fontsize=9)
        axes[row, 0].set_ylabel(f"{identifier}\n{description}", rotation=0, ha="right", va="center", fontsize=8)
    figure.supxlabel("output bin (32 bp)", fontsize=9)
    figure.suptitle(f"{ENTRY}: predicted coverage. {RANDOM}", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _show(program: str, *arguments: str, home: Path) -> None:
    """Print a command as a user would type it, and run it with ``home`` as the user's folder."""
    print("$", shlex.join([program, *arguments]), flush=True)
    module = {"kipoi": "kipoi", "kipoi-borzoi": "kipoi_borzoi.cli"}[program]
    environment = {**os.environ, "HOME": str(home), "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2")}
    done = subprocess.run([sys.executable, "-m", module, *arguments], env=environment, check=False)
    if done.returncode:
        raise KipoiBorzoiError(f"the command above failed with exit status {done.returncode}")


def _text(value) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
