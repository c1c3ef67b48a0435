"""Which tracks of which models are predicted, and what they become: columns of scores.

A column is a track, the two strands of one experiment together, or a contrast: a signed sum of other columns'
scores. Models with the same tracks are an ensemble and share their columns.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kipoi_borzoi.dataloaders.text import read_lines
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.tracks import Tracks, read_tracks
from kipoi_borzoi.variants.results import Column
from kipoi_borzoi.variants.scores import Scorer

NONE = -1

_PLUS = re.compile(r"(\+|[._-](plus|pos|fwd|forward))$", re.IGNORECASE)
_MINUS = re.compile(r"(-|[._-](minus|neg|rev|reverse))$", re.IGNORECASE)


@dataclass(frozen=True)
class Term:
    """One line of a contrast: ``track`` is a column or a track, perhaps with its model and a colon before it."""

    track: str
    weight: float
    where: str = ""


@dataclass(frozen=True)
class Contrast:
    """A signed weighting of tracks."""

    name: str
    terms: tuple[Term, ...]


@dataclass(frozen=True)
class Unit:
    """What one number is made of: one track, or the two strands of an experiment.

    Attributes
    ----------
    rows : (int, int)
        Of the head; the second is -1 for one track alone.
    strands : str
        The strand of each row, ``+`` or ``-``; ``.`` of an unstranded track, ``?`` where its name does not tell.
    """

    rows: tuple[int, int]
    strands: str

    def row(self, strand: str) -> int:
        """The row that measures transcripts of ``strand``, -1 for none; both strands' first for ``.``."""
        if self.strands == "." or strand == ".":
            return self.rows[0]
        for row, own in zip(self.rows, self.strands, strict=False):
            if own == strand:
                return row
        return NONE


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Models with the same tracks.

    Attributes
    ----------
    names : tuple of str
        Of the models.
    models : tuple
        `kipoi_borzoi.model.BorzoiModel`, or what has its attributes.
    tracks : Tracks
        Those that are predicted, in the order of the units.
    units : tuple of Unit
        With rows counted within ``tracks``. The first ``shown`` are columns; the others serve contrasts alone.
    shown : int
    """

    names: tuple[str, ...]
    models: tuple
    tracks: Tracks
    units: tuple[Unit, ...]
    shown: int

    @property
    def name(self) -> str:
        """The first model's name."""
        return self.names[0]

    @property
    def members(self) -> int:
        """Networks: the models' replicates, all together."""
        return sum(len(model.predictors) for model in self.models)

    def combined(self, scorer: Scorer, scores: np.ndarray) -> np.ndarray:
        """Scores of units from scores of tracks: (..., tracks) to (..., units)."""
        first = np.array([unit.rows[0] for unit in self.units])
        second = np.array([unit.rows[1] for unit in self.units])
        result, paired = scores[..., first], second != NONE
        result[..., paired] = scorer.combine(scores[..., first[paired]], scores[..., second[paired]])
        return result

    def of_strand(self, scorer: Scorer, scores: np.ndarray, strand: str) -> np.ndarray:
        """Scores of units for a gene of ``strand``: its own strand's tracks and unstranded ones; NaN where there is none.

        A gene without a strand is scored on both.
        """
        if strand == ".":
            return self.combined(scorer, scores)
        rows = np.array([unit.row(strand) for unit in self.units])
        return np.where(rows == NONE, np.nan, scores[..., rows])


@dataclass(frozen=True, eq=False)
class Table:
    """The columns of a table of scores.

    Attributes
    ----------
    columns : tuple of Column
        Those of the ensembles one after another, then the contrasts.
    ensembles : tuple of Ensemble
    contrasts : tuple of tuple of (int, int, float)
        For each contrast its terms: number of the ensemble, of the unit, weight.
    """

    columns: tuple[Column, ...]
    ensembles: tuple[Ensemble, ...]
    contrasts: tuple[tuple[tuple[int, int, float], ...], ...]


