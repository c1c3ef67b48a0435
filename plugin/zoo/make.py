"""Turns a Calico-format model into entries of a zoo: weights stored once as safetensors, one folder per view."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from kipoi_borzoi._version import __version__
from kipoi_borzoi.files import sha256_of_file
from kipoi_borzoi.network import NetworkConfig
from kipoi_borzoi.tracks import Tracks, check_transform, read_tracks
from kipoi_borzoi.zoo.describe import describe_dataloader, describe_model
from kipoi_borzoi.zoo.example import localise_examples, write_example
from kipoi_borzoi.zoo.folders import IMPORT_MARK, check_free, hidden_folder, publish
from kipoi_borzoi.zoo.names import VIEWS, check_name
from kipoi_borzoi.zoo.place import writable_zoo
from kipoi_borzoi.zoo.sources import locate
from kipoi_borzoi.zoo.yaml_text import dump_yaml


@dataclass(frozen=True)
class Source:
    """A model to be made into entries: local files, read and found to fit together."""

    params: Path
    weights: Path
    targets: Path
    config: NetworkConfig  # with the one head
    tracks: Tracks
    crop: int | None
    transform: str


def zoo_import(
    name: str,
    params: str | os.PathLike,
    weights: str | os.PathLike,
    targets: str | os.PathLike,
    head: str | None = None,
    crop: int | None = None,
    transform: str = "new",
    zoo: str | os.PathLike | None = None,
    replace: bool = False,
) -> list[str]:
    """Turn a model in Calico's format into the entries ``NAME/coverage``, ``NAME/sum`` and ``NAME/logsum``.

    The files are read and held against each other first; then everything is made in a hidden folder
    of the zoo, which gets its name when it is whole and on disk.

    Parameters
    ----------
    name : str
        One or more parts joined by slashes: letters, digits, ``_``, ``.`` and ``-``.
    params, weights, targets : path or https URL
        Calico's ``params.json``; its ``.h5`` (trunk and one head) or our ``.safetensors``; its target table.
    head : str, optional
        Which head of the params the weights hold, such as ``"human"``; not needed when there is one only.
    crop : int, optional
        Bins removed at each end of the output, instead of the params' own.
    transform : str
        How the training data were squashed: ``"new"`` (Calico's current code) or ``"old"`` (published Borzoi).
    zoo : path, optional
        A zoo made by `zoo_init`; by default the one registered as Kipoi source ``borzoi``.
    replace : bool
        Whether an import of the same name is replaced.

    Returns
    -------
    list of str
        The entries' names.

    Raises
    ------
    KipoiBorzoiError
        A name that is not valid or taken, a file that is missing, malformed or does not fit the
        others (head and tracks of different number, say), or a zoo that cannot be written.
    """
    check_name(name)
    check_transform(transform)
    zoo = writable_zoo(zoo)
    target = zoo / name
    check_free(zoo, name, IMPORT_MARK, replace)
    origin = {"params": str(params), "weights": str(weights), "targets": str(targets)}
    source = read_source(params, weights, targets, head, crop, transform)
    with hidden_folder(zoo) as folder:
        made = folder / "model"
        doc = f"Borzoi network {name!r}, imported from Calico's format."
        write_model(made, source, doc, license="as its weights", tags=["DNA", "RNA-seq", "Borzoi"])
        localise_examples(made, target)
        (made / IMPORT_MARK).write_text(json.dumps({"kipoi_borzoi": __version__, **origin}, indent=1) + "\n", encoding="utf-8")
        publish(made, target, folder / "replaced", replace)
    return [f"{name}/{view}" for view in VIEWS]


def read_source(params, weights, targets, head: str | None, crop: int | None, transform: str) -> Source:
    """Fetch what is remote, read params and tracks, and see that they fit; the weights are read when they are written.

    Raises
    ------
    KipoiBorzoiError
        See `zoo_import`.
    """
    params, weights, targets = (locate(file).path for file in (params, weights, targets))
    config = NetworkConfig.from_params(params)
    chosen = config.head(head)
    config = config.with_heads(chosen.name)
    if crop is not None:
        config = config.with_crop(crop)
    return Source(params, weights, targets, config, read_tracks(targets, units=chosen.units), crop, transform)


def write_model(folder: Path, source: Source, doc: str, license: str, tags: list[str]) -> None:
    """Write the folder of a model: weights, tables, an example, a dataloader and one ``model.yaml`` per view.

    Parameters
    ----------
    folder : Path
        Made by this call.
    source : Source
    doc, license, tags
        For Kipoi's description.
    """
    from kipoi_borzoi.network.weights import read_weights, save_safetensors

    folder.mkdir()
    tensors = dict(read_weights(source.weights, source.config))
    save_safetensors(folder / "weights.safetensors", tensors, {"format": "kipoi-borzoi"})
    shutil.copyfile(source.params, folder / "params.json")
    shutil.copyfile(source.targets, folder / "targets.txt")
    args = {role: f"../{file}" for role, file in _FILES.items()}
    args |= {"head": source.config.heads[0].key or None, "transform": source.transform, "crop": source.crop}
    args["checksums"] = {f"../{file}": sha256_of_file(folder / file) for file in _FILES.values()}
    write_views(folder, args, source.config, source.tracks, doc, license, tags)


def write_views(
    folder: Path, args: dict, config: NetworkConfig, tracks: Tracks, doc: str, license: str, tags: list[str]
) -> None:
    """Write what makes a model's folder into entries: an example, a dataloader and one ``model.yaml`` per view.

    Parameters
    ----------
    folder : Path
        Exists.
    args : dict
        Arguments of ``BorzoiModel``, seen from a view's folder, without ``view``; None leaves one out.
    config : NetworkConfig
        With the one head.
    tracks : Tracks
    doc, license, tags
        For Kipoi's description.
    """
    write_example(folder / "example")
    # Kipoi's own selection of what `kipoi test-source` runs, which a group with a like name might otherwise exclude.
    (folder / "test_subset.txt").write_text("\n".join(VIEWS) + "\n", encoding="ascii")
    dataloader = describe_dataloader(config.seq_length, "example/genome.fa.gz", "example/regions.bed")
    (folder / "dataloader.yaml").write_text(dump_yaml(dataloader), encoding="utf-8")
    labels = list(tracks.identifiers)
    for view in VIEWS:
        of_view = {key: value for key, value in {**args, "view": view}.items() if value is not None}
        text = describe_model(of_view, config.seq_length, config.bins, config.bin_size, labels, doc, license, tags)
        (folder / view).mkdir()
        (folder / view / "model.yaml").write_text(dump_yaml(text), encoding="utf-8")


_FILES = {"params": "params.json", "weights": "weights.safetensors", "targets": "targets.txt"}
