"""Writing and naming files so that a kill, a full disk or a second process never leaves a half-written one behind."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import logging
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kipoi_borzoi.errors import InputError, KipoiBorzoiError

LOCK = ".lock"
"""The file of a folder that `only_process` locks."""

logger = logging.getLogger("kipoi_borzoi")

_BLOCK = 1 << 20
_FOREIGN_TEMPORARY_MAX_AGE_S = 7 * 24 * 3600.0
_NOBODY = 0  # stands for the process number in the name of an abandoned temporary
_NAME_MAX = 255  # bytes, on every filesystem in common use


def sha256_of_file(path: str | os.PathLike) -> str:
    """SHA-256 of a file's content as 64 lower-case hexadecimal digits, read in blocks of 1 MiB.

    Raises
    ------
    OSError
        When the file cannot be read.
    """
    digest = hashlib.sha256()
    block = memoryview(bytearray(_BLOCK))
    with open(path, "rb", buffering=0) as handle:
        while count := handle.readinto(block):
            digest.update(block[:count])
    return digest.hexdigest()


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike, apart: bool = False) -> Iterator[Path]:
    """Write a file under a temporary name and give it its final name only when it is whole and on disk.

    The temporary lies in the same directory (so that the rename stays on one filesystem), is
    unique to this call, exists and is empty on entry, and keeps the final name's suffix for
    writers that choose a format by it. An existing ``path`` is replaced. When the body raises, the
    temporary is removed and ``path`` is as it was.

    Parameters
    ----------
    path : path
        The final name; its directory must exist.
    apart : bool
        Give the temporary a folder of its own, for writers that put files of their own beside it: what they leave
        when they are killed is then swept with the folder.

    Yields
    ------
    Path
        The temporary, to be opened and written, and closed, by the body.

    Raises
    ------
    OSError
        When the directory is missing, read-only or full.

    Examples
    --------
    >>> with atomic_write("scores.tsv") as temporary:  # doctest: +SKIP
    ...     temporary.write_text("chrom\\tpos\\n")
    """
    path = Path(path)
    temporary = create_temporary(path)
    try:
        if apart:
            temporary.unlink()
            temporary.mkdir()
        whole = temporary / path.name if apart else temporary
        whole.touch()
        yield whole
        commit(whole, path)
    except BaseException:
        _remove(temporary)
        raise
    if apart:
        _remove(temporary)


@contextlib.contextmanager
def temporary_folder(path: str | os.PathLike) -> Iterator[Path]:
    """A folder beside ``path`` that is removed after the block; after a kill, by the next `sweep_temporaries`.

    Raises
    ------
    OSError
        When the directory is missing, read-only or full.
    """
    folder = create_temporary(path)
    try:
        folder.unlink()
        folder.mkdir()
        yield folder
    finally:
        _remove(folder)


def commit(temporary: str | os.PathLike, path: str | os.PathLike) -> None:
    """Flush ``temporary`` to disk, rename it to ``path`` (same filesystem) and flush the directory."""
    with open(temporary, "rb+") as handle:
        os.fsync(handle.fileno())
    os.replace(temporary, path)
    fsync_directory(Path(path).parent)


def fsync_directory(directory: Path) -> None:
    """Bring a folder's list of names to the disk, where its filesystem can."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network filesystems cannot flush a directory
            raise
    finally:
        os.close(handle)


def exchange(one: str | os.PathLike, other: str | os.PathLike) -> bool:
    """Let two files or folders of one filesystem trade places in one step, so that neither name is ever absent.

    Returns
    -------
    bool
        False when the system or the filesystem cannot (then nothing was changed).

    Raises
    ------
    OSError
        It can, but not with these two.
    """
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2  # Linux; Python has no name for it
    except (AttributeError, OSError, TypeError):
        return False
    at_cwd, in_exchange = -100, 2
    if rename(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), in_exchange) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), os.fspath(one), None, os.fspath(other))


@dataclass(frozen=True)
class Temporary:
    """A temporary file found beside its target. ``tag`` is the text given to `create_temporary`."""

    path: Path
    host: str
    pid: int
    tag: str


