"""Matching contig names between files: exactly, or up to the prefix ``chr``, never by guessing."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from itertools import islice

from kipoi_borzoi.errors import InputError

_COMPARED = 5000  # names looked at for a near match; assemblies may have a million


def match_contig(name: str, known: Collection[str]) -> str | None:
    """Name of ``known`` that ``name`` means: itself, else with or without ``chr`` in front; None when there is none.

    An exact match goes first, so an alias is taken only when it is the single possibility.
    """
    if name in known:
        return name
    alias = name[3:] if name.startswith("chr") else f"chr{name}"
    return alias if alias in known else None


def unknown_contig(name: str, known: Collection[str], holder: str, where: str = "") -> InputError:
    """Make the error for a contig that `match_contig` does not find.

    Parameters
    ----------
    name : str
    known : names of the file that was searched
    holder : str
        That file, for the message.
    where : str
        The file and line with ``name``, for the front of the message.
    """
    by_lower = {other.lower(): other for other in islice(known, _COMPARED)}
    near = [by_lower[match] for match in difflib.get_close_matches(name.lower(), by_lower, n=3)]
    listed = ", ".join(islice(known, 5)) + (f", ... ({len(known)} in all)" if len(known) > 5 else "")
    hint = f"; near matches: {', '.join(near)}" if near else ""
    return InputError(
        f"{where}contig {name!r} is not in {holder}, which has {listed}{hint}. Names are matched with and without the "
        "prefix 'chr'; for anything else rename the contigs of one of the two files, or check that the assembly is the same"
    )
