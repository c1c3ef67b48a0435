"""Draws one row of an attribution file, with the genes and motif hits that lie in it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import numpy as np

from kipoi_borzoi.dataloaders.contigs import match_contig
from kipoi_borzoi.dataloaders.gtf import read_gtf
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.interpret.attribution_file import AttributionFile
from kipoi_borzoi.interpret.pictures import Mark, Stretch, check_picture, draw_stretch
from kipoi_borzoi.interpret.pwm import HIT_P_VALUE, Motif, find_hits, read_meme

_REGION = re.compile(r"(\S+):([\d,]+)-([\d,]+)")


def draw_target(
    attributions: str | os.PathLike | Sequence[str | os.PathLike],
    out: str | os.PathLike,
    *,
    target: str | None = None,
    region: str | None = None,
    genes: str | os.PathLike | None = None,
    motifs: str | os.PathLike | None = None,
    p_value: float = HIT_P_VALUE,
    zooms: int = 3,
) -> Stretch:
    """Draw an explained gene or region; see `kipoi_borzoi.interpret.pictures.draw_stretch`.

    Parameters
    ----------
    attributions : path or sequence of path
    out : path
        ``.png``, ``.svg`` or ``.pdf``.
    target : str, optional
        ``gene_id``, ``gene_name`` or name of a region; needed when the file holds several.
    region : str, optional
        ``chrom:start-end``, 1-based, ends included: the part to draw.
    genes : path, optional
        GTF, for gene models.
    motifs : path, optional
        MEME file, whose hits are marked.
    p_value : float
        What counts as a hit.
    zooms : int

    Returns
    -------
    Stretch
        What was drawn.

    Raises
    ------
    InputError
        No such target, several of that name, a part outside of what was explained; files that cannot be read.
    """
    check_picture(out)
    known = [] if motifs is None else read_meme(motifs)
    with AttributionFile(attributions) as file:
        stretch = stretch_of(file, row_of(file, target))
    if region is not None:
        chrom, start, end = _parsed(region)
        if chrom != stretch.chrom:
            raise InputError(f"region {region}: what was explained lies on {stretch.chrom}")
        stretch = stretch.cut(start, end)
    models = (
        [gene for gene in read_gtf(genes) if match_contig(gene.chrom, [stretch.chrom])] if genes is not None else []
    )
    draw_stretch(out, stretch, models, marks_of(known, stretch, p_value), zooms)
    return stretch


def stretch_of(file: AttributionFile, row: int) -> Stretch:
    """A row of an attribution file, to be drawn."""
    label = " ".join(dict.fromkeys([file.names[row], file.labels[row]])).strip()
    of_contrast = file.provenance["quantity"]["contrast"] is not None
    quantity = "log2 change" if of_contrast else "log2 coverage"
    return Stretch(
        label, file.chroms[row], int(file.starts[row]), file.sequence(row), file.contributions(row), quantity
    )


def marks_of(motifs: Sequence[Motif], stretch: Stretch, p_value: float = HIT_P_VALUE) -> list[Mark]:
    """All hits of motifs in a stretch."""
    return [
        Mark(motif.name, stretch.start + hit.start, stretch.start + hit.end, hit.strand)
        for motif in motifs
        for hit in find_hits(motif, stretch.codes, p_value)
    ]


def row_of(file: AttributionFile, target: str | None) -> int:
    """The row of a target by its name.

    Raises
    ------
    InputError
        No row, or several.
    """
    names = list(zip(file.names, file.labels, strict=True))
    rows = np.flatnonzero([target is None or target in pair for pair in names])
    said = ", ".join(file.names[:5]) + (", ..." if len(file) > 5 else "")
    if not len(rows):
        skipped = [one for one in file.skipped if one.name == target]
        reason = f"; it was skipped ({skipped[0].code})" if skipped else f"; there is {said or 'nothing'}"
        raise InputError(f"{file.paths[0]}: no target {target!r} in it{reason}")
    if len(rows) > 1:
        raise InputError(
            f"{file.paths[0]}: {len(rows)} targets{f' are called {target!r}' if target else ''}, name one (--target): {said}"
        )
    return int(rows[0])


def _parsed(region: str) -> tuple[str, int, int]:
    found = _REGION.fullmatch(region)
    if not found:
        raise InputError(f"region {region!r}: expected chrom:start-end, 1-based, such as chr1:1000-1100")
    start, end = (int(found[number].replace(",", "")) for number in (2, 3))
    if start < 1 or end < start:
        raise InputError(f"region {region!r}: start must be 1 or more, and end not below it")
    return found[1], start - 1, end
