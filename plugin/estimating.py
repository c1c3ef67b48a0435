"""Says before a long scoring what it will take: a few alleles are scored on this machine, the rest is arithmetic."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.machine import cores, peak_memory
from kipoi_borzoi.variants.blocks import concatenate
from kipoi_borzoi.variants.output import check_format
from kipoi_borzoi.variants.sizes import MOST_ROWS, Content, filled, measure
from kipoi_borzoi.variants.writers import SUFFIXES, writer_for

if TYPE_CHECKING:
    from kipoi_borzoi.scoring import Scoring
    from kipoi_borzoi.variants.alleles import Allele
    from kipoi_borzoi.variants.engine import Engine
    from kipoi_borzoi.variants.results import AlleleRow, Chunk, GeneRow

_MOST_LOOKED_AT = 1024  # alleles whose genes are counted
_AGAIN = 1.5  # a group that took so many times longer per allele than the quickest is timed again


@dataclass(frozen=True)
class Request:
    """What is to be estimated.

    Attributes
    ----------
    alleles : int
        How many to time, about; groups that share a window are timed whole.
    variants : int or None
        Alleles of the run to be; None for those of the input.
    within_h : float
        Hours in which it shall end.
    format : str
        Suffix of the table.

    Raises
    ------
    InputError
        A number that is not above 0, or an unknown format.
    """

    alleles: int = 8
    variants: int | None = None
    within_h: float = 24.0
    format: str = ".tsv.gz"

    def __post_init__(self):
        if self.alleles < 1:
            raise InputError(f"alleles to time: {self.alleles}, expected 1 or more")
        if self.variants is not None and self.variants < 1:
            raise InputError(f"variants: {self.variants}, expected 1 or more")
        if not (math.isfinite(self.within_h) and self.within_h > 0):
            raise InputError(f"hours to end within: {self.within_h}, expected a number above 0")
        writer_for(Path(f"table{self.format}" if self.format in SUFFIXES else self.format))


@dataclass(frozen=True)
class Timed:
    """Alleles that were scored together.

    Attributes
    ----------
    alleles : int
    seconds : float
        With everything compiled.
    weight : int
        How often the group was drawn. Groups are drawn in proportion to their alleles.
    """

    alleles: int
    seconds: float
    weight: int = 1

    @property
    def per_allele(self) -> float:
        return self.seconds / self.alleles


@dataclass(frozen=True)
class Estimate:
    """What a scoring takes, on machines like this one.

    Attributes
    ----------
    alleles, scored : int
        Of the run, and how many of them can be scored.
    chunk : int
        Alleles that one worker gets at a time.
    within_h : float
        Hours in which it shall end.
    prepare_s, compile_s : float
        Seconds to check the input and load the models, and to compile; each worker needs both.
    timed : tuple of Timed
    writing_s : float
        Seconds to write the table; one process does it.
    memory : int or None
        Peak of this process, bytes; None where the system does not tell.
    table, parts : int
        Bytes of the table, and of ``OUT.parts`` beside it.
    networks : int
        All networks of all models.
    cores : int
        That this process may use.
    """

    alleles: int
    scored: int
    chunk: int
    within_h: float
    prepare_s: float
    compile_s: float
    timed: tuple[Timed, ...]
    writing_s: float
    memory: int | None
    table: int
    parts: int
    networks: int
    cores: int

    @property
    def start_s(self) -> float:
        """Seconds before the first allele."""
        return self.prepare_s + self.compile_s

    @property
    def per_allele_s(self) -> float:
        """Seconds per allele that can be scored: the mean over the drawn groups."""
        return sum(one.weight * one.per_allele for one in self.timed) / sum(one.weight for one in self.timed)

    @property
    def range_s(self) -> tuple[float, float]:
        """Least and most seconds per allele of a group."""
        each = [one.per_allele for one in self.timed]
        return min(each), max(each)

    @property
    def one_process_s(self) -> float:
        """Seconds for the whole run in one process."""
        return self.start_s + self.scored * self.per_allele_s + self.writing_s

    @property
    def chunks(self) -> int:
        """Pieces of work."""
        return -(-self.alleles // self.chunk)

    @property
    def chunk_s(self) -> float:
        """Seconds for a piece of work."""
        return min(self.chunk, self.alleles) * self.scored / self.alleles * self.per_allele_s

    @property
    def workers(self) -> int | None:
        """How many processes like this one end in time; None if no number does."""
        if self.one_process_s <= self.within_h * 3600:
            return 1
        left = self.within_h * 3600 - self.start_s - self.writing_s
        each = math.floor(left / self.chunk_s) if self.chunk_s else self.chunks * (left >= 0)
        return None if each < 1 else -(-self.chunks // each)

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What the numbers rest on, in words."""
        timed = sum(one.alleles for one in self.timed)
        return (
            f"every worker is a machine like this one and as free as it was now: {self.cores} cores (and its GPU, if it has "
            "one); workers that share cores or a GPU are slower",
            f"alleles are like the {timed} timed ones, which are spread over the file, and lie as near to one another; those "
            "that share a window are timed together",
            f"{self.alleles - self.scored} alleles are skipped, as large a part as in the file, and cost nothing",
            f"networks: {self.networks}, measured as they run together" if self.networks > 1 else "one network is measured",
            "start-up is measured with this file: checking a longer one takes longer, and so may files on a slow disk",
            "memory is that of a run of few alleles, of which a long one takes little more; that of a GPU is not in it",
            "the table's size is measured on one with this input's alleles and scores like the timed ones",
        )


