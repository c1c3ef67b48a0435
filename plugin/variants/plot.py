"""A picture of one variant: predicted coverage of both alleles, their difference, the genes around, and where the variant is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kipoi_borzoi.errors import InputError, KipoiBorzoiError
from kipoi_borzoi.files import atomic_write
from kipoi_borzoi.variants.results import Column

FORMATS = (".png", ".svg", ".pdf")
_BOTH, _GAIN, _LOSS = "#b9bdc3", "#c8500a", "#2166ac"
_GENE = "#2b3a55"
_WIDTH = 10.0  # inches, as all sizes below
_COVERAGE, _DIFFERENCE, _GAP, _LANE = 0.72, 0.42, 0.16, 0.30
_LEFT, _RIGHT, _TOP, _BOTTOM = 1.95, 0.25, 0.85, 0.55
_MOST_LANES = 8
_MUTED, _OUTLINE = "#555555", "#4d5157"
_EDGE = 0.3  # points
_OUTLINED = 1000  # bins; of more, an outline would cover the area
_LETTER = 0.085  # width of a letter of a gene's name


def plot_variant(
    ref: np.ndarray,
    alt: np.ndarray,
    columns: Sequence[Column],
    bin_size: int,
    start: int,
    chrom: str,
    position: int,
    genes: Sequence,
    path: str | os.PathLike,
    *,
    alleles: tuple[str, str] = ("REF", "ALT"),
    zoom: int | None = None,
    max_tracks: int = 6,
    title: str = "",
) -> list[str]:
    """Draw a variant's predicted effect.

    Parameters
    ----------
    ref, alt : (bins, columns) array
        Predicted coverage of both alleles, unsquashed, of the same places.
    columns : sequence of Column
    bin_size : int
        bp per bin.
    start : int
        0-based position of the first bin.
    chrom : str
    position : int
        1-based position of the variant.
    genes : sequence
        Objects with ``name``, ``gene_id``, ``strand`` and ``exons``, pairs of start and end (0-based, half-open), on this
        contig; those outside of the view are left out.
    path : path
        ``.png``, ``.svg`` or ``.pdf``; replaced if it exists.
    alleles : (str, str)
        REF and ALT, for the legend.
    zoom : int, optional
        bp around the variant to show; by default all bins.
    max_tracks : int
        Tracks to show: those whose coverage changes most in the view come first, by the L2 norm of the difference
        of log2(1 + coverage), as scorer logD2.
    title : str
        What else to say behind the variant's name: the model.

    Returns
    -------
    list of str
        Names of the tracks shown, from the top.

    Raises
    ------
    InputError
        When arrays and columns do not fit, the suffix is unknown, or the view holds no bin.
    KipoiBorzoiError
        When matplotlib is not installed or the file cannot be written.
    """
    path = Path(path)
    ref, alt = np.asarray(ref, np.float64), np.asarray(alt, np.float64)
    _check(ref, alt, columns, max_tracks, path)
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise KipoiBorzoiError("pictures need matplotlib: pip install 'kipoi-borzoi[plot]'") from error
    first, last = _view(len(ref), bin_size, start, position, zoom)
    ref, alt = ref[first:last], alt[first:last]
    edges = start + bin_size * np.arange(first, last + 1)
    chosen = most_changed(ref, alt)[:max_tracks]
    lanes = gene_lanes(genes, int(edges[0]), int(edges[-1]))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "kipoi-borzoi", "font.size": 8}):
        figure = Figure()
        axes, bottom = _axes(figure, len(chosen), len(lanes))
        for (coverage, difference), track in zip(axes, chosen, strict=True):
            _draw_track(coverage, difference, edges, ref[:, track], alt[:, track], columns[track])
        _draw_genes(bottom, lanes, edges)
        for axis in [axis for pair in axes for axis in pair] + [bottom]:
            axis.set_xlim(edges[0], edges[-1])
            axis.axvline(position - 0.5, color="black", linewidth=0.6, linestyle=(0, (4, 2)), zorder=0)
        top = axes[0][0]
        for axis, text in zip(axes[0], ("predicted coverage", "ALT \N{MINUS SIGN} REF"), strict=True):
            axis.text(0.998, 0.97, text, transform=axis.transAxes, ha="right", va="top", fontsize=6.5, color=_MUTED)
        top.plot(position - 0.5, 1.1, marker="v", markersize=5, color="black", transform=top.get_xaxis_transform(), clip_on=False)
        _finish(figure, axes[0][0], bottom, chrom, position, alleles, title, len(chosen), len(columns), len(ref) <= _OUTLINED)
        _save(figure, path)
    return [columns[track].name for track in chosen]


def most_changed(ref: np.ndarray, alt: np.ndarray) -> list[int]:
    """Columns by the L2 norm over bins of the difference of log2(1 + coverage), largest first.

    Parameters
    ----------
    ref, alt : (bins, columns) array
    """
    change = np.sqrt(((np.log2(1 + np.maximum(alt, 0)) - np.log2(1 + np.maximum(ref, 0))) ** 2).sum(axis=0))
    return np.argsort(-change, kind="stable").tolist()


def gene_lanes(genes: Sequence, start: int, end: int) -> list[list]:
    """Genes of a view in as few lines as keep them and their names apart; each line from left to right.

    Parameters
    ----------
    genes : sequence
        As `plot_variant` takes them.
    start, end : int
        0-based, half-open.
    """
    letter = _LETTER / (_WIDTH - _LEFT - _RIGHT) * (end - start)
    seen = sorted(
        (gene for gene in genes if gene.exons[0][0] < end and gene.exons[-1][1] > start), key=lambda gene: gene.exons[0][0]
    )
    lanes: list[list] = []
    free: list[float] = []
    for gene in seen:
        left = max(start, gene.exons[0][0])
        right = max(min(end, gene.exons[-1][1]), left + letter * (len(_label(gene)) + 1))
        for number, place in enumerate(free):
            if place <= left:
                lanes[number].append(gene)
                free[number] = right
                break
        else:
            lanes.append([gene])
            free.append(right)
    return lanes


def _check(ref: np.ndarray, alt: np.ndarray, columns: Sequence[Column], max_tracks: int, path: Path) -> None:
    if ref.shape != alt.shape or ref.ndim != 2 or ref.shape[1] != len(columns) or not ref.size:
        raise InputError(f"coverage of REF {ref.shape} and ALT {alt.shape}, expected (bins, {len(columns)}) of both")
    if not (np.isfinite(ref).all() and np.isfinite(alt).all()):
        raise InputError("coverage is not finite: was the variant scored?")
    if max_tracks < 1:
        raise InputError(f"max_tracks is {max_tracks}, expected 1 or more")
    if path.suffix not in FORMATS:
        raise InputError(f"{path}: its suffix names no picture; known: {', '.join(FORMATS)}")


def _view(bins: int, bin_size: int, start: int, position: int, zoom: int | None) -> tuple[int, int]:
    if zoom is None:
        return 0, bins
    if zoom < 1:
        raise InputError(f"zoom is {zoom}, expected bp around the variant")
    center = position - 1 - start
    first = max(0, (center - zoom // 2) // bin_size)
    last = min(bins, -(-(center + zoom - zoom // 2) // bin_size))
    if first >= last:
        raise InputError(f"position {position} is not in the predicted {start + 1}-{start + bins * bin_size}; leave zoom out")
    return first, last


def _axes(figure, tracks: int, lanes: int) -> tuple[list, object]:
    """Pairs of axes for coverage and difference, and the genes' axis, from top to bottom, in inches."""
    genes = _LANE * min(_MOST_LANES, max(1, lanes)) + 0.1
    height = _TOP + tracks * (_COVERAGE + _DIFFERENCE + _GAP) + genes + _BOTTOM
    figure.set_size_inches(_WIDTH, height)

    def add(top: float, size: float):
        return figure.add_axes(
            (_LEFT / _WIDTH, 1 - (top + size) / height, 1 - (_LEFT + _RIGHT) / _WIDTH, size / height)
        )

    pairs, top = [], _TOP
    for _ in range(tracks):
        pairs.append((add(top, _COVERAGE), add(top + _COVERAGE + 0.03, _DIFFERENCE)))
        top += _COVERAGE + _DIFFERENCE + _GAP
    return pairs, add(top, genes)


