"""A run divided among machines: each scores a stretch of the input into one checksummed file, and merging restores the whole.

Shard i of n holds alleles ``(i - 1) * N // n`` to ``i * N // n`` of the input's N, rounded down to
multiples of ``align``. Stretches, and not every n-th allele, so that neighbours stay together, which
may share a reference window, and that merging is putting one after the other.

The file is a tar archive of members with a checksum each: ``run`` (what the run is), the parts as
`kipoi_borzoi.variants.parts` packs them, and at last ``summary``, without which the file is not whole.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.sealed import open_seal, seal
from kipoi_borzoi.variants.header import Header, differences
from kipoi_borzoi.variants.parts import FORMAT, unpack
from kipoi_borzoi.variants.results import Chunk

SUFFIX = ".shard"


def bounds(n_alleles: int | None, shard: tuple[int, int] = (1, 1), align: int = 1) -> tuple[int, int | None]:
    """First allele of a shard, and the one after its last.

    Parameters
    ----------
    n_alleles : int or None
        Of the whole input; None, for a single shard, is all there are.
    shard : (int, int)
        Which, from 1, of how many.
    align : int
        Shards begin at multiples of it.

    Raises
    ------
    InputError
        When there is no such shard.
    ValueError
        When several shards are asked for without the number of alleles.
    """
    number, count = shard
    if not 1 <= number <= count:
        raise InputError(f"shard {number}/{count}: expected I/N with I from 1 to N")
    if n_alleles is None:
        if count > 1:
            raise ValueError("shards need the number of alleles of the whole input")
        return 0, None

    def cut(at: int) -> int:
        return n_alleles if at == count else at * n_alleles // count // align * align

    return cut(number - 1), cut(number)


def write_shard(path: Path, work, statuses: dict) -> None:
    """Write the parts of a work folder, verified, as one file."""
    start, stop = work.span[0], work.span[0] + sum(statuses.values())
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        run = {
            "format": FORMAT, "key": work.key, "start": start, "stop": stop,
            "total": stop if work.total is None else work.total, "shard": list(work.shard), "header": work.header.to_json(),
        }  # fmt: skip
        _add(archive, "run", seal(json.dumps(run).encode()))
        for part in work.parts():
            content = part.path.read_bytes()
            unpack(content, str(part.path))
            _add(archive, part.path.name, content)
        _add(archive, "summary", seal(json.dumps({"statuses": statuses}).encode()))


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = len(content), 0, 0o644
    archive.addfile(member, io.BytesIO(content))


@dataclass(frozen=True, eq=False)
class Shard:
    """An opened shard.

    Attributes
    ----------
    path : Path
    key : str
    number, count : int
    start, stop : int
        Its alleles.
    total : int
        Alleles of the whole input.
    header : Header
    """

    path: Path
    key: str
    number: int
    count: int
    start: int
    stop: int
    total: int
    header: Header

    @property
    def alleles(self) -> int:
        return self.stop - self.start

    def chunks(self) -> Iterator[Chunk]:
        """Its chunks, verified one by one.

        Raises
        ------
        InputError
            When the file is damaged or not whole, or does not hold each of its alleles once.
        """
        place, statuses, end = self.start, dict[str, int](), None
        for name, content in _members(self.path):
            if name == "run":
                continue
            if name == "summary":
                end = json.loads(bytes(open_seal(content, f"{self.path}, {name}")))["statuses"]
                break
            chunk = unpack(content, f"{self.path}, {name}")
            if [row.number for row in chunk.alleles] != list(range(place, place + len(chunk.alleles))):
                raise InputError(f"{self.path}, {name}: its alleles do not go on from number {place}")
            place += len(chunk.alleles)
            for row in chunk.alleles:
                statuses[row.status] = statuses.get(row.status, 0) + 1
            yield chunk
        if end is None:
            raise InputError(f"{self.path}: truncated: its end is missing; copy it again, or score that shard again")
        if place != self.stop or statuses != end:
            raise InputError(
                f"{self.path}: holds {place - self.start} alleles {statuses}, but should hold {self.alleles} {end}"
            )


def open_shard(path: str | os.PathLike) -> Shard:
    """Read what a shard says of itself.

    Raises
    ------
    InputError
        When the file cannot be read or is no shard.
    """
    path = Path(path)
    name, content = next(_members(path), ("", b""))
    if name != "run":
        raise InputError(f"{path}: not a shard: expected a file that `kipoi-borzoi score --shard I/N` has written")
    run = json.loads(bytes(open_seal(content, f"{path}, {name}")))
    if run["format"] != FORMAT:
        raise InputError(f"{path}: format {run['format']} of shards, expected {FORMAT}: written by another version")
    number, count = run["shard"]
    header = Header.from_json(run["header"])
    start, stop, total = run["start"], run["stop"], run["total"]
    return Shard(path, run["key"], number, count, start, stop, total, header)


def open_shards(paths: Sequence[str | os.PathLike]) -> list[Shard]:
    """Open all shards of one run and return them in their order.

    Raises
    ------
    InputError
        When they are not exactly the shards of one run.
    """
    if not paths:
        raise InputError("no shards are given")
    opened = [open_shard(path) for path in paths]
    first = opened[0]
    by_number: dict[int, Shard] = {}
    for shard in opened:
        if shard.key != first.key or shard.header.columns != first.header.columns:
            changed = differences(dict(first.header.provenance), dict(shard.header.provenance)) or ["the key differs"]
            raise InputError(f"{shard.path} is of another run than {first.path}: {'; '.join(changed)}")
        if (shard.count, shard.total) != (first.count, first.total):
            raise InputError(
                f"{shard.path} is 1 of {shard.count} shards of {shard.total} alleles, "
                f"{first.path} of {first.count} of {first.total}"
            )
        if shard.number in by_number:
            raise InputError(f"{shard.path} and {by_number[shard.number].path} are both shard {shard.number}/{shard.count}")
        by_number[shard.number] = shard
    absent = [number for number in range(1, first.count + 1) if number not in by_number]
    if absent:
        names = ", ".join(f"{number}/{first.count}" for number in absent[:5]) + (", ..." if len(absent) > 5 else "")
        raise InputError(f"{len(absent)} of {first.count} shards are missing: {names}")
    ordered = [by_number[number] for number in sorted(by_number)]
    place = 0
    for shard in ordered:
        if shard.start != place:
            raise InputError(f"{shard.path} begins at allele {shard.start}, expected {place}: written with another --shard rule")
        place = shard.stop
    if place != first.total:
        raise InputError(f"the shards end at allele {place} of {first.total}")
    return ordered


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                file = archive.extractfile(member)
                if file is None:
                    raise InputError(f"{path}: not a shard: it holds {member.name!r}, which is no file")
                yield member.name, file.read()
    except tarfile.ReadError as error:
        raise InputError(f"{path}: not a shard, or truncated ({error})") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
