"""Lets `kipoi predict` give its outputs their names only when they are whole: Kipoi writes under the final name from the start."""

import weakref
from pathlib import Path

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.files import commit, create_temporary, sweep_temporaries
from kipoi_borzoi.kipoi_compat.patching import wrap


def write_outputs_whole(writers) -> bool:
    """Write the files of one `kipoi predict` under temporary names until they are complete.

    Else a run that fails or is killed leaves a table that looks complete and lacks rows, or an empty ``.h5``.
    """
    wrap(writers.MultipleBatchWriter, "__init__", _init_with_temporaries)
    wrap(writers.MultipleBatchWriter, "close", _close_and_commit)
    return True


def _init_with_temporaries(init, self, batch_writers):
    init(self, batch_writers)
    self._unfinished = []
    for writer in batch_writers:
        path = getattr(writer, "file_path", None)
        if path is None or Path(path).is_dir() or not Path(path).parent.is_dir():
            continue  # a folder of files, or a writer of somebody else's
        sweep_temporaries(Path(path).parent)
        if hasattr(writer, "f"):
            _give_back(writer, path)
        temporary = create_temporary(path)
        # Removed when this process ends in any orderly way without having come to `close`.
        removal = weakref.finalize(self, temporary.unlink, missing_ok=True)
        writer.file_path = type(path)(temporary)
        if hasattr(writer, "f"):
            import h5py

            writer.f = h5py.File(temporary, "w")
        self._unfinished.append((temporary, path, removal))


def _give_back(writer, path):
    """Close the ``.h5`` file that Kipoi's writer has opened, and made where there was none."""
    taken = len(writer.f) > 0
    writer.f.close()
    if taken:
        raise InputError(f"{path}: exists; remove it, or name another output")
    Path(path).unlink()


def _close_and_commit(close, self):
    close(self)
    while self._unfinished:
        temporary, path, removal = self._unfinished.pop()
        commit(temporary, path)
        removal.detach()