def _draw_track(coverage, difference, edges: np.ndarray, ref: np.ndarray, alt: np.ndarray, column: Column) -> None:
    both = np.minimum(ref, alt)
    coverage.stairs(both, edges, fill=True, color=_BOTH, linewidth=_EDGE)
    # Edges of the caps' own colour keep a single bin visible; where there is no cap, there must be no edge.
    for upper, color in ((alt, _GAIN), (ref, _LOSS)):
        coverage.stairs(np.where(upper > both, upper, np.nan), edges, baseline=both, fill=True, color=color, linewidth=_EDGE)
    if len(ref) <= _OUTLINED:
        coverage.stairs(ref, edges, color=_OUTLINE, linewidth=0.6)
    top = max(ref.max(), alt.max(), 0)
    coverage.set_ylim(min(0, ref.min(), alt.min()), (top or 1) * 1.06)
    coverage.set_yticks([top or 1], [_short(top)])
    change = alt - ref
    difference.stairs(np.maximum(change, 0), edges, fill=True, color=_GAIN, linewidth=0)
    difference.stairs(np.minimum(change, 0), edges, fill=True, color=_LOSS, linewidth=0)
    high = np.abs(change).max() or 1
    difference.set_ylim(-1.15 * high, 1.15 * high)
    difference.set_yticks([-high, high], [_short(-high), f"+{_short(high)}"])
    difference.axhline(0, color="black", linewidth=0.4)
    for axis in (coverage, difference):
        axis.spines[["top", "right", "bottom"]].set_visible(False)
        axis.spines["left"].set_linewidth(0.6)
        axis.tick_params(axis="y", length=2, labelsize=6.5, width=0.6)
        axis.set_xticks([])
    name = column.name if column.kind == "track" else f"{column.name} (contrast)"
    where = -(_LEFT - 0.12) / (_WIDTH - _LEFT - _RIGHT)
    coverage.text(where, 0.98, _wrapped(column.description or name), transform=coverage.transAxes, va="top", fontsize=7.5)
    if column.description:
        difference.text(where, 0.5, name, transform=difference.transAxes, va="center", fontsize=6.5, color=_MUTED)


