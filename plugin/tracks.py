"""The target table of a head: which output is which track, its strand partner, and how its coverage was squashed."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields

import numpy as np

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.target_table import read_records

SUM_STATS = ("sum", "mean", "max", "sum_sqrt", "mean_sqrt", "max_sqrt")
TRANSFORMS = ("new", "old")

_FIELD_COLUMNS = {
    "index": "index",
    "identifiers": "identifier",
    "descriptions": "description",
    "files": "file",
    "clip": "clip",
    "clip_soft": "clip_soft",
    "scale": "scale",
    "sum_stat": "sum_stat",
    "strand_pair": "strand_pair",
}
_BLOCK_VALUES = 1 << 19  # transforms work on as many rows at a time as fit the processor's cache


class _TrackError(InputError):
    """A rule that one track breaks; `read_tracks` adds the file and line."""

    def __init__(self, row: int, problem: str):
        super().__init__(f"track in row {row}: {problem}")
        self.row = row
        self.problem = problem


@dataclass(frozen=True, eq=False)
class Tracks:
    """Tracks of one head, one per output column, in the order of the arrays predicted for them.

    ``index`` and ``strand_pair`` always count the columns of the *whole head*, also in a subset, so
    that a subset knows its partners: predictions of the forward strand are the head's columns
    ``index``, those of the reversed strand its columns ``strand_pair``. For the whole head,
    ``index`` is 0, 1, 2, ...

    Attributes
    ----------
    index : (tracks,) int64
        0-based column of the head. Unique.
    identifiers, descriptions, files : tuple of str
        Identifiers are unique and not empty.
    clip, clip_soft : (tracks,) float64
        Limits on the squashed coverage of a bin (old transform: before scaling); infinity is none.
    scale : (tracks,) float64
        Factor on the coverage, greater than 0.
    sum_stat : tuple of str
        One of `SUM_STATS`: how the bases of a bin are joined, and whether the result is squashed.
    strand_pair : (tracks,) int64
        Column of the head with the same experiment's other strand; ``index`` itself when unstranded.

    Raises
    ------
    InputError
        When lengths differ, there is no track, or a value breaks one of the rules above.
    """

    index: np.ndarray
    identifiers: tuple[str, ...]
    descriptions: tuple[str, ...]
    files: tuple[str, ...]
    clip: np.ndarray
    clip_soft: np.ndarray
    scale: np.ndarray
    sum_stat: tuple[str, ...]
    strand_pair: np.ndarray

    def __post_init__(self):
        for name in ("identifiers", "descriptions", "files", "sum_stat"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name, dtype in _ARRAY_DTYPES.items():
            array = np.array(getattr(self, name), dtype=dtype)
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        lengths = {field.name: len(getattr(self, field.name)) for field in fields(self)}
        if len(set(lengths.values())) > 1:
            raise InputError(f"tracks: every field needs one value per track, got lengths {lengths}")
        if not len(self):
            raise InputError("no targets: a target table needs at least one track")
        _check_values(self)
        _check_pairs(self)

    def __len__(self) -> int:
        return len(self.identifiers)

    def select(self, tracks: Iterable[int | str]) -> Tracks:
        """Return the chosen tracks, in the order asked for.

        Parameters
        ----------
        tracks : iterable of int or str
            Columns of the head (values of ``index``) or identifiers, each track once.

        Raises
        ------
        InputError
            When one is unknown (near matches are listed), repeated, or nothing is chosen.
        """
        if isinstance(tracks, str):
            raise InputError(f"tracks is the text {tracks!r}, expected a list: [{tracks!r}] for this one track")
        row_of = {index: row for row, index in enumerate(self.index.tolist())}
        row_of.update((identifier, row) for row, identifier in enumerate(self.identifiers))
        rows: dict[int, None] = {}
        for track in tracks:
            if isinstance(track, (bool, np.bool_)) or not isinstance(track, (str, int, np.integer)):
                raise InputError(f"tracks are chosen by index (integer) or identifier (text), got {track!r}")
            if track not in row_of:
                raise InputError(f"unknown track {track!r}; {self._known(track)}")
            if row_of[track] in rows:
                raise InputError(f"track {track!r} is chosen twice")
            rows[row_of[track]] = None
        if not rows:
            raise InputError("no tracks are chosen; leave the choice out for all of them")
        return self._rows(list(rows))

    def pair_rows(self) -> np.ndarray:
        """Row of each track's strand partner *within these tracks*, (tracks,) int64: ``strand_pair`` renumbered.

        Raises
        ------
        InputError
            When a stranded track's partner is not among these tracks.
        """
        row_of = {int(index): row for row, index in enumerate(self.index)}
        for row, pair in enumerate(self.strand_pair):
            if int(pair) not in row_of:
                raise InputError(
                    f"track {self.identifiers[row]!r} (index {self.index[row]}) is stranded, but its partner "
                    f"(strand_pair {pair}) is not among the {len(self)} chosen tracks; choose both strands"
                )
        return np.array([row_of[int(pair)] for pair in self.strand_pair], dtype=np.int64)

    def _rows(self, rows: list[int]) -> Tracks:
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        return Tracks(**{name: [column[row] for row in rows] for name, column in columns.items()})

    def _known(self, track: int | str) -> str:
        if not isinstance(track, str):
            return f"known: index {self.index.min()} to {self.index.max()} ({len(self)} tracks)"
        near = difflib.get_close_matches(track, self.identifiers, n=5, cutoff=0.5)
        return f"near matches: {', '.join(near)}" if near else f"known: {', '.join(self.identifiers[:5])}, ..."


_ARRAY_DTYPES = {
    "index": np.int64,
    "clip": np.float64,
    "clip_soft": np.float64,
    "scale": np.float64,
    "strand_pair": np.int64,
}


def _check_values(tracks: Tracks) -> None:
    seen_index: dict[int, int] = {}
    seen_identifier: dict[str, int] = {}
    for row, (index, identifier) in enumerate(zip(tracks.index.tolist(), tracks.identifiers, strict=True)):
        if index < 0:
            raise _TrackError(row, f"index is {index}, expected 0 or more (the head's 0-based output column)")
        if index in seen_index:
            other = tracks.identifiers[seen_index[index]]
            raise _TrackError(row, f"duplicate index {index}: {identifier!r} and {other!r} claim the same output")
        if not identifier:
            raise _TrackError(row, "the identifier is empty; outputs are named by it")
        if identifier in seen_identifier:
            other = tracks.index[seen_identifier[identifier]]
            raise _TrackError(
                row, f"duplicate identifier {identifier!r}: index {other} has it too; make identifiers unique"
            )
        seen_index[index] = seen_identifier[identifier] = row
        if tracks.sum_stat[row] not in SUM_STATS:
            raise _TrackError(row, f"unknown sum_stat {tracks.sum_stat[row]!r}; known: {', '.join(SUM_STATS)}")
        for name in ("clip", "clip_soft", "scale"):
            value = getattr(tracks, name)[row]
            if not value > 0 or (name == "scale" and math.isinf(value)):
                raise _TrackError(row, f"{name} is {value}, expected a number greater than 0")


def _check_pairs(tracks: Tracks) -> None:
    pair_of = dict(zip(tracks.index.tolist(), tracks.strand_pair.tolist(), strict=True))
    index_of: dict[int, int] = {}
    for row, (index, pair) in enumerate(pair_of.items()):
        if pair < 0:
            raise _TrackError(row, f"strand_pair is {pair}, expected the index of a track, 0 or more")
        if pair in pair_of and pair_of[pair] != index:
            raise _TrackError(
                row,
                f"strand_pair {pair} is not mutual: index {index} names {pair} as its partner, "
                f"but {pair} names {pair_of[pair]}",
            )
        if pair in index_of:
            raise _TrackError(row, f"strand_pair {pair} is not mutual: index {index_of[pair]} names {pair} as well")
        index_of[pair] = index


def read_tracks(path: str | os.PathLike, units: int | None = None, subset: bool = False) -> Tracks:
    """Read one of Calico's target tables.

    For the text format see `kipoi_borzoi.target_table`. Tracks come in the order of the index,
    whatever the order of the lines.

    Parameters
    ----------
    path : path
    units : int, optional
        Number of outputs of the head that the table describes; None when there is no head to
        compare with, and any distinct non-negative indices are accepted.
    subset : bool
        With ``units``: whether the table may list some of the head's tracks only. A table that
        belongs to a head must list every index 0 to ``units - 1``.

    Returns
    -------
    Tracks

    Raises
    ------
    InputError
        Naming file and line, when the file cannot be read, is not such a table, or breaks a rule
        of `Tracks`; or when it does not fit the head.
    """
    records = sorted(read_records(path), key=lambda numbered: numbered[1]["index"])
    if units is not None:
        _check_range(path, records, units)
    columns = {field: [record[name] for _, record in records] for field, name in _FIELD_COLUMNS.items()}
    try:
        tracks = Tracks(**columns)
    except _TrackError as error:
        raise InputError(f"{path}, line {records[error.row][0]}: {error.problem}") from None
    if units is not None and not subset:
        _check_complete(path, tracks, units)
    return tracks


def _check_range(path: str | os.PathLike, records: list[tuple[int, dict]], units: int) -> None:
    for line, record in records:
        for name in ("index", "strand_pair"):
            if record[name] >= units:
                raise InputError(
                    f"{path}, line {line}: {name} {record[name]} is out of range: "
                    f"the head has {units} tracks, 0 to {units - 1}"
                )


def _check_complete(path: str | os.PathLike, tracks: Tracks, units: int) -> None:
    if len(tracks) != units:
        absent = sorted(set(range(units)) - set(tracks.index.tolist()))
        raise InputError(
            f"{path}: the table lists {len(tracks)} tracks, but the head has {units}; "
            f"missing index {', '.join(map(str, absent[:5]))}{', ...' if len(absent) > 5 else ''}"
        )


def check_transform(transform: str) -> None:
    """Raise InputError unless ``transform`` is one of `TRANSFORMS`."""
    if transform not in TRANSFORMS:
        raise InputError(
            f"unknown transform {transform!r}; known: {', '.join(TRANSFORMS)} ('old' for the released Borzoi weights, "
            "'new' for models trained with Calico's current code)"
        )


def squash(binned: np.ndarray, tracks: Tracks, transform: str, dtype=np.float32) -> np.ndarray:
    """Turn binned coverage into what the network is trained on.

    Parameters
    ----------
    binned : (..., bins, tracks) array
        Sum, mean or maximum of each bin, as the tracks' ``sum_stat`` says; 0 or more, not scaled.
    tracks : Tracks
        In the order of the last axis.
    transform : {'new', 'old'}
        new: times scale; for ``*_sqrt``, sqrt(1 + x) - 1; above c = ``clip_soft``, c - 1 + sqrt(x - c + 1); clip.
        old: for ``*_sqrt``, x^0.75; above c, c + sqrt(x - c); clip; times scale.
    dtype : numpy dtype
        Of computation and result.

    Returns
    -------
    (..., bins, tracks) array of ``dtype``

    Raises
    ------
    InputError
        When the transform is unknown or the last axis is not one value per track.
    """

    def steps(x, scale, clip, clip_soft, roots):
        if transform == "new":
            x *= scale
            _change(x, roots, _root)
            _change_above(x, clip_soft, _root)
            np.clip(x, -clip, clip, out=x)
        else:
            _change(x, roots, lambda values: values**0.75)
            _change_above(x, clip_soft, np.sqrt)
            np.clip(x, -clip, clip, out=x)
            x *= scale

    return _by_blocks(binned, tracks, transform, dtype, steps)


def unsquash(
    coverage: np.ndarray, tracks: Tracks, transform: str, unscale: bool = False, dtype=np.float32
) -> np.ndarray:
    """Undo `squash` except its hard clip: predicted coverage back to the measure of the experiment.

    Parameters
    ----------
    coverage : (..., bins, tracks) array
        What the network predicts, 0 or more; left unchanged.
    tracks : Tracks
        In the order of the last axis.
    transform : {'new', 'old'}
        The one that the model was trained with.
    unscale : bool
        False: the result is binned coverage times ``scale``. True: divided by ``scale``, the unit of the
        BigWig file.
    dtype : numpy dtype
        Of computation and result.

    Returns
    -------
    (..., bins, tracks) array of ``dtype``

    Raises
    ------
    InputError
        When the transform is unknown or the last axis is not one value per track.
    """

    def steps(x, scale, clip, clip_soft, roots):
        if transform == "new":
            _change_above(x, clip_soft, _unroot)
            _change(x, roots, _unroot)
            if unscale:
                x /= scale
        else:
            x /= scale
            _change_above(x, clip_soft, np.square)
            _change(x, roots, lambda values: values * np.cbrt(values))  # x^(4/3)
            if not unscale:
                x *= scale

    return _by_blocks(coverage, tracks, transform, dtype, steps)


def unsquash_slope(coverage: np.ndarray, tracks: Tracks, transform: str, dtype=np.float32) -> np.ndarray:
    """Derivative of `unsquash` (scaled, the default) with respect to ``coverage``, element by element.

    Parameters and errors are those of `unsquash`.

    Returns
    -------
    (..., bins, tracks) array of ``dtype``
    """

    def steps(x, scale, clip, clip_soft, roots):
        if transform == "new":
            above = x > clip_soft
            hard = 1 + np.where(above, x - clip_soft, 0)  # 1 + (x - c) above c
            linear = np.where(above, clip_soft - 1 + hard * hard, x)
            slope = np.where(above, 2 * hard, 1)
            slope[:, roots] *= 2 * (linear[:, roots] + 1)
        else:
            x /= scale
            above = x > clip_soft
            hard = np.where(above, x - clip_soft, 0)
            linear = np.where(above, clip_soft + hard * hard, x)
            slope = np.where(above, 2 * hard, 1)
            slope[:, roots] *= 4 / 3 * np.cbrt(linear[:, roots])
        x[:] = slope

    return _by_blocks(coverage, tracks, transform, dtype, steps)


def _by_blocks(values: np.ndarray, tracks: Tracks, transform: str, dtype, steps: Callable) -> np.ndarray:
    """Apply ``steps`` in place to a copy of ``values``, a few rows at a time so that they stay in cache."""
    check_transform(transform)
    values = np.asarray(values)
    if values.ndim < 1 or values.shape[-1] != len(tracks):
        raise InputError(
            f"coverage has shape {values.shape}, expected (..., bins, {len(tracks)}): one column per track"
        )
    parameters = [getattr(tracks, name).astype(dtype) for name in ("scale", "clip", "clip_soft")]
    roots = np.flatnonzero([stat.endswith("_sqrt") for stat in tracks.sum_stat])
    if len(roots) and roots[-1] - roots[0] == len(roots) - 1:
        roots = slice(roots[0], roots[-1] + 1)  # neighbours, as in the published tables: no gathering of columns
    result = np.empty(values.shape, dtype)
    source, target = values.reshape(-1, len(tracks)), result.reshape(-1, len(tracks))
    step = max(1, _BLOCK_VALUES // len(tracks))
    for start in range(0, len(target), step):
        block = target[start : start + step]
        np.copyto(block, source[start : start + step], casting="same_kind")
        steps(block, *parameters, roots)
    return result


def _change(x: np.ndarray, columns: slice | np.ndarray, change: Callable) -> None:
    x[:, columns] = change(x[:, columns])


def _change_above(x: np.ndarray, limit: np.ndarray, change: Callable) -> None:
    """Replace values above their column's limit c by c + change(x - c)."""
    above = x > limit
    if above.any():
        c = np.broadcast_to(limit, x.shape)[above]
        x[above] = c + change(x[above] - c)


def _root(x: np.ndarray) -> np.ndarray:
    return x / (np.sqrt(1 + x) + 1)  # = sqrt(1 + x) - 1, without losing the digits of a small x


def _unroot(x: np.ndarray) -> np.ndarray:
    return x * (x + 2)  # = (1 + x)^2 - 1, likewise
