"""The folder ``OUT.parts`` beside an unfinished output: held by one process, of one run, and used again by that run only."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.files import atomic_write, fsync_directory, sweep_temporaries


def work_folder(out: Path) -> Path:
    """Where the parts of an output wait."""
    return out.with_name(f"{out.name}.parts")


class WorkFolder:
    """The folder ``OUT.parts`` of one run; a context manager. What its parts are, is said by the classes made of it.

    Parameters
    ----------
    out : path
        The output to be.
    run : dict
        What the run is; what JSON can hold. It is kept in ``run.json``.
    fresh : bool
        Whether a folder of another run is thrown away instead of refused.

    Raises
    ------
    InputError
        When another process holds the folder, or it belongs to another run.
    OSError
        When it cannot be made or read.
    """

    made = ("part-*",)
    """Patterns of the files that a run leaves in its folder."""

    def __init__(self, out: Path, run: Mapping, fresh: bool = False):
        self.out, self.path = out, work_folder(out)
        self._run, self._fresh = json.loads(json.dumps(run)), fresh

    def __enter__(self):
        self.path.mkdir(exist_ok=True)
        self._lock = open(self.path / "lock", "a+")
        try:
            self._hold()
            sweep_temporaries(self.path)
            self._begin()
        except BaseException:
            self._lock.close()
            raise
        return self

    def __exit__(self, error, *rest) -> None:
        if error is not None and not any(self._files()):
            self.clear()  # it failed before there was anything to keep
        self._lock.close()

    def changes(self, theirs: Mapping, mine: Mapping) -> list[str]:
        """What makes the run in the folder another one than this, in words; nothing when it is the same."""
        raise NotImplementedError

    def resumed(self, theirs: Mapping) -> None:
        """Called with what the folder says of its run, which is the same as this."""

    def clear(self) -> None:
        """Remove the folder: the output is whole."""
        shutil.rmtree(self.path, ignore_errors=True)
        with contextlib.suppress(OSError):
            fsync_directory(self.path.parent)

    def _files(self):
        return (file for pattern in self.made for file in self.path.glob(pattern))

    def _hold(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise InputError(
                    f"{self.out}: another process is writing it (it holds {self.path}); wait for it, or give another name"
                ) from None
            # No locks on this filesystem: parts are equal whoever writes them, and replaced as a whole.

    def _begin(self) -> None:
        file = self.path / "run.json"
        if file.exists():
            theirs = json.loads(file.read_text(encoding="utf-8"))
            changed = self.changes(theirs, self._run)
            if not changed:
                self.resumed(theirs)
                return
            if not self._fresh:
                raise InputError(
                    f"{self.path} holds the beginning of another run: {'; '.join(changed)}. Run it with the same input and "
                    "options to go on, or remove that folder (or give --force) to begin again, or give another --out"
                )
        for stale in [*self._files(), file]:
            stale.unlink(missing_ok=True)
        with atomic_write(file) as temporary:
            temporary.write_text(json.dumps(self._run), encoding="utf-8")