def _draw_genes(axis, lanes: list[list], edges: np.ndarray) -> None:
    hidden = sum(len(lane) for lane in lanes[_MOST_LANES:])
    shown = lanes[:_MOST_LANES]
    axis.set_ylim(-max(1, len(shown)) + 0.2, 0.5)
    axis.set_yticks([])
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.spines["bottom"].set_linewidth(0.6)
    left, right = edges[0], edges[-1]
    step = (right - left) / 90
    for number, lane in enumerate(shown):
        for gene in lane:
            begin, end = max(left, gene.exons[0][0]), min(right, gene.exons[-1][1])
            axis.hlines(-number, begin, end, color=_GENE, linewidth=0.7)
            marks = np.arange(begin + step, end - step / 2, step)
            if gene.strand in "+-" and len(marks):
                axis.plot(
                    marks, np.full(len(marks), -number), linestyle="none", marker="4" if gene.strand == "+" else "3",
                    markersize=4, color=_GENE, markeredgewidth=0.6,
                )  # fmt: skip
            for a, b in gene.exons:
                a, b = max(left, a), min(right, b)
                if a < b:
                    width = max(b - a, (right - left) / 1500)  # a hair's breadth can be seen
                    axis.broken_barh([(a, width)], (-number - 0.17, 0.34), color=_GENE, linewidth=0)
            axis.text(begin, -number + 0.22, _label(gene), fontsize=6.5, va="bottom", color=_GENE, style="italic", clip_on=True)
    if hidden:
        axis.text(1, 0, f"{hidden} more genes", transform=axis.transAxes, ha="right", va="bottom", fontsize=6.5)
    if not lanes:
        axis.text(0.5, 0.5, "no annotated genes in view", transform=axis.transAxes, ha="center", va="center", fontsize=7, color=_MUTED)


def _label(gene) -> str:
    name = gene.name or gene.gene_id
    return {"+": f"{name} \N{RIGHTWARDS ARROW}", "-": f"\N{LEFTWARDS ARROW} {name}"}.get(gene.strand, name)


def _finish(figure, top, bottom, chrom: str, position: int, alleles, title: str, shown: int, known: int, outlined: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    bottom.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    bottom.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{int(x):,}"))
    bottom.tick_params(axis="x", length=3, labelsize=7, width=0.6)
    bottom.set_xlabel(f"position on {chrom} (bp)", fontsize=8)
    height = figure.get_size_inches()[1]
    ref, alt = (allele if len(allele) <= 12 else f"{allele[:9]}... ({len(allele)} bp)" for allele in alleles)
    figure.text(0.12 / _WIDTH, 1 - 0.12 / height, f"{chrom}:{position:,} {ref}>{alt}", fontsize=12, va="top", weight="bold")
    note = f"{shown} of {known} tracks, the most changed first" if shown < known else ""
    below = " \N{MIDDLE DOT} ".join(part for part in (title, note) if part)
    figure.text(0.12 / _WIDTH, 1 - 0.38 / height, below, fontsize=8, va="top", color="#333333")
    handles = [
        Patch(
            facecolor=_BOTH, edgecolor=_OUTLINE if outlined else _BOTH,
            label="coverage of both alleles" + (" (outline: REF)" if outlined else ""),
        ),  # fmt: skip
        Line2D([], [], color="black", linewidth=0.8, linestyle=(0, (4, 2)), marker="v", markersize=4, label="variant"),
        Patch(color=_GAIN, label=f"{alt} (ALT) above {ref} (REF)"),
        Patch(color=_LOSS, label=f"{alt} (ALT) below {ref} (REF)"),
    ]
    figure.legend(
        handles=handles, loc="upper right", bbox_to_anchor=(1 - _RIGHT / _WIDTH, 1 - 0.06 / height), ncols=2, frameon=False,
        fontsize=7, handlelength=1.4, columnspacing=1.2,
    )  # fmt: skip


def _short(value: float) -> str:
    """Three digits, without exponent where that is short."""
    return f"{value:.3g}" if 1e-3 <= abs(value) < 1e6 or value == 0 else f"{value:.1e}"


def _wrapped(text: str) -> str:
    """At most three lines for the left margin; a colon ends a line where it can."""
    import textwrap

    lines = textwrap.wrap(text.replace(":", ": ").replace("_", " "), 22, break_long_words=True)
    return "\n".join(lines if len(lines) <= 3 else [*lines[:2], lines[2][:19] + "..."])


def _save(figure, path: Path) -> None:
    metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}, ".png": {"Software": None}}[path.suffix]
    try:
        with atomic_write(path) as temporary:
            figure.savefig(temporary, format=path.suffix[1:], dpi=200, metadata=metadata)
    except OSError as error:
        raise KipoiBorzoiError(f"{path}: cannot be written ({error.strerror or error})") from error
