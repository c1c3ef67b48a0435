"""The folder beside an unfinished attribution file: one checksummed file per target, so that a killed run repeats none."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.files import atomic_write, sweep_temporaries
from kipoi_borzoi.interpret.attribution import Attribution
from kipoi_borzoi.interpret.targets import Skipped
from kipoi_borzoi.variants.header import differences

FORMAT = 1
_DIGEST = 65  # bytes before the content: sha256 as hexadecimal digits, and a line end


@dataclass(frozen=True, eq=False)
class Explained:
    """An explained target.

    Attributes
    ----------
    name, label : str
        ``gene_id`` and ``gene_name``, or of a region its name and nothing.
    chrom : str
        The FASTA's name.
    start, end : int
        The explained stretch, 0-based, half-open; it may reach beyond the contig.
    strand : {'+', '-', '.'}
    window : (int, int)
        What the network read, likewise.
    attribution : Attribution
    """

    name: str
    label: str
    chrom: str
    start: int
    end: int
    strand: str
    window: tuple[int, int]
    attribution: Attribution


def pack(result: Explained | Skipped) -> bytes:
    """A result as bytes: SHA-256 of what follows, and an ``.npz``."""
    arrays: dict = {}
    if isinstance(result, Skipped):
        text = {"skipped": [result.name, result.code, result.detail]}
    else:
        one = result.attribution
        text = {
            "explained": [
                result.name,
                result.label,
                result.chrom,
                result.start,
                result.end,
                result.strand,
                list(result.window),
            ],
            "numbers": [one.value, one.value_sd, one.members],
        }
        arrays = {"sequence": one.sequence, "hypothetical": one.hypothetical, "sd": one.sd}
    buffer = io.BytesIO()
    np.savez(buffer, text=np.frombuffer(json.dumps(text).encode(), np.uint8), **arrays)
    content = buffer.getvalue()
    return hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def unpack(content: bytes, where: str) -> Explained | Skipped:
    """The result that `pack` was given.

    Raises
    ------
    InputError
        When the content is damaged; ``where`` names it.
    """
    body = content[_DIGEST:]
    if content[:_DIGEST] != hashlib.sha256(body).hexdigest().encode() + b"\n":
        raise InputError(f"{where}: damaged: its content does not have the checksum that it was written with")
    with np.load(io.BytesIO(body), allow_pickle=False) as arrays:
        text = json.loads(arrays["text"].tobytes())
        if "skipped" in text:
            return Skipped(*text["skipped"])
        *place, window = text["explained"]
        value, value_sd, members = text["numbers"]
        attribution = Attribution(arrays["sequence"], arrays["hypothetical"], arrays["sd"], value, value_sd, members)
    return Explained(*place, tuple(window), attribution)


class WorkFolder:
    """The folder ``OUT.parts`` of one run, held by one process at a time; a context manager.

    Parameters
    ----------
    out : path
        The output to be.
    key : str
        SHA-256 over all that decides the result.
    provenance : dict
        In it differences to another run are looked for, to name them.
    fresh : bool
        Whether a folder of another run is thrown away instead of refused.

    Raises
    ------
    InputError
        When another process holds the folder, or it belongs to another run.
    """

    def __init__(self, out: Path, key: str, provenance: Mapping, fresh: bool = False):
        self.out, self.key, self.provenance = out, key, provenance
        self.path = out.with_name(f"{out.name}.parts")
        self._fresh = fresh

    def __enter__(self) -> WorkFolder:
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

    def __exit__(self, *exception) -> None:
        self._lock.close()

    def _hold(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise InputError(
                    f"{self.out}: another process is writing it (it holds {self.path}); wait for it"
                ) from None
            # No locks on this filesystem: parts are equal whoever writes them, and replaced as a whole.

    def _begin(self) -> None:
        file = self.path / "run.json"
        if file.exists():
            theirs = json.loads(file.read_text(encoding="utf-8"))
            if theirs.get("format") == FORMAT and theirs.get("key") == self.key:
                return
            if not self._fresh:
                changed = differences(theirs.get("provenance"), json.loads(json.dumps(self.provenance)), limit=8)
                raise InputError(
                    f"{self.path} holds the beginning of another run: {'; '.join(changed) or 'another version'}. Run it with the "
                    "same input and options to go on, or remove that folder (or give --force) to begin again"
                )
        for stale in [*self.path.glob("target-*"), file]:
            stale.unlink(missing_ok=True)
        with atomic_write(file) as temporary:
            temporary.write_text(
                json.dumps({"format": FORMAT, "key": self.key, "provenance": self.provenance}), encoding="utf-8"
            )

    def add(self, number: int, result: Explained | Skipped) -> None:
        """Keep a result: once this returns, it survives a kill."""
        with atomic_write(self._file(number)) as temporary:
            temporary.write_bytes(pack(result))

    def has(self, number: int) -> bool:
        """Whether the result of a target is there; a damaged one is removed."""
        try:
            self.result(number)
        except FileNotFoundError:
            return False
        except InputError:
            self._file(number).unlink()
            return False
        return True

    def result(self, number: int) -> Explained | Skipped:
        """The result of a target."""
        return unpack(self._file(number).read_bytes(), str(self._file(number)))

    def clear(self) -> None:
        """Remove the folder: the output is whole."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _file(self, number: int) -> Path:
        return self.path / f"target-{number:09d}"