def make_table(
    models: Mapping[str, object],
    tracks: Sequence[str] | None = None,
    contrasts: Sequence[Contrast] = (),
    separate: bool = False,
) -> Table:
    """Work out what is predicted and shown.

    Parameters
    ----------
    models : dict of name to BorzoiModel
    tracks : sequence of str, optional
        See `chosen_rows`. None: all, or with contrasts those that they are made of.
    contrasts : sequence of Contrast
    separate : bool
        Whether models with the same tracks keep columns of their own instead of being an ensemble.

    Raises
    ------
    InputError
        A track, pattern or model that does not exist; a contrast's track that several models have.
    """
    groups: dict[object, list[str]] = {}
    for name, model in models.items():
        groups.setdefault(name if separate else model.tracks.identifiers, []).append(name)
    heads = [_Head(tuple(names), models) for names in groups.values()]
    shown = _shown_units(heads, tracks, bool(contrasts))
    terms = [[(*_find_term(heads, term), term.weight) for term in contrast.terms] for contrast in contrasts]
    if tracks is None and contrasts:
        for number, unit, _ in (one for contrast in terms for one in contrast):
            if unit not in shown[number]:
                shown[number].append(unit)
    ensembles, columns = [], []
    units: list[dict[Unit, int]] = []
    used = [number for number in range(len(heads)) if shown[number] or any(one[0] == number for c in terms for one in c)]
    for number in used:
        head, visible = heads[number], shown[number]
        serving = [unit for contrast in terms for other, unit, _ in contrast if other == number and unit not in visible]
        every = [*visible, *dict.fromkeys(serving)]
        ensembles.append(_ensemble(head, every, len(visible)))
        units.append({unit: place for place, unit in enumerate(every)})
        prefix = f"{head.names[0]}:" if len(used) > 1 else ""
        columns += [head.column(unit, prefix) for unit in visible]
    columns += [_contrast_column(contrast) for contrast in contrasts]
    _check_unique(columns)
    place = {number: order for order, number in enumerate(used)}
    resolved = tuple(
        tuple((place[number], units[place[number]][unit], weight) for number, unit, weight in contrast)
        for contrast in terms
    )
    return Table(tuple(columns), tuple(ensembles), resolved)


class _Head:
    """The tracks that the models of one ensemble share, by all the names that a user may give them."""

    def __init__(self, names: tuple[str, ...], models: Mapping[str, object]):
        self.names = names
        self.models = tuple(models[name] for name in names)
        self.tracks: Tracks = self.models[0].tracks
        pairs = self.tracks.pair_rows()
        self.units: list[Unit] = []
        self.unit_of_row: dict[int, Unit] = {}
        for row, pair in enumerate(pairs.tolist()):
            if row in self.unit_of_row:
                continue
            unit = self._pair(row, pair) if pair != row else Unit((row, NONE), ".")
            self.units.append(unit)
            self.unit_of_row.update({one: unit for one in unit.rows if one != NONE})
        identifiers = self.tracks.identifiers
        counts = Counter([self._short(unit) for unit in self.units] + list(identifiers))
        self.name_of = {
            unit: short if unit.rows[1] != NONE and counts[short] == 1 else identifiers[unit.rows[0]]
            for unit in self.units
            for short in [self._short(unit)]
        }
        self.by_name = {name: unit for unit, name in self.name_of.items()}

    def _pair(self, row: int, pair: int) -> Unit:
        strands = "".join(strand_of(self.tracks.identifiers[one]) for one in (row, pair))
        if strands == "-+":
            row, pair, strands = pair, row, "+-"
        return Unit((row, pair), strands if strands == "+-" else "??")

    def _short(self, unit: Unit) -> str:
        identifier = self.tracks.identifiers[unit.rows[0]]
        return identifier.removesuffix("+") if unit.rows[1] != NONE else identifier

    def single(self, row: int) -> Unit:
        """One track by itself: its unit where it is unstranded, else a unit of that strand alone."""
        unit = self.unit_of_row[row]
        if unit.rows[1] == NONE:
            return unit
        return Unit((row, NONE), unit.strands[unit.rows.index(row)])

    def units_of(self, rows: Sequence[int]) -> list[Unit]:
        """The units of chosen rows: both strands chosen are one unit, at the place of the first."""
        chosen, units = set(rows), {}
        for row in rows:
            whole = self.unit_of_row[row]
            units[whole if set(whole.rows) - {NONE} <= chosen else self.single(row)] = None
        return list(units)

    def find(self, name: str) -> Unit | None:
        """The unit that a column's or a track's name means."""
        if name in self.by_name:
            return self.by_name[name]
        if name in self.tracks.identifiers:
            return self.single(self.tracks.identifiers.index(name))
        return None

    def column(self, unit: Unit, prefix: str) -> Column:
        """How a unit is reported."""
        identifiers = tuple(self.tracks.identifiers[row] for row in unit.rows if row != NONE)
        name = self.name_of[unit] if unit in self.name_of else identifiers[0]
        return Column(prefix + name, "track", self.tracks.descriptions[unit.rows[0]], self.names[0], identifiers)


