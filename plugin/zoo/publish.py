"""Turns an adapter directory into entries of a zoo that stand on the entry of its base."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from kipoi_borzoi._version import __version__
from kipoi_borzoi.adapters.base import read_trunk, trunk_hash
from kipoi_borzoi.adapters.directory import CARD, FILES, StoredAdapter, check_base, load_adapter
from kipoi_borzoi.errors import InputError, KipoiBorzoiError, ZooError
from kipoi_borzoi.files import sha256_of_file
from kipoi_borzoi.zoo.entries import Entry, EntryFile
from kipoi_borzoi.zoo.example import localise_examples
from kipoi_borzoi.zoo.folders import PUBLISH_MARK, check_free, hidden_folder, publish
from kipoi_borzoi.zoo.load import base_weights, find_model
from kipoi_borzoi.zoo.make import write_views
from kipoi_borzoi.zoo.names import VIEWS, check_name
from kipoi_borzoi.zoo.place import writable_zoo


def zoo_publish(
    directory: str | os.PathLike,
    name: str,
    zoo: str | os.PathLike | None = None,
    base: str | None = None,
    merge: bool = False,
    replace: bool = False,
) -> list[str]:
    """Turn an adapter directory into the entries ``NAME/coverage``, ``NAME/sum`` and ``NAME/logsum``.

    The adapter is copied into the zoo; of its base the entries only say where it is.

    Parameters
    ----------
    directory : path
        The adapter directory.
    name : str
        Of the model: parts of letters, digits, ``_``, ``.`` and ``-``, joined by single slashes.
    zoo : path, optional
        A zoo made by `zoo_init`; by default the one registered as Kipoi source ``borzoi``.
    base : str, optional
        The base's entry in the same zoo, without its view; by default the one that the adapter names.
    merge : bool
        Whether the entries fold the adapter into copies of the kernels it changes when they are loaded.
    replace : bool
        Whether a published adapter of the same name is replaced.

    Returns
    -------
    list of str
        The entries' names.

    Raises
    ------
    KipoiBorzoiError
        A name that is not valid or taken, an adapter that is damaged, a base that is not in the zoo or
        not the one that the adapter was trained on, or a zoo that cannot be written.
    """
    check_name(name)
    zoo = writable_zoo(zoo)
    check_free(zoo, name, PUBLISH_MARK, replace)
    directory = Path(directory)
    stored = load_adapter(directory)
    if merge and stored.adapter.method.not_mergeable:
        raise InputError(f"{directory}: cannot be merged: {stored.adapter.method.not_mergeable}")
    base_entry = _find_base(zoo, directory, base or stored.base_name)
    files = _verified_base(base_entry, directory, stored)
    target = zoo / name
    with hidden_folder(zoo) as folder:
        made = folder / "model"
        made.mkdir()
        _copy_adapter(directory, made / "adapter", stored)
        args = _args(target, made, base_entry, files) | {"merge": merge or None}
        adapter = stored.adapter
        doc = (
            f"{base_entry.model} fine-tuned by {adapter.method.name}: {len(stored.tracks):,} tracks. The adapter's model "
            f"card is {name}/adapter/{CARD}."
        )
        tags = ["DNA", "RNA-seq", "Borzoi", "adapter", adapter.method.name]
        write_views(made, args, adapter.config, stored.tracks, doc, "as its weights", tags)
        localise_examples(made, target)
        mark = {"kipoi_borzoi": __version__, "adapter": str(directory), "base": base_entry.model}
        (made / PUBLISH_MARK).write_text(json.dumps(mark, indent=1) + "\n", encoding="utf-8")
        publish(made, target, folder / "replaced", replace)
    return [f"{name}/{view}" for view in VIEWS]


def _find_base(zoo: Path, directory: Path, base: str) -> Entry:
    try:
        entry = find_model(zoo, base)
    except ZooError as error:
        raise ZooError(
            f"{directory}: its base {base!r} is not a model of {zoo} ({error}); bring it there with "
            "`kipoi-borzoi zoo import`, or name its entry with --base"
        ) from error
    return entry


def _verified_base(base: Entry, directory: Path, stored: StoredAdapter) -> list[EntryFile]:
    """The base's params and weights, fetched and found to be what the adapter was trained on."""
    try:
        path = base_weights(base)
    except ZooError as error:
        raise ZooError(f"{directory}: {error} (with --base)") from error
    config = stored.adapter.config
    try:
        found = trunk_hash(read_trunk(path, config), config)
    except KipoiBorzoiError as error:
        raise ZooError(f"{directory}: does not fit {base.model!r}: {error}") from error
    check_base(directory, stored, found, base.model)
    return [file for file in base.files() if file.role in ("params", "weights")]


def _copy_adapter(directory: Path, to: Path, stored: StoredAdapter) -> None:
    """Copy the files that make the adapter, and nothing else that may lie beside them."""
    to.mkdir()
    for file in (*FILES, CARD):
        if (directory / file).is_file():
            shutil.copyfile(directory / file, to / file)
    # What was copied is what was checked, even where somebody was writing to the directory meanwhile.
    copied = load_adapter(to)
    same = copied.adapter.scheme == stored.adapter.scheme and all(
        (copied.adapter.tensors[name] == value).all() for name, value in stored.adapter.tensors.items()
    )
    if not same:
        raise InputError(f"{directory}: was changed while it was read; publish it again")


def _args(target: Path, made: Path, base: Entry, files: list[EntryFile]) -> dict:
    """Arguments of the model, seen from a view's folder below ``target``."""
    args: dict = {"adapter": "../adapter", "head": base.args.get("head"), "checksums": {}}
    for file in files:
        reference = file.url or Path(os.path.relpath(file.path, target.resolve() / VIEWS[0])).as_posix()
        args[file.role] = reference
        checksum = file.sha256 or (None if file.path is None else sha256_of_file(file.path))
        if checksum:
            args["checksums"][reference] = checksum
    for name in FILES:
        args["checksums"][f"../adapter/{name}"] = sha256_of_file(made / "adapter" / name)
    return args
