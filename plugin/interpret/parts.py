"""The folder beside an unfinished attribution file: one checksummed file per target, so that a killed run repeats none."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kipoi_borzoi import work_folder
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.files import atomic_write
from kipoi_borzoi.interpret.attribution import Attribution
from kipoi_borzoi.interpret.targets import Skipped
from kipoi_borzoi.sealed import open_seal, seal
from kipoi_borzoi.variants.header import differences

FORMAT = 1


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
    return seal(buffer.getbuffer())


def unpack(content: bytes, where: str) -> Explained | Skipped:
    """The result that `pack` was given.

    Raises
    ------
    InputError
        When the content is damaged; ``where`` names it.
    """
    with np.load(io.BytesIO(open_seal(content, where)), allow_pickle=False) as arrays:
        text = json.loads(arrays["text"].tobytes())
        if "skipped" in text:
            return Skipped(*text["skipped"])
        *place, window = text["explained"]
        value, value_sd, members = text["numbers"]
        attribution = Attribution(arrays["sequence"], arrays["hypothetical"], arrays["sd"], value, value_sd, members)
    return Explained(*place, tuple(window), attribution)


class WorkFolder(work_folder.WorkFolder):
    """The results of single targets; see `kipoi_borzoi.work_folder.WorkFolder`.

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
    """

    made = ("target-*",)

    def __init__(self, out: Path, key: str, provenance: Mapping, fresh: bool = False):
        super().__init__(out, {"format": FORMAT, "key": key, "provenance": provenance}, fresh)

    def changes(self, theirs, mine) -> list[str]:
        """What differs in the provenance of a run with another key."""
        if all(theirs.get(name) == mine[name] for name in ("format", "key")):
            return []
        return differences(theirs.get("provenance"), mine["provenance"], limit=8) or ["another version"]

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

    def _file(self, number: int) -> Path:
        return self.path / f"target-{number:09d}"
