"""Scores as AnnData: alleles (and genes) by tracks, a layer per scorer; written row by row in AnnData's documented file format."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.variants.header import Header, Survey, provenance_text
from kipoi_borzoi.variants.results import SCORED, Chunk
from kipoi_borzoi.variants.tidy import (
    ALLELE_FIELDS,
    GENE_FIELDS,
    count_units,
    measure,
    optional_measures,
    scorer_names,
    unit_fields,
    units,
)
from kipoi_borzoi.variants.writers.hdf5 import new_file

_NUMBERS = {"pos": np.int64, "padded": np.float64, "covered": np.float64}


def check(header: Header) -> None:
    """Raise InputError when a scorer's name cannot be a layer's."""
    for scorer in (*header.scorers, *header.gene_scorers):
        if "/" in scorer.name:
            raise InputError(f"a scorer called {scorer.name!r} cannot be a layer of .h5ad; write .parquet or .tsv.gz")


def write(path: Path, header: Header, survey: Survey, blocks: Iterable[Chunk]) -> None:
    """Write one observation per allele, and one per gene of each allele where genes are scored.

    Layers are named as the scorers, ``SCORER_sd`` and so on for the other measures. Where a scorer
    is for alleles and for genes, an observation without ``gene_id`` has the allele's score and the
    others the gene's. Observations are named ``chrom:pos:ref:alt``, those of genes with ``:gene_id``
    behind it. ``obs`` holds what the tidy table says of alleles and genes, ``var`` the columns,
    ``uns["provenance"]`` JSON. ``X`` is empty.

    See `kipoi_borzoi.variants.writers.tsv.write` for the parameters.
    """
    rows, columns = count_units(header, survey), len(header.columns)
    measures = ("mean", *optional_measures(survey))
    with_genes = bool(header.gene_scorers)
    names = [*ALLELE_FIELDS, *(GENE_FIELDS if with_genes else ())]
    with new_file(path) as (file, check_disk):
        _mark(file, "anndata", "0.1.0")
        for name in ("obsm", "varm", "obsp", "varp", "layers", "uns"):
            _mark(file.create_group(name), "dict", "0.1.0")
        _string(file["uns"], "provenance", provenance_text(header.provenance))
        obs = _frame(file, "obs", names, rows)
        var = _frame(file, "var", ["kind", "description", "model", "tracks"], columns)
        var["_index"][:] = [column.name for column in header.columns]
        for name in ("kind", "description", "model"):
            var[name][:] = [getattr(column, name) for column in header.columns]
        var["tracks"][:] = [",".join(column.tracks) for column in header.columns]
        for scorer in dict.fromkeys(scorer_names(header)):
            for name in measures:
                layer = file["layers"].create_dataset(
                    _layer(scorer, name), (rows, columns), np.float32, fillvalue=np.nan, track_times=False
                )
                _mark(layer, "array", "0.2.0")
        first = 0
        for block in blocks:
            first = _write_block(file["layers"], obs, first, block, header, measures, names)
            check_disk()


def _write_block(layers, obs, first: int, block: Chunk, header: Header, measures, names: list[str]) -> int:
    found = units(block, header)
    stop, columns = first + len(found), len(header.columns)
    values = list(zip(*(unit_fields(unit, bool(header.gene_scorers)) for unit in found), strict=True))
    obs["_index"][first:stop] = [
        unit.allele.variant_id + (f":{unit.gene.gene_id}" if unit.gene else "") for unit in found
    ]
    for name, column in zip(names, values, strict=True):
        empty = np.nan if name in _NUMBERS else ""
        obs[name][first:stop] = [empty if value is None else value for value in column]
    of_gene = np.array([unit.gene is not None for unit in found], bool)
    scored = np.array([unit.allele.status == SCORED for unit in found], bool)
    row = np.array([unit.row for unit in found], np.int64)
    for scorer in dict.fromkeys(scorer_names(header)):
        for name in measures:
            array = np.full((len(found), columns), np.nan, np.float32)
            for scores, chosen, count in (
                (block.scores, ~of_gene & scored, len(block.alleles)),
                (block.gene_scores, of_gene & scored, len(block.genes)),
            ):
                array[chosen] = measure(scores, scorer, name, count, columns)[row[chosen]]
            layers[_layer(scorer, name)][first:stop] = array
    return stop


def _frame(file, name: str, columns: list[str], rows: int):
    import h5py

    group = file.create_group(name)
    _mark(group, "dataframe", "0.2.0")
    group.attrs["_index"] = "_index"
    group.attrs["column-order"] = np.array(columns, h5py.string_dtype())
    for column in ("_index", *columns):
        dtype = _NUMBERS.get(column, h5py.string_dtype())
        dataset = group.create_dataset(column, (rows,), dtype, track_times=False)
        _mark(dataset, "array" if column in _NUMBERS else "string-array", "0.2.0")
    return group


def _string(group, name: str, text: str) -> None:
    _mark(group.create_dataset(name, data=text, track_times=False), "string", "0.2.0")


def _mark(element, encoding: str, version: str) -> None:
    element.attrs["encoding-type"] = encoding
    element.attrs["encoding-version"] = version


def _layer(scorer: str, name: str) -> str:
    return scorer if name == "mean" else f"{scorer}_{name}"
