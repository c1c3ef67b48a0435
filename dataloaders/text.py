"""Lines of a text file, plain or compressed, with the checks that every line-based format needs."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator

from kipoi_borzoi.dataloaders.bgzf import GZIP_MAGIC, check_eof_marker, read_head
from kipoi_borzoi.errors import InputError

MAX_LINE = 1 << 20
"""Longest line, in characters: a bound on memory for files that are not what they seem."""


def read_lines(path: str | os.PathLike, max_line: int = MAX_LINE) -> Iterator[tuple[int, str]]:
    """Yield the lines of a UTF-8 text file, gzip and bgzip compression found by content.

    Parameters
    ----------
    path : path
    max_line : int
        Longest line to accept, in characters.

    Yields
    ------
    (int, str)
        1-based line number, and the line without its end (``\\n`` or ``\\r\\n``).

    Raises
    ------
    InputError
        When the file is missing, empty, truncated, damaged, not text or has a line over ``max_line``.
    """
    compressed = read_head(path).startswith(GZIP_MAGIC)
    check_eof_marker(path)
    number = 0
    try:
        # utf-8-sig: a byte-order mark, as spreadsheets write it, must not become part of the first field
        with (gzip.open if compressed else open)(path, "rt", encoding="utf-8-sig") as handle:
            while line := handle.readline(max_line + 1):
                number += 1
                if len(line) > max_line:
                    raise InputError(f"{path}, line {number}: longer than the limit of {max_line} characters")
                if "\0" in line:
                    raise InputError(f"{path}, line {number}: holds a NUL byte, so this is not a text file")
                yield number, line.rstrip("\r\n")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(
            f"{path}, after line {number}: truncated or damaged gzip file ({error}). Copy or download it again"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}, after line {number}: not UTF-8 text ({error.reason})") from error
    except OSError as error:
        raise InputError(f"{path}, after line {number}: cannot be read ({error.strerror})") from error
