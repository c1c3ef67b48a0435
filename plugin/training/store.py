"""The data set that a network is trained and evaluated on: one file with windows of DNA, their binned targets and their folds.

A store is a folder with one HDF5 file, ``store.h5``, which is complete or absent: it is written under
another name. It needs no other file: the DNA is in it. Its content:

==============  ==========================  =====================================================
``targets``     (examples, tracks, bins)    float16; one compressed chunk per example and track,
                                            those of an example one behind the other
``bases``       (examples, ceil(bp / 4))    uint8, two bits per base (A 0, C 1, G 2, T 3), the
                                            first base in the lowest bits
``known``       (examples, ceil(bp / 8))    uint8, one bit per base (`numpy.packbits`): 0 for what is
                                            not A, C, G or T, and for what lies beyond the contig
``chrom``       (examples,)                 int32, number in ``meta``'s list of contig names
``start``       (examples,)                 int64, 0-based first base of the window
``fold``        (examples,)                 int32, number in ``meta``'s list of folds
``meta``        text                        JSON: lengths, transform, tracks, folds, contigs, digests
==============  ==========================  =====================================================

Its attribute ``key``, written last, is the sha256 of ``meta`` and of the tables; through the digests it
covers every value. Chunks carry checksums, which HDF5 verifies when it reads them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import h5py
import numpy as np

from kipoi_borzoi.dataloaders.coverage import bins_of
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.files import atomic_write, sweep_temporaries
from kipoi_borzoi.genome import Interval
from kipoi_borzoi.tracks import Tracks, check_transform
from kipoi_borzoi.training.h5_file import create_h5

FORMAT = "kipoi-borzoi store"
VERSION = 1
FILE_NAME = "store.h5"
WORK_NAME = "building"
"""Folder inside a store in which a build keeps finished parts until the store is complete."""

FILTERS = {"shuffle": True, "compression": "gzip", "compression_opts": 4, "fletcher32": True}
"""HDF5 filters of the targets, here and in the parts that are copied into a store without being decompressed."""

_TRACK_ARRAYS = ("index", "clip", "clip_soft", "scale", "strand_pair")
_FOLD_ORDER = {"train": 0, "valid": 1, "test": 2}
_CODE_OF_ROW = np.array([4, 0, 1, 4, 2, 4, 4, 4, 3] + [4] * 7, dtype=np.uint8)  # sum over columns of 2^column
_ONE_HOT = np.eye(4, dtype=bool)[np.arange(256)[:, None] >> np.arange(0, 8, 2) & 3].reshape(256, 16)


@dataclass(frozen=True, eq=False)
class Layout:
    """What the examples of a store are, without their values.

    Attributes
    ----------
    tracks : Tracks
    transform : {'new', 'old'}
    seq_length, crop_bp, bin_size : int
        bp: the window, what is cut from each of its ends for the targets, and a bin.
    intervals : tuple of Interval
        One window of ``seq_length`` bp per example; may reach beyond the contig.
    example_folds : tuple of str
        The fold of each example.

    Raises
    ------
    InputError
        When there is no example, a window has another length, the rest does not divide into bins, or a stranded track
        has no partner.
    """

    tracks: Tracks
    transform: str
    seq_length: int
    crop_bp: int
    bin_size: int
    intervals: tuple[Interval, ...]
    example_folds: tuple[str, ...]

    def __post_init__(self):
        object.__setattr__(self, "intervals", tuple(self.intervals))
        object.__setattr__(self, "example_folds", tuple(self.example_folds))
        check_transform(self.transform)
        self.tracks.pair_rows()  # reverse complements need both strands
        bins_of(self.seq_length, self.crop_bp, self.bin_size)
        if not self.intervals:
            raise InputError("a store needs at least one sequence")
        if len(self.intervals) != len(self.example_folds):
            raise InputError(
                f"{len(self.intervals)} sequences, but {len(self.example_folds)} folds; one each is needed"
            )
        for number, (interval, fold) in enumerate(zip(self.intervals, self.example_folds, strict=True)):
            if interval.length != self.seq_length:
                raise InputError(
                    f"sequence {number} ({interval}) is {interval.length} bp long, expected seq_length {self.seq_length}"
                )
            if not fold:
                raise InputError(f"sequence {number} ({interval}) has no fold")

    @property
    def bins(self) -> int:
        """Bins of the targets."""
        return bins_of(self.seq_length, self.crop_bp, self.bin_size)

    @property
    def folds(self) -> tuple[str, ...]:
        """Names of the folds: train, valid, test first, others in natural order."""
        return tuple(sorted(set(self.example_folds), key=_fold_key))


class Store:
    """A complete store, open for reading; light, and safe to hand to other processes.

    Attributes
    ----------
    path : Path
        The HDF5 file.
    tracks : Tracks
        All tracks, in the order of the targets' last axis.
    transform : {'new', 'old'}
    seq_length, crop_bp, bin_size, bins : int
        ``bins`` = (``seq_length`` - 2 ``crop_bp``) / ``bin_size``.
    folds : tuple of str
    key : str
        sha256, 64 hexadecimal digits, of the content: the same for the same examples, wherever the files lie.
    source : dict
        What it was made of, for people: names and checksums of the inputs, notes. Not part of the key.
    """

    def __init__(self, path: Path, meta: dict, layout: Layout, key: str, source: dict):
        self.path = path
        self.key = key
        self.source = source
        self.layout = layout
        self.track_digests: tuple[str, ...] = tuple(meta["track_digests"])
        for name in ("tracks", "transform", "seq_length", "crop_bp", "bin_size", "bins", "folds"):
            setattr(self, name, getattr(layout, name))
        number = {name: index for index, name in enumerate(self.folds)}
        self._fold = np.array([number[fold] for fold in layout.example_folds], dtype=np.int64)
        self._file: h5py.File | None = None
        self._process = 0

    @classmethod
    def open(cls, path: str | os.PathLike) -> Store:
        """Open a store, given by its folder or its file, and check all of it but the values.

        The values are checked, chunk by chunk, when they are read.

        Raises
        ------
        InputError
            When there is none, it is not complete, not a store, of another version, or damaged.
        """
        file_path = _find(Path(path))
        with _open_h5(file_path) as file:
            try:
                mark, version, key = (file.attrs.get(name) for name in ("format", "version", "key"))
            except OSError as error:
                raise InputError(f"{file_path}: damaged: {error}; build it again") from error
            if mark != FORMAT:
                raise InputError(f"{file_path}: an HDF5 file, but not a store of kipoi-borzoi (no format mark)")
            if version != VERSION:
                raise InputError(f"{file_path}: a store of version {version}, this program reads version {VERSION}; build it again")
            if not key:
                raise InputError(f"{file_path}: the completion mark is missing: the store was not written to its end")
            try:
                meta = json.loads(file["meta"].asstr()[()])
                source = json.loads(file["source"].asstr()[()])
                layout = _read_layout(file, meta)
                shapes = {name: file[name].shape for name in ("targets", "bases", "known")}
            except (KeyError, ValueError, OSError) as error:
                raise InputError(f"{file_path}: damaged: {error}; build it again") from error
        if _key(meta, layout) != key:
            raise InputError(
                f"{file_path}: damaged or edited: its description does not have the sha256 it is marked with"
            )
        n, length = len(layout.intervals), layout.seq_length
        expected = {
            "targets": (n, len(layout.tracks), layout.bins),
            "bases": (n, -(-length // 4)),
            "known": (n, -(-length // 8)),
        }
        if shapes != expected:
            raise InputError(f"{file_path}: damaged: its arrays have shapes {shapes}, expected {expected}")
        return cls(file_path, meta, layout, key, source)

    def __len__(self) -> int:
        return len(self.layout.intervals)

    def indices(self, fold: str) -> np.ndarray:
        """Numbers of the examples of a fold, ascending, (n,) int64.

        Raises
        ------
        InputError
            When there is no such fold.
        """
        if fold not in self.folds:
            raise InputError(f"{self.path.parent}: no fold {fold!r}; its folds are {', '.join(self.folds)}")
        return np.flatnonzero(self._fold == self.folds.index(fold)).astype(np.int64)

    def interval(self, i: int) -> Interval:
        """Window of example ``i``."""
        return self.layout.intervals[self._number(i)]

    def fold(self, i: int) -> str:
        """Fold of example ``i``."""
        return self.layout.example_folds[self._number(i)]

    def sequence(self, i: int, dtype=np.float32) -> np.ndarray:
        """One-hot DNA of example ``i``, (seq_length, 4) of ``dtype``; zeros for N and beyond the contig.

        Raises
        ------
        InputError
            When the file is damaged there.
        """
        i = self._number(i)
        with self._reading(i) as file:
            packed, known = file["bases"][i], file["known"][i]
        x = np.empty((len(packed), 16), dtype=dtype)
        np.take(_ONE_HOT.astype(dtype), packed, axis=0, out=x, mode="clip")
        x = x.reshape(-1, 4)[: self.seq_length]
        if (known != 255).any():
            x[np.unpackbits(known, count=self.seq_length) == 0] = 0
        return x

    def targets(self, i: int, tracks: Sequence[int] | np.ndarray | slice | None = None) -> np.ndarray:
        """Targets of example ``i``.

        Parameters
        ----------
        i : int
        tracks : sequence of int or slice, optional
            Rows of ``self.tracks``, in the order wanted; all by default.

        Returns
        -------
        (bins, tracks) float16, C-contiguous
            Squashed coverage, finite, 0 or more.

        Raises
        ------
        InputError
            When the file is damaged there, or a row is out of range.
        """
        i = self._number(i)
        rows = np.arange(len(self.tracks))
        if tracks is not None:
            try:
                rows = rows[tracks if isinstance(tracks, slice) else np.asarray(tracks, dtype=np.int64)]
            except IndexError:
                raise InputError(f"tracks {tracks} are out of range: the store has {len(self.tracks)} tracks") from None
        with self._reading(i) as file:
            data = file["targets"]
            if len(rows) and (np.diff(rows) == 1).all():
                values = data[i, rows[0] : rows[-1] + 1]
            elif 2 * len(rows) > len(self.tracks):
                values = data[i][rows]
            else:
                values = np.empty((len(rows), self.bins), dtype=np.float16)
                for place, row in enumerate(rows.tolist()):
                    values[place] = data[i, row]
        return np.ascontiguousarray(values.T)

    def close(self) -> None:
        """Close the file; reading again opens it again."""
        if self._file is not None and self._process == os.getpid():
            self._file.close()
        self._file = None

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def __getstate__(self):
        return {**self.__dict__, "_file": None}

    def __repr__(self) -> str:
        folds = ", ".join(f"{name} {len(self.indices(name))}" for name in self.folds)
        return (
            f"Store({str(self.path.parent)!r}: {len(self)} examples ({folds}) of {self.seq_length} bp, "
            f"{self.bins} bins of {self.bin_size} bp, {len(self.tracks)} tracks, transform {self.transform})"
        )

    def _number(self, i: int) -> int:
        if not 0 <= i < len(self):
            raise IndexError(f"example {i} of a store with {len(self)} examples")
        return int(i)

    @contextlib.contextmanager
    def _reading(self, i: int):
        # An HDF5 file must not be shared with a forked process: each opens its own.
        if self._file is None or self._process != os.getpid():
            self._file = _open_h5(self.path)
            self._process = os.getpid()
            try:
                key = self._file.attrs.get("key")
            except OSError as error:
                self.close()
                raise InputError(f"{self.path}: its attributes cannot be read, the file is damaged ({error}); build it again") from error
            if key != self.key:
                self.close()
                raise InputError(f"{self.path}: the store was replaced by another while it was in use")
        try:
            yield self._file
        except OSError as error:
            raise InputError(
                f"{self.path}: example {i} ({self.layout.intervals[i]}) cannot be read, the file is damaged ({error}); "
                "copy or build it again"
            ) from error


class StoreWriter:
    """Writes a store example by example; the store appears when the ``with`` block ends without an error.

    Parameters
    ----------
    path : path
        Folder of the store; made when absent. A complete store in it is replaced only with ``replace``.
    layout : Layout
    source : dict
        See `Store`; values that JSON can hold.
    replace : bool

    Raises
    ------
    InputError
        When there is a complete store and ``replace`` is not set; on leaving the block, when examples are missing.

    Examples
    --------
    >>> with StoreWriter("store", layout) as writer:  # doctest: +SKIP
    ...     for x, y in examples:
    ...         writer.append(x, y)
    """

    def __init__(self, path: str | os.PathLike, layout: Layout, source: dict | None = None, replace: bool = False):
        self.path = Path(path)
        self.layout = layout
        self.source = source or {}
        self.written = 0
        self._replace = replace

    def __enter__(self) -> StoreWriter:
        target = begin(self.path, self._replace)
        self._stack = contextlib.ExitStack()
        temporary = self._stack.enter_context(atomic_write(target))
        self._file, self._check = self._stack.enter_context(create_h5(temporary))
        create_arrays(self._file, self.layout)
        self._digests = [hashlib.sha256() for _ in range(len(self.layout.tracks))]
        self._sequences = hashlib.sha256()
        return self

    def append(self, sequence: np.ndarray, targets: np.ndarray) -> None:
        """Write the next example.

        Parameters
        ----------
        sequence : (seq_length, 4) one-hot, or (seq_length,) uint8
            As numbers: A 0, C 1, G 2, T 3, anything else 4.
        targets : (bins, tracks) array
            Squashed coverage, finite, 0 or more, within the range of float16.

        Raises
        ------
        InputError
            When a shape or value is not as said, or there are more examples than windows.
        """
        number = self.written
        if number == len(self.layout.intervals):
            raise InputError(f"the store has {number} sequences, and one more example was given")
        where = f"example {number} ({self.layout.intervals[number]})"
        shape = (self.layout.bins, len(self.layout.tracks))
        targets = np.asarray(targets)
        if targets.shape != shape:
            raise InputError(f"{where}: targets of shape {targets.shape}, expected {shape} (bins, tracks)")
        values = check_values(targets.T, where, self.layout.tracks)
        self._sequences.update(write_sequence(self._file, number, sequence, self.layout.seq_length, where))
        self._file["targets"][number] = values
        for digest, row in zip(self._digests, values, strict=True):
            digest.update(row)
        self._check()
        self.written += 1

    def __exit__(self, *exception) -> None:
        with self._stack:
            if exception[0] is not None:
                # An error must reach the contexts below, or they would give the unfinished file its name.
                self._stack.__exit__(*exception)
                return
            if self.written != len(self.layout.intervals):
                raise InputError(f"{self.written} examples were written, but {len(self.layout.intervals)} are due")
            digests = [digest.hexdigest() for digest in self._digests]
            finish(self._file, self.layout, digests, self._sequences.hexdigest(), self.source)


def begin(path: Path, replace: bool = False) -> Path:
    """Make a store's folder, sweep what dead processes left in it, and return the path of the file to come.

    Raises
    ------
    InputError
        When the folder cannot be made or is something else, or holds a complete store and ``replace`` is not set.
    """
    target = path / FILE_NAME
    if path.exists() and not path.is_dir():
        raise InputError(f"{path}: a file is there already; a store is a folder, name another place")
    if target.exists() and not replace:
        raise InputError(f"{path}: a complete store is there already; name another folder, or replace it (--replace)")
    if path.is_dir() and not target.exists():
        foreign = [
            entry.name for entry in os.scandir(path) if not entry.name.startswith(".") and entry.name != WORK_NAME
        ]
        if foreign:
            raise InputError(
                f"{path}: the folder is not empty and no store ({', '.join(sorted(foreign)[:3])}); name a new folder"
            )
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path}: the folder cannot be made ({error.strerror})") from error
    sweep_temporaries(path)
    return target


def create_arrays(file: h5py.File, layout: Layout) -> None:
    """Create the empty arrays of a store in a new HDF5 file."""
    n = len(layout.intervals)
    shape, chunk = (n, len(layout.tracks), layout.bins), (1, 1, layout.bins)
    file.create_dataset("targets", shape, np.float16, chunks=chunk, **FILTERS)
    create_sequence_arrays(file, n, layout.seq_length)


def create_sequence_arrays(file: h5py.File, n: int, length: int) -> None:
    """Create the empty arrays for ``n`` sequences of ``length`` bp."""
    bases, known = -(-length // 4), -(-length // 8)
    file.create_dataset("bases", (n, bases), np.uint8, chunks=(1, bases), fletcher32=True)
    file.create_dataset("known", (n, known), np.uint8, chunks=(1, known), compression="gzip", fletcher32=True)


def check_values(values: np.ndarray, where: str, tracks: Tracks) -> np.ndarray:
    """Return targets (tracks, bins) as contiguous float16, exactly as they were or rounded to it.

    Raises
    ------
    InputError
        When one is negative, NaN, infinite, or too large for float16.
    """
    with np.errstate(over="ignore"):
        result = np.ascontiguousarray(values, dtype=np.float16)
    bad = ~(np.isfinite(result) & (result >= 0))
    if bad.any():
        row, place = np.argwhere(bad)[0]
        raise InputError(
            f"{where}: target of track {tracks.identifiers[row]!r}, bin {place}, is {values[row, place]}; "
            "expected a number of 0 or more, at most 65504"
        )
    return result


def sequence_codes(sequence: np.ndarray) -> np.ndarray:
    """Numbers of the bases, (length,) uint8: A 0, C 1, G 2, T 3, else 4; from one-hot rows or from such numbers."""
    x = np.asarray(sequence)
    if x.ndim == 1:
        return np.minimum(x, 4).astype(np.uint8)
    return _CODE_OF_ROW[(x != 0) @ np.array([1, 2, 4, 8], dtype=np.uint8)]


def write_sequence(file: h5py.File, number: int, sequence: np.ndarray, length: int, where: str) -> bytes:
    """Write the bases of one example; return what the digest of the sequences is updated with."""
    codes = sequence_codes(sequence)
    if codes.shape != (length,):
        raise InputError(
            f"{where}: a sequence of shape {np.shape(sequence)}, expected ({length}, 4) one-hot or ({length},) numbers"
        )
    known = np.packbits(codes < 4)
    quads = np.zeros((-(-length // 4), 4), dtype=np.uint8)
    quads.reshape(-1)[:length] = np.where(codes < 4, codes, 0)
    packed = quads[:, 0] | quads[:, 1] << 2 | quads[:, 2] << 4 | quads[:, 3] << 6
    file["bases"][number] = packed
    file["known"][number] = known
    return packed.tobytes() + known.tobytes()


def finish(file: h5py.File, layout: Layout, track_digests: Iterable[str], sequences: str, source: dict) -> None:
    """Write the tables, the description and, last, the key, which marks the store as complete."""
    contigs = sorted({interval.chrom for interval in layout.intervals})
    contig_number = {name: number for number, name in enumerate(contigs)}
    fold_number = {name: number for number, name in enumerate(layout.folds)}
    file["chrom"] = np.array([contig_number[interval.chrom] for interval in layout.intervals], dtype=np.int32)
    file["start"] = np.array([interval.start for interval in layout.intervals], dtype=np.int64)
    file["fold"] = np.array([fold_number[fold] for fold in layout.example_folds], dtype=np.int32)
    meta = {
        "transform": layout.transform,
        "seq_length": layout.seq_length,
        "crop_bp": layout.crop_bp,
        "bin_size": layout.bin_size,
        "contigs": contigs,
        "folds": list(layout.folds),
        "tracks": {field.name: _plain(layout.tracks, field.name) for field in fields(Tracks)},
        "track_digests": list(track_digests),
        "sequence_digest": sequences,
    }
    file["meta"] = json.dumps(meta)
    file["source"] = json.dumps(source)
    file.attrs["format"] = FORMAT
    file.attrs["version"] = VERSION
    file.flush()
    file.attrs["key"] = _key(meta, layout)


def _plain(tracks: Tracks, name: str) -> list:
    values = getattr(tracks, name)
    return values.tolist() if name in _TRACK_ARRAYS else list(values)


def _read_layout(file: h5py.File, meta: dict) -> Layout:
    chrom, start, fold = file["chrom"][:], file["start"][:], file["fold"][:]
    length = meta["seq_length"]
    intervals = [
        Interval(meta["contigs"][number], first, first + length)
        for number, first in zip(chrom.tolist(), start.tolist(), strict=True)
    ]
    return Layout(
        Tracks(**meta["tracks"]), meta["transform"], length, meta["crop_bp"], meta["bin_size"], tuple(intervals),
        tuple(meta["folds"][number] for number in fold.tolist()),
    )  # fmt: skip


def _key(meta: dict, layout: Layout) -> str:
    # Where the coverage files lie is no part of the content.
    tracks = {name: values for name, values in meta["tracks"].items() if name != "files"}
    examples = [
        (interval.chrom, interval.start, fold)
        for interval, fold in zip(layout.intervals, layout.example_folds, strict=True)
    ]
    text = json.dumps([FORMAT, VERSION, {**meta, "tracks": tracks}, examples], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _fold_key(name: str):
    natural = [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]
    return _FOLD_ORDER.get(name, len(_FOLD_ORDER)), natural


def _find(path: Path) -> Path:
    if path.is_dir():
        if not (path / FILE_NAME).exists():
            if (path / WORK_NAME).exists():
                raise InputError(f"{path}: the store is not complete; run the same 'data build' again to continue it")
            raise InputError(f"{path}: no store in this folder: {FILE_NAME} is missing")
        return path / FILE_NAME
    if not path.exists():
        raise InputError(f"{path}: no such store; build one with 'kipoi-borzoi data build'")
    return path


def _open_h5(path: Path) -> h5py.File:
    try:
        # A complete store is never changed, and locks fail on some network filesystems.
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        raise InputError(f"{path}: cannot be opened as a store: not HDF5, cut short or unreadable ({error})") from error
