"""The folder that an evaluation leaves: tables, a summary for people and one for programs, pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from kipoi_borzoi.errors import InputError, KipoiBorzoiError
from kipoi_borzoi.evaluation.evaluate import Evaluation
from kipoi_borzoi.files import atomic_write

TRACKS, GENES, EXPRESSION, CONTRASTS, CHANGES = (
    "tracks.tsv", "genes.tsv", "gene_expression.tsv", "contrasts.tsv", "gene_changes.tsv",
)  # fmt: skip
SUMMARY_JSON, SUMMARY_TEXT = "summary.json", "summary.txt"
GENE_PICTURE, CHANGE_PICTURE, TRACK_PICTURE = "genes.png", "changes.png", "tracks.png"

_PANELS = 12  # most panels in a picture


def write_report(out: str | os.PathLike, evaluation: Evaluation, about: dict, pictures: bool = True) -> list[Path]:
    """Write everything, the summary last: a folder without one is not whole.

    Parameters
    ----------
    out : path
        Folder; made when absent. Files of an earlier evaluation in it are replaced.
    evaluation : Evaluation
    about : dict
        What was evaluated, such as the model's name: goes into the summaries.
    pictures : bool
        Draw them; needs matplotlib.

    Returns
    -------
    list of Path
        The files, in the order of writing.

    Raises
    ------
    InputError
        The folder cannot be written.
    KipoiBorzoiError
        matplotlib is missing.
    """
    out = Path(out)
    prepare(out)
    written: list[Path] = []

    def save(name: str, text: str) -> None:
        with atomic_write(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
        written.append(out / name)

    save(TRACKS, _track_table(evaluation))
    genes = evaluation.gene_accuracy
    if genes is not None:
        save(GENES, _gene_table(evaluation))
        save(EXPRESSION, _expression_table(evaluation))
        if genes.contrasts:
            save(CONTRASTS, _contrast_table(evaluation))
            save(CHANGES, _change_table(evaluation))
    if pictures:
        written += _draw(out, evaluation)
    result = summary(evaluation, about)
    save(SUMMARY_TEXT, summary_text(result))
    save(SUMMARY_JSON, json.dumps(result, indent=1) + "\n")
    return written


def prepare(out: str | os.PathLike) -> None:
    """Make the folder, and take away the summary and the other files of an earlier evaluation.

    Raises
    ------
    InputError
        It cannot be written, or is a file.
    """
    out = Path(out)
    names = (
        SUMMARY_JSON,
        SUMMARY_TEXT,
        TRACKS,
        GENES,
        EXPRESSION,
        CONTRASTS,
        CHANGES,
        GENE_PICTURE,
        CHANGE_PICTURE,
        TRACK_PICTURE,
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in names:
            (out / name).unlink(missing_ok=True)
        with atomic_write(out / SUMMARY_TEXT):
            pass
        (out / SUMMARY_TEXT).unlink()
    except OSError as error:
        raise InputError(
            f"{out}: cannot be written ({error.strerror or error}); choose another folder with --out"
        ) from error


def summary(evaluation: Evaluation, about: dict) -> dict:
    """The figures of an evaluation, for JSON; undefined ones are null."""
    over_bins, genes = evaluation.track_accuracy, evaluation.gene_accuracy
    result = {
        **about,
        "split": evaluation.split,
        "folds": list(over_bins.folds),
        "windows": evaluation.windows,
        "tracks": len(evaluation.tracks),
        "bins": over_bins.bins,
        "track_pearson": _spread(over_bins.pearson),
        "track_r2": _spread(over_bins.r2),
        "track_spearman": {**_spread(over_bins.spearman), "bins": over_bins.spearman_bins},
    }
    if genes is not None:
        result |= {
            "genes": len(genes.placement.placed),
            "genes_left_out": dict(genes.placement.left_out),
            "gene_pearson": _spread(genes.pearson),
            "gene_difference_pearson": _spread(genes.difference_pearson),
        }
        if genes.contrasts:
            result["change_pearson"] = {
                contrast.name: _finite(value)
                for contrast, value in zip(genes.contrasts, genes.change_pearson, strict=True)
            }
    result["warnings"] = list(evaluation.warnings)
    return result


def summary_text(result: dict) -> str:
    """A summary as lines of text."""
    lines = [f"{key:<22}{result[key]}" for key in result if isinstance(result[key], (str, int))]
    lines.append(f"{'folds':<22}{', '.join(result['folds'])}")
    named = {
        "track_pearson": "r over bins, per track", "track_r2": "R2 over bins, per track", "track_spearman": "rho over bins, per track",
        "gene_pearson": "r over genes, per track", "gene_difference_pearson": "r of differences between tracks",
    }  # fmt: skip
    lines.append("")
    lines.append(f"{'':<34}{'mean':>8}{'median':>8}{'lowest':>8}{'highest':>8}")
    for key, text in named.items():
        if key in result:
            cells = "".join(f"{_said(result[key][name]):>8}" for name in ("mean", "median", "min", "max"))
            lines.append(
                f"{text:<34}{cells}" + (f"  ({result[key]['undefined']} undefined)" if result[key]["undefined"] else "")
            )
    if result.get("track_spearman", {}).get("bins", result["bins"]) < result["bins"]:
        lines.append(f"rho from a random sample of {result['track_spearman']['bins']:,} of {result['bins']:,} bins")
    for reason, count in result.get("genes_left_out", {}).items():
        words = {
            "outside": "no window of this split has all their exons in its output",
            "no_strand": "without a strand",
        }[reason]
        lines.append(f"{count} genes left out: {words}")
    for name, value in result.get("change_pearson", {}).items():
        lines.append(f"r of log fold changes, {name}: {_said(value)}")
    lines += [f"WARNING: {warning}" for warning in result["warnings"]]
    return "\n".join(lines) + "\n"


def _spread(values: np.ndarray) -> dict:
    known = values[np.isfinite(values)]
    statistics = {"mean": np.mean, "median": np.median, "min": np.min, "max": np.max}
    result = {name: float(how(known)) if len(known) else None for name, how in statistics.items()}
    return {**result, "undefined": int(len(values) - len(known))}


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _said(value: float | None) -> str:
    return "NA" if value is None else f"{value:.3f}"


def _cell(value) -> str:
    if isinstance(value, float):
        return f"{value:.6g}" if np.isfinite(value) else "NA"
    return str(value)


def _table(header: Iterable[str], rows: Iterable[Iterable]) -> str:
    return "\n".join(["\t".join(header), *("\t".join(map(_cell, row)) for row in rows)]) + "\n"


def _track_table(evaluation: Evaluation) -> str:
    over_bins, tracks = evaluation.track_accuracy, evaluation.tracks
    folds = ",".join(over_bins.folds)
    header = ["index", "identifier", "description", "fold", "bins", "pearson", "r2", "spearman", "spearman_bins"]
    rows = zip(tracks.index.tolist(), tracks.identifiers, tracks.descriptions, over_bins.pearson.tolist(),
               over_bins.r2.tolist(), over_bins.spearman.tolist(), strict=True)  # fmt: skip
    return _table(
        header,
        (
            (index, name, text, folds, over_bins.bins, r, r2, rho, over_bins.spearman_bins)
            for index, name, text, r, r2, rho in rows
        ),
    )


def _gene_table(evaluation: Evaluation) -> str:
    genes, names = evaluation.gene_accuracy, evaluation.tracks.identifiers
    folds = ",".join(evaluation.track_accuracy.folds)
    rows = zip(genes.columns, genes.pearson.tolist(), genes.difference_pearson.tolist(), strict=True)
    return _table(
        ["name", "plus_track", "minus_track", "fold", "genes", "pearson", "difference_pearson"],
        (
            (column.name, names[column.plus], names[column.minus], folds, len(genes.measured), r, difference)
            for column, r, difference in rows
        ),
    )


def _expression_table(evaluation: Evaluation) -> str:
    genes = evaluation.gene_accuracy
    header = ["gene_id", "gene_name", "chrom", "strand", "fold", "column", "measured", "predicted"]

    def rows():
        for place, item in enumerate(genes.placement.placed):
            gene = item.gene
            for number, column in enumerate(genes.columns):
                values = float(genes.measured[place, number]), float(genes.predicted[place, number])
                yield (gene.gene_id, gene.name, gene.chrom, gene.strand, item.fold, column.name, *values)

    return _table(header, rows())


def _contrast_table(evaluation: Evaluation) -> str:
    genes = evaluation.gene_accuracy
    folds = ",".join(evaluation.track_accuracy.folds)

    def names(rows: tuple[int, ...]) -> str:
        return ",".join(genes.columns[row].name for row in rows)

    return _table(
        ["contrast", "treated", "control", "fold", "genes", "pearson"],
        (
            (contrast.name, names(contrast.treated), names(contrast.control), folds, len(genes.measured), r)
            for contrast, r in zip(genes.contrasts, genes.change_pearson.tolist(), strict=True)
        ),
    )


def _change_table(evaluation: Evaluation) -> str:
    genes = evaluation.gene_accuracy

    def rows():
        for place, item in enumerate(genes.placement.placed):
            for number, contrast in enumerate(genes.contrasts):
                values = float(genes.measured_changes[place, number]), float(genes.predicted_changes[place, number])
                yield (item.gene.gene_id, item.gene.name, item.fold, contrast.name, *values)

    return _table(["gene_id", "gene_name", "fold", "contrast", "measured", "predicted"], rows())


def _draw(out: Path, evaluation: Evaluation) -> list[Path]:
    """Draw the pictures: accuracy of all tracks, genes and log fold changes as scatter plots."""
    try:
        import matplotlib
    except ImportError as error:
        raise KipoiBorzoiError(
            "pictures need matplotlib: pip install 'kipoi-borzoi[plot]', or give --no-pictures"
        ) from error
    matplotlib.use("Agg")
    written = [_draw_tracks(out / TRACK_PICTURE, evaluation)]
    genes = evaluation.gene_accuracy
    if genes is not None:
        panels = [
            (column.name, genes.measured[:, number], genes.predicted[:, number], genes.pearson[number])
            for number, column in enumerate(genes.columns)
        ]
        written.append(_draw_scatter(out / GENE_PICTURE, panels, "log2(1 + coverage over exons)", evaluation))
        panels = [
            (
                contrast.name,
                genes.measured_changes[:, number],
                genes.predicted_changes[:, number],
                genes.change_pearson[number],
            )
            for number, contrast in enumerate(genes.contrasts)
        ]
        if panels:
            written.append(_draw_scatter(out / CHANGE_PICTURE, panels, "log2 fold change", evaluation))
    return written


def _draw_scatter(path: Path, panels: list[tuple], what: str, evaluation: Evaluation) -> Path:
    from matplotlib import pyplot

    shown = panels[:_PANELS]
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(2.7 * columns + 0.6, 2.9 * rows + 0.9), squeeze=False, layout="constrained"
    )
    for axis in axes.ravel()[len(shown) :]:
        axis.set_visible(False)
    for axis, (name, measured, predicted, r) in zip(axes.ravel(), shown, strict=False):
        low = float(min(measured.min(), predicted.min()))
        high = float(max(measured.max(), predicted.max()))
        margin = 0.05 * (high - low) or 0.5
        axis.plot([low - margin, high + margin], [low - margin, high + margin], color="0.75", linewidth=0.8, zorder=0)
        axis.scatter(measured, predicted, s=6, alpha=0.5, linewidths=0, color="C0")
        axis.set(xlim=(low - margin, high + margin), ylim=(low - margin, high + margin), aspect="equal")
        axis.set_title(f"{name}\nr = {_said(_finite(r))}, {len(measured)} genes", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    more = f" (the first {len(shown)} of {len(panels)})" if len(panels) > len(shown) else ""
    figure.suptitle(f"{what}, fold {', '.join(evaluation.track_accuracy.folds)}{more}", fontsize=9)
    figure.supxlabel("measured", fontsize=9)
    figure.supylabel("predicted", fontsize=9)
    return _save(figure, path)


def _draw_tracks(path: Path, evaluation: Evaluation) -> Path:
    from matplotlib import pyplot

    over_bins = evaluation.track_accuracy
    measures = {"Pearson r": over_bins.pearson, "R2": over_bins.r2, "Spearman rho": over_bins.spearman}
    figure, axes = pyplot.subplots(1, len(measures), figsize=(8.5, 2.8))
    for axis, (name, values) in zip(axes, measures.items(), strict=True):
        known = values[np.isfinite(values)]
        if len(known):
            axis.hist(known, bins=min(30, max(5, len(known) // 2)), color="C0")
        axis.set_title(f"{name}, median {_said(float(np.median(known)) if len(known) else None)}", fontsize=9)
        axis.set_ylabel("tracks", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"Coverage over {over_bins.bins:,} bins, fold {', '.join(over_bins.folds)}", fontsize=9)
    figure.tight_layout()
    return _save(figure, path)


def _save(figure, path: Path) -> Path:
    from matplotlib import pyplot

    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=120)
    pyplot.close(figure)
    return path
