"""What a run tells of itself: messages on standard error, and with --log-file JSON lines that hold all a later question needs."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import platform
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from kipoi_borzoi._version import __version__
from kipoi_borzoi.errors import InputError, KipoiBorzoiError
from kipoi_borzoi.machine import peak_memory

LOGGER = logging.getLogger("kipoi_borzoi")
PACKAGES = ("numpy", "h5py", "keras", "tensorflow", "jax", "torch", "pandas", "pyarrow", "pysam", "pyBigWig", "kipoi", "kipoiseq")
_FIRST = '{"time": '
_NO_INPUTS = {"log_file", "out", "output"}  # arguments that name what is written


@contextmanager
def messages(verbose: bool) -> Iterator[None]:
    """Show the package's own messages on standard error while the block runs; with ``verbose`` also details and times."""
    handler = logging.StreamHandler()
    handler.setLevel(logging.DEBUG if verbose else logging.INFO)
    timed = "kipoi-borzoi: %(asctime)s %(levelname)s: %(message)s"
    handler.setFormatter(logging.Formatter(timed if verbose else "kipoi-borzoi: %(levelname)s: %(message)s"))
    level = LOGGER.level
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.DEBUG if verbose else logging.INFO)
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(level)


class RunLog(logging.Handler):
    """Appends one JSON object per event to a file: the start, every message, models and their hashes, the end.

    Parameters
    ----------
    path : path or None
        None writes nothing.

    Notes
    -----
    Each line has ``time`` (UTC) and ``event``: ``start`` (command, versions, machine), ``input`` (path, bytes, sha256),
    ``model``, ``message`` (level, text), ``end`` (exit status, error, seconds, warnings). A line is on its way to the disk
    before the run goes on, so a killed run has a log without ``end``.
    """

    def __init__(self, path: str | os.PathLike | None):
        super().__init__(logging.DEBUG)
        self.path, self.file = path, None
        self.begun, self.warnings = time.monotonic(), 0

    def begin(self, arguments: dict, command: list[str]) -> None:
        """Open the file, and tell command, versions and inputs.

        Raises
        ------
        InputError
            The file cannot be written, or is something else than such a log.
        """
        if self.path is not None:
            self.file = _open(self.path)
            LOGGER.setLevel(logging.DEBUG)
        LOGGER.addHandler(self)
        if not LOGGER.isEnabledFor(logging.DEBUG):
            return
        machine = {"python": platform.python_version(), "system": platform.platform(), "packages": _versions(), "pid": os.getpid()}
        text = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
        self._tell(
            "start", f"kipoi-borzoi {__version__}, Python {machine['python']}, {text}", version=__version__, command=command,
            folder=os.getcwd(), **machine,
        )  # fmt: skip
        for path in _files(arguments):
            self._tell_input(path)

    def end(self, status: int, error: BaseException | None) -> None:
        """Tell how the run ended, and close the file."""
        LOGGER.removeHandler(self)
        told = None
        if error is not None:
            fault = not isinstance(error, (KipoiBorzoiError, KeyboardInterrupt, BrokenPipeError))
            told = {"type": type(error).__name__, "message": str(error), "is_fault_of_the_program": fault}
            told["traceback"] = traceback.format_exception(error)
        seconds = round(time.monotonic() - self.begun, 3)
        self._write({"event": "end", "status": status, "error": told, "seconds": seconds, "warnings": self.warnings, "peak_memory_bytes": peak_memory()})
        if self.file is not None:
            self.file.close()

    def emit(self, record: logging.LogRecord) -> None:
        """Append a message."""
        self.warnings += record.levelno >= logging.WARNING
        told = {"event": getattr(record, "event", "message"), "level": record.levelname, "text": record.getMessage()}
        self._write({**told, **getattr(record, "data", {})})

    def _tell(self, event: str, text: str, **data) -> None:
        LOGGER.debug("%s", text, extra={"event": event, "data": data})

    def _tell_input(self, path: Path) -> None:
        from kipoi_borzoi.zoo.hashes import remembered_sha256

        try:
            sha256, size = remembered_sha256(path), path.stat().st_size
        except OSError:  # the command itself says what is wrong with it
            return
        self._tell("input", f"input {path}: {size} bytes, sha256 {sha256}", path=str(path), bytes=size, sha256=sha256)

    def _write(self, told: dict) -> None:
        if self.file is None:
            return
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        try:
            self.file.write(json.dumps({"time": now, **told}, default=str) + "\n")
            self.file.flush()
        except OSError as error:
            self.file = None
            print(f"kipoi-borzoi: WARNING: {self.path}: cannot be written ({error.strerror}); the run goes on without it", file=sys.stderr)


def _open(path: str | os.PathLike):
    """Open a log to append to it; a file that is no log is left alone."""
    try:
        file = open(path, "a+", encoding="utf-8", errors="surrogateescape")  # noqa: SIM115 - closed at the end of the run
        file.seek(0)
        beginning = file.read(len(_FIRST))
    except (OSError, UnicodeError) as error:
        raise InputError(f"{path}: the log cannot be written ({getattr(error, 'strerror', None) or error})") from error
    if beginning not in ("", _FIRST):
        file.close()
        raise InputError(f"{path}: exists and is not a log of this command; give --log-file another name")
    return file


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _files(arguments: dict) -> list[Path]:
    """The files that arguments name, in their order, each once."""
    found = {}
    for name, value in arguments.items():
        for text in value if isinstance(value, (list, tuple)) else [value]:
            if name not in _NO_INPUTS and isinstance(text, (str, Path)) and os.path.isfile(text):
                found[Path(text)] = None
    return list(found)
