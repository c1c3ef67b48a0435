"""Annotated polyadenylation sites, which the scorer COVR compares coverage between."""

from __future__ import annotations

import os
from collections.abc import Iterable

from kipoi_borzoi.dataloaders.bed import read_bed_records
from kipoi_borzoi.dataloaders.gtf import Gene
from kipoi_borzoi.errors import InputError


def read_sites(path: str | os.PathLike, genes: Iterable[Gene]) -> dict[str, tuple[int, ...]]:
    """Read polyadenylation sites from a BED file and give them to genes.

    Parameters
    ----------
    path : path
        BED with 6 columns. The fourth is the gene's ``gene_id``, with or without its version, the sixth the
        strand. The site is the last base in the direction of transcription: of ``+`` that before the end,
        of ``-`` that at the start.
    genes : iterable of Gene

    Returns
    -------
    dict of gene_id to tuple of int
        0-based positions, ascending, each once; genes without a site are absent.

    Raises
    ------
    InputError
        A line without strand or gene, or no line whose gene is among ``genes``.
    """
    by_id: dict[str, list[Gene]] = {}
    for gene in genes:
        for name in {gene.gene_id, gene.gene_id.split(".")[0]}:
            by_id.setdefault(name, []).append(gene)
    found: dict[str, set[int]] = {}
    records = read_bed_records(path)
    for record in records:
        interval = record.interval
        if interval.strand == "." or not interval.name:
            raise InputError(
                f"{path}, line {record.line}: a polyadenylation site needs a gene_id (column 4) and a strand (column 6)"
            )
        position = interval.end - 1 if interval.strand == "+" else interval.start
        for gene in by_id.get(interval.name, ()):
            if gene.strand == interval.strand:
                found.setdefault(gene.gene_id, set()).add(position)
    if not found:
        raise InputError(
            f"{path}: none of its {len(records)} sites names a gene of the GTF on the gene's strand (column 4 is the gene_id; "
            f"first: {records[0].interval.name!r})"
        )
    return {gene_id: tuple(sorted(positions)) for gene_id, positions in found.items()}
