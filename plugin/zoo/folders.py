"""Makes whole folders appear at once: built in a hidden one beside their place, brought to the disk, then renamed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kipoi_borzoi.errors import ZooError
from kipoi_borzoi.files import create_temporary, fsync_directory, sweep_temporaries


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
        In one `hidden_folder` of the target's filesystem. What ``target`` was goes to ``aside``.
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