def estimate_scoring(
    scoring: Scoring, request: Request, prepare_s: float = 0.0, clock: Callable[[], float] = time.perf_counter
) -> Estimate:
    """Score a few alleles, and say what all will take.

    Parameters
    ----------
    scoring : Scoring
        See `kipoi_borzoi.scoring.prepare_scoring`.
    request : Request
    prepare_s : float
        Seconds that the preparation took.
    clock : callable
        Seconds.

    Returns
    -------
    Estimate

    Raises
    ------
    InputError
        No allele of the input can be scored, or the format cannot hold the scores.
    KipoiBorzoiError
        No small table can be written to measure it.
    """
    survey, header = scoring.survey, scoring.header
    check_format(Path(f"OUT{request.format}"), header)
    if not survey.scored:
        reasons = ", ".join(f"{code} {count}" for code, count in survey.skipped.items())
        raise InputError(
            f"{scoring.source.vcf.path}: none of its {survey.total} alleles can be scored{f' ({reasons})' if reasons else ''}: "
            "there is nothing to time"
        )
    alleles = survey.total if request.variants is None else request.variants
    sample = draw(scoring, request.alleles, min(alleles, MOST_ROWS))
    timed, chunks, compile_s = _time(scoring, sample, clock)
    scored, weights = _joined(chunks, timed, len(scoring.table.columns))

    def fill(count: int) -> Chunk:
        found = [_row_and_genes(scoring.engine, allele) for allele in _spread(sample.alleles, count)]
        rows = [row for row, _ in found]
        if alleles > survey.total:
            rows = _apart(rows)
        return filled(rows, [genes for _, genes in found], scored, weights)

    sizes = measure(header, request.format, scored, fill, _content(scoring.engine, sample.alleles, alleles), clock)
    estimate = Estimate(
        alleles, round(alleles * survey.scored / survey.total), scoring.engine.chunk_alleles, request.within_h, prepare_s,
        compile_s, timed, sizes.writing_s, peak_memory(), sizes.table, 0,
        sum(len(group.networks) for group in scoring.engine.groups), cores(),
    )  # fmt: skip
    seconds = estimate.per_allele_s * estimate.scored / alleles
    return replace(estimate, parts=sizes.parts(alleles, estimate.chunk, seconds))


