"""Contrasts between columns of expression: by the words that identifiers are made of, or from a table."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.evaluation.genes import Column
from kipoi_borzoi.tracks import Tracks

_REPLICATE = re.compile(r"(?:bio|tech|bio_?|tech_?)?(?:replicate|rep|r)_?\d+", re.IGNORECASE)


@dataclass(frozen=True)
class Contrast:
    """Columns of expression against others.

    Attributes
    ----------
    name : str
    treated, control : tuple of int
        Rows among the columns; the mean of each side is taken.
    """

    name: str
    treated: tuple[int, ...]
    control: tuple[int, ...]


def find_contrasts(text: str, columns: Sequence[Column]) -> tuple[Contrast, ...]:
    """Find the columns that a contrast such as ``treated-control`` means.

    Names of columns are cut into words at every character that is not a letter or digit. A column
    belongs to the treated side when one of its words is the first of the two, to the control side when
    one is the second (case counts). Columns whose other words agree are compared, words that number a
    replicate (``rep1``, ``r2``) left out of account, so that replicates are averaged: there is one
    contrast for every cell type.

    Parameters
    ----------
    text : str
        ``TREATED-CONTROL``.
    columns : sequence of Column

    Raises
    ------
    InputError
        When the text is not of two words, or one finds no column, or no two sides match.
    """
    sides = text.split("-")
    if len(sides) != 2 or not all(sides) or sides[0] == sides[1]:
        raise InputError(
            f"contrast {text!r}: expected two different words joined by '-', such as treated-control, or a file"
        )
    groups: tuple[dict, dict] = ({}, {})
    for row, column in enumerate(columns):
        words = [word for word in re.split(r"[^A-Za-z0-9]+", column.name) if word]
        for side, word in enumerate(sides):
            if word in words:
                rest = tuple(other for other in words if other != word and not _REPLICATE.fullmatch(other))
                groups[side].setdefault(rest, []).append(row)
    for side, word in enumerate(sides):
        if not groups[side]:
            names = ", ".join(column.name for column in columns[:4])
            raise InputError(
                f"contrast {text!r}: no track has the word {word!r} in its identifier; tracks: {names}, ..."
            )
    common = [rest for rest in groups[0] if rest in groups[1]]
    if not common:
        raise InputError(
            f"contrast {text!r}: no {sides[0]!r} and {sides[1]!r} tracks whose other words agree; "
            f"there are {_said(groups[0])} against {_said(groups[1])}. Name the tracks in a file instead"
        )
    return tuple(
        Contrast(".".join([*rest, text]) if rest else text, tuple(groups[0][rest]), tuple(groups[1][rest]))
        for rest in common
    )


def read_contrasts(path: str | os.PathLike, tracks: Tracks, columns: Sequence[Column]) -> tuple[Contrast, ...]:
    """Read contrasts from a TSV file with a header.

    Columns ``contrast``, ``treated_tracks`` and ``control_tracks``, the latter with identifiers of
    tracks joined by commas; others are ignored. Strands of one experiment count once. Rows of which
    no track is known are passed over, as tables may serve several models.

    Raises
    ------
    InputError
        When the file cannot be read or lacks a column, a row names tracks of which only some are
        known, or no row is left.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a table of contrasts ({error})") from error
    header = lines[0].split("\t") if lines else []
    wanted = ("contrast", "treated_tracks", "control_tracks")
    missing = [name for name in wanted if name not in header]
    if missing:
        raise InputError(
            f"{path}: no column {missing[0]!r} in the header; expected {', '.join(wanted)}, joined by tabs"
        )
    row_of = {
        tracks.identifiers[row]: number for number, column in enumerate(columns) for row in (column.plus, column.minus)
    }
    contrasts = []
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        cells = line.split("\t")
        if len(cells) != len(header):
            raise InputError(f"{path}, line {number}: {len(cells)} fields, but the header has {len(header)}")
        record = dict(zip(header, cells, strict=True))
        sides = [[name.strip() for name in record[side].split(",") if name.strip()] for side in wanted[1:]]
        if not all(sides):
            raise InputError(f"{path}, line {number}: a side of the contrast names no track")
        unknown = [name for side in sides for name in side if name not in row_of]
        if len(unknown) == sum(map(len, sides)):
            continue
        if unknown:
            raise InputError(f"{path}, line {number}: track {unknown[0]!r} is not among the tracks that are compared")
        rows = [tuple(sorted({row_of[name] for name in side})) for side in sides]
        if set(rows[0]) & set(rows[1]):
            raise InputError(f"{path}, line {number}: a track stands on both sides of the contrast")
        contrasts.append(Contrast(record["contrast"], *rows))
    if not contrasts:
        raise InputError(
            f"{path}: no contrast in it names tracks of these; they are {', '.join(tracks.identifiers[:4])}, ..."
        )
    return tuple(contrasts)


def changes(log2: np.ndarray, contrasts: Sequence[Contrast]) -> np.ndarray:
    """Log fold changes: mean of the treated columns less mean of the control ones.

    Parameters
    ----------
    log2 : (genes, columns) array
    contrasts : sequence of Contrast

    Returns
    -------
    (genes, contrasts) float64
    """
    parts = [log2[:, contrast.treated].mean(axis=1) - log2[:, contrast.control].mean(axis=1) for contrast in contrasts]
    return np.stack(parts, axis=1) if parts else np.empty((len(log2), 0))


def _said(groups: dict) -> str:
    return "; ".join(".".join(rest) or "(nothing else)" for rest in list(groups)[:3])
