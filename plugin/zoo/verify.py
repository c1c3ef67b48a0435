"""Checks that entries are whole, are the files they should be, load, and predict."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kipoi_borzoi.adapters.base import read_trunk, trunk_hash
from kipoi_borzoi.adapters.directory import check_base, load_adapter
from kipoi_borzoi.errors import KipoiBorzoiError, ZooError
from kipoi_borzoi.files import sha256_of_file
from kipoi_borzoi.network import NetworkConfig
from kipoi_borzoi.tracks import Tracks, read_tracks
from kipoi_borzoi.zoo.cache import fetch
from kipoi_borzoi.zoo.entries import Entry, find_entries, read_zoo
from kipoi_borzoi.zoo.listing import file_state
from kipoi_borzoi.zoo.load import make_model
from kipoi_borzoi.zoo.place import readable_zoo


@dataclass(frozen=True)
class VerifiedEntry:
    """One line of `zoo_verify`.

    Attributes
    ----------
    name : str
    status : str
        ``ok``; ``failed``; ``not downloaded`` (only what is here was checked); ``skipped`` (another package's).
    detail : str
        What was checked, or what is wrong.
    """

    name: str
    status: str
    detail: str


def zoo_verify(
    name: str | None = None, zoo: str | os.PathLike | None = None, download: bool = False, predict: bool = True
) -> list[VerifiedEntry]:
    """Check entries: description, files, checksums, tables against each other, loading, a prediction.

    Parameters
    ----------
    name : str, optional
        An entry, or a folder of entries; all by default.
    zoo : path, optional
        By default the one registered as Kipoi source ``borzoi``, else the packaged one.
    download : bool
        Fetch what is not in the cache, instead of reporting it as not downloaded.
    predict : bool
        Load the model and predict a generated sequence: seconds for a small network, about half a minute
        and 5 GB for a full-size one.

    Raises
    ------
    ZooError
        When there is no such zoo or name. What is wrong with an entry is in its line.
    """
    return list(verify_one_by_one(name, zoo, download, predict))


def verify_one_by_one(
    name: str | None, zoo: str | os.PathLike | None, download: bool, predict: bool
) -> Iterator[VerifiedEntry]:
    """Do what `zoo_verify` does, giving each line as soon as it is known."""
    zoo = readable_zoo(zoo)
    for entry in read_zoo(zoo) if name is None else find_entries(zoo, name):
        yield _verify(entry, download, predict)


def _verify(entry: Entry, download: bool, predict: bool) -> VerifiedEntry:
    try:
        if entry.problem is not None:
            raise ZooError(entry.problem)
        if not entry.is_borzoi:
            defined_as = entry.description.get("defined_as") or entry.description.get("type")
            return VerifiedEntry(entry.name, "skipped", f"a model of another package ({defined_as})")
        files = entry.files()
        absent = [file.reference for file in files if file.path is None and file_state(file) == "not downloaded"]
        if absent and not download:
            _check_local(files)
            return VerifiedEntry(
                entry.name, "not downloaded", f"{len(absent)} of {len(files)} files, such as {absent[-1]}"
            )
        paths = _check_local(files) | {file.reference: fetch(file.url, file.sha256) for file in files if file.url}
        return VerifiedEntry(entry.name, "ok", _check_together(entry, paths, predict))
    except KipoiBorzoiError as error:
        return VerifiedEntry(entry.name, "failed", str(error))


def _check_local(files) -> dict:
    """Paths of the files that lie in the entry, by reference, their checksums compared."""
    paths = {}
    for file in files:
        if file.path is None:
            continue
        if not file.path.is_file():
            raise ZooError(f"{file.path}: no such file ({file.role} of the entry)")
        actual = sha256_of_file(file.path)
        if file.sha256 is not None and actual != file.sha256.lower():
            raise ZooError(
                f"{file.path}: the file has changed: sha256 {actual}, recorded {file.sha256}; import the model again, "
                "or restore the file"
            )
        paths[file.reference] = file.path
    return paths


def _check_together(entry: Entry, paths: dict, predict: bool) -> str:
    config, tracks = _adapter_parts(entry, paths) if entry.is_adapter else _base_parts(entry, paths)
    if entry.args.get("crop") is not None:
        config = config.with_crop(entry.args["crop"])
    coverage = entry.args.get("view", "coverage") == "coverage"
    _check_shape(entry, "inputs", (config.seq_length, 4))
    expected = (config.bins, len(tracks)) if coverage else (len(tracks),)
    _check_shape(entry, "targets", expected)
    labels = ((entry.description.get("schema") or {}).get("targets") or {}).get("column_labels")
    if isinstance(labels, list) and labels != list(tracks.identifiers):
        raise ZooError(f"{entry.name}: the column_labels are not the identifiers of its target table, in its order")
    checked = f"{config.seq_length:,} bp -> {' x '.join(f'{size:,}' for size in expected)}"
    if predict:
        checked += f", predicts {_predict(entry, config.seq_length, expected)}"
    return checked


def _base_parts(entry: Entry, paths: dict) -> tuple[NetworkConfig, Tracks]:
    config = NetworkConfig.from_params(paths[entry.args["params"]])
    head = config.head(entry.args.get("head"))
    return config.with_heads(head.name), read_tracks(paths[entry.args["targets"]], units=head.units)


def _adapter_parts(entry: Entry, paths: dict) -> tuple[NetworkConfig, Tracks]:
    """Read the adapter, and see that the base's weights are those it was trained on."""
    stored = load_adapter(entry.directory / entry.args["adapter"])
    config = stored.adapter.config
    weights = next(file for file in entry.files() if file.role == "weights")
    found = trunk_hash(read_trunk(paths[weights.reference], config), config)
    check_base(entry.directory / entry.args["adapter"], stored, found, weights.reference)
    return config, stored.tracks


def _check_shape(entry: Entry, side: str, expected: tuple) -> None:
    shape = entry.shape(side)
    if len(shape) != len(expected) or any(a not in (None, b) for a, b in zip(shape, expected, strict=True)):
        raise ZooError(f"{entry.name}: schema, {side}: shape is {shape}, but its params and tracks make {expected}")


def _predict(entry: Entry, window: int, expected: tuple) -> str:
    """Load the model, predict one sequence, and say in which range the values are."""
    x = np.eye(4, dtype=np.float32)[np.random.default_rng(0).integers(0, 4, (1, window))]
    values = np.asarray(make_model(entry, entry.args.get("view", "coverage")).predict_on_batch(x))
    if values.shape != (1, *expected):
        raise ZooError(f"{entry.name}: predicts an array of shape {values.shape}, expected {(1, *expected)}")
    if not np.isfinite(values).all():
        raise ZooError(f"{entry.name}: predicts values that are not finite")
    return f"{values.min():.3g} to {values.max():.3g}"
