"""Calico's target table as text, one record per line, read strictly because a shifted column mislabels every track.

The format: tab-separated text (plain or gzip), never quoted; an integer index without a column
name, then ``identifier, file, clip, clip_soft, scale, sum_stat, strand_pair, description`` in any
order. ``identifier`` and ``sum_stat`` are required; without a column for them, there is no clip and
no soft clip, scale is 1, every track is unstranded (older tables), file and description are empty.
Other columns are ignored, unless one looks like the misspelt name of a missing one. All text stays
as it is: 'NA' is an identifier.
"""

from __future__ import annotations

import difflib
import gzip
import logging
import os
import zlib
from pathlib import Path

from kipoi_borzoi.errors import InputError

_COLUMNS = ("identifier", "file", "clip", "clip_soft", "scale", "sum_stat", "strand_pair", "description")
_REQUIRED = ("identifier", "sum_stat")

_log = logging.getLogger(__name__)


def read_records(path: str | os.PathLike) -> list[tuple[int, dict]]:
    """Read the lines of a target table, checking their form but not what the values mean together.

    Returns
    -------
    list of (int, dict)
        For each track, in the order of the file, its 1-based line number and its values: ``index``,
        ``strand_pair`` (int), ``clip``, ``clip_soft``, ``scale`` (float), ``identifier``, ``file``,
        ``sum_stat``, ``description`` (str).

    Raises
    ------
    InputError
        Naming file and line, when the file cannot be read, is not such a table or has no track.
    """
    lines = _read_lines(Path(path))
    header = _read_header(f"{path}, line {lines[0][0]}", lines[0][1])
    if len(lines) == 1:
        raise InputError(f"{path}: no targets: the table has a header and no line after it")
    return [(number, _read_record(f"{path}, line {number}", text, header)) for number, text in lines[1:]]


def _read_lines(path: Path) -> list[tuple[int, str]]:
    """Lines that are not blank, with their 1-based numbers; the first is the header."""
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        text = content.decode("utf-8-sig")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: truncated or corrupt gzip file ({error}); fetch or write it again") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a target table: byte {error.start} is not UTF-8 text") from error
    except OSError as error:
        raise InputError(f"{path}: cannot read the target table: {error.strerror or error}") from error
    lines = [(number, line.rstrip("\r")) for number, line in enumerate(text.split("\n"), start=1)]
    lines = [(number, line) for number, line in lines if line.strip()]
    if not lines:
        raise InputError(f"{path}: no targets: the file is empty")
    return lines


def _read_header(where: str, line: str) -> list[str]:
    header = line.split("\t")
    if len(header) < 2:
        found = "commas" if "," in line else f"{line[:60]!r}"
        raise InputError(
            f"{where}: no tab in the header, but {found}; expected tab-separated columns: index (unnamed), "
            f"{', '.join(_COLUMNS)}"
        )
    if header[0] not in ("", "index"):
        raise InputError(
            f"{where}: the first column is called {header[0]!r}, expected the unnamed index column; "
            f"write a tab before {header[0]!r} and the 0-based output number at the start of each line"
        )
    header[0] = "index"
    repeated = [name for name in header if header.count(name) > 1]
    if repeated:
        raise InputError(f"{where}: more than one column is called {repeated[0]!r}")
    missing = [name for name in _COLUMNS if name not in header]
    for name in header[1:]:
        near = [] if name in _COLUMNS else difflib.get_close_matches(name, missing, n=1, cutoff=0.75)
        if near:
            raise InputError(f"{where}: unknown column {name!r}; did you mean {near[0]!r}?")
    for name in _REQUIRED:
        if name in missing:
            raise InputError(f"{where}: column {name!r} is missing; found: {', '.join(header[1:])}")
    ignored = [name for name in header[1:] if name not in _COLUMNS]
    if ignored:
        _log.info("%s: columns ignored: %s", where, ", ".join(ignored))
    return header


def _read_record(where: str, line: str, header: list[str]) -> dict:
    cells = line.split("\t")
    if len(cells) != len(header):
        raise InputError(
            f"{where}: {len(cells)} fields, but the header has {len(header)} columns; "
            "fields are separated by one tab and must not contain any"
        )
    value = dict(zip(header, cells, strict=True))
    index = _integer(where, "index", value["index"])
    return {
        "index": index,
        "identifier": value["identifier"],
        "description": value.get("description", ""),
        "file": value.get("file", ""),
        "clip": _number(where, "clip", value.get("clip", "inf")),
        "clip_soft": _number(where, "clip_soft", value.get("clip_soft", "inf")),
        "scale": _number(where, "scale", value.get("scale", "1")),
        "sum_stat": value["sum_stat"],
        "strand_pair": _integer(where, "strand_pair", value.get("strand_pair", str(index))),
    }


def _integer(where: str, name: str, text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise InputError(f"{where}: {name} is {text!r}, expected an integer") from None
    if abs(number) >= 2**31:
        raise InputError(f"{where}: {name} is {text}, which is no track's number")
    return number


def _number(where: str, name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{where}: {name} is {text!r}, expected a number greater than 0") from None
