"""How large a score is among those of common or random variants: distributions per scorer and track, and places in them.

A quantile is the mid-distribution function of the background: the fraction of background scores below x
plus half of the fraction equal to x, interpolated linearly between neighbouring scores; 0 below the smallest
and 1 above the largest. For signed scorers it is taken of magnitudes and given the score's sign: -1 to 1,
where 0.99 says that the effect is upward and larger than 99 % of the background's effects of either direction.

Of a column with up to 741 background scores all are kept, and quantiles are exact. Of more, ranks are kept that
lie 0.0025 apart below the 0.9 quantile, 0.0005 up to 0.99 and 0.00005 above (or 1 / n where that is more), and
the error is at most that distance.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kipoi_borzoi.errors import InputError, KipoiBorzoiError
from kipoi_borzoi.files import atomic_write, damage_named
from kipoi_borzoi.variants.header import ScorerInfo, Summary, describe_scorers, differences, provenance_text
from kipoi_borzoi.variants.results import SCORED, Chunk, Column, Measures
from kipoi_borzoi.variants.writers.hdf5 import new_file

FORMAT = 1
_GRID = np.concatenate(
    [np.linspace(0, 0.9, 360, endpoint=False), np.linspace(0.9, 0.99, 180, endpoint=False), np.linspace(0.99, 1, 201)]
)
_SORT_BYTES = 256 << 20  # of the scores that are sorted at once
_KINDS = ("scores", "gene_scores")


@dataclass(frozen=True, eq=False)
class Distribution:
    """The background of one scorer.

    Attributes
    ----------
    signed : bool
        Whether magnitudes were taken.
    count : (columns,) int64
        Background scores of each column.
    values : (columns, points) float32
        Some or all of them, sorted; infinity after the last.
    """

    signed: bool
    count: np.ndarray
    values: np.ndarray

    def quantiles(self, scores: np.ndarray) -> np.ndarray:
        """Places of scores in the background.

        Parameters
        ----------
        scores : (rows, columns) float32

        Returns
        -------
        (rows, columns) float32
            0 to 1, or -1 to 1 where signed; NaN of NaN, and of a column without background.
        """
        x = np.abs(scores) if self.signed else scores
        points, levels = self._levels()
        column = np.arange(len(self.count))[None, :]
        low = self._place(x, column, points, np.less)
        high = self._place(x, column, points, np.less_equal)
        last = np.maximum(points - 1, 0)[None, :]
        below, above = np.clip(low - 1, 0, last), np.clip(low, 0, last)
        with np.errstate(invalid="ignore", divide="ignore"):
            step = self.values[column, above] - self.values[column, below]
            part = np.where(step > 0, (x - self.values[column, below]) / step, 0)
        between = levels[column, below] + part * (levels[column, above] - levels[column, below])
        tied = (levels[column, above] + levels[column, np.clip(high - 1, 0, last)]) / 2
        found = np.where(high > low, tied, np.where(low == 0, 0, np.where(low >= points, 1, between)))
        found = np.where(np.isnan(x) | (points == 0)[None, :], np.nan, found)
        return (found * np.sign(scores) if self.signed else found).astype(np.float32)

    def _levels(self) -> tuple[np.ndarray, np.ndarray]:
        """Number of points of each column, and their places in the distribution, (columns, points)."""
        points = np.zeros(len(self.count), np.int64)
        levels = np.zeros(self.values.shape)
        for n in np.unique(self.count):
            kept = ranks(int(n))
            rows = self.count == n
            points[rows] = len(kept)
            levels[rows, : len(kept)] = (kept + 0.5) / max(1, n)
        return points, levels

    def _place(self, x: np.ndarray, column: np.ndarray, points: np.ndarray, before) -> np.ndarray:
        """Number of a column's values that are ``before`` (less, or less or equal) each x, by bisection."""
        low, high = np.zeros(x.shape, np.int64), np.broadcast_to(points, x.shape).copy()
        while (low < high).any():
            middle = (low + high) // 2
            value = self.values[column, np.minimum(middle, self.values.shape[1] - 1)]
            right = before(value, x) & (low < high)
            low, high = np.where(right, middle + 1, low), np.where(right, high, np.minimum(middle, high))
        return low


def ranks(n: int) -> np.ndarray:
    """Which of ``n`` sorted scores are kept, int64: all of them, or those nearest to a fixed grid of quantiles."""
    if n <= len(_GRID):
        return np.arange(n)
    return np.unique(np.rint(_GRID * (n - 1)).astype(np.int64))


