"""Figures of explanations: a stretch of genome with its logos, genes and motifs; a page of motifs."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kipoi_borzoi.dataloaders.gtf import Gene
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.files import atomic_write
from kipoi_borzoi.interpret.logo import NO_MATPLOTLIB, draw_logo, new_figure
from kipoi_borzoi.interpret.pwm import Motif

FORMATS = (".png", ".svg", ".pdf")
ZOOM = 80
"""bp of a logo whose letters are still readable."""

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_LEGEND = 8
_INK, _GREY, _ACCENT = "#222222", "#8A8A8A", "#6A4C93"
_MARKS = ("#6A4C93", "#1B998B", "#C8553D", "#3D5A80", "#9A8C2E", "#B5446E")


@dataclass(frozen=True, eq=False)
class Stretch:
    """What a picture shows of one explained stretch of genome.

    Attributes
    ----------
    title : str
    chrom : str
    start : int
        0-based position of the first base.
    codes : (length,) uint8
        0 to 3 for A, C, G, T; 4 for others.
    contributions : (length,) float
    quantity : str
        What the contributions add up to, for the axis.
    """

    title: str
    chrom: str
    start: int
    codes: np.ndarray
    contributions: np.ndarray
    quantity: str = "contribution"

    @property
    def end(self) -> int:
        """0-based position after the last base."""
        return self.start + len(self.codes)

    def cut(self, start: int, end: int) -> Stretch:
        """The part between two positions of the genome.

        Raises
        ------
        InputError
            When it does not lie within the stretch.
        """
        if not self.start <= start < end <= self.end:
            raise InputError(
                f"{self.chrom}:{start}-{end} does not lie in the explained stretch {self.chrom}:{self.start}-{self.end}"
            )
        part = slice(start - self.start, end - self.start)
        return Stretch(self.title, self.chrom, start, self.codes[part], self.contributions[part], self.quantity)


@dataclass(frozen=True)
class Mark:
    """A motif's hit to be marked: positions of the genome, 0-based, half-open."""

    name: str
    start: int
    end: int
    strand: str


def strongest(contributions: np.ndarray, size: int, count: int) -> list[int]:
    """Starts of the ``count`` stretches of ``size`` positions with the largest sums of absolute contributions, apart, in order.

    Stretches without any contribution are not among them.
    """
    size = min(size, len(contributions))
    sums = np.convolve(np.abs(contributions), np.ones(size), mode="valid")
    starts: list[int] = []
    while len(starts) < count and sums.max(initial=0) > 1e-12:
        at = int(sums.argmax())
        starts.append(at)
        sums[max(0, at - size + 1) : at + size] = 0
    return sorted(starts)


