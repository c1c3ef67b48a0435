"""Where zoos are: the packaged one, the user's own, and the one Kipoi knows by name; Kipoi itself is not imported."""

import os
from importlib import resources
from pathlib import Path

from kipoi_borzoi.errors import ZooError
from kipoi_borzoi.zoo.yaml_text import read_yaml

SOURCE_NAME = "borzoi"
"""Kipoi source that `zoo_init` registers unless told otherwise."""


def kipoi_directory() -> Path:
    """Kipoi's directory of this user, by Kipoi's own rule: ``~/.kipoi``, or ``/tmp/.kipoi`` without a writable home."""
    home = os.path.expanduser("~")
    return Path(home if os.access(home, os.W_OK) else "/tmp", ".kipoi")


def packaged_zoo() -> Path:
    """The zoo that comes with this package; it may not be writable."""
    return Path(str(resources.files("kipoi_borzoi.model_zoo")))


def users_zoo() -> Path | None:
    """The zoo registered as Kipoi source ``borzoi``; None when there is none.

    Raises
    ------
    ZooError
        When Kipoi's configuration cannot be read.
    """
    path = kipoi_directory() / "config.yaml"
    if not path.exists():
        return None
    source = (read_yaml(path).get("model_sources") or {}).get(SOURCE_NAME) or {}
    place = source.get("local_path")
    return Path(place).expanduser() if place else None


def readable_zoo(zoo: str | os.PathLike | None) -> Path:
    """``zoo``, else the user's, else the packaged one."""
    return Path(zoo) if zoo is not None else users_zoo() or packaged_zoo()


def writable_zoo(zoo: str | os.PathLike | None) -> Path:
    """``zoo``, else the user's.

    Raises
    ------
    ZooError
        There is none, it is no folder, or it cannot be written.
    """
    zoo = Path(zoo) if zoo is not None else users_zoo()
    if zoo is None:
        raise ZooError(
            f"there is no zoo of your own yet: run `kipoi-borzoi zoo init` (no Kipoi source {SOURCE_NAME!r})"
        )
    if not zoo.is_dir():
        raise ZooError(f"{zoo}: no such folder; `kipoi-borzoi zoo init {zoo}` makes a zoo there")
    if not os.access(zoo, os.W_OK | os.X_OK):
        raise ZooError(f"{zoo}: this zoo cannot be written; choose another with --zoo")
    return zoo.resolve()
