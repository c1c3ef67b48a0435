"""Bytes with their SHA-256 before them, so that a damaged file or message is never taken for a whole one."""

from __future__ import annotations

import hashlib

from kipoi_borzoi.errors import InputError

_DIGEST = 65  # bytes before the content: sha256 as hexadecimal digits, and a line end


def seal(content: bytes) -> bytes:
    """The content with its checksum before it."""
    return _line(content) + content


def is_whole(sealed: bytes) -> bool:
    """Whether these are bytes that `seal` made."""
    return sealed[:_DIGEST] == _line(memoryview(sealed)[_DIGEST:])


def open_seal(sealed: bytes, where: str) -> memoryview:
    """The content that `seal` was given.

    Raises
    ------
    InputError
        When it is damaged; ``where`` names it.
    """
    if not is_whole(sealed):
        raise InputError(f"{where}: damaged: its content does not have the checksum that it was written with")
    return memoryview(sealed)[_DIGEST:]


def _line(content) -> bytes:
    return hashlib.sha256(content).hexdigest().encode() + b"\n"