def check_picture(path: str | os.PathLike) -> Path:
    """Refuse a picture that could not be drawn before anything is computed for it.

    Raises
    ------
    InputError
        An unknown suffix, or no folder of that name; or Matplotlib is not installed.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise InputError(f"{path}: pictures are written as {', '.join(FORMATS)}; give a name that ends so")
    if not path.parent.is_dir():
        raise InputError(f"{path}: its folder {path.parent} does not exist; make it first")
    if importlib.util.find_spec("matplotlib") is None:
        raise InputError(NO_MATPLOTLIB)
    return path


def draw_stretch(
    path: str | os.PathLike, stretch: Stretch, genes: Sequence[Gene] = (), marks: Sequence[Mark] = (), zooms: int = 3
) -> None:
    """Draw a stretch: letters where they can be read, else an overview and below it the strongest places in letters.

    Parameters
    ----------
    path : path
        ``.png``, ``.svg`` or ``.pdf``.
    stretch : Stretch
    genes : sequence of Gene
        Drawn where they overlap the stretch.
    marks : sequence of Mark
    zooms : int
        Places in letters at most (26), if the stretch is longer than twice `ZOOM`.
    """
    path = check_picture(path)
    genes = [gene for gene in genes if gene.start < stretch.end and gene.end > stretch.start]
    long = len(stretch.codes) > 2 * ZOOM
    starts = strongest(stretch.contributions, ZOOM, min(zooms, len(_LETTERS))) if long else []
    rows = [("overview" if long else "logo", stretch)] + ([("genes", stretch)] if genes else [])
    rows += [("zoom", stretch.cut(stretch.start + at, stretch.start + at + ZOOM)) for at in starts]
    lanes = _lanes([(gene.start, gene.end) for gene in genes], len(stretch.codes) / 8)
    heights = [0.15 + 0.3 * (max(lanes, default=0) + 1) if kind == "genes" else 1.5 for kind, _ in rows]
    colours, letters = _colours(marks), iter(_LETTERS)
    with new_figure(11, sum(heights) + 0.55 * len(rows) + 0.3) as figure:
        axes = figure.subplots(len(rows), 1, height_ratios=heights, squeeze=False)
        for ax, (kind, part) in zip(axes[:, 0], rows, strict=True):
            inside = [mark for mark in marks if mark.start < part.end and mark.end > part.start]
            if kind == "overview":
                _draw_overview(ax, part, inside, starts, colours)
            elif kind == "genes":
                _draw_genes(ax, part, genes, lanes)
            else:
                _draw_letters(ax, part, inside, colours)
            if kind == "zoom":
                ax.set_title(next(letters), color=_ACCENT, fontweight="bold", fontsize=9)
        axes[0, 0].set_title(f"{stretch.title}   {stretch.chrom}:{stretch.start + 1:,}-{stretch.end:,}")
        _save(figure, path)


def _draw_overview(ax, stretch: Stretch, marks: Sequence[Mark], starts: Sequence[int], colours: dict[str, str]) -> None:
    x = np.arange(stretch.start, stretch.end)
    for number, at in enumerate(starts):
        ax.axvspan(stretch.start + at, stretch.start + at + ZOOM, color=_ACCENT, alpha=0.13, linewidth=0)
        ax.text(
            stretch.start + at + ZOOM, 0.99, f" {_LETTERS[number]}", transform=ax.get_xaxis_transform(), ha="left", va="top",
            color=_ACCENT, fontsize=9, fontweight="bold",
        )  # fmt: skip
    ax.vlines(x, 0, stretch.contributions, color=_INK, linewidth=0.6)
    ax.axhline(0, color=_GREY, linewidth=0.5)
    ax.set_xlim(stretch.start, stretch.end)
    ax.set_ylabel(stretch.quantity)
    for mark in marks:
        ax.plot(
            [(mark.start + mark.end) / 2], [-0.03], marker="^", markersize=4, color=colours[mark.name], clip_on=False,
            transform=ax.get_xaxis_transform(), markeredgewidth=0,
        )  # fmt: skip
    for name in list(colours)[:_LEGEND]:
        ax.plot([], [], marker="^", linestyle="none", markersize=4, color=colours[name], label=name)
    if len(colours) > _LEGEND:
        ax.plot([], [], linestyle="none", label=f"and {len(colours) - _LEGEND} more")
    if colours:
        ax.legend(
            loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8, title="motif hits", title_fontsize=8
        )
    _positions(ax, stretch)


def _draw_letters(ax, stretch: Stretch, marks: Sequence[Mark], colours: dict[str, str]) -> None:
    heights = np.zeros((len(stretch.codes), 4))
    known = np.flatnonzero(stretch.codes < 4)
    heights[known, stretch.codes[known]] = stretch.contributions[known]
    draw_logo(ax, heights, stretch.start)
    ax.axhline(0, color=_GREY, linewidth=0.5)
    ax.set_ylabel(stretch.quantity)
    lanes = _lanes([(mark.start, mark.end) for mark in marks], len(stretch.codes) / 12)
    low, high = ax.get_ylim()
    step = 0.14 * (high - low)
    for mark, lane in zip(marks, lanes, strict=True):
        y = high + step * (lane + 0.35)
        start, end = max(mark.start, stretch.start), min(mark.end, stretch.end)
        ax.plot([start, end], [y, y], color=colours[mark.name], linewidth=2.5, solid_capstyle="butt")
        arrow = (
            f"{mark.name} \u2192" if mark.strand == "+" else f"\u2190 {mark.name}" if mark.strand == "-" else mark.name
        )
        ax.text(
            (start + end) / 2, y + 0.1 * step, arrow, ha="center", va="bottom", fontsize=8, color=colours[mark.name]
        )
    if lanes:
        ax.set_ylim(low, high + step * (max(lanes) + 1.2))
    _positions(ax, stretch)


def _draw_genes(ax, stretch: Stretch, genes: Sequence[Gene], lanes: Sequence[int]) -> None:
    for gene, lane in zip(genes, lanes, strict=True):
        start, end = max(gene.start, stretch.start), min(gene.end, stretch.end)
        ax.plot([start, end], [-lane, -lane], color=_INK, linewidth=0.8)
        for first, last in gene.exons:
            if first < stretch.end and last > stretch.start:
                left, right = max(first, stretch.start), min(last, stretch.end)
                ax.add_patch(_box(left, right, -lane))
        name = gene.name or gene.gene_id
        text = f"{name} \u2192" if gene.strand == "+" else f"\u2190 {name}" if gene.strand == "-" else name
        place, margin = (start + end) / 2, 0.04 * len(stretch.codes)
        side = "left" if place < stretch.start + margin else "right" if place > stretch.end - margin else "center"
        place = {"left": start, "right": end, "center": place}[side]
        ax.text(place, -lane + 0.27, text, ha=side, va="bottom", fontsize=8, fontstyle="italic")
    ax.set_xlim(stretch.start, stretch.end)
    ax.set_ylim(-max(lanes) - 0.4, 0.95)
    ax.axis("off")


def _box(left: float, right: float, y: float):
    from matplotlib.patches import Rectangle

    return Rectangle((left, y - 0.2), right - left, 0.4, facecolor=_ACCENT, edgecolor="none")


@dataclass(frozen=True, eq=False)
class MotifRow:
    """A row of `draw_motifs`.

    Attributes
    ----------
    motif : Motif
    caption : str
    points : dict of str to (n,) array
        By group.
    """

    motif: Motif
    caption: str
    points: dict[str, np.ndarray]


def draw_motifs(path: str | os.PathLike, rows: Sequence[MotifRow], title: str, axis: str) -> None:
    """Draw a page of motifs: logo, words, and points of two groups.

    Parameters
    ----------
    path : path
    rows : sequence of MotifRow
    title : str
    axis : str
        What the points measure.
    """
    path = check_picture(path)
    with new_figure(10, 1.45 * len(rows) + 0.7) as figure:
        axes = figure.subplots(len(rows), 2, width_ratios=[3, 2], squeeze=False)
        for number, (row, (left, right)) in enumerate(zip(rows, axes, strict=True)):
            draw_logo(left, row.motif.probabilities * row.motif.information[:, None])
            left.set_ylim(0, 2.05)
            left.set_ylabel("bits")
            left.set_xticks([])
            left.set_title(row.caption, fontsize=9)
            if number:  # before the points: sharing an axis later would keep the first row's range and cut others off
                right.sharex(axes[0, 1])
            _draw_points(right, row)
            if number == len(rows) - 1:
                right.set_xlabel(axis)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        _save(figure, path)


def _draw_points(ax, row: MotifRow) -> None:
    random = np.random.default_rng(0)
    names = list(row.points)[::-1]
    for y, name in enumerate(names):
        values = np.asarray(row.points[name], dtype=float)
        colour = _ACCENT if name == list(row.points)[0] else _GREY
        ax.plot(
            values,
            y + random.uniform(-0.18, 0.18, len(values)),
            ".",
            color=colour,
            alpha=0.55,
            markersize=4,
            markeredgewidth=0,
        )
        if len(values):
            ax.plot([values.mean()] * 2, [y - 0.33, y + 0.33], color=_INK, linewidth=1.6)
    ax.axvline(0, color=_GREY, linewidth=0.5)
    ax.set_yticks(range(len(names)), [f"{name} ({len(row.points[name])})" for name in names])
    ax.set_ylim(-0.5, len(names) - 0.5)


def _lanes(spans: Sequence[tuple[float, float]], gap: float) -> list[int]:
    """A lane for each span, so that spans of one lane are at least ``gap`` apart between their middles and ends."""
    lanes: list[list[tuple[float, float]]] = []
    chosen = []
    for start, end in spans:
        wide = (min(start, (start + end - gap) / 2), max(end, (start + end + gap) / 2))
        free = (n for n, taken in enumerate(lanes) if all(wide[1] <= left or wide[0] >= right for left, right in taken))
        lane = next(free, len(lanes))
        if lane == len(lanes):
            lanes.append([])
        lanes[lane].append(wide)
        chosen.append(lane)
    return chosen


def _colours(marks: Sequence[Mark]) -> dict[str, str]:
    names = list(dict.fromkeys(mark.name for mark in marks))
    return {name: _MARKS[number % len(_MARKS)] for number, name in enumerate(names)}


def _positions(ax, stretch: Stretch) -> None:
    """Label positions 1-based, as browsers count, at the middle of their bases."""
    from matplotlib.ticker import MaxNLocator

    places = MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]).tick_values(stretch.start + 1, stretch.end)
    inside = [int(place) for place in places if stretch.start < place <= stretch.end]
    ax.set_xticks([place - 0.5 for place in inside], [f"{place:,}" for place in inside])


def _save(figure, path: Path) -> None:
    with atomic_write(path) as temporary:
        metadata = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(temporary, format=path.suffix[1:], dpi=150, metadata=metadata)
