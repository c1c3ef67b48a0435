"""Reads what the demonstration's commands wrote, and the truth beside it."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kipoi_borzoi.dataloaders.gtf import read_gtf
from kipoi_borzoi.evaluation.genes import exon_bins, expression_columns, gene_sums
from kipoi_borzoi.tracks import Tracks, read_tracks, unsquash
from kipoi_borzoi.variants.results import SCORED
from kipoi_borzoi.zoo.place import packaged_zoo

BIN, CROP_BP, TRANSFORM = 32, 256, "new"


@dataclass(frozen=True, eq=False)
class Coverage:
    """Predicted coverage of some windows.

    Attributes
    ----------
    names, chroms : list of str
    starts : list of int
        0-based first base of the first bin.
    values : (windows, bins, tracks) float32
    tracks : Tracks
    """

    names: list[str]
    chroms: list[str]
    starts: list[int]
    values: np.ndarray
    tracks: Tracks


@dataclass(frozen=True, eq=False)
class Expression:
    """log2 fold changes of genes' expression between two cell types.

    Attributes
    ----------
    cells : tuple of str
        Numerator and denominator.
    genes : list of str
    predicted, true : (genes,) float64
    """

    cells: tuple[str, str]
    genes: list[str]
    predicted: np.ndarray
    true: np.ndarray


@dataclass(frozen=True, eq=False)
class Effects:
    """log2 fold changes of genes' expression by variants.

    Attributes
    ----------
    cells : tuple of str
    variants : list of (id, gene, kind)
    predicted, true : (variants, cells) float64
    """

    cells: tuple[str, ...]
    variants: list[tuple[str, str, str]]
    predicted: np.ndarray
    true: np.ndarray


def read_predictions(path: Path) -> Coverage:
    """Read what ``kipoi predict --keep_metadata`` wrote for one of the demo's cell types."""
    import h5py

    with h5py.File(path, "r") as file:
        ranges = file["metadata/ranges"]
        text = {key: [_text(value) for value in ranges[key][()]] for key in ("chr", "start", "end", "id")}
        values = file["preds"][()]
    starts = [int(start) + CROP_BP for start in text["start"]]
    tracks = read_tracks(packaged_zoo() / "BorzoiDemo" / path.stem / "adapter" / "targets.txt")
    return Coverage(text["id"], text["chr"], starts, values, tracks)


def read_expression(coverage: dict[str, Coverage], example: Path, condition: str) -> Expression:
    """The first cell type against the second, in one condition: sums over exon bins of unsquashed coverage, replicates averaged."""
    truth = {row["gene_id"]: row for row in rows_of(example / "truth" / "expression.tsv")}
    first, second = coverage
    names, predicted, true = [], [], []
    for gene in read_gtf(example / "genes.gtf"):
        levels = [_level(gene, its, f"{cell}.{condition}.") for cell, its in coverage.items()]
        if None in levels:
            continue
        names.append(gene.gene_id)
        predicted.append(levels[0] - levels[1])
        row = truth[gene.gene_id]
        true.append(float(row[f"{first}.{condition}"]) - float(row[f"{second}.{condition}"]))
    return Expression((first, second), names, np.array(predicted), np.array(true))


def _level(gene, coverage: Coverage, wanted: str) -> float | None:
    """log2(1 + mean over replicates of the sum over exon bins); None when no window has the whole gene."""
    columns = expression_columns(coverage.tracks)
    chosen = [number for number, column in enumerate(columns) if column.name.startswith(wanted)]
    for chrom, start, values in zip(coverage.chroms, coverage.starts, coverage.values, strict=True):
        bins = exon_bins(gene, start, len(values), BIN) if chrom == gene.chrom else None
        if bins is not None:
            sums = gene_sums(unsquash(values[bins], coverage.tracks, TRANSFORM), gene.strand, columns)
            return float(np.log2(1 + sums[chosen].mean()))
    return None


def read_effects(scores: Path, example: Path, cells: tuple[str, ...], condition: str) -> Effects:
    """Scores of each variant and gene in one condition of each cell type (replicates averaged), with the true effects."""
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for row in rows_of(scores):
        if row["status"] == SCORED and row["gene_id"]:
            for cell in cells:
                if f"{cell}.{condition}." in row["track"]:
                    found.setdefault((row["id"], row["gene_id"]), {}).setdefault(cell, []).append(float(row["score"]))
    variants, predicted, true = [], [], []
    for row in rows_of(example / "truth" / "variant_effects.tsv"):
        its = found.get((row["id"], row["gene_id"]))
        if its is not None:
            variants.append((row["id"], row["gene_id"], row["kind"]))
            predicted.append([np.mean(its[cell]) for cell in cells])
            true.append([float(row[f"{cell}.{condition}"]) for cell in cells])
    return Effects(cells, variants, np.array(predicted), np.array(true))


def rows_of(path: Path) -> list[dict]:
    """Rows of a TSV file with a header; lines that begin with ``#`` are notes."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader((line for line in file if not line.startswith("#")), delimiter="\t"))


def _text(value) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
