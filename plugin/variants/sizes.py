"""How large a table of scores will be: a small one is filled with a sample's scores, written by the real writer and measured.

Formats compress, and hold texts once per file, per block of alleles or per row; so what is written here has blocks as large
as those of the real table, and numbers with digits as random as real ones.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kipoi_borzoi.errors import KipoiBorzoiError
from kipoi_borzoi.variants.blocks import take
from kipoi_borzoi.variants.header import MEASURES, Header, Survey
from kipoi_borzoi.variants.output import PART_ALLELES, PART_SECONDS, PART_VALUES, block_alleles, write_table
from kipoi_borzoi.variants.parts import pack
from kipoi_borzoi.variants.results import SCORED, AlleleRow, Chunk, GeneRow, Measures

MOST_ROWS = 2 * PART_ALLELES
"""Alleles that are written at most to measure: two blocks or parts."""

_DISCRETE = {"agreement", "quantile"}  # few values occur: they are repeated as they are


@dataclass(frozen=True)
class Line:
    """What grows by the same with every allele or number: ``fixed + slope * count``."""

    fixed: float
    slope: float = 0.0

    @classmethod
    def through(cls, one: tuple[int, float], other: tuple[int, float]) -> Line:
        """The line through two (count, amount), or of equal counts through the first and 0."""
        slope = (other[1] - one[1]) / (other[0] - one[0]) if other[0] > one[0] else one[1] / one[0]
        return cls(one[1] - slope * one[0], slope)

    def at(self, count: float) -> float:
        """The amount for a count; never below 0."""
        return max(0.0, self.fixed + self.slope * count)


@dataclass(frozen=True)
class Content:
    """What a table holds.

    Attributes
    ----------
    alleles, scored : int
        All, and those with scores.
    genes : int
        Rows of scores per gene, of all alleles.
    """

    alleles: int
    scored: int
    genes: int = 0

    @classmethod
    def of(cls, chunk: Chunk) -> Content:
        """What a chunk holds."""
        return cls(len(chunk.alleles), sum(row.status == SCORED for row in chunk.alleles), len(chunk.genes))


@dataclass(frozen=True)
class Sizes:
    """What a table takes.

    Attributes
    ----------
    table : int
        Bytes of the table, with the index of a ``.vcf.gz``.
    part : Line
        Bytes of a part in ``OUT.parts``, by its alleles.
    run : int
        Bytes of ``OUT.parts/run.json``.
    writing_s : float
        Seconds to pack the parts and to write the table.
    values : float
        Numbers per allele.
    """

    table: int
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


def filled(
    rows: Sequence[AlleleRow], genes: Sequence[Sequence[GeneRow] | None], sample: Chunk, weights: np.ndarray, seed: int = 0
) -> Chunk:
    """A chunk with the rows of an input and scores like those of a sample.

    Parameters
    ----------
    rows : sequence of AlleleRow
    genes : sequence of (sequence of GeneRow, or None)
        Genes of each row; None for one without scores.
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
    places = [place for place, found in enumerate(genes) if found is not None]
    donors = np.full(len(rows), -1)
    donors[places] = random.permutation(_evenly(weights, len(places)))
    alleles, gene_rows = [], []
    for number, (row, found, donor) in enumerate(zip(rows, genes, donors.tolist(), strict=True)):
        if found is not None:
            row = dataclasses.replace(row, padded=sample.alleles[donor].padded)
            gene_rows += [dataclasses.replace(gene, allele=number) for gene in found]
        alleles.append(dataclasses.replace(row, number=number))
    of_genes = np.array([weights[gene.allele] for gene in sample.genes])
    gene_donors = random.permutation(_evenly(of_genes / of_genes.sum(), len(gene_rows))) if len(of_genes) else None

    def like(measures: Measures, donors: np.ndarray | None, count: int) -> Measures:
        found = {name: getattr(measures, name) for name in MEASURES}
        return Measures(**{
            name: None if array is None else _drawn(array, donors, count, None if name in _DISCRETE else random)
            for name, array in found.items()
        })  # fmt: skip

    return Chunk(
        tuple(alleles),
        {name: like(measures, donors, len(rows)) for name, measures in sample.scores.items()},
        tuple(gene_rows),
        {name: like(measures, gene_donors, len(gene_rows)) for name, measures in sample.gene_scores.items()},
        {name: _drawn(profile, donors, len(rows), random) for name, profile in sample.profiles.items()},
    )


