"""An adapter as a directory in the convention of Hugging Face's PEFT: config, tensors, tracks and a model card."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kipoi_borzoi._version import __version__
from kipoi_borzoi.adapters.adapter import Adapter, Scheme
from kipoi_borzoi.adapters.card import model_card
from kipoi_borzoi.adapters.counts import count
from kipoi_borzoi.adapters.registry import make_method
from kipoi_borzoi.errors import ConfigError, InputError, KipoiBorzoiError, WeightsError
from kipoi_borzoi.files import commit, create_temporary, exchange, fsync_directory, sweep_temporaries
from kipoi_borzoi.network.config import NetworkConfig, read_params
from kipoi_borzoi.network.weights import load_safetensors, save_safetensors
from kipoi_borzoi.tracks import Tracks, check_transform, read_tracks

CONFIG, TENSORS, TARGETS, CARD = "adapter_config.json", "adapter_model.safetensors", "targets.txt", "README.md"
FILES = (CONFIG, TENSORS, TARGETS)
"""What an adapter is read from; the model card is for people."""
FORMAT = 1


@dataclass(frozen=True, eq=False)
class StoredAdapter:
    """What an adapter directory holds.

    Attributes
    ----------
    adapter : Adapter
    tracks : Tracks
        Of its head.
    base_name : str
        The base: name of a zoo entry, or of a file.
    base_sha256 : str
        `kipoi_borzoi.network.weights.content_hash` of the base's trunk.
    transform : {'new', 'old'}
        How the training data were squashed.
    training : dict or None
        Summary of the training.
    """

    adapter: Adapter
    tracks: Tracks
    base_name: str
    base_sha256: str
    transform: str
    training: dict[str, Any] | None = None


def save_adapter(
    directory: str | Path,
    adapter: Adapter,
    targets: str | Path,
    base_name: str,
    base_sha256: str,
    transform: str,
    training: dict[str, Any] | None = None,
    replace: bool = False,
) -> None:
    """Write an adapter directory: whole or not at all.

    Parameters
    ----------
    directory : path
        Must not exist, unless ``replace``.
    adapter : Adapter
    targets : path
        The table of its tracks, copied as it is.
    base_name, base_sha256, transform, training
        See `StoredAdapter`.
    replace : bool
        Whether an adapter directory of the same name may be replaced.

    Raises
    ------
    InputError
        The directory exists, or the tracks do not fit the head.
    """
    tracks = read_tracks(targets, units=adapter.scheme.head.units)
    check_transform(transform)
    stored = StoredAdapter(adapter, tracks, base_name, base_sha256, transform, training)
    with _new_directory(Path(directory), replace) as folder:
        save_safetensors(folder / TENSORS, adapter.tensors, {"format": "kipoi-borzoi adapter"})
        shutil.copyfile(targets, folder / TARGETS)
        config = describe(stored)
        (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        (folder / CARD).write_text(model_card(config, tracks), encoding="utf-8")


def load_adapter(directory: str | Path) -> StoredAdapter:
    """Read an adapter directory, checking everything in it; whether it fits a base, `check_base` says.

    Parameters
    ----------
    directory : path

    Raises
    ------
    ConfigError
        ``adapter_config.json`` lacks a key, has one too many or twice, or contradicts itself.
    WeightsError
        The tensors are not exactly those that the config asks for.
    InputError
        The table of tracks is malformed or does not fit the head.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise InputError(f"{directory}: no such adapter directory")
    path = directory / CONFIG
    config = read_params(path, "the config of an adapter")
    ours = _ours(path, config)
    try:
        scheme, gelu = _scheme(ours), _text(ours, "gelu")
        transform, sha256, name = (
            _text(ours, "transform"),
            _text(ours, "base_sha256"),
            config["base_model_name_or_path"],
        )
        if not isinstance(name, str) or not name:
            raise ConfigError(f"base_model_name_or_path is {name!r}, expected the name of the base")
        if not re.fullmatch("[0-9a-f]{64}", sha256):
            raise ConfigError(f"base_sha256 is {sha256!r}, expected 64 hexadecimal digits")
        check_transform(transform)
    except KipoiBorzoiError as error:
        raise ConfigError(f"{path}: {error}") from error
    tensors = dict(load_safetensors(directory / TENSORS, scheme.shapes()))
    try:
        adapter = Adapter(scheme, tensors, gelu)
    except KipoiBorzoiError as error:
        raise ConfigError(f"{path}: {error}") from error
    tracks = read_tracks(directory / TARGETS, units=scheme.head.units)
    stored = StoredAdapter(adapter, tracks, name, sha256, transform, ours["training"])
    _check_consistent(path, config, describe(stored) | {"kipoi_borzoi": ours})
    _check_consistent(path, ours, {**describe(stored)["kipoi_borzoi"], "version": ours["version"]})
    return stored


