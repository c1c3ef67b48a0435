"""The demonstration's pictures."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot

from kipoi_borzoi.dataloaders.gtf import read_gtf
from kipoi_borzoi.demo.results import BIN, Coverage, Effects, Expression

FLOOR = -4.0


def plot_coverage(path: Path, coverage: dict[str, Coverage], gtf: Path, condition: str, shown: int) -> None:
    """Draw both strands of each cell type (rows) in some windows (columns), above the genes."""
    first = next(iter(coverage.values()))
    columns = range(min(shown, len(first.names)))
    heights = [*[2.0] * len(coverage), 0.7]
    figure, axes = pyplot.subplots(
        len(heights), len(columns), figsize=(3.6 * len(columns), 1.8 * len(coverage) + 1.2), sharex="col", sharey="row",
        squeeze=False, gridspec_kw={"height_ratios": heights},
    )  # fmt: skip
    genes = read_gtf(gtf)
    for row, (cell, its) in enumerate(coverage.items()):
        strands = [[n for n, name in enumerate(its.tracks.identifiers) if f".{condition}." in name and name[-1] == s] for s in "+-"]
        for column in columns:
            axis, values = axes[row, column], its.values[column]
            places = its.starts[column] + BIN * np.arange(len(values))
            for tracks, sign, colour in zip(strands, (1, -1), ("C0", "C3"), strict=True):
                axis.fill_between(places, sign * values[:, tracks].mean(axis=1), step="post", color=colour, linewidth=0)
            axis.axhline(0, color="0.4", linewidth=0.5)
            axis.spines[["top", "right"]].set_visible(False)
            if row == 0:
                axis.set_title(its.names[column], fontsize=9)
        axes[row, 0].set_ylabel(f"{cell}\n{condition}", fontsize=9)
    for column in columns:
        axis, start = axes[-1, column], first.starts[column]
        end = start + BIN * first.values.shape[1]
        _draw_genes(axis, [g for g in genes if g.chrom == first.chroms[column] and start <= g.exons[0][0] and g.exons[-1][1] <= end])
        axis.set_xlim(start, end)
        axis.set_xlabel(f"{first.chroms[column]} (bp)", fontsize=8)
        axis.tick_params(labelsize=7)
    figure.suptitle("Predicted coverage (squashed scale): + strand up, - strand down; genes below", fontsize=10)
    figure.tight_layout()
    _save(figure, path)


def _draw_genes(axis, genes) -> None:
    for gene in genes:
        level = 1 if gene.strand == "+" else 0
        colour = "C0" if gene.strand == "+" else "C3"
        axis.plot([gene.exons[0][0], gene.exons[-1][1]], [level, level], color=colour, linewidth=1)
        for start, end in gene.exons:
            axis.plot([start, end], [level, level], color=colour, linewidth=6, solid_capstyle="butt")
    axis.set_ylim(-0.7, 1.7)
    axis.set_yticks([])
    axis.spines[["top", "right", "left"]].set_visible(False)


def plot_expression(path: Path, expression: Expression) -> None:
    """Draw predicted against true log2 fold changes between the cell types."""
    figure, axis = pyplot.subplots(figsize=(4.6, 4.6))
    _scatter(axis, expression.true, expression.predicted, "C2")
    axis.set_xlabel(f"true log2 ({expression.cells[0]} / {expression.cells[1]})")
    axis.set_ylabel("predicted")
    axis.set_title(f"Expression of {len(expression.genes)} held-out genes between cell types", fontsize=10)
    figure.tight_layout()
    _save(figure, path)


def plot_effects(path: Path, effects: Effects) -> None:
    """Draw predicted against true effects of variants, one panel per cell type.

    Variants that break a promoter or a splice site may silence a gene: true effects below `FLOOR` are drawn there.
    """
    figure, axes = pyplot.subplots(1, len(effects.cells), figsize=(4.6 * len(effects.cells), 4.6), squeeze=False)
    site = np.array([kind.startswith("site") or kind == "silent_site" for _, _, kind in effects.variants])
    for number, (cell, axis) in enumerate(zip(effects.cells, axes[0], strict=True)):
        true, predicted = np.maximum(effects.true[:, number], FLOOR), effects.predicted[:, number]
        _scatter(axis, true[site], predicted[site], "C1", "in factors' sites")
        axis.scatter(true[~site], predicted[~site], s=16, facecolors="none", edgecolors="0.5", linewidths=0.8, label="elsewhere")
        axis.legend(fontsize=8, frameon=False, loc="lower right")
        axis.set_xlabel(f"true log2 fold change of a gene (at least {FLOOR:g})")
        axis.set_ylabel("predicted (gene:logSED)")
        axis.set_title(f"Effects in {cell}", fontsize=10)
    figure.tight_layout()
    _save(figure, path)


def _scatter(axis, true: np.ndarray, predicted: np.ndarray, colour: str, label: str | None = None) -> None:
    axis.axhline(0, color="0.8", linewidth=0.8)
    axis.axvline(0, color="0.8", linewidth=0.8)
    ends = [min(true.min(), predicted.min()) - 0.2, max(true.max(), predicted.max()) + 0.2]
    axis.plot(ends, ends, color="0.6", linewidth=0.8, linestyle="--")
    axis.scatter(true, predicted, s=16, color=colour, alpha=0.7, linewidths=0, label=label)
    r = np.corrcoef(true, predicted)[0, 1]
    axis.text(0.03, 0.97, f"r = {r:.2f}", transform=axis.transAxes, va="top")
    axis.spines[["top", "right"]].set_visible(False)


def _save(figure, path: Path) -> None:
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
