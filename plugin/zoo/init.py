"""Makes a user's own zoo: the packaged groups copied into a folder that Kipoi knows as a source."""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from kipoi_borzoi._version import __version__
from kipoi_borzoi.errors import ZooError
from kipoi_borzoi.files import atomic_write
from kipoi_borzoi.zoo.example import localise_examples
from kipoi_borzoi.zoo.folders import hidden_folder, publish
from kipoi_borzoi.zoo.kipoi_config import check_source_name, register_source
from kipoi_borzoi.zoo.names import PACKAGED_GROUPS
from kipoi_borzoi.zoo.place import SOURCE_NAME, kipoi_directory, packaged_zoo

MARK = ".kipoi_borzoi.json"
"""In every copied group: the version and content it was copied with, to tell it from the user's own groups."""

# What Kipoi and Python leave in a group's folder while it is used.
_BYPRODUCTS = ("downloaded", "__pycache__")


@dataclass(frozen=True)
class InitReport:
    """What `zoo_init` did.

    Attributes
    ----------
    directory : Path
        The zoo.
    name : str
        The Kipoi source's name.
    registered : bool
        False when it was registered before.
    groups : dict of str to str
        Per packaged group ``added``, ``refreshed``, ``unchanged`` or ``edited`` (by the user: left alone).
    """

    directory: Path
    name: str
    registered: bool
    groups: dict[str, str]


def zoo_init(directory: str | os.PathLike | None = None, name: str = SOURCE_NAME) -> InitReport:
    """Make a zoo of your own and register it as a Kipoi source; safe to repeat.

    The packaged groups are copied into it, or brought to this version of the package. Everything
    else in the folder, and in Kipoi's configuration, stays as it is.

    Parameters
    ----------
    directory : path, optional
        Default ``~/.kipoi/borzoi_zoo``. May exist and hold other models.
    name : str
        The source's name, for ``kipoi ... --source NAME``.

    Returns
    -------
    InitReport

    Raises
    ------
    ZooError
        The folder holds other models under a packaged group's name or cannot be written, or the
        source's name stands for another place.
    """
    check_source_name(name)
    directory = Path(directory) if directory is not None else kipoi_directory() / "borzoi_zoo"
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ZooError(f"{directory}: this folder cannot be made ({error.strerror})") from error
    directory = directory.resolve()
    packaged = packaged_zoo()
    if directory == packaged.resolve():
        raise ZooError(f"{directory}: this is the package itself; choose another folder")
    groups = {group: _bring_group(packaged / group, directory / group) for group in PACKAGED_GROUPS}
    if not (directory / "config.yaml").exists():
        with atomic_write(directory / "config.yaml") as temporary:
            shutil.copyfile(packaged / "config.yaml", temporary)
    return InitReport(directory, name, register_source(name, directory), groups)


def _bring_group(source: Path, target: Path) -> str:
    """Make ``target`` a copy of the packaged group ``source``, unless the user has made it theirs."""
    with hidden_folder(target.parent) as folder:
        made = folder / source.name
        shutil.copytree(source, made, ignore=shutil.ignore_patterns(*_BYPRODUCTS))
        localise_examples(made, target)
        digest = _digest(made)
        (made / MARK).write_text(json.dumps({"version": __version__, "content": digest}) + "\n", encoding="ascii")
        if not target.exists():
            publish(made, target, folder / "replaced", replace=False)
            return "added"
        present = _digest(target)
        if present == digest:
            return "unchanged"
        if present != _copied_content(target):
            return "edited"
        publish(made, target, folder / "replaced", replace=True)
        return "refreshed"


def _copied_content(target: Path) -> str:
    """Digest with which ``target`` was copied from a package.

    Raises
    ------
    ZooError
        It never was.
    """
    try:
        return json.loads((target / MARK).read_text(encoding="ascii"))["content"]
    except (OSError, ValueError, KeyError) as error:
        raise ZooError(
            f"{target}: there are models of another origin under a name of this package; rename them, or choose "
            "another folder for the zoo"
        ) from error


def _digest(group: Path) -> str:
    """One checksum over the names and contents of a group's files."""
    digest = hashlib.sha256()
    for path in sorted(group.rglob("*")):
        relative = path.relative_to(group)
        if path.is_file() and relative.name != MARK and not set(relative.parts) & set(_BYPRODUCTS):
            digest.update(f"{relative.as_posix()}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