@dataclass(frozen=True, eq=False)
class Background:
    """Distributions of all scorers.

    Attributes
    ----------
    key : str
        SHA-256 over what decides a score: models and options.
    columns : tuple of str
        Names of the columns of all distributions.
    scores, gene_scores : dict of scorer name to Distribution
    provenance : dict
    """

    key: str
    columns: tuple[str, ...]
    scores: Mapping[str, Distribution]
    gene_scores: Mapping[str, Distribution]
    provenance: Mapping

    def add_quantiles(self, chunk: Chunk) -> Chunk:
        """The chunk with its quantiles; scorers that the background does not have are left as they are."""
        changed = {}
        for kind in _KINDS:
            known = getattr(self, kind)
            changed[kind] = {
                name: replace(measures, quantile=known[name].quantiles(measures.mean)) if name in known else measures
                for name, measures in getattr(chunk, kind).items()
            }
        return replace(chunk, **changed)


def build_background(
    chunks: Iterable[Chunk],
    out: str | os.PathLike,
    columns: Sequence[Column],
    scorers: Sequence,
    gene_scorers: Sequence,
    provenance: Mapping,
    key: str,
    force: bool = False,
    note: Callable[[Path, Mapping[str, int]], None] = lambda temporary, statuses: None,
) -> Summary:
    """Write the background that the scores of ``chunks`` make.

    Scores wait in unnamed temporary files beside the output (4 bytes each), so that memory does not grow
    with their number. To be able to resume, give the chunks of `kipoi_borzoi.variants.output.by_parts`.

    Parameters
    ----------
    chunks : iterable of Chunk
    out : path
        An HDF5 file.
    columns, scorers, gene_scorers, provenance
        As `kipoi_borzoi.variants.output.write_scores`.
    key : str
        SHA-256 over what decides a score; `load_background` refuses another one.
    force : bool
        Replace ``out`` if it exists.
    note : callable
        Called with the whole file, just before it gets its name, and how many alleles have which status.

    Raises
    ------
    InputError
        When nothing was scored, or ``out`` exists.
    KipoiBorzoiError
        When it cannot be written.
    """
    out = Path(out)
    if out.exists() and not force:
        raise InputError(f"{out}: exists; give --force to replace it, or another name")
    known = dict(zip(_KINDS, (describe_scorers(scorers), describe_scorers(gene_scorers)), strict=True))
    statuses: Counter = Counter()
    try:
        with ExitStack() as stack:
            files = {
                (kind, scorer.name): stack.enter_context(tempfile.TemporaryFile(dir=out.parent))
                for kind in _KINDS
                for scorer in known[kind]
            }
            for chunk in chunks:
                statuses.update(row.status for row in chunk.alleles)
                for (kind, name), file in files.items():
                    _spool(file, getattr(chunk, kind).get(name), scored_rows(chunk, kind), len(columns))
            if not statuses[SCORED]:
                raise InputError(f"{out}: no background: {Summary.of(statuses)}")
            with atomic_write(out) as temporary:
                _write(temporary, files, known, columns, provenance, key, statuses)
                note(temporary, statuses)
    except OSError as error:
        raise KipoiBorzoiError(f"{out}: cannot be written ({error.strerror or error})") from error
    return Summary.of(statuses)


def scored_rows(chunk: Chunk, kind: str) -> np.ndarray:
    """Which rows of a chunk's scores or gene scores belong to scored alleles, bool."""
    scored = np.array([row.status == SCORED for row in chunk.alleles], bool)
    return scored if kind == "scores" else scored[np.array([gene.allele for gene in chunk.genes], np.int64)]


def _spool(file, measures: Measures | None, rows: np.ndarray, columns: int) -> None:
    if measures is None:
        return
    if measures.mean.shape != (len(rows), columns):
        raise ValueError(f"scores {measures.mean.shape}, expected ({len(rows)}, {columns})")
    file.write(np.ascontiguousarray(measures.mean[rows], np.float32).data)


def _write(path: Path, files, known, columns: Sequence[Column], provenance: Mapping, key: str, statuses) -> None:
    with new_file(path) as (target, check_disk):
        target.attrs["format"] = FORMAT
        target.attrs["key"] = key
        target.create_dataset("provenance", data=provenance_text(provenance), track_times=False)
        target.create_dataset("columns", data=json.dumps([column.name for column in columns]), track_times=False)
        target.attrs["alleles"] = json.dumps(statuses)
        for kind in _KINDS:
            group = target.create_group(kind)
            for number, scorer in enumerate(known[kind]):
                _write_scorer(group.create_group(str(number)), scorer, files[kind, scorer.name], len(columns))
                check_disk()


