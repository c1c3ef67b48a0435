"""Reading the data sets of Calico's own pipeline: folders of compressed TFRecord files, taken over into a store.

The format is read here, without TensorFlow: a zlib stream of records, each a length (8 bytes), its checksum (4), the
content and its checksum (4); the content is a protocol buffer ``Example`` with the features ``sequence`` (uint8:
one-hot, or the numbers 0 to 3 and 4 for N) and ``target`` (float16, or float32). The records' own checksums are not
computed: zlib's, over the whole file, is.
"""

from __future__ import annotations

import json
import os
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kipoi_borzoi._version import __version__
from kipoi_borzoi.dataloaders.bed import read_bed_records
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.files import sha256_of_file
from kipoi_borzoi.genome import Interval
from kipoi_borzoi.target_table import read_records
from kipoi_borzoi.tracks import check_transform, read_tracks
from kipoi_borzoi.training.store import Layout, Store, StoreWriter

_READ_BYTES = 1 << 20
_LARGEST_RECORD = 1 << 31
_LENGTHS = ("seq_length", "crop_bp", "pool_width", "target_length", "num_targets")


def import_tfrecords(
    directory: str | os.PathLike,
    out: str | os.PathLike,
    transform: str = "new",
    targets: str | os.PathLike | None = None,
    replace: bool = False,
    progress: bool = False,
) -> Store:
    """Turn a folder of Calico's into a store.

    Parameters
    ----------
    directory : path
        With ``statistics.json``, ``sequences.bed``, ``targets.txt`` and ``tfrecords/FOLD-N.tfr``. The records of a fold
        are the lines of ``sequences.bed`` with that fold, in order.
    out : path
        Folder of the store.
    transform : {'new', 'old'}
        How the coverage was squashed; the files do not say it.
    targets : path, optional
        Another target table.
    replace : bool
        Replace a complete store.
    progress : bool
        Show a progress bar on standard error.

    Returns
    -------
    Store

    Raises
    ------
    InputError
        When a file is missing, damaged, or they do not fit each other.
    """
    from tqdm import tqdm

    directory = Path(directory)
    check_transform(transform)
    statistics = _read_statistics(directory / "statistics.json")
    table = Path(targets) if targets else directory / "targets.txt"
    tracks = read_tracks(table)
    if len(tracks) != statistics["num_targets"]:
        raise InputError(
            f"{table}: {len(tracks)} tracks, but {statistics['num_targets']} in {directory / 'statistics.json'}"
        )
    # Targets are in the order of the table's lines, tracks in that of their index.
    columns = np.argsort([record["index"] for _, record in read_records(table)])
    intervals, folds = _read_sequences(directory / "sequences.bed", statistics)
    layout = Layout(
        tracks, transform, statistics["seq_length"], statistics["crop_bp"], statistics["pool_width"], intervals, folds
    )
    if layout.bins != statistics["target_length"]:
        raise InputError(
            f"{directory / 'statistics.json'}: target_length is {statistics['target_length']}, but its seq_length, crop_bp and "
            f"pool_width make {layout.bins} bins"
        )
    files = _find_files(directory / "tfrecords", layout)
    source = {
        "made_by": f"kipoi-borzoi {__version__}, data import-tfrecords",
        "tfrecords": [
            {"file": str(path), "sha256": sha256_of_file(path)} for paths in files.values() for path in paths
        ],
    }
    readers = {fold: _read_examples(paths, layout) for fold, paths in files.items()}
    try:
        with (
            StoreWriter(out, layout, source, replace) as writer,
            tqdm(total=len(folds), unit="example", disable=not progress) as bar,
        ):
            for number, fold in enumerate(folds):
                example = next(readers[fold], None)
                if example is None:
                    raise InputError(
                        f"{directory / 'tfrecords'}: fold {fold} has fewer records than its {folds.count(fold)} lines in "
                        f"sequences.bed (missing: {intervals[number]}); are files missing?"
                    )
                sequence, values = example
                writer.append(sequence, values[:, columns])
                bar.update()
            for fold, reader in readers.items():
                if next(reader, None) is not None:
                    raise InputError(
                        f"{directory / 'tfrecords'}: fold {fold} has more records than its {folds.count(fold)} lines in "
                        "sequences.bed"
                    )
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror or error}); is the disk full?") from error
    return Store.open(out)


def _read_statistics(path: Path) -> dict:
    try:
        statistics = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); is this a data folder of Calico's?") from error
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error})") from error
    for name in _LENGTHS:
        if not isinstance(statistics, dict) or not isinstance(statistics.get(name), int):
            raise InputError(f"{path}: {name!r} is missing or no integer")
    return statistics


def _read_sequences(path: Path, statistics: dict) -> tuple[tuple[Interval, ...], tuple[str, ...]]:
    length, crop_bp = statistics["seq_length"], statistics["crop_bp"]
    intervals, folds = [], []
    for record in read_bed_records(path, bed_columns=3):
        interval = record.interval
        where = f"{path}, line {record.line}"
        if not record.extra or not record.extra[0]:
            raise InputError(f"{where}: no fold in column 4")
        if interval.length not in (length, length - 2 * crop_bp):
            raise InputError(
                f"{where}: {interval} is {interval.length} bp long, expected {length} (seq_length) or {length - 2 * crop_bp} "
                "(without the crop)"
            )
        extend = (length - interval.length) // 2
        intervals.append(Interval(interval.chrom, interval.start - extend, interval.end + extend))
        folds.append(record.extra[0])
    return tuple(intervals), tuple(folds)


