"""Writes a table of targets, for tracks that come from a store and not from a file."""

from __future__ import annotations

import os

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.files import atomic_write
from kipoi_borzoi.tracks import Tracks


def write_table(path: str | os.PathLike, tracks: Tracks) -> None:
    """Write ``tracks`` as the table of a head that has them all, in their order, so that `read_tracks` gives them back.

    Raises
    ------
    InputError
        A text with a tab or line end, which the format cannot hold.
    """
    pairs = tracks.pair_rows()
    lines = ["\tidentifier\tfile\tclip\tclip_soft\tscale\tsum_stat\tstrand_pair\tdescription"]
    for row in range(len(tracks)):
        limits = (repr(float(getattr(tracks, name)[row])) for name in ("clip", "clip_soft", "scale"))
        cells = [str(row), tracks.identifiers[row], tracks.files[row], *limits, tracks.sum_stat[row], str(pairs[row]),
                 tracks.descriptions[row]]  # fmt: skip
        if any(mark in cell for cell in cells for mark in "\t\r\n"):
            raise InputError(f"track {tracks.identifiers[row]!r}: its texts hold a tab or line end")
        lines.append("\t".join(cells))
    with atomic_write(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
