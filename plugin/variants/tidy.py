"""The tidy view of scores: one row per allele, gene, track and scorer; and rows that conserve every allele."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from kipoi_borzoi.variants.header import MEASURES, Header, Survey
from kipoi_borzoi.variants.results import SCORED, AlleleRow, Chunk, GeneRow, Measures

ALLELE_FIELDS = ("variant_id", "chrom", "pos", "ref", "alt", "id", "status", "detail", "padded")
GENE_FIELDS = ("gene_id", "gene_name", "strand", "covered")


@dataclass(frozen=True)
class Unit:
    """An allele by itself, or one of its genes.

    Attributes
    ----------
    allele : AlleleRow
    gene : GeneRow or None
    row : int
        Row in the chunk's scores (without a gene) or gene scores.
    """

    allele: AlleleRow
    gene: GeneRow | None
    row: int


def units(chunk: Chunk, header: Header) -> list[Unit]:
    """Each allele and then its genes.

    Where only genes are scored, the allele by itself is left out, unless it has no gene: every allele
    is in the list at least once.
    """
    genes: list[list[Unit]] = [[] for _ in chunk.alleles]
    for row, gene in enumerate(chunk.genes):
        genes[gene.allele].append(Unit(chunk.alleles[gene.allele], gene, row))
    found = []
    for row, (allele, its_genes) in enumerate(zip(chunk.alleles, genes, strict=True)):
        if header.scorers or not its_genes:
            found.append(Unit(allele, None, row))
        found += its_genes
    return found


def count_units(header: Header, survey: Survey) -> int:
    """Number of `units` of a whole table."""
    return survey.genes + (survey.alleles if header.scorers else survey.bare)


def optional_measures(survey: Survey) -> tuple[str, ...]:
    """Those of sd, agreement, quantile and specificity that occur in a table, in their order."""
    return tuple(name for name in MEASURES[1:] if name in survey.measures | survey.gene_measures)


def measure(scores, scorer: str, name: str, rows: int, columns: int) -> np.ndarray:
    """One measure of one scorer, (rows, columns) float32; NaN where the chunk has none."""
    array = getattr(scores.get(scorer, _NOTHING), name)
    return np.full((rows, columns), np.nan, np.float32) if array is None else array


_NOTHING = Measures(mean=None)


@dataclass(frozen=True, eq=False)
class TidyRows:
    """Rows of the tidy table, by number of unit, track and scorer.

    Attributes
    ----------
    units : list of Unit
    unit : (rows,) int64
        Index into ``units``, in their order.
    track, scorer : (rows,) int64
        Index into the header's columns and into `scorer_names`; -1 in the one row of an allele without scores.
    values : dict of str to (rows,) float32
        ``mean`` and the optional measures; NaN for none.
    """

    units: list[Unit]
    unit: np.ndarray
    track: np.ndarray
    scorer: np.ndarray
    values: dict[str, np.ndarray]


def scorer_names(header: Header) -> list[str]:
    """Names of the allele scorers and then of the gene scorers, as `TidyRows` counts them."""
    return [scorer.name for scorer in (*header.scorers, *header.gene_scorers)]


def tidy(chunk: Chunk, header: Header, measures: tuple[str, ...]) -> TidyRows:
    """The tidy rows of a chunk: of each unit, track after track, and of each track scorer after scorer.

    Parameters
    ----------
    measures : tuple of str
        The optional measures of the whole table.
    """
    found = units(chunk, header)
    columns = len(header.columns)
    of_gene = np.array([unit.gene is not None for unit in found], bool)
    scored = np.array([unit.allele.status == SCORED for unit in found], bool)
    row = np.array([unit.row for unit in found], np.int64)
    kinds = (
        (~of_gene & scored & bool(header.scorers), 0, header.scorers, chunk.scores, len(chunk.alleles)),
        (of_gene & scored & bool(header.gene_scorers), len(header.scorers), header.gene_scorers, chunk.gene_scores,
         len(chunk.genes)),
    )  # fmt: skip
    lengths = np.ones(len(found), np.int64)
    for chosen, _, scorers, _, _ in kinds:
        lengths[chosen] = columns * len(scorers)
    total = int(lengths.sum())
    starts = np.cumsum(lengths) - lengths
    track, scorer = np.full(total, -1), np.full(total, -1)
    values = {name: np.full(total, np.nan, np.float32) for name in ("mean", *measures)}
    for chosen, offset, scorers, scores, rows in kinds:
        if not chosen.any():
            continue
        places = starts[chosen][:, None] + np.arange(columns * len(scorers))
        track[places] = np.repeat(np.arange(columns), len(scorers))
        scorer[places] = offset + np.tile(np.arange(len(scorers)), columns)
        for name, target in values.items():
            arrays = [measure(scores, one.name, name, rows, columns)[row[chosen]] for one in scorers]
            target[places] = np.stack(arrays, axis=-1).reshape(places.shape)
    return TidyRows(found, np.repeat(np.arange(len(found)), lengths), track, scorer, values)


def fields(header: Header, measures: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the tidy table's columns."""
    genes = GENE_FIELDS if header.gene_scorers else ()
    return (*ALLELE_FIELDS, *genes, "track", "scorer", "score", *measures)


def unit_fields(unit: Unit, with_genes: bool) -> list:
    """What a tidy row says of its allele and gene; None for nothing."""
    allele, gene = unit.allele, unit.gene
    padded = None if np.isnan(allele.padded) else float(allele.padded)
    values = [allele.variant_id, allele.chrom, allele.pos, allele.ref, allele.alt, allele.id, allele.status]
    values += [allele.detail or None, padded]
    if with_genes:
        values += [getattr(gene, name) for name in GENE_FIELDS] if gene else [None] * len(GENE_FIELDS)
    return values


def to_frame(chunks: Iterable[Chunk], header: Header):
    """The tidy table as a pandas DataFrame, held in memory as a whole.

    Text columns are categories where values repeat (all but variant_id, id and detail); scores are float32.
    """
    import pandas as pd

    chunks = list(chunks)
    survey = Survey()
    for chunk in chunks:
        survey.add(chunk)
    measures = optional_measures(survey)
    names = fields(header, measures)
    with_genes = bool(header.gene_scorers)
    rows = [tidy(chunk, header, measures) for chunk in chunks]
    unit_names = names[: names.index("track")]
    of_units = pd.DataFrame(
        [unit_fields(unit, with_genes) for part in rows for unit in part.units], columns=list(unit_names)
    )
    for name in ("chrom", "status", "ref", "alt", "gene_id", "gene_name", "strand"):
        if name in of_units:
            of_units[name] = of_units[name].astype("category")
    offsets = np.cumsum([0, *(len(part.units) for part in rows)])
    index = [part.unit + offset for part, offset in zip(rows, offsets, strict=False)]
    table = of_units.iloc[np.concatenate([np.zeros(0, np.int64), *index])].reset_index(drop=True)
    for name, known in (("track", [c.name for c in header.columns]), ("scorer", scorer_names(header))):
        codes = np.concatenate([np.zeros(0, np.int64), *(getattr(part, name) for part in rows)])
        table[name] = _categorical(pd, codes, known)
    for name in ("mean", *measures):
        values = np.concatenate([np.zeros(0, np.float32), *(part.values[name] for part in rows)])
        table["score" if name == "mean" else name] = values
    return table


def _categorical(pd, codes: np.ndarray, names: list[str]):
    """A categorical of names that may repeat (a scorer of alleles and of genes)."""
    known = list(dict.fromkeys(names))
    place = np.array([known.index(name) for name in names] + [-1])
    return pd.Categorical.from_codes(place[codes], known)
