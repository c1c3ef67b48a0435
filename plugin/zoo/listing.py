"""Says in one line per entry what a zoo offers and whether its files are here."""

import os
from dataclasses import dataclass

from kipoi_borzoi.errors import KipoiBorzoiError
from kipoi_borzoi.network.config import read_params
from kipoi_borzoi.zoo.cache import cached_path
from kipoi_borzoi.zoo.entries import Entry, EntryFile, read_zoo
from kipoi_borzoi.zoo.place import readable_zoo


@dataclass(frozen=True)
class ListedEntry:
    """One line of `zoo_ls`.

    Attributes
    ----------
    name : str
        The entry, as Kipoi calls it.
    method : str
        How the weights came about: ``base`` (Calico's training), ``ensemble of N`` (the mean of N base
        networks), the method of an adapter and its base (``lora on lab/k562``); ``-`` for an entry of
        another package.
    window : int or None
        Input in bp.
    tracks : int or None
        Output columns; None when the description leaves them open, as for tables that are not here yet.
    weights : str
        ``here`` (in the entry), ``downloaded``, ``not downloaded``, ``missing``, ``-`` or ``broken``.
    problem : str or None
        Why the entry cannot be used.
    """

    name: str
    method: str
    window: int | None
    tracks: int | None
    weights: str
    problem: str | None = None


def zoo_ls(zoo: str | os.PathLike | None = None) -> list[ListedEntry]:
    """List the entries of a zoo; nothing is loaded or downloaded.

    Parameters
    ----------
    zoo : path, optional
        By default the one registered as Kipoi source ``borzoi``, else the packaged one.

    Raises
    ------
    ZooError
        When there is no such folder, or Kipoi's configuration cannot be read.
    """
    return [_list(entry) for entry in read_zoo(readable_zoo(zoo))]


def _list(entry: Entry) -> ListedEntry:
    if entry.problem is None and not entry.is_borzoi:
        return ListedEntry(entry.name, "-", None, None, "-")
    try:
        if entry.problem is not None:
            return ListedEntry(entry.name, "-", None, None, "broken", entry.problem)
        files = entry.files()
        weights = [file for file in files if file.role == "weights"]
        method = _adapter_method(entry, files) if entry.is_adapter else _base_method(len(weights))
        window, tracks = entry.shape("inputs"), entry.shape("targets")
    except KipoiBorzoiError as error:
        return ListedEntry(entry.name, "-", None, None, "broken", str(error))
    states = {file_state(file) for file in files if file.role in ("weights", "adapter")}
    state = next(state for state in ("missing", "not downloaded", "downloaded", "here") if state in states)
    return ListedEntry(entry.name, method, window[0] if window else None, tracks[-1] if tracks else None, state)


def _base_method(replicates: int) -> str:
    return "base" if replicates == 1 else f"ensemble of {replicates}"


def _adapter_method(entry: Entry, files: list[EntryFile]) -> str:
    """``METHOD on BASE`` by the adapter's config, of which no more is read than that."""
    config = read_params(files[0].path, "the config of an adapter")
    method = config.get("kipoi_borzoi", {}).get("method", {}).get("name")
    return f"{method} on {config.get('base_model_name_or_path')}"


def file_state(file: EntryFile) -> str:
    """``here``, ``missing``, ``downloaded`` or ``not downloaded``."""
    if file.path is not None:
        return "here" if file.path.is_file() else "missing"
    return "downloaded" if cached_path(file.url).exists() else "not downloaded"
