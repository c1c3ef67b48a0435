"""The tidy table as text: one line of provenance, one of names, then the rows."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from kipoi_borzoi.variants.header import Header, Survey, provenance_text
from kipoi_borzoi.variants.results import Chunk
from kipoi_borzoi.variants.tidy import fields, optional_measures, scorer_names, tidy, unit_fields

_BREAKS = str.maketrans("\t\r\n", "   ")


def check(header: Header) -> None:
    """Nothing that this format cannot hold."""


def write(path: Path, header: Header, survey: Survey, blocks: Iterable[Chunk], compress: bool) -> None:
    """Write the tidy table.

    The first line is ``##provenance=`` and JSON, the second the names of the columns. Missing values are empty;
    numbers have as many digits as float32 needs to be read back exactly.

    Parameters
    ----------
    path : Path
    header : Header
    survey : Survey
        Of all blocks.
    blocks : iterable of Chunk
        The same cuts give the same bytes.
    compress : bool
        Whether to gzip.
    """
    measures = optional_measures(survey)
    names = scorer_names(header)
    middles = [
        [f"{_text(column.name)}\t{_text(name)}" for name in names] + ["\t"] for column in header.columns
    ]  # the last of each is what -1 finds
    with _open(path, compress) as file:
        head = f"##provenance={provenance_text(header.provenance)}\n" + "\t".join(fields(header, measures)) + "\n"
        file.write(head.encode())
        for block in blocks:
            rows = tidy(block, header, measures)
            left = ["\t".join(map(_text, unit_fields(unit, bool(header.gene_scorers)))) for unit in rows.units]
            texts = [_numbers(rows.values[name]) for name in ("mean", *measures)]
            lines = zip(
                map(left.__getitem__, rows.unit.tolist()),
                (middles[t][s] for t, s in zip(rows.track.tolist(), rows.scorer.tolist(), strict=True)),
                *texts,
                strict=True,
            )
            file.write("".join("\t".join(line) + "\n" for line in lines).encode())


@contextlib.contextmanager
def _open(path: Path, compress: bool) -> Iterator:
    with open(path, "wb") as file:
        if not compress:
            yield file
            return
        # Without name and time: equal tables are equal files.
        with gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=6, mtime=0) as packed:
            yield packed


def _text(value) -> str:
    return "" if value is None else str(value).translate(_BREAKS)


def _numbers(values: np.ndarray) -> list[str]:
    """Shortest digits that give the same float32 again; empty for NaN."""
    texts = list(map(str, values))
    for place in np.flatnonzero(np.isnan(values)).tolist():
        texts[place] = ""
    return texts