def measure(
    header: Header, suffix: str, sample: Chunk, fill: Callable[[int], Chunk], whole: Content,
    clock: Callable[[], float] = time.perf_counter,
) -> Sizes:  # fmt: skip
    """Write two small tables in a temporary folder and measure them.

    Parameters
    ----------
    header : Header
    suffix : str
        The format, such as ``.parquet``.
    sample : Chunk
        Some alleles that were scored.
    fill : callable
        Gives a chunk of so many alleles of the table to be, at most `MOST_ROWS`.
    whole : Content
        Of the table to be. Of a small one half and all is written, else one block and two; what the second adds is added
        for the rest, in proportion to the numbers in it.
    clock : callable
        Seconds.

    Raises
    ------
    KipoiBorzoiError
        Nothing can be written in the folder for temporary files.
    """
    survey = Survey()
    survey.add(sample)
    survey.statuses, survey.genes = Counter({SCORED: whole.alleles}), whole.genes
    block = block_alleles(header, survey)
    large = min(whole.alleles, 2 * block)
    chunk = fill(large)
    chunks = [take(chunk, 0, block if large == 2 * block else max(1, large // 2)), chunk]
    with tempfile.TemporaryDirectory(prefix="kipoi-borzoi-") as folder:
        try:
            measured = [_measured(header, Path(folder, f"table{suffix}"), one, clock) for one in chunks]
        except OSError as error:
            raise KipoiBorzoiError(
                f"{folder}: a small table cannot be written there to measure it ({error.strerror or error}); give room for "
                "temporary files elsewhere: TMPDIR=DIR"
            ) from error
    (small_table, small_part, _), (large_table, large_part, seconds) = measured  # the first one imports what it needs
    per_scored = len(header.columns) * (_arrays(sample.scores) + len(sample.profiles) * survey.bins)
    per_gene = len(header.columns) * _arrays(sample.gene_scores)

    # Alleles have texts, also the skipped ones; the numbers of those are only in the parts.
    def in_table(content: Content) -> int:
        return content.alleles + content.scored * per_scored + content.genes * per_gene

    def in_part(content: Content) -> int:
        return content.alleles * (1 + per_scored) + content.genes * per_gene

    contents = [Content.of(one) for one in chunks]
    table = Line.through(*zip(map(in_table, contents), (small_table, large_table), strict=True))
    part = Line.through(*zip(map(in_part, contents), (small_part, large_part), strict=True))
    in_whole = in_part(whole) / whole.alleles
    return Sizes(
        table=round(table.at(in_table(whole))),
        part=Line(part.fixed, part.slope * in_whole),
        run=len(json.dumps({"header": header.to_json()})),
        writing_s=seconds * in_table(whole) / in_table(contents[1]),
        values=in_whole - 1,
    )


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


def _arrays(scores: Mapping[str, Measures]) -> int:
    """Arrays of numbers of all scorers."""
    return sum(getattr(measures, name) is not None for measures in scores.values() for name in MEASURES)


def _evenly(weights: np.ndarray, count: int) -> np.ndarray:
    """So many numbers of weights, each as often as it weighs."""
    even = (np.arange(count) + 0.5) / max(1, count)
    return np.searchsorted(np.cumsum(weights)[:-1], even, side="right")


def _drawn(array: np.ndarray, donors: np.ndarray | None, count: int, random) -> np.ndarray:
    """Rows of an array by number, NaN for -1, each number times a factor from 1/2 to 2 unless ``random`` is None.

    Without donors, what is multiplied is 1.
    """
    if donors is None:
        drawn = np.ones((count, *array.shape[1:]), array.dtype)
    else:
        drawn = np.full((count, *array.shape[1:]), np.nan, array.dtype)
        chosen = donors >= 0
        drawn[chosen] = array[donors[chosen]]
    if random is not None:
        drawn *= np.exp2(2 * random.random(drawn.shape, dtype=np.float32) - 1)
    return drawn
