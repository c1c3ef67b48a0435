"""Finds models of a zoo by name and loads them without Kipoi's command, wherever the caller works."""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kipoi_borzoi.errors import InputError, ZooError
from kipoi_borzoi.zoo.entries import Entry, find_entries
from kipoi_borzoi.zoo.place import readable_zoo
from kipoi_borzoi.zoo.sources import locate

if TYPE_CHECKING:
    from kipoi_borzoi.model import BorzoiModel
    from kipoi_borzoi.model_group import ModelGroup


def load_model(
    name: str,
    adapters: Sequence[str] | None = None,
    view: str = "coverage",
    zoo: str | os.PathLike | None = None,
    merge: bool = False,
) -> BorzoiModel | ModelGroup:
    """Load a model of a zoo, or several adapters of one base.

    Parameters
    ----------
    name : str
        An entry without its view: ``Borzoi/human/rep0``. With ``adapters``, their base.
    adapters : sequence of str, optional
        Published adapters by name, adapter directories by path, or ``name`` for the base itself.
    view : {'coverage', 'sum', 'logsum'}
    zoo : path, optional
        By default the one registered as Kipoi source ``borzoi``, else the packaged one.
    merge : bool
        Fold adapters into copies of the kernels they change.

    Returns
    -------
    BorzoiModel
        Without ``adapters``.
    ModelGroup
        With them: predicts them in one call, and what they share once.

    Raises
    ------
    KipoiBorzoiError
        No such entry, a file that is missing or damaged, an adapter of another base.

    Examples
    --------
    >>> group = load_model("Borzoi/human/rep0", adapters=["lab/treated", "lab/control"])  # doctest: +SKIP
    >>> coverage = group.predict_on_batch(x)["lab/treated"]  # doctest: +SKIP
    """
    zoo = readable_zoo(zoo)
    if adapters is None:
        return make_model(find_model(zoo, name), view, merge=merge)
    from kipoi_borzoi.model_group import ModelGroup

    if isinstance(adapters, str) or not adapters:
        raise InputError(f"adapters is {adapters!r}, expected a list of one name or more")
    base = find_model(zoo, name)
    if base.is_adapter:
        raise InputError(f"{name} is itself an adapter; name its base, and {name} among the adapters")
    models: dict[str, BorzoiModel] = {}
    for adapter in map(os.fspath, adapters):
        if adapter in models:
            raise InputError(f"adapter {adapter} is given twice")
        if adapter.strip("/") == name.strip("/"):
            models[adapter] = make_model(base, view)
        elif Path(adapter, "adapter_config.json").is_file():
            models[adapter] = make_model(base, view, adapter=adapter, merge=merge)
        else:
            models[adapter] = make_model(find_model(zoo, adapter), view, merge=merge)
    return ModelGroup(models)


def find_model(zoo: Path, name: str) -> Entry:
    """The entry of a model, by its name with or without a view (which does not matter here).

    Raises
    ------
    ZooError
        No such model, a folder of several, or one that is not this package's.
    """
    entries = find_entries(zoo, name)
    models = {entry.model for entry in entries}
    if len(models) > 1:
        raise ZooError(f"{zoo}: {name!r} is a folder of {len(models)} models; name one: {', '.join(sorted(models))}")
    entry = entries[0]
    if entry.problem is not None:
        raise ZooError(entry.problem)
    if not entry.is_borzoi:
        raise ZooError(f"{name}: a model of another package ({entry.description.get('defined_as')})")
    return entry


def make_model(entry: Entry, view: str, adapter: str | None = None, merge: bool = False) -> BorzoiModel:
    """Load the model of an entry.

    Parameters
    ----------
    entry : Entry
    view : {'coverage', 'sum', 'logsum'}
    adapter : path, optional
        An adapter directory to put on the entry's model.
    merge : bool
        Fold the adapter; where the entry itself says so, that stands.

    Raises
    ------
    KipoiBorzoiError
        See `kipoi_borzoi.model.BorzoiModel`; or arguments that it does not have.
    """
    from kipoi_borzoi.model import BorzoiModel

    args = located_args(entry)
    args["view"] = view
    if adapter is not None:
        args = {key: value for key, value in args.items() if key not in ("targets", "transform", "crop")}
        args["adapter"] = str(Path(adapter).absolute())
    if merge and args.get("adapter") is not None:
        args["merge"] = True
    try:
        inspect.signature(BorzoiModel).bind(**args)
    except TypeError as error:
        raise ZooError(f"{entry.name}: args: {error}") from error
    return BorzoiModel(**args)


def base_weights(entry: Entry) -> Path:
    """The file of weights of a model that adapters can stand on, fetched and verified.

    Raises
    ------
    KipoiBorzoiError
        An ensemble, an adapter, or a file that is missing or not the one that was recorded.
    """
    if entry.is_adapter:
        raise ZooError(f"{entry.model!r} is itself an adapter; name its base")
    files = [file for file in entry.files() if file.role == "weights"]
    if len(files) != 1:
        raise ZooError(f"{entry.model!r} is an ensemble of {len(files)} networks; an adapter has one base, name it")
    source = files[0].url or str(files[0].path)
    return locate(source, {source: files[0].sha256} if files[0].sha256 else None).path


def located_args(entry: Entry) -> dict:
    """An entry's arguments with every file fetched, verified and named by its absolute path.

    Raises
    ------
    KipoiBorzoiError
        A file that is missing, cannot be fetched, or is not the one that was recorded.
    """
    args = dict(entry.args)
    args.pop("checksums", None)
    paths = {}
    for file in entry.files():
        source = file.url or str(file.path)
        paths[file.reference] = str(locate(source, {source: file.sha256} if file.sha256 else None).path)
    for role in ("params", "targets", "weights"):
        references = args.get(role)
        if isinstance(references, list):
            args[role] = [paths[reference] for reference in references]
        elif references is not None and references in paths:
            args[role] = paths[references]
    if entry.is_adapter:
        args["adapter"] = str((entry.directory / args["adapter"]).resolve())
    return args