def strand_of(identifier: str) -> str:
    """The strand that a track's identifier names: ``+``, ``-``, or ``?`` when it names none.

    Endings: ``+`` and ``-``; behind a dot, underscore or hyphen also plus, pos, fwd, forward; minus, neg, rev, reverse.
    """
    if _PLUS.search(identifier):
        return "+"
    return "-" if _MINUS.search(identifier) else "?"


def check_strands(table: Table) -> None:
    """Raise InputError where gene scores need to know which of two strands a track measures, and its name does not tell."""
    for ensemble in table.ensembles:
        for unit in ensemble.units:
            if "?" in unit.strands:
                identifiers = [ensemble.tracks.identifiers[row] for row in unit.rows if row != NONE]
                raise InputError(
                    f"{ensemble.name}: gene scores need to know which of the tracks {' and '.join(map(repr, identifiers))} is of "
                    "the + strand, but their identifiers do not end in + and - (nor _plus, _minus, _fwd, _rev, ...)"
                )


def chosen_rows(tracks: Tracks, names: Mapping[str, Unit], choice: Sequence[str]) -> dict[str, list[int]]:
    """Rows of one head for each item of a choice of tracks; an empty list where an item fits none.

    Parameters
    ----------
    tracks : Tracks
        Of the head.
    names : dict of column name to Unit
    choice : sequence of str
        Each item is, by what fits first: an identifier; a column's name (both strands); a file, with one
        identifier per line or Calico's target table; a regular expression to be found in descriptions,
        whatever the case.
    """
    return {item: _rows_of_item(tracks, names, item) for item in choice}


def _rows_of_item(tracks: Tracks, names: Mapping[str, Unit], item: str) -> list[int]:
    if item in names:
        return [row for row in names[item].rows if row != NONE]
    if item in tracks.identifiers:
        return [tracks.identifiers.index(item)]
    if Path(item).is_file():
        return _rows_of_file(tracks, names, item)
    try:
        pattern = re.compile(item, re.IGNORECASE)
    except re.error as error:
        raise InputError(f"tracks: {item!r} is no track, no file and no pattern either ({error})") from None
    return [row for row, description in enumerate(tracks.descriptions) if pattern.search(description)]


def _rows_of_file(tracks: Tracks, names: Mapping[str, Unit], path: str) -> list[int]:
    lines = [(number, line.strip()) for number, line in read_lines(path) if line.strip()]
    if lines and "\t" in lines[0][1]:
        listed = read_tracks(path, units=len(tracks), subset=True)
        for index, identifier in zip(listed.index.tolist(), listed.identifiers, strict=True):
            if tracks.identifiers[index] != identifier:
                raise InputError(
                    f"{path}: index {index} is {identifier!r} there, but {tracks.identifiers[index]!r} in the model: "
                    "the table is of another head"
                )
        return listed.index.tolist()
    rows: list[int] = []
    for number, name in lines:
        if name in names:
            rows += [row for row in names[name].rows if row != NONE]
        elif name in tracks.identifiers:
            rows.append(tracks.identifiers.index(name))
        else:
            raise InputError(f"{path}, line {number}: the model has no track {name!r}")
    return rows