def create_temporary(path: str | os.PathLike, tag: str = "") -> Path:
    """Create an empty file with a unique name in the directory of ``path``, marked as this process's own.

    Parameters
    ----------
    path : path
        What the temporary is to become.
    tag : str
        Text kept in the temporary's name (letters, digits and ``._%-``), for finding it again later.

    Raises
    ------
    OSError
        When the directory is missing or cannot be written.
    """
    path = Path(path)
    prefix = f".tmp~{_host()}~{os.getpid()}~{secrets.token_hex(4)}~{tag}~"
    name = path.name
    while name and len((prefix + name).encode()) > _NAME_MAX:  # cut on the left: the suffix stays
        name = name[1:]
    temporary = path.with_name(prefix + name)
    # Not tempfile.mkstemp: its files are private to the user, these follow the umask.
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return temporary


def find_temporaries(directory: str | os.PathLike) -> list[Temporary]:
    """Temporaries of this package in ``directory``, of living and dead processes alike."""
    found = []
    for entry in os.scandir(directory):
        fields = entry.name.split("~", 5)
        if len(fields) == 6 and fields[0] == ".tmp" and fields[2].isdecimal():
            found.append(Temporary(Path(entry.path), host=fields[1], pid=int(fields[2]), tag=fields[4]))
    return found


def abandon_temporary(temporary: Path) -> None:
    """Mark an unfinished temporary of this process as nobody's: to be continued by a later call, or swept."""
    mark, host, _, rest = temporary.name.split("~", 3)
    os.replace(temporary, temporary.with_name(f"{mark}~{host}~{_NOBODY}~{rest}"))


def sweep_temporaries(directory: str | os.PathLike) -> list[Path]:
    """Remove the temporaries, files and folders, that dead processes left in ``directory``; return the removed paths.

    Dead means: abandoned, or made on this host by a process that no longer exists, or made on
    another host that shares the filesystem and not written to for a week. Files that cannot be
    removed are left.
    """
    removed = []
    for temporary in find_temporaries(directory):
        with contextlib.suppress(OSError):  # gone already, or not ours to remove
            if _is_dead(temporary):
                _remove(temporary.path)
                removed.append(temporary.path)
    return removed


def _remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def damage_named(path: str | os.PathLike, remedy: str) -> Iterator[None]:
    """Turn what h5py and NumPy raise on a damaged HDF5 file, of many kinds, into one `InputError` that names the file.

    Parameters
    ----------
    path : path
    remedy : str
        What to do about it.
    """
    try:
        yield
    except KipoiBorzoiError:
        raise
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError, MemoryError) as error:
        raise InputError(f"{path}: the file is truncated or damaged ({error}); {remedy}") from error


@contextlib.contextmanager
def only_process(folder: str | os.PathLike, busy: str) -> Iterator[None]:
    """Refuse to run the block while another process runs it for the same folder.

    Parameters
    ----------
    folder : path
        Keeps the file ``.lock``.
    busy : str
        What to say of the folder when it is taken.

    Raises
    ------
    InputError
        Another process has the folder.
    OSError
        The folder cannot be written.
    """
    with open(Path(folder) / LOCK, "a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{folder}: {busy}") from None
        except OSError:  # a filesystem without locks
            logger.info("%s: this filesystem has no locks; see that no other process works there", folder)
        yield


def _is_dead(temporary: Temporary) -> bool:
    if temporary.pid == _NOBODY:
        return True
    if temporary.host != _host():
        return time.time() - temporary.path.stat().st_mtime > _FOREIGN_TEMPORARY_MAX_AGE_S
    try:
        os.kill(temporary.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9.-]", "_", socket.gethostname())[:64]


def check_output_name(out: Path, inputs: Sequence[str | os.PathLike] = ()) -> None:
    """Refuse a name that no file could be written to, before anything is computed.

    Raises
    ------
    InputError
        The folder is missing, ``out`` is a folder, or it is one of the inputs.
    """
    if not out.parent.is_dir():
        raise InputError(f"{out}: its folder {out.parent} does not exist; make it first")
    if out.is_dir():
        raise InputError(f"{out}: is a folder; give the name of a file")
    for given in inputs:
        if out.exists() and os.path.exists(given) and os.path.samefile(out, given):
            raise InputError(f"{out}: is an input as well; write to another file")


def refuse_existing(out: Path, force: bool) -> None:
    """Refuse an output that is there.

    Raises
    ------
    InputError
        It exists, and ``force`` is not given.
    """
    if out.exists() and not force:
        raise InputError(f"{out}: exists; give --force to replace it, or another name")