def check_base(directory: str | Path, stored: StoredAdapter, base_sha256: str, base_name: str) -> None:
    """Check that an adapter was trained on the base that it is about to be used with.

    Parameters
    ----------
    directory : path
        For the error.
    stored : StoredAdapter
    base_sha256 : str
        Content hash of that base's trunk (`kipoi_borzoi.adapters.base.trunk_hash`).
    base_name : str
        What to call it.

    Raises
    ------
    WeightsError
        It is another one.
    """
    if base_sha256 != stored.base_sha256:
        raise WeightsError(
            f"{directory}: this adapter was trained on the base {stored.base_name!r} (sha256 of the trunk"
            f" {stored.base_sha256}), not on {base_name!r} (sha256 of the trunk {base_sha256})"
        )


def describe(stored: StoredAdapter) -> dict[str, Any]:
    """The content of ``adapter_config.json``: PEFT's keys, and under ``kipoi_borzoi`` ours."""
    adapter, scheme = stored.adapter, stored.adapter.scheme
    method, config = adapter.method, scheme.config
    rank, alpha = (None if field is None else getattr(method, field) for field in method.peft_fields)
    return {
        "peft_type": method.peft_type,
        "base_model_name_or_path": stored.base_name,
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": list(scheme.inserts),
        "modules_to_save": [*scheme.layers, f"{scheme.head.name}.dense"],
        "kipoi_borzoi": {
            "format": FORMAT,
            "version": __version__,
            "method": {"name": method.name, **method.settings()},
            "replaced": list(scheme.replaced),
            "base_sha256": stored.base_sha256,
            "transform": stored.transform,
            "gelu": adapter.gelu,
            "seq_length": config.seq_length,
            "crop": config.crop,
            "counts": count(scheme),
            "training": stored.training,
            "model": config.to_params()["model"],
        },
    }


_KEYS = ("peft_type", "base_model_name_or_path", "r", "lora_alpha", "target_modules", "modules_to_save", "kipoi_borzoi")
_OUR_KEYS = ("format", "version", "method", "replaced", "base_sha256", "transform", "gelu", "seq_length", "crop",
             "counts", "training", "model")  # fmt: skip


def _ours(path: Path, config: dict) -> dict:
    """The section of our own keys, after a check that all keys are there and no others."""
    _check_keys(path, "", config, _KEYS)
    ours = config["kipoi_borzoi"]
    if not isinstance(ours, dict):
        raise ConfigError(f"{path}: kipoi_borzoi is a {type(ours).__name__}, expected an object")
    if ours.get("format") != FORMAT:
        raise ConfigError(f"{path}: format {ours.get('format')!r} is not known to this version, only {FORMAT}")
    _check_keys(path, "kipoi_borzoi.", ours, _OUR_KEYS)
    if not (ours["training"] is None or isinstance(ours["training"], dict)):
        raise ConfigError(f"{path}: training is a {type(ours['training']).__name__}, expected an object or null")
    return ours


def _check_keys(path: Path, prefix: str, section: dict, known: tuple[str, ...]) -> None:
    for key in section:
        if key not in known:
            raise ConfigError(f"{path}: unknown key {prefix + key!r}; known: {', '.join(known)}")
    for key in known:
        if key not in section:
            raise ConfigError(f"{path}: the key {prefix + key!r} is missing")


def _scheme(ours: dict) -> Scheme:
    if not isinstance(ours["method"], dict):
        raise ConfigError(f"method is {ours['method']!r}, expected an object")
    settings = dict(ours["method"])
    method = make_method(settings.pop("name", None), settings)
    if not isinstance(ours["model"], dict):
        raise ConfigError(f"model is {ours['model']!r}, expected an object")
    replaced = ours["replaced"]
    if not isinstance(replaced, list) or not all(isinstance(site, str) for site in replaced):
        raise ConfigError(f"replaced is {replaced!r}, expected a list of layers' names")
    return Scheme(method, NetworkConfig.from_params({"model": ours["model"]}), tuple(replaced))


def _text(section: dict, key: str) -> str:
    if not isinstance(section[key], str):
        raise ConfigError(f"{key} is {section[key]!r}, expected text")
    return section[key]


def _check_consistent(path: Path, found: dict, expected: dict) -> None:
    """Compare what is stated with what follows from method, model and tensors."""
    for key, value in expected.items():
        if found[key] != value:
            raise ConfigError(f"{path}: {key} is {found[key]!r}, but the method and the model make it {value!r}")


@contextmanager
def _new_directory(target: Path, replace: bool) -> Iterator[Path]:
    """A hidden directory beside ``target``, which gets its name when the body is done and everything is on disk."""
    if target.exists() and not (replace and (target / CONFIG).is_file()):
        hint = (
            "choose another name, or ask for it to be replaced"
            if (target / CONFIG).is_file()
            else "choose another name"
        )
        raise InputError(f"{target}: exists already; {hint}")
    try:
        sweep_temporaries(target.absolute().parent)
        folder = create_temporary(target)
        folder.unlink()
        folder.mkdir()
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror})") from error
    try:
        made = folder / target.name
        made.mkdir()
        yield made
        for path in made.iterdir():
            commit(path, path)  # flushes the file, and the directory that holds it
        if not (target.exists() and exchange(made, target)):
            if target.exists():
                os.rename(target, folder / "replaced")
            os.rename(made, target)
        fsync_directory(target.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