def _spread(items: Sequence, count: int) -> list:
    """So many items at even distances; with more than there are, some are there twice."""
    return [items[number * len(items) // count] for number in range(count)]


def _apart(rows: Sequence[AlleleRow]) -> list[AlleleRow]:
    """Rows of which some are there several times: as records of their own, at places before the next one."""
    placed: list[AlleleRow] = []
    for _, group in groupby(rows, key=lambda row: row.number):
        copies = list(group)
        row, following = copies[0], rows[min(len(placed) + len(copies), len(rows) - 1)]
        room = following.pos - row.pos if following.chrom == row.chrom and following.pos > row.pos else len(copies)
        placed += [
            replace(row, pos=row.pos + room * copy // len(copies), record=len(placed) + copy) for copy in range(len(copies))
        ]
    return placed


def _row_and_genes(engine: Engine, allele: Allele) -> tuple[AlleleRow, list[GeneRow] | None]:
    """How an allele will be reported, and its genes; None for one without scores."""
    if allele.change is None:
        return allele.row, None
    genes = engine.gene_rows(allele.change)
    if not genes and not engine.options.scorers:
        return replace(allele.row, status="NO_GENE"), None
    return allele.row, genes


def _content(engine: Engine, rows: Sequence[Allele], alleles: int) -> Content:
    """What a table of so many alleles like these holds."""
    genes = [_row_and_genes(engine, allele)[1] for allele in _spread(rows, min(len(rows), _MOST_LOOKED_AT))]
    with_scores = [len(found) for found in genes if found is not None]
    scale = alleles / len(genes)
    return Content(alleles, round(scale * len(with_scores)), round(scale * sum(with_scores)))


@dataclass(frozen=True, eq=False)
class Sample:
    """What was drawn of an input.

    Attributes
    ----------
    groups : sequence of (alleles, int)
        Alleles that are predicted together, and how often they were drawn.
    alleles : sequence of Allele
        At even distances, with those that are skipped.
    """

    groups: Sequence[tuple[Sequence[Allele], int]]
    alleles: Sequence[Allele]


def draw(scoring: Scoring, alleles: int, others: int) -> Sample:
    """Draw groups of alleles that share predictions, spread over the input, each with a chance in proportion to its size.

    So drawn, the mean over groups of the seconds per allele is that over alleles, without the bias of either many small or
    few large groups.

    Parameters
    ----------
    scoring : Scoring
        At least one of its alleles can be scored.
    alleles : int
        To draw, about: of groups that are large on average, two are drawn where there are.
    others : int
        How many alleles to keep for the size of the table; with more than there are, some are there twice.
    """
    engine, total, can_be_scored = scoring.engine, scoring.survey.total, scoring.survey.scored
    most = min(alleles, can_be_scored)
    # Which of those that can be scored are drawn, by number: the middles of equal stretches. All candidates are kept until
    # the size of groups is known.
    targets = [(2 * number + 1) * can_be_scored // (2 * most) for number in range(most)]
    candidates: list[Sequence[Allele]] = []
    kept: list[Allele] = []
    seen = before = squares = 0
    for chunk in engine.batches(scoring.source):
        for allele in chunk:
            while len(kept) < others and len(kept) * total // others == before:
                kept.append(allele)
            before += 1
        groups = engine.together(chunk)
        group_of = {allele.row.number: group for group in groups for allele in group}
        numbers = sorted(group_of)
        while len(candidates) < most and targets[len(candidates)] < seen + len(numbers):
            candidates.append(group_of[numbers[targets[len(candidates)] - seen]])
        seen += len(numbers)
        squares += sum(len(group) ** 2 for group in groups)
    count = _draws(most, seen, squares)
    drawn: dict[int, tuple[Sequence[Allele], int]] = {}
    for number in range(count):
        group = candidates[(2 * number + 1) * most // (2 * count)]
        first = group[0].row.number
        drawn[first] = group, drawn.get(first, (group, 0))[1] + 1
    return Sample(list(drawn.values()), kept)


def _draws(most: int, alleles: int, squares: int) -> int:
    """How many groups to draw, for about ``most`` alleles.

    ``alleles`` is the sum over all groups, ``squares`` that of their squares: drawn by its size, a group has
    ``squares / alleles`` on average.
    """
    return min(most, max(2, math.ceil(most * alleles / squares)))


def _time(scoring: Scoring, sample: Sample, clock: Callable[[], float]) -> tuple[tuple[Timed, ...], list[Chunk], float]:
    """Seconds and scores of each group, and seconds of compilation.

    Programs are compiled where a shape first occurs: at the first group, and at others of another kind. A group that took
    conspicuously long is therefore timed again, and what the first time took longer is compilation.
    """
    from tqdm import tqdm

    timed: list[Timed] = []
    chunks: list[Chunk] = []
    compile_s = 0.0
    for alleles, weight in tqdm(sample.groups, "timing", unit=" groups", disable=None, file=sys.stderr):
        seconds, chunk = _seconds(scoring, alleles, clock)
        if not timed or seconds / len(alleles) > _AGAIN * min(one.per_allele for one in timed):
            again, chunk = _seconds(scoring, alleles, clock)
            compile_s += max(0.0, seconds - again)
            seconds = again
        timed.append(Timed(len(alleles), seconds, weight))
        chunks.append(chunk)
    return tuple(timed), chunks, compile_s


def _seconds(scoring: Scoring, alleles: Sequence[Allele], clock: Callable[[], float]) -> tuple[float, Chunk]:
    begin = clock()
    chunk = scoring.score(alleles)
    return clock() - begin, chunk


def _joined(chunks: Sequence[Chunk], timed: Sequence[Timed], columns: int) -> tuple[Chunk, np.ndarray]:
    """All timed alleles as one chunk, and how often each stands for others."""
    draws = sum(one.weight for one in timed)
    weights = [np.full(one.alleles, one.weight / one.alleles / draws) for one in timed]
    return concatenate(chunks, columns), np.concatenate(weights)
