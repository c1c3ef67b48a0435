"""How large a table of scores will be: a small one is filled with what a sample scored, written by the real writer and measured.

Formats compress, and hold texts once per file, per block of alleles or per row; so what is written here has blocks as large
as those of the real table, and numbers with digits as random as real ones.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kipoi_borzoi.errors import KipoiBorzoiError
from kipoi_borzoi.variants.blocks import take
from kipoi_borzoi.variants.header import MEASURES, Header, Survey
from kipoi_borzoi.variants.output import PART_ALLELES, PART_SECONDS, PART_VALUES, block_alleles, values_of, write_table
from kipoi_borzoi.variants.parts import pack
from kipoi_borzoi.variants.results import AlleleRow, Chunk, Measures

MOST_ROWS = 2 * PART_ALLELES
"""Alleles that are written at most to measure: two blocks or parts."""

_DISCRETE = {"agreement", "quantile"}  # few values occur: they are repeated as they are


@dataclass(frozen=True)
class Line:
    """What grows by the same with every allele: ``fixed + slope * alleles``."""

    fixed: float
    slope: float = 0.0

    @classmethod
    def through(cls, one: tuple[int, float], other: tuple[int, float]) -> Line:
        """The line through two (alleles, amount), or of equal alleles through the first and 0."""
        slope = (other[1] - one[1]) / (other[0] - one[0]) if other[0] > one[0] else one[1] / one[0]
        return cls(one[1] - slope * one[0], slope)

    def at(self, alleles: float) -> float:
        """The amount for so many alleles; never below 0."""
        return max(0.0, self.fixed + self.slope * alleles)


@dataclass(frozen=True)
class Sizes:
    """What a table needs.

    Attributes
    ----------
    table : Line
        Bytes of the table, with the index of a ``.vcf.gz``.
    part : Line
        Bytes of a part in ``OUT.parts``, by its alleles.
    run : int
        Bytes of ``OUT.parts/run.json``.
    writing_s : float
        Seconds per allele to pack the parts and to write the table.
    values : float
        Numbers per allele.
    """

    table: Line
    part: Line
    run: int
    writing_s: float
    values: float

    def parts(self, alleles: int, chunk: int, seconds: float) -> int:
        """Bytes of ``OUT.parts`` when all is scored and the table not yet written.

        Parameters
        ----------
        alleles : int
        chunk : int
            Alleles scored at a time: a part has whole chunks.
        seconds : float
            Per allele: a part is written when it is large or old enough.
        """
        enough = min(PART_ALLELES, PART_VALUES / max(self.values, 1e-9), PART_SECONDS / max(seconds, 1e-9))
        size = max(1, -(-int(np.ceil(enough)) // chunk)) * chunk
        whole, rest = divmod(alleles, size)
        return round(self.run + whole * self.part.at(size) + (self.part.at(rest) if rest else 0))


def filled(rows: Sequence[AlleleRow], can_be_scored: Sequence[bool], sample: Chunk, weights: np.ndarray, seed: int = 0) -> Chunk:
    """A chunk with the rows of an input and scores like those of a sample.

    Parameters
    ----------
    rows : sequence of AlleleRow
    can_be_scored : sequence of bool
        Which of them get scores.
    sample : Chunk
        One or more alleles that were scored.
    weights : (alleles of the sample,) float
        How often each of them stands for others; they sum to 1.
    seed : int
        Of the choice, and of a factor from 1/2 to 2 on each score, without which repeated numbers would compress too well.

    Returns
    -------
    Chunk
    """
    random = np.random.default_rng(seed)
    places = np.flatnonzero(can_be_scored)
    even = (np.arange(len(places)) + 0.5) / max(1, len(places))
    donors = np.full(len(rows), -1)
    donors[places] = random.permutation(np.searchsorted(np.cumsum(weights)[:-1], even, side="right"))
    genes_of: list[list[int]] = [[] for _ in sample.alleles]
    for place, gene in enumerate(sample.genes):
        genes_of[gene.allele].append(place)
    alleles, genes, gene_donors = [], [], []
    for number, (row, donor) in enumerate(zip(rows, donors.tolist(), strict=True)):
        if donor >= 0:
            scored = sample.alleles[donor]
            row = dataclasses.replace(row, status=scored.status, padded=scored.padded)
            genes += [dataclasses.replace(sample.genes[place], allele=number) for place in genes_of[donor]]
            gene_donors += genes_of[donor]
        alleles.append(dataclasses.replace(row, number=number))

    def like(measures: Measures, donors: np.ndarray) -> Measures:
        found = {name: getattr(measures, name) for name in MEASURES}
        return Measures(**{
            name: None if array is None else _drawn(array, donors, None if name in _DISCRETE else random)
            for name, array in found.items()
        })  # fmt: skip

    of_genes = np.array(gene_donors, dtype=int)
    return Chunk(
        tuple(alleles),
        {name: like(measures, donors) for name, measures in sample.scores.items()},
        tuple(genes),
        {name: like(measures, of_genes) for name, measures in sample.gene_scores.items()},
        {name: _drawn(profile, donors, random) for name, profile in sample.profiles.items()},
    )


def measure(
    header: Header, suffix: str, sample: Chunk, fill: Callable[[int], Chunk], alleles: int, clock: Callable[[], float] = time.perf_counter
) -> Sizes:
    """Write one or two small tables in a temporary folder and measure them.

    Parameters
    ----------
    header : Header
    suffix : str
        The format, such as ``.parquet``.
    sample : Chunk
        Some alleles that were scored.
    fill : callable
        Gives a chunk of so many alleles like those, at most `MOST_ROWS`.
    alleles : int
        Of the table to be: where it is small it is written in full, else one block of it and two.
    clock : callable
        Seconds.

    Raises
    ------
    KipoiBorzoiError
        Nothing can be written in the folder for temporary files.
    """
    survey = Survey()
    survey.add(sample)
    block = block_alleles(header, survey)
    large = min(alleles, 2 * block)
    chunk = fill(large)
    small = block if large == 2 * block else max(1, large // 2)
    with tempfile.TemporaryDirectory(prefix="kipoi-borzoi-") as folder:
        try:
            measured = [_measured(header, Path(folder, f"table{suffix}"), take(chunk, 0, size), clock) for size in (small, large)]
        except OSError as error:
            raise KipoiBorzoiError(
                f"{folder}: a small table cannot be written there to measure it ({error.strerror or error}); give room for "
                "temporary files elsewhere: TMPDIR=DIR"
            ) from error
    (small_table, small_part, _), (large_table, large_part, seconds) = measured  # the first one imports what it needs
    # A small table was written in full: that is its size.
    table = Line(large_table) if large == alleles else Line.through((small, small_table), (large, large_table))
    part = Line.through((small, small_part), (large, large_part))
    run = len(json.dumps({"header": header.to_json()}))
    return Sizes(table, part, run, seconds / large, values_of(chunk) / large)


def _measured(header: Header, path: Path, chunk: Chunk, clock: Callable[[], float]) -> tuple[int, int, float]:
    """Bytes of a table, bytes of its chunk as a part, and seconds for both."""
    survey = Survey()
    survey.add(chunk)
    begin = clock()
    part = len(pack(chunk))
    written = [temporary for temporary, _ in write_table(path, header, survey, [chunk])]
    seconds = clock() - begin
    size = sum(file.stat().st_size for file in written)
    for file in written:
        file.unlink()
    return size, part, seconds


def _drawn(array: np.ndarray, donors: np.ndarray, random) -> np.ndarray:
    """Rows of an array by number, NaN for -1, each number times a factor from 1/2 to 2 unless ``random`` is None."""
    drawn = np.full((len(donors), *array.shape[1:]), np.nan, array.dtype)
    chosen = donors >= 0
    drawn[chosen] = array[donors[chosen]]
    if random is not None:
        drawn *= np.exp2(2 * random.random(drawn.shape, dtype=np.float32) - 1)
    return drawn
