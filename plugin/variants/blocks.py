"""Cutting and joining chunks of scores, so that what is written does not depend on how it was computed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from kipoi_borzoi.variants.header import MEASURES, Header
from kipoi_borzoi.variants.results import SCORED, Chunk, Measures


def check_chunk(chunk: Chunk, header: Header, first: int) -> None:
    """Raise ValueError unless a chunk is what the header promises and begins with allele number ``first``."""
    numbers = [row.number for row in chunk.alleles]
    if numbers != list(range(first, first + len(numbers))):
        raise ValueError(f"alleles {numbers[:3]}... follow one another from {first}: an allele is missing or twice")
    genes = [gene.allele for gene in chunk.genes]
    if genes != sorted(genes) or (genes and not 0 <= genes[0] <= genes[-1] < len(numbers)):
        raise ValueError(f"genes of alleles {genes[:3]}... are not in the order of the chunk's {len(numbers)} alleles")
    if any(chunk.alleles[place].status != SCORED for place in genes):
        raise ValueError("a skipped allele has genes; it has none, and one row")
    named = {(gene.allele, gene.gene_id) for gene in chunk.genes}
    if len(named) < len(genes) or any(not gene for _, gene in named):
        raise ValueError("genes of an allele have an identifier each, and none twice")
    for what, scores, known, rows in (
        ("scores", chunk.scores, header.scorers, len(numbers)),
        ("gene scores", chunk.gene_scores, header.gene_scorers, len(genes)),
    ):
        unknown = set(scores) - {scorer.name for scorer in known}
        if unknown:
            raise ValueError(f"{what} of {sorted(unknown)}, which the table does not have")
        for name, measures in scores.items():
            for field in MEASURES:
                array = getattr(measures, field)
                expected = (rows, len(header.columns))
                if array is not None and (array.shape != expected or array.dtype != np.float32):
                    raise ValueError(f"{what} {name}.{field}: {array.dtype} {array.shape}, expected float32 {expected}")
    for name, profile in chunk.profiles.items():
        if name not in header.profiles:
            raise ValueError(f"profile {name!r}, which the table does not have")
        if profile.ndim != 3 or (profile.shape[0], profile.shape[2]) != (len(numbers), len(header.columns)):
            raise ValueError(f"profile {name}: {profile.shape}, expected ({len(numbers)}, bins, {len(header.columns)})")


def take(chunk: Chunk, start: int, stop: int) -> Chunk:
    """Return alleles ``start`` to ``stop`` of a chunk, with their genes."""
    if start == 0 and stop == len(chunk.alleles):
        return chunk
    places = [gene.allele for gene in chunk.genes]
    low, high = np.searchsorted(places, [start, stop]).tolist()
    return Chunk(
        alleles=chunk.alleles[start:stop],
        scores={name: _each(measures, lambda a: a[start:stop]) for name, measures in chunk.scores.items()},
        genes=tuple(dataclasses.replace(gene, allele=gene.allele - start) for gene in chunk.genes[low:high]),
        gene_scores={name: _each(measures, lambda a: a[low:high]) for name, measures in chunk.gene_scores.items()},
        profiles={name: profile[start:stop] for name, profile in chunk.profiles.items()},
    )


def concatenate(chunks: Sequence[Chunk], columns: int) -> Chunk:
    """Join chunks that follow one another; what one of them lacks is NaN there."""
    if len(chunks) == 1:
        return chunks[0]
    genes, first = [], 0
    for chunk in chunks:
        genes += [dataclasses.replace(gene, allele=gene.allele + first) for gene in chunk.genes]
        first += len(chunk.alleles)
    return Chunk(
        alleles=tuple(row for chunk in chunks for row in chunk.alleles),
        scores=_join([(chunk.scores, len(chunk.alleles)) for chunk in chunks], columns),
        genes=tuple(genes),
        gene_scores=_join([(chunk.gene_scores, len(chunk.genes)) for chunk in chunks], columns),
        profiles=_join_profiles(chunks),
    )


def reblock(chunks: Iterable[Chunk], alleles: int, columns: int) -> Iterator[Chunk]:
    """Cut a stream of chunks anew, into chunks of ``alleles`` each; the last one may be smaller."""
    waiting: list[Chunk] = []
    count = 0
    for chunk in chunks:
        start = 0
        while start < len(chunk.alleles):
            stop = min(len(chunk.alleles), start + alleles - count)
            waiting.append(take(chunk, start, stop))
            count += stop - start
            start = stop
            if count == alleles:
                yield concatenate(waiting, columns)
                waiting, count = [], 0
    if waiting:
        yield concatenate(waiting, columns)


def _each(measures: Measures, change: Callable) -> Measures:
    fields = {name: getattr(measures, name) for name in MEASURES}
    return Measures(**{name: None if array is None else change(array) for name, array in fields.items()})


def _join(scores: list[tuple[dict, int]], columns: int) -> dict[str, Measures]:
    names = dict.fromkeys(name for chunk, _ in scores for name in chunk)
    joined = {}
    for name in names:
        fields = {}
        for field in MEASURES:
            arrays = [getattr(chunk[name], field) if name in chunk else None for chunk, _ in scores]
            if all(array is None for array in arrays):
                fields[field] = None
                continue
            fields[field] = np.concatenate(
                [
                    np.full((rows, columns), np.nan, np.float32) if array is None else array
                    for array, (_, rows) in zip(arrays, scores, strict=True)
                ]
            )
        joined[name] = Measures(**fields)
    return joined


def _join_profiles(chunks: Sequence[Chunk]) -> dict[str, np.ndarray]:
    joined = {}
    for name in dict.fromkeys(name for chunk in chunks for name in chunk.profiles):
        shape = next(chunk.profiles[name].shape[1:] for chunk in chunks if name in chunk.profiles)
        joined[name] = np.concatenate(
            [
                chunk.profiles[name]
                if name in chunk.profiles
                else np.full((len(chunk.alleles), *shape), np.nan, np.float32)
                for chunk in chunks
            ]
        )
    return joined