def _shown_units(heads: list[_Head], choice: Sequence[str] | None, contrasts: bool) -> list[list[Unit]]:
    if choice is None:
        return [[] if contrasts else list(head.units) for head in heads]
    if isinstance(choice, str):
        raise InputError(f"tracks is the text {choice!r}, expected a list: [{choice!r}] for this one")
    found = [chosen_rows(head.tracks, head.by_name, choice) for head in heads]
    for item in choice:
        if not any(rows[item] for rows in found):
            known = ", ".join(heads[0].tracks.identifiers[:5])
            raise InputError(
                f"tracks: {item!r} is no identifier, no file, and found in no description of {', '.join(heads[0].names)} "
                f"(identifiers: {known}, ...; descriptions: {heads[0].tracks.descriptions[0]!r}, ...)"
            )
    return [head.units_of([*dict.fromkeys(row for part in rows.values() for row in part)])
            for head, rows in zip(heads, found, strict=True)]  # fmt: skip


def _find_term(heads: list[_Head], term: Term) -> tuple[int, Unit]:
    for number, head in enumerate(heads):
        for name in head.names:
            if term.track.startswith(f"{name}:") and (unit := head.find(term.track[len(name) + 1 :])) is not None:
                if len(head.names) > 1:
                    raise InputError(
                        f"{term.where}: {term.track!r} is of one model of an ensemble ({', '.join(head.names)} have the same "
                        "tracks); give --separate to keep the models apart"
                    )
                return number, unit
    hits = [(number, unit) for number, head in enumerate(heads) if (unit := head.find(term.track)) is not None]
    if len(hits) > 1:
        raise InputError(
            f"{term.where}: {term.track!r} is a track of several models; write MODEL:TRACK with one of "
            f"{', '.join(heads[number].names[0] for number, _ in hits)}"
        )
    if not hits:
        raise InputError(f"{term.where}: no model has a track {term.track!r}")
    return hits[0]


def _ensemble(head: _Head, units: list[Unit], shown: int) -> Ensemble:
    rows = sorted({row for unit in units for row in unit.rows if row != NONE})
    place = {row: number for number, row in enumerate(rows)} | {NONE: NONE}
    subset = head.tracks.select([int(head.tracks.index[row]) for row in rows])
    local = tuple(Unit((place[unit.rows[0]], place[unit.rows[1]]), unit.strands) for unit in units)
    return Ensemble(head.names, head.models, subset, local, shown)


def _contrast_column(contrast: Contrast) -> Column:
    formula = " ".join(f"{term.weight:+g} {term.track}" for term in contrast.terms)
    return Column(contrast.name, "contrast", formula, "", tuple(term.track for term in contrast.terms))


def _check_unique(columns: Sequence[Column]) -> None:
    for name, count in Counter(column.name for column in columns).items():
        if count > 1:
            raise InputError(f"{count} columns would be called {name!r}; give contrasts names that no track has")
    if not columns:
        raise InputError("no tracks are chosen")


def read_contrasts(path: str | Path) -> tuple[Contrast, ...]:
    """Read contrasts from a TSV with the columns name, track, weight, plain or compressed.

    One line per track; lines of one name belong together. A first line ``name  track  weight``, empty lines
    and lines that start with ``#`` are skipped.

    Raises
    ------
    InputError
        Naming file and line: another number of columns, a weight that is no number or 0, a track twice in
        one contrast; or a file without contrasts.
    """
    terms: dict[str, list[Term]] = {}
    for number, line in read_lines(path):
        fields = line.split("\t")
        if not line.strip() or line.startswith("#") or (not terms and fields == ["name", "track", "weight"]):
            continue
        where = f"{path}, line {number}"
        if len(fields) != 3 or not all(field.strip() for field in fields):
            raise InputError(f"{where}: expected name, track and weight separated by tabs, got {line[:80]!r}")
        name, track = fields[0].strip(), fields[1].strip()
        try:
            weight = float(fields[2])
        except ValueError:
            weight = float("nan")
        if not np.isfinite(weight) or weight == 0:
            raise InputError(f"{where}: weight is {fields[2]!r}, expected a number other than 0")
        if any(term.track == track for term in terms.get(name, ())):
            raise InputError(f"{where}: contrast {name!r} has track {track!r} twice")
        terms.setdefault(name, []).append(Term(track, weight, where))
    if not terms:
        raise InputError(f"{path}: no contrast in it: expected lines of name, track and weight separated by tabs")
    return tuple(Contrast(name, tuple(parts)) for name, parts in terms.items())