def _write_scorer(group, scorer: ScorerInfo, file, columns: int) -> None:
    group.attrs["name"], group.attrs["formula"], group.attrs["signed"] = scorer.name, scorer.formula, scorer.signed
    file.flush()
    rows = file.tell() // (4 * columns)
    points = len(ranks(rows))
    count = np.zeros(columns, np.int64)
    values = group.create_dataset("values", (columns, points), np.float32, fillvalue=np.nan, track_times=False)
    for start, stop, block in _column_blocks(file, rows, columns):
        block = np.sort(np.abs(block) if scorer.signed else block, axis=0)  # NaN is sorted to the end
        count[start:stop] = (~np.isnan(block)).sum(axis=0)
        kept = np.full((stop - start, points), np.inf, np.float32)
        for n in np.unique(count[start:stop]):
            same = count[start:stop] == n
            kept[same, : len(ranks(int(n)))] = block[ranks(int(n))][:, same].T
        values[start:stop] = kept
    group.create_dataset("count", data=count, track_times=False)


def _column_blocks(file, rows: int, columns: int) -> Iterator[tuple[int, int, np.ndarray]]:
    if not rows:
        yield 0, columns, np.zeros((0, columns), np.float32)
        return
    table = np.memmap(file, np.float32, "r", shape=(rows, columns))
    width = max(1, min(columns, _SORT_BYTES // (4 * rows)))
    for start in range(0, columns, width):
        stop = min(columns, start + width)
        yield start, stop, np.array(table[:, start:stop])


def load_background(
    path: str | os.PathLike,
    key: str,
    columns: Sequence[Column],
    scorers: Sequence = (),
    gene_scorers: Sequence = (),
    provenance: Mapping | None = None,
) -> Background:
    """Read a background for the columns and scorers of a run.

    Parameters
    ----------
    path : path
    key : str
        As given to `build_background`.
    columns : sequence of Column
        Each must be in the background; their order becomes that of the result.
    scorers, gene_scorers : sequence
        Each must be in the background, except those named REF and ALT.
    provenance : dict, optional
        This run's; to say what differs where the key does.

    Raises
    ------
    InputError
        When the file is no background, is of another model or options, or lacks a column or scorer.
    """
    import h5py

    path = Path(path)
    with damage_named(path, "expected a file that `kipoi-borzoi background` has written; build it again"):
        with h5py.File(path, "r") as file:
            if "format" not in file.attrs or "columns" not in file:
                raise InputError(f"{path}: not a background: expected a file that `kipoi-borzoi background` has written")
            if file.attrs["format"] != FORMAT:
                raise InputError(f"{path}: format {file.attrs['format']} of backgrounds, expected {FORMAT}; build it again")
            its = json.loads(file["provenance"][()])
            if file.attrs["key"] != key:
                changed = differences(its, provenance) if provenance is not None else []
                raise InputError(
                    f"{path}: the background of another model or of other options"
                    + (f": {'; '.join(changed)}" if changed else "")
                    + "; build one for this model: kipoi-borzoi background"
                )
            names = json.loads(file["columns"][()])
            rows = _rows(path, "track", [column.name for column in columns], names)
            found = {}
            for kind, wanted in zip(_KINDS, (scorers, gene_scorers), strict=True):
                groups = {group.attrs["name"]: group for group in file[kind].values()}
                asked = [scorer.name for scorer in wanted if scorer.name not in ("REF", "ALT")]
                _rows(path, "scorer" if kind == "scores" else "gene scorer", asked, list(groups))
                found[kind] = {name: _read_scorer(groups[name], rows) for name in asked}
    return Background(key, tuple(column.name for column in columns), found["scores"], found["gene_scores"], its)


def _read_scorer(group, rows: np.ndarray) -> Distribution:
    return Distribution(bool(group.attrs["signed"]), group["count"][()][rows], group["values"][()][rows])


def _rows(path: Path, what: str, wanted: list[str], known: list[str]) -> np.ndarray:
    absent = [name for name in wanted if name not in set(known)]
    if absent:
        shown = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
        raise InputError(f"{path}: has no {what} {absent[0]!r} ({len(absent)} of {len(wanted)} are absent); it has {shown}")
    place = {name: number for number, name in enumerate(known)}
    return np.array([place[name] for name in wanted], np.int64)
