"""Makes whole folders appear at once: built in a hidden one beside their place, brought to the disk, then renamed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kipoi_borzoi.errors import ZooError
from kipoi_borzoi.files import create_temporary, exchange, fsync_directory, sweep_temporaries

IMPORT_MARK = "import.json"
"""In the folder of every imported model: where its parts came from."""
PUBLISH_MARK = "publish.json"
"""In the folder of every published adapter: the adapter directory and the base it came from."""

_KINDS = {IMPORT_MARK: "an imported model", PUBLISH_MARK: "a published adapter"}


def check_free(zoo: Path, name: str, mark: str, replace: bool) -> None:
    """See that a model may be made under ``name``.

    Parameters
    ----------
    zoo : Path
    name : str
    mark : str
        The file that marks models of the kind to be made, the only ones that may be replaced.
    replace : bool

    Raises
    ------
    ZooError
        The name is taken, or lies inside of another model.
    """
    parts = name.split("/")
    for depth in range(1, len(parts)):
        parent = zoo.joinpath(*parts[:depth])
        if any((parent / file).exists() for file in (*_KINDS, "model.yaml", "model-template.yaml")):
            raise ZooError(
                f"name {name!r}: {'/'.join(parts[:depth])!r} is a model of {zoo} itself; choose another name"
            )
    target = zoo / name
    if not target.exists() and not target.is_symlink():
        return
    if not (target / mark).is_file():
        raise ZooError(f"name {name!r}: {target} exists and is not {_KINDS[mark]}; choose another name")
    if not replace:
        raise ZooError(f"name {name!r}: there is such a model in {zoo} already; choose another name, or say --replace")


@contextmanager
def hidden_folder(zoo: Path) -> Iterator[Path]:
    """A folder of the zoo that Kipoi does not see (its name starts with a dot), removed at the end.

    Raises
    ------
    ZooError
        When the zoo cannot be written or is full.
    """
    folder = None
    try:
        sweep_temporaries(zoo)
        folder = create_temporary(zoo / "folder")
        folder.unlink()
        folder.mkdir()
        yield folder
    except OSError as error:
        raise ZooError(f"{zoo}: cannot be written ({error}); nothing was changed") from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def publish(made: Path, target: Path, aside: Path, replace: bool) -> None:
    """Bring the folder ``made`` to the disk and give it the name ``target``.

    Parameters
    ----------
    made, aside : Path
        In one `hidden_folder` of the target's filesystem. What ``target`` was goes to ``made`` or ``aside``.
    target : Path
    replace : bool
        Whether ``target`` may exist.

    Raises
    ------
    ZooError
        ``target`` has been made by another process meanwhile.
    OSError
    """
    _flush(made)
    target.parent.mkdir(parents=True, exist_ok=True)
    if replace and target.exists() and exchange(made, target):
        fsync_directory(target.parent)
        return
    if replace and target.exists():
        os.rename(target, aside)
    try:
        os.rename(made, target)
    except OSError:
        if not target.exists() and aside.exists():
            os.rename(aside, target)
        elif target.exists():
            raise ZooError(f"{target}: another process has just made a model of this name") from None
        raise
    fsync_directory(target.parent)


def _flush(folder: Path) -> None:
    """Bring every file and folder below ``folder`` to the disk."""
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            fsync_directory(path)
        else:
            with open(path, "rb") as file:
                os.fsync(file.fileno())
    fsync_directory(folder)
