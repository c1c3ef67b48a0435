"""Reading the one contrast that is to be explained, from either kind of table that contrasts come in."""

from __future__ import annotations

import os
from collections.abc import Mapping

from kipoi_borzoi.dataloaders.text import read_lines
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.variants.columns import Contrast, Term, read_contrasts

_COLUMNS = ("contrast", "treated_tracks", "control_tracks")


def read_contrast(path: str | os.PathLike, models: Mapping[str, object], name: str | None = None) -> Contrast:
    """Read one contrast.

    The table is a TSV, either with the columns name, track and weight, one track per line (see
    `kipoi_borzoi.variants.columns.read_contrasts`), or with a header that has ``contrast``,
    ``treated_tracks`` and ``control_tracks``, tracks joined by commas, one contrast per line. A track may be
    written ``MODEL:TRACK``. Lines of the second kind of which no model has any track are passed over, as tables may
    serve several models.

    Parameters
    ----------
    path : path
    models : dict of name to BorzoiModel
    name : str, optional
        Which contrast, where the table holds several.

    Raises
    ------
    InputError
        When the file is malformed, has no such contrast, or several and no name is given.
    """
    header = next((line.split("\t") for _, line in read_lines(path)), [])
    found = _read_sides(path, header, models) if set(_COLUMNS) <= set(header) else read_contrasts(path)
    by_name = {contrast.name: contrast for contrast in found}
    said = ", ".join(list(by_name)[:8]) + (", ..." if len(by_name) > 8 else "")
    if name is None and len(by_name) > 1:
        raise InputError(f"{path}: holds {len(by_name)} contrasts, name the one to explain (--contrast-name): {said}")
    if name is not None and name not in by_name:
        raise InputError(f"{path}: no contrast {name!r} for these models; there is {said}")
    return by_name[name] if name is not None else next(iter(by_name.values()))


def names_models(contrast: Contrast, models: Mapping[str, object]) -> bool:
    """Whether tracks of a contrast are named with their model, so that models are not to be taken for an ensemble."""
    return any(term.track.startswith(f"{name}:") for term in contrast.terms for name in models)


def _read_sides(path, header: list[str], models) -> list[Contrast]:
    known = {track for model in models.values() for track in model.tracks.identifiers}
    known |= {f"{name}:{track}" for name, model in models.items() for track in model.tracks.identifiers}
    contrasts: dict[str, Contrast] = {}
    for number, line in read_lines(path):
        if number == 1 or not line.strip():
            continue
        where, cells = f"{path}, line {number}", line.split("\t")
        if len(cells) != len(header):
            raise InputError(f"{where}: {len(cells)} columns, but the header has {len(header)}")
        name, *sides = (cells[header.index(column)] for column in _COLUMNS)
        tracks = [[track.strip() for track in side.split(",") if track.strip()] for side in sides]
        if not name or not all(tracks):
            raise InputError(f"{where}: expected a name and tracks on both sides, joined by commas, got {line[:80]!r}")
        unknown = [track for side in tracks for track in side if track not in known]
        if len(unknown) == sum(map(len, tracks)):
            continue
        if unknown:
            raise InputError(f"{where}: the models have no track {unknown[0]!r}")
        both = set(tracks[0]) & set(tracks[1])
        if both:
            raise InputError(f"{where}: track {min(both)!r} stands on both sides of the contrast")
        if name in contrasts:
            raise InputError(f"{where}: there is a contrast {name!r} before")
        terms = [
            Term(track, sign / len(side), where)
            for side, sign in zip(tracks, (1.0, -1.0), strict=True)
            for track in side
        ]
        contrasts[name] = Contrast(name, tuple(terms))
    if not contrasts:
        raise InputError(
            f"{path}: no contrast in it names tracks of these models; they have {', '.join(sorted(known)[:4])}, ..."
        )
    return list(contrasts.values())
