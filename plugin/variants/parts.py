"""The folder beside an unfinished output: whole chunks in checksummed files, so that a killed run loses little and repeats nothing."""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kipoi_borzoi import work_folder
from kipoi_borzoi.files import atomic_write, sha256_of_file
from kipoi_borzoi.sealed import is_whole, open_seal, seal
from kipoi_borzoi.variants.header import MEASURES, Header, Summary, differences, provenance_text
from kipoi_borzoi.variants.results import AlleleRow, Chunk, GeneRow, Measures

FORMAT = 1
_NAME = re.compile(r"part-(\d{12})-(\d{12})")


def pack(chunk: Chunk) -> bytes:
    """A chunk as the content of a part: its SHA-256, and an ``.npz`` of its numbers with its texts as JSON."""
    arrays = {"padded": np.array([row.padded for row in chunk.alleles], np.float64)}
    text = {
        "alleles": [
            [row.number, row.chrom, row.pos, row.ref, row.alt, row.id, row.status, row.detail, row.record]
            for row in chunk.alleles
        ],
        "genes": [[gene.allele, gene.gene_id, gene.gene_name, gene.strand, gene.covered] for gene in chunk.genes],
        "profiles": list(chunk.profiles),
    }
    for kind, scores in (("scores", chunk.scores), ("gene_scores", chunk.gene_scores)):
        text[kind] = []
        for number, (name, measures) in enumerate(scores.items()):
            fields = [field for field in MEASURES if getattr(measures, field) is not None]
            text[kind].append([name, fields])
            arrays.update({f"{kind}.{number}.{field}": getattr(measures, field) for field in fields})
    arrays.update({f"profiles.{number}": profile for number, profile in enumerate(chunk.profiles.values())})
    arrays["text"] = np.frombuffer(json.dumps(text).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return seal(buffer.getbuffer())


def unpack(content: bytes, where: str) -> Chunk:
    """The chunk that `pack` was given.

    Raises
    ------
    InputError
        When the content is damaged; ``where`` names it.
    """
    with np.load(io.BytesIO(open_seal(content, where)), allow_pickle=False) as arrays:
        return _chunk(arrays, json.loads(arrays["text"].tobytes()))


def unpack_texts(path: Path) -> Chunk:
    """A chunk with its rows, but arrays of no rows: quick, and not verified."""
    with zipfile.ZipFile(path) as archive, archive.open("text.npy") as member:
        text = json.loads(np.lib.format.read_array(member).tobytes())
        shapes = {}
        for number, name in enumerate(text["profiles"]):
            with archive.open(f"profiles.{number}.npy") as profile:
                version = np.lib.format.read_magic(profile)
                read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
                shapes[name] = read[version](profile)[0]
    empty = np.zeros((0, 0), np.float32)
    scores, gene_scores = (
        {name: Measures(**dict.fromkeys(["mean", *fields], empty)) for name, fields in text[kind]}
        for kind in ("scores", "gene_scores")
    )
    return Chunk(
        alleles=_alleles(text, [float("nan")] * len(text["alleles"])),
        scores=scores,
        genes=tuple(GeneRow(*gene) for gene in text["genes"]),
        gene_scores=gene_scores,
        profiles={name: np.zeros((0, *shape[1:]), np.float32) for name, shape in shapes.items()},
    )


def _chunk(arrays, text: dict) -> Chunk:
    scores, gene_scores = (
        {
            name: Measures(**{field: arrays[f"{kind}.{number}.{field}"] for field in fields})
            for number, (name, fields) in enumerate(text[kind])
        }
        for kind in ("scores", "gene_scores")
    )
    return Chunk(
        alleles=_alleles(text, arrays["padded"].tolist()),
        scores=scores,
        genes=tuple(GeneRow(*gene) for gene in text["genes"]),
        gene_scores=gene_scores,
        profiles={name: arrays[f"profiles.{number}"] for number, name in enumerate(text["profiles"])},
    )


def _alleles(text: dict, padded: list[float]) -> tuple[AlleleRow, ...]:
    return tuple(
        AlleleRow(*row[:8], padded=fraction, record=row[8])
        for row, fraction in zip(text["alleles"], padded, strict=True)
    )


@dataclass(frozen=True)
class Part:
    """A part: the alleles ``start`` to ``stop`` (excluded) of the input, in the file ``path``."""

    start: int
    stop: int
    path: Path


class WorkFolder(work_folder.WorkFolder):
    """The parts of a table of scores; see `kipoi_borzoi.work_folder.WorkFolder`.

    Parameters
    ----------
    out : path
        The output to be.
    header : Header
    key : str
        SHA-256 over everything that decides the result. A folder of another key is refused.
    span : (int, int or None)
        First allele of this run, and the one after its last.
    total : int or None
        Alleles of the whole input, where that is known.
    shard : (int, int)
        Number of the shard, from 1, and how many there are.
    fresh : bool
        Whether a folder of another run is thrown away instead.

    Attributes
    ----------
    header : Header
        As the run began: its provenance is that of the first start.
    """

    made = ("part-*", "finished.json")

    def __init__(self, out: Path, header: Header, key: str, span, total=None, shard=(1, 1), fresh: bool = False):
        self.header, self.key, self.span, self.total, self.shard = header, key, span, total, shard
        run = {
            "format": FORMAT, "key": key, "start": span[0], "stop": span[1], "total": total, "shard": list(shard),
            "header": header.to_json(),
        }  # fmt: skip
        super().__init__(out, run, fresh)

    def changes(self, theirs, mine) -> list[str]:
        """Of a run with another key, what its provenance says; else the span, the number of alleles or the shard."""
        same = ("format", "key", "start", "stop", "total", "shard")
        changed = differences({name: theirs.get(name) for name in same}, {name: mine[name] for name in same})
        if not changed or theirs.get("key") == self.key:
            return changed
        details = differences(theirs.get("header", {}).get("provenance"), mine["header"]["provenance"], limit=8)
        return details or changed

    def resumed(self, theirs) -> None:
        """Take the header of the first start."""
        self.header = Header.from_json(theirs["header"])

    def finished(self) -> Summary | None:
        """The summary, when the output stands there whole and only this folder was not cleared away yet."""
        file = self.path / "finished.json"
        if not (file.exists() and self.out.exists()):
            return None
        done = json.loads(file.read_text(encoding="utf-8"))
        return Summary.of(done["statuses"]) if sha256_of_file(self.out) == done["sha256"] else None

    def finish(self, temporary: Path, statuses: dict) -> None:
        """Note what the output will be, just before it gets its name."""
        done = {"sha256": sha256_of_file(temporary), "statuses": statuses}
        with atomic_write(self.path / "finished.json") as file:
            file.write_text(json.dumps(done), encoding="utf-8")

    def add(self, chunk: Chunk) -> None:
        """Append a chunk: once this returns, it survives a kill."""
        start = chunk.alleles[0].number
        name = f"part-{start:012d}-{start + len(chunk.alleles):012d}"
        with atomic_write(self.path / name) as temporary:
            temporary.write_bytes(pack(chunk))

    def verify(self) -> None:
        """Remove parts whose checksum is wrong; they will be computed again."""
        for part in self.parts():
            if not is_whole(part.path.read_bytes()):
                part.path.unlink()

    def parts(self) -> list[Part]:
        """The parts that follow one another from the run's first allele, as far as there are; gaps are skipped."""
        found: dict[int, Part] = {}
        for path in self.path.iterdir():
            if match := _NAME.fullmatch(path.name):
                part = Part(int(match[1]), int(match[2]), path)
                if part.start not in found or part.stop > found[part.start].stop:
                    found[part.start] = part
        chain, place = [], self.span[0]
        for start in sorted(found):
            if start >= place and (self.span[1] is None or found[start].stop <= self.span[1]):
                chain.append(found[start])
                place = found[start].stop
        return chain

    def missing(self) -> list[tuple[int, int | None]]:
        """Stretches of alleles that no part holds."""
        gaps, place = [], self.span[0]
        for part in self.parts():
            if part.start > place:
                gaps.append((place, part.start))
            place = part.stop
        if self.span[1] is None or place < self.span[1]:
            gaps.append((place, self.span[1]))
        return gaps

    def texts(self) -> Iterator[Chunk]:
        """All chunks with their rows only."""
        for part in self.parts():
            yield unpack_texts(part.path)

    def chunks(self) -> Iterator[Chunk]:
        """All chunks, verified."""
        for part in self.parts():
            yield unpack(part.path.read_bytes(), str(part.path))


def key_of(decisive: dict) -> str:
    """SHA-256 over a dict of everything that decides a result; equal content gives an equal key."""
    return hashlib.sha256(provenance_text(decisive).encode()).hexdigest()
