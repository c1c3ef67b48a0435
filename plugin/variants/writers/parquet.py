"""The tidy table as Parquet: typed, compressed, and read column by column."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from kipoi_borzoi.variants.header import Header, Survey, provenance_text
from kipoi_borzoi.variants.results import Chunk
from kipoi_borzoi.variants.tidy import fields, optional_measures, scorer_names, tidy, unit_fields

_REPEATED = ("chrom", "ref", "alt", "status", "gene_id", "gene_name", "strand", "track", "scorer")


def check(header: Header) -> None:
    """Nothing that this format cannot hold."""


def write(path: Path, header: Header, survey: Survey, blocks: Iterable[Chunk]) -> None:
    """Write the tidy table, a row group per block; provenance is JSON in the schema's metadata, key ``provenance``.

    Text that repeats is dictionary-encoded (pandas: category), scores are float32, missing values null.
    """
    import pyarrow as pa
    from pyarrow import parquet

    measures = optional_measures(survey)
    names = fields(header, measures)
    types = {name: pa.dictionary(pa.int32(), pa.string()) for name in _REPEATED}
    types |= {"pos": pa.int64(), "padded": pa.float64(), "covered": pa.float64()}
    types |= dict.fromkeys(("score", *measures), pa.float32())
    schema = pa.schema(
        [(name, types.get(name, pa.string())) for name in names],
        metadata={"provenance": provenance_text(header.provenance)},
    )
    tracks = [column.name for column in header.columns]
    scorers = scorer_names(header)
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for block in blocks:
            rows = tidy(block, header, measures)
            by_unit = zip(*(unit_fields(unit, bool(header.gene_scorers)) for unit in rows.units), strict=True)
            arrays = {}
            for name, values in zip(names, by_unit, strict=False):
                array = pa.array(values, pa.string() if name in _REPEATED else types.get(name, pa.string()))
                if name in _REPEATED:
                    array = array.dictionary_encode()
                arrays[name] = array.take(pa.array(rows.unit))
            arrays["track"] = _dictionary(pa, rows.track, tracks)
            arrays["scorer"] = _dictionary(pa, rows.scorer, scorers)
            for name in ("mean", *measures):
                values = rows.values[name]
                arrays["score" if name == "mean" else name] = pa.array(values, pa.float32(), mask=np.isnan(values))
            writer.write_table(pa.table([arrays[name] for name in names], schema=schema))


def _dictionary(pa, codes: np.ndarray, names: list[str]):
    known = list(dict.fromkeys(names))
    place = np.array([known.index(name) for name in names] + [-1], np.int32)[codes]
    return pa.DictionaryArray.from_arrays(pa.array(place, mask=place < 0), pa.array(known, pa.string()))