def _find_files(folder: Path, layout: Layout) -> dict[str, list[Path]]:
    """Files of each fold, in the order of their numbers."""
    numbered: dict[str, dict[int, Path]] = {}
    for path in folder.glob("*.tfr") if folder.is_dir() else ():
        match = re.fullmatch(r"(.+)-(\d+)\.tfr", path.name)
        if match:
            numbered.setdefault(match[1], {})[int(match[2])] = path
    if not numbered:
        raise InputError(f"{folder}: no files FOLD-N.tfr in this folder")
    for fold in layout.folds:
        if fold not in numbered:
            raise InputError(f"{folder}: no files {fold}-N.tfr, but sequences.bed has the fold {fold}")
    for fold, paths in numbered.items():
        if fold not in layout.folds:
            raise InputError(f"{folder}: {fold}-{min(paths)}.tfr is there, but sequences.bed has no fold {fold}")
        gaps = sorted(set(range(max(paths))) - set(paths))
        if gaps:
            raise InputError(f"{folder}: {fold}-{gaps[0]}.tfr is missing, {fold}-{max(paths)}.tfr is there")
    return {fold: [paths[number] for number in sorted(paths)] for fold, paths in numbered.items()}


def _read_examples(paths: list[Path], layout: Layout) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (sequence, targets (bins, tracks)) of each record."""
    shape = (layout.bins, len(layout.tracks))
    for path in paths:
        for number, record in enumerate(read_tfrecords(path)):
            where = f"{path}, record {number}"
            features = parse_example(record, where)
            for name in ("sequence", "target"):
                if name not in features:
                    raise InputError(f"{where}: no feature {name!r}; found: {', '.join(sorted(features)) or 'none'}")
            sequence = np.frombuffer(features["sequence"], dtype=np.uint8)
            if len(sequence) == 4 * layout.seq_length:
                sequence = sequence.reshape(-1, 4)
            elif len(sequence) != layout.seq_length:
                raise InputError(
                    f"{where}: a sequence of {len(sequence)} bytes, expected {layout.seq_length} or 4 times that (one-hot)"
                )
            target = features["target"]
            values = shape[0] * shape[1]
            if len(target) not in (2 * values, 4 * values):
                raise InputError(
                    f"{where}: targets of {len(target)} bytes, expected {2 * values}: float16 for {shape[0]} bins and "
                    f"{shape[1]} tracks"
                )
            dtype = "<f2" if len(target) == 2 * values else "<f4"
            yield sequence, np.frombuffer(target, dtype=dtype).reshape(shape)


def read_tfrecords(path: str | os.PathLike) -> Iterator[bytes]:
    """Yield the records of a zlib-compressed TFRecord file, reading no more than one at a time.

    Raises
    ------
    InputError
        When the file cannot be read, is not such a file, truncated or damaged.
    """
    stream = _inflate(path)
    buffer = bytearray()
    ended = False
    while True:
        need = 12 if len(buffer) < 12 else 16 + struct.unpack_from("<Q", buffer)[0]
        if need > _LARGEST_RECORD:
            raise InputError(f"{path}: damaged, or no TFRecord file: a record of {need - 16} bytes")
        if len(buffer) >= max(need, 16):
            yield bytes(buffer[12 : need - 4])
            del buffer[:need]
            continue
        piece = None if ended else next(stream, None)
        if piece is None:
            if buffer:
                raise InputError(f"{path}: damaged: the last record is cut short")
            return
        buffer += piece


def _inflate(path: str | os.PathLike) -> Iterator[bytes]:
    inflater = zlib.decompressobj()
    try:
        with open(path, "rb") as handle:
            while not inflater.eof and (piece := inflater.unconsumed_tail or handle.read(_READ_BYTES)):
                yield inflater.decompress(piece, _READ_BYTES)
            yield inflater.flush()
    except zlib.error as error:
        raise InputError(f"{path}: not a zlib-compressed TFRecord file, or damaged ({error})") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if not inflater.eof:
        raise InputError(f"{path}: truncated: the compressed stream has no end; copy the file again")


def parse_example(record: bytes, where: str) -> dict[str, bytes]:
    """Features of a protocol buffer ``Example`` that are bytes, by name.

    Its structure: Example{1: Features{1: entry{1: name, 2: Feature{1: BytesList{1: value}}}}}.

    Raises
    ------
    InputError
        When the record is no such message.
    """
    features = {}
    view = memoryview(record)
    try:
        for number, message in _fields(view):
            if number != 1:
                continue
            for entry_number, entry in _fields(message):
                parts = dict(_fields(entry))
                for list_number, values in _fields(parts[2]):
                    if entry_number == 1 and list_number == 1:
                        features[bytes(parts[1]).decode()] = b"".join(value for _, value in _fields(values))
    except (IndexError, KeyError, UnicodeDecodeError, ValueError) as error:
        raise InputError(f"{where}: not an Example message of TensorFlow ({error})") from error
    return features


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield (number, content) of the fields of a message that hold bytes."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        kind = tag & 7
        if kind == 2:
            length, place = _varint(message, place)
            if place + length > len(message):
                raise ValueError("a field is longer than its message")
            yield tag >> 3, message[place : place + length]
            place += length
        elif kind == 0:
            _, place = _varint(message, place)
        elif kind in (1, 5):
            place += 8 if kind == 1 else 4
        else:
            raise ValueError(f"unknown kind of field {kind}")


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
