"""Reading intervals from BED files strictly: a line that could mean something else is an error, not a guess."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from kipoi_borzoi.dataloaders.text import read_lines
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.genome import STRANDS, Interval

_REGION = re.compile(r"(\S+):([\d,]+)-([\d,]+)")


@dataclass(frozen=True)
class BedRecord:
    """One line of a BED file: its interval, its 1-based line number, and the fields behind the BED columns."""

    interval: Interval
    line: int
    extra: tuple[str, ...] = ()


def read_bed(path: str | os.PathLike) -> list[Interval]:
    """Read the intervals of a BED file, in its order; see `read_bed_records`."""
    return [record.interval for record in read_bed_records(path)]


def read_bed_records(path: str | os.PathLike, bed_columns: int = 6) -> list[BedRecord]:
    """Read a BED file with three or more columns, plain, gzip or bgzip.

    Columns are separated by tabs, or by spaces in lines without a tab. Empty lines and lines that
    start with ``#``, ``track`` or ``browser`` are skipped. All lines must have the same number of
    columns (a BED rule; a line with fewer may be cut). A ``.`` in the fourth column is no name; ``*``
    in the sixth means ``.``.

    Parameters
    ----------
    path : path
    bed_columns : int
        How many of the leading columns are BED (3 to 6); those behind them come back as ``extra``.

    Returns
    -------
    list of BedRecord
        Coordinates 0-based, half-open; never empty.

    Raises
    ------
    InputError
        When the file cannot be read whole, holds no interval, or a line is malformed; with the line number.
    """
    records: list[BedRecord] = []
    columns = 0
    for number, line in read_lines(path):
        if not line.strip() or line.startswith("#") or re.match(r"(track|browser)( |$)", line):
            continue
        fields = line.split("\t") if "\t" in line else line.split()
        where = f"{path}, line {number}"
        record = _parse(fields, bed_columns, number, where)
        if records and len(fields) != columns:
            raise InputError(
                f"{where}: {len(fields)} columns, but {columns} in line {records[0].line}; "
                "all lines of a BED file must have the same columns (is this line cut?)"
            )
        columns = len(fields)
        records.append(record)
    if not records:
        raise InputError(f"{path}: no intervals in it: the file is empty or has only comment lines")
    return records


def _parse(fields: list[str], bed_columns: int, line: int, where: str) -> BedRecord:
    if len(fields) < 3:
        raise InputError(
            f"{where}: {len(fields)} columns, expected at least 3 (chrom, start, end){_region_hint(fields)}"
        )
    if not fields[0] or fields[0] != fields[0].strip():
        raise InputError(f"{where}: contig name is {fields[0]!r}, expected a name without spaces around it")
    start = _coordinate(fields[1], "start", where)
    end = _coordinate(fields[2], "end", where)
    if end <= start:
        raise InputError(f"{where}: start {start} is not below end {end} (BED is 0-based, half-open, on both strands)")
    name = fields[3] if bed_columns > 3 and len(fields) > 3 and fields[3] != "." else ""
    strand = fields[5] if bed_columns > 5 and len(fields) > 5 else "."
    strand = "." if strand == "*" else strand
    if strand not in STRANDS:
        raise InputError(
            f"{where}: strand (column 6) is {strand!r}, expected one of + - . "
            "(if the columns behind the third are no name, score and strand, keep three: cut -f 1-3)"
        )
    return BedRecord(Interval(fields[0], start, end, strand, name), line, tuple(fields[bed_columns:]))


def _coordinate(text: str, what: str, where: str) -> int:
    if text.isascii() and text.isdigit():
        return int(text)
    if re.fullmatch(r"-\d+", text):
        raise InputError(f"{where}: {what} is negative ({text}); BED coordinates start at 0")
    raise InputError(
        f"{where}: {what} is {text!r}, expected an integer of digits alone (no decimals, exponents, commas or spaces, "
        "as spreadsheets write them)"
    )


def _region_hint(fields: list[str]) -> str:
    region = _REGION.fullmatch(fields[0])
    if not region:
        return " separated by tabs"
    chrom, start, end = region[1], int(region[2].replace(",", "")), region[3].replace(",", "")
    return (
        f". {fields[0]} is a region string (chrom:start-end, 1-based); in BED it is "
        f"{chrom}<TAB>{max(start - 1, 0)}<TAB>{end}"
    )
