"""What a table of scores states about itself: its columns, its scorers, and where its numbers come from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.variants.results import SCORED, Chunk, Column

MEASURES = ("mean", "sd", "agreement", "quantile", "specificity")
"""Fields of `Measures`, in the order in which they are written."""


@dataclass(frozen=True)
class ScorerInfo:
    """What a table tells of a scorer."""

    name: str
    formula: str = ""
    signed: bool = True
    per_gene: bool = False
    description: str = ""


@dataclass(frozen=True)
class Header:
    """What is known of a table before its first row.

    Attributes
    ----------
    columns : tuple of Column
    scorers, gene_scorers : tuple of ScorerInfo
        Of alleles, and of the genes near them.
    provenance : dict
        Anything that JSON can hold: models, hashes, options, version.
    profiles : tuple of 'REF' or 'ALT'
        Predicted coverage that the chunks carry.
    contigs : dict of str to int
        Lengths in bp, by the names that the input uses; may be empty.
    """

    columns: tuple[Column, ...]
    scorers: tuple[ScorerInfo, ...]
    gene_scorers: tuple[ScorerInfo, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    profiles: tuple[str, ...] = ()
    contigs: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self):
        if not self.columns:
            raise InputError("a table of scores needs at least one column")
        for what, names in (
            ("column", [column.name for column in self.columns]),
            ("scorer", [scorer.name for scorer in self.scorers]),
            ("gene scorer", [scorer.name for scorer in self.gene_scorers]),
        ):
            twice = [name for name, count in Counter(names).items() if count > 1]
            if twice:
                raise InputError(f"{what} {twice[0]!r} is there twice; names of a table's {what}s are unique")

    def to_json(self) -> dict:
        """As plain lists and dicts."""
        return asdict(self)

    @classmethod
    def from_json(cls, text: dict) -> Header:
        """Back from `to_json`."""
        columns = (Column(**{**column, "tracks": tuple(column["tracks"])}) for column in text["columns"])
        return cls(
            columns=tuple(columns),
            scorers=tuple(ScorerInfo(**scorer) for scorer in text["scorers"]),
            gene_scorers=tuple(ScorerInfo(**scorer) for scorer in text["gene_scorers"]),
            provenance=text["provenance"],
            profiles=tuple(text["profiles"]),
            contigs=text["contigs"],
        )


def describe_scorers(scorers: Iterable) -> tuple[ScorerInfo, ...]:
    """Take name, formula, signed, per_gene and description from objects that have them."""
    fields = ScorerInfo.__dataclass_fields__
    return tuple(ScorerInfo(**{name: getattr(scorer, name) for name in fields}) for scorer in scorers)


def provenance_text(provenance: Mapping) -> str:
    """Provenance as one line of JSON; equal content gives equal text."""
    return json.dumps(provenance, sort_keys=True, ensure_ascii=True, allow_nan=True)


def differences(old: Any, new: Any, place: str = "", limit: int = 5) -> list[str]:
    """What differs between two pieces of provenance, in words, at most ``limit``: 'fasta.sha256 was "a", is "b"'."""
    found: list[str] = []
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}, key=str):
            found += differences(old.get(key), new.get(key), f"{place}.{key}" if place else str(key), limit)
    elif isinstance(old, Sequence) and isinstance(new, Sequence) and not isinstance(old, str) and len(old) == len(new):
        for number, (left, right) in enumerate(zip(old, new, strict=True)):
            found += differences(left, right, f"{place}[{number}]", limit)
    elif old != new:
        found = [f"{place} was {_short(old)}, is {_short(new)}"]
    return found[:limit]


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."


@dataclass(frozen=True)
class Summary:
    """How many alleles there were and what became of them.

    Attributes
    ----------
    alleles, scored : int
    skipped : dict of str to int
        Reason code to number of alleles, most frequent first.
    """

    alleles: int
    scored: int
    skipped: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, statuses: Mapping[str, int]) -> Summary:
        """From the number of alleles of each status."""
        skipped = {status: count for status, count in statuses.items() if status != SCORED and count}
        ordered = dict(sorted(skipped.items(), key=lambda item: (-item[1], item[0])))
        return cls(sum(statuses.values()), statuses.get(SCORED, 0), ordered)

    def __str__(self) -> str:
        reasons = ", ".join(f"{reason} {count}" for reason, count in self.skipped.items())
        skipped = sum(self.skipped.values())
        noun = "allele" if self.alleles == 1 else "alleles"
        return f"{self.alleles} {noun}: {self.scored} scored, {skipped} skipped" + (f" ({reasons})" if reasons else "")


@dataclass
class Survey:
    """What a table's writer must know of all rows before it writes the first one; gathered chunk by chunk.

    Attributes
    ----------
    statuses : Counter
        Alleles of each status.
    genes : int
        Gene rows.
    bare : int
        Alleles without a gene.
    measures, gene_measures : set of str
        Which of `MEASURES` occur.
    contigs : dict
        Names of contigs in the order in which they first occur (as keys).
    in_order : bool
        Whether each contig's alleles stand together, sorted by position.
    positions : (int, int)
        Smallest and largest position.
    widths : dict of str to int
        Longest text, in bytes of UTF-8, of chrom, ref, alt, id, variant_id, status, detail, gene_id.
    bins : int
        Of the profiles; 0 without.
    """

    statuses: Counter = field(default_factory=Counter)
    genes: int = 0
    bare: int = 0
    measures: set = field(default_factory=set)
    gene_measures: set = field(default_factory=set)
    contigs: dict = field(default_factory=dict)
    in_order: bool = True
    positions: tuple[int, int] = (0, 0)
    widths: dict = field(default_factory=dict)
    bins: int = 0
    _last: tuple = ("", 0)

    @property
    def alleles(self) -> int:
        return sum(self.statuses.values())

    @property
    def summary(self) -> Summary:
        return Summary.of(self.statuses)

    def add(self, chunk: Chunk) -> None:
        """Take in a chunk; of its arrays, only which there are is looked at (their rows may be missing)."""
        low, high = self.positions
        with_genes = {gene.allele for gene in chunk.genes}
        for number, row in enumerate(chunk.alleles):
            self.statuses[row.status] += 1
            self.bare += number not in with_genes
            if row.chrom != self._last[0]:
                self.in_order &= row.chrom not in self.contigs
                self.contigs.setdefault(row.chrom)
            elif row.pos < self._last[1]:
                self.in_order = False
            self._last = (row.chrom, row.pos)
            low, high = min(low, row.pos), max(high, row.pos)
            for name in ("chrom", "ref", "alt", "id", "variant_id", "status", "detail"):
                self._widen(name, getattr(row, name))
        self.positions = low, high
        self.genes += len(chunk.genes)
        for gene in chunk.genes:
            self._widen("gene_id", gene.gene_id)
        for found, scores in ((self.measures, chunk.scores), (self.gene_measures, chunk.gene_scores)):
            for measures in scores.values():
                found.update(name for name in MEASURES if getattr(measures, name) is not None)
        for profile in chunk.profiles.values():
            self.bins = profile.shape[1]

    def _widen(self, name: str, text: str) -> None:
        width = len(text) if text.isascii() else len(text.encode())
        if width > self.widths.get(name, 0):
            self.widths[name] = width
