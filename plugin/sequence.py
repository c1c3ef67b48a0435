"""DNA as the network reads it: one-hot in the order A, C, G, T, with nothing but zeros for every other letter."""

from __future__ import annotations

import numpy as np

BASES = "ACGT"

_TABLE = np.zeros((256, 4), dtype=bool)
for _index, _base in enumerate(BASES):
    _TABLE[[ord(_base), ord(_base.lower())], _index] = True
_PAIRS = np.arange(1 << 16, dtype=np.uint16).view(np.uint8).reshape(-1, 2)  # the two letters of each 16-bit word
_PIECE = 1 << 14
_PAIR_TABLES: dict[np.dtype, np.ndarray] = {}


def one_hot(sequence: str | bytes, dtype=np.float32) -> np.ndarray:
    """Encode a DNA sequence.

    Parameters
    ----------
    sequence : str or bytes
        Letters; lower case (soft-masked) counts as upper case.
    dtype : numpy dtype

    Returns
    -------
    (length, 4) array of ``dtype``
        Columns A, C, G, T. N, IUPAC codes and any other letter are all zeros.
    """
    dtype = np.dtype(dtype)
    if dtype not in _PAIR_TABLES:
        _PAIR_TABLES[dtype] = _TABLE[_PAIRS].reshape(-1, 8).astype(dtype)
    raw = np.frombuffer(sequence.encode("ascii", "replace") if isinstance(sequence, str) else sequence, dtype=np.uint8)
    x = np.empty((len(raw), 4), dtype=dtype)
    even = len(raw) // 2 * 2
    pairs, rows = raw[:even].view(np.uint16), x[:even].reshape(-1, 8)
    # Two letters at a time, in pieces that stay in the cache, and in the mode of np.take that cannot raise:
    # ten times faster than indexing with an array, and near the speed of writing x.
    for start in range(0, len(pairs), _PIECE):
        piece = slice(start, start + _PIECE)
        np.take(_PAIR_TABLES[dtype], pairs[piece], axis=0, out=rows[piece], mode="clip")
    x[even:] = _TABLE[raw[even:]]
    return x


def reverse_complement(x: np.ndarray) -> np.ndarray:
    """Reverse complement of one-hot sequences ``x`` (..., length, 4): both axes reversed. Returns a view."""
    return x[..., ::-1, ::-1]


def shift(x: np.ndarray, by: int) -> np.ndarray:
    """Move one-hot sequences along their length and fill the gap with zeros.

    Parameters
    ----------
    x : (..., length, 4) array
    by : int
        bp; positive moves the sequence to the right (zeros enter on the left), negative to the left.

    Returns
    -------
    (..., length, 4) array of the dtype of ``x``; ``x`` itself when ``by`` is 0.
    """
    if by == 0:
        return x
    shifted = np.zeros_like(x)
    if by > 0:
        shifted[..., by:, :] = x[..., :-by, :]
    else:
        shifted[..., :by, :] = x[..., -by:, :]
    return shifted
