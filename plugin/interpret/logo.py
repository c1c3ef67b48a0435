"""Sequence logos: letters drawn as shapes, so that their heights are exact and pictures need no fonts."""

from __future__ import annotations

import contextlib
from functools import cache

import numpy as np

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.sequence import BASES

NO_MATPLOTLIB = "pictures need Matplotlib, which is not installed: pip install 'kipoi-borzoi[plot]'"

COLOURS = {"A": "#109648", "C": "#255C99", "G": "#F7A11A", "T": "#D62839"}


@contextlib.contextmanager
def new_figure(width: float, height: float):
    """An empty Matplotlib figure of that many inches, in the style of all pictures; nothing of the caller's settings changes.

    Raises
    ------
    InputError
        When Matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError(
            "pictures need Matplotlib, which is not installed: pip install 'kipoi-borzoi[plot]'"
        ) from error
    style = {
        "font.family": "DejaVu Sans", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
        "axes.titlesize": 10, "axes.titlelocation": "left", "svg.hashsalt": "kipoi-borzoi",
    }  # fmt: skip
    with matplotlib.rc_context(style):
        yield Figure(figsize=(width, height), layout="constrained")


def draw_logo(ax, heights: np.ndarray, start: float = 0.0) -> None:
    """Draw letters into axes.

    Parameters
    ----------
    ax : matplotlib Axes
    heights : (length, 4) array
        Of A, C, G, T at each position, in data units. Positive letters are stacked upwards from 0, the smallest first;
        negative ones downwards, upside down.
    start : float
        x of the first position's left edge; each is 1 wide.
    """
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    vertices: dict[str, list] = {base: [] for base in BASES}
    codes: dict[str, list] = {base: [] for base in BASES}
    for position, row in enumerate(np.asarray(heights, dtype=float)):
        for sign in (1, -1):
            bottom = 0.0
            for base in sorted(np.flatnonzero(sign * row > 0), key=lambda base, row=row: abs(row[base])):
                shape, code = _letter(BASES[base])
                scaled = shape * [0.94, row[base]] + [start + position + 0.03, bottom]
                vertices[BASES[base]].append(scaled)
                codes[BASES[base]].append(code)
                bottom += row[base]
    for base in BASES:
        if vertices[base]:
            path = Path(np.concatenate(vertices[base]), np.concatenate(codes[base]))
            ax.add_patch(PathPatch(path, facecolor=COLOURS[base], edgecolor="none", linewidth=0))
    total_up, total_down = np.clip(heights, 0, None).sum(1), np.clip(heights, None, 0).sum(1)
    ax.set_xlim(start, start + len(heights))
    low, high = float(total_down.min(initial=0)), float(total_up.max(initial=0))
    margin = 0.05 * (high - low or 1)
    ax.set_ylim(low - margin * (low < 0), high + margin)


@cache
def _letter(letter: str):
    """Vertices and codes of a letter that fills the unit square."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    path = TextPath((0, 0), letter, size=1, prop=FontProperties(family="DejaVu Sans", weight="bold"))
    vertices = np.array(path.vertices)
    used = vertices[path.codes != 79]  # the vertex of CLOSEPOLY is a placeholder
    low, size = used.min(0), np.ptp(used, axis=0)
    return np.where((path.codes == 79)[:, None], 0, (vertices - low) / size), path.codes
