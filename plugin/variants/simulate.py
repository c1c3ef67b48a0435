"""Random single-base variants near genes: a background where no set of common variants is at hand."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kipoi_borzoi.dataloaders.contigs import match_contig
from kipoi_borzoi.dataloaders.fasta import FastaReader
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.files import atomic_write
from kipoi_borzoi.genome import Interval

_TRANSITION = {"A": "G", "C": "T", "G": "A", "T": "C"}
_TRANSVERSIONS = {"A": "CT", "C": "AG", "G": "CT", "T": "AG"}
_TRANSITION_SHARE = 2 / 3  # common SNVs of the human genome have about two transitions for each transversion
_MOST_ROUNDS = 100

logger = logging.getLogger("kipoi_borzoi")


def simulated_snvs(
    fasta: FastaReader, genes: Sequence[Interval], n: int, seed: int, flank: int = 10_000
) -> list[tuple[str, int, str, str]]:
    """Draw single-base variants, each base within ``flank`` of a gene equally likely, none twice.

    Two of three are transitions (A<->G, C<->T), the others either transversion.

    Parameters
    ----------
    fasta : FastaReader
    genes : sequence of Interval
        Where genes lie; the strand does not matter.
    n : int
        How many.
    seed : int
        The same seed, genes and genome give the same variants.
    flank : int
        bp on either side of a gene that count as near.

    Returns
    -------
    list of (chrom, pos, ref, alt)
        ``pos`` 1-based, ``chrom`` the FASTA's name; by contig in its order, then by position.

    Raises
    ------
    InputError
        When there are no genes, or fewer than ``n`` known bases near them.
    """
    regions = near_genes(fasta, genes, flank)
    lengths = np.array([region.length for region in regions])
    if n > lengths.sum():
        raise InputError(f"{n} variants are asked for, but only {lengths.sum()} bases lie within {flank} bp of a gene")
    ends = np.cumsum(lengths)

    def locate(places: np.ndarray) -> list[tuple[str, int]]:
        """Contig and 0-based position of places counted along all regions."""
        numbers = np.searchsorted(ends, places, side="right")
        starts = places - (ends - lengths)[numbers]
        return [(regions[i].chrom, regions[i].start + start) for i, start in zip(numbers.tolist(), starts.tolist(), strict=True)]

    rng = np.random.default_rng(seed)
    found: dict[int, tuple[str, str]] = {}
    for _ in range(_MOST_ROUNDS):
        drawn = np.unique(rng.integers(0, ends[-1], max(64, 2 * (n - len(found)))))
        for place, (chrom, start) in zip(drawn.tolist(), locate(drawn), strict=True):
            base = fasta.fetch(Interval(chrom, start, start + 1))
            if base in _TRANSITION and place not in found:
                found[place] = base, _alternative(base, rng)
        if len(found) >= n:
            break
    else:
        raise InputError(f"only {len(found)} known bases were found near {len(genes)} genes in {fasta.path}, {n} were asked for")
    chosen = np.sort(rng.permutation(np.array(sorted(found), np.int64))[:n])
    return [
        (chrom, start + 1, *found[place]) for place, (chrom, start) in zip(chosen.tolist(), locate(chosen), strict=True)
    ]


def write_snvs(path: str | os.PathLike, fasta: FastaReader, snvs: Sequence[tuple[str, int, str, str]]) -> None:
    """Write variants as a VCF of sites; compressed with bgzip when the name ends in ``.gz``."""
    import pysam

    contigs = dict.fromkeys(chrom for chrom, *_ in snvs)
    lines = ["##fileformat=VCFv4.3", "##source=kipoi-borzoi simulated SNVs"]
    lines += [f"##contig=<ID={contig},length={fasta.contigs[contig]}>" for contig in contigs]
    lines.append("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO")
    lines += [f"{chrom}\t{pos}\t.\t{ref}\t{alt}\t.\t.\t." for chrom, pos, ref, alt in snvs]
    text = ("\n".join(lines) + "\n").encode()
    with atomic_write(Path(path)) as temporary:
        if Path(path).name.endswith(".gz"):
            with pysam.BGZFile(str(temporary), "wb") as file:
                file.write(text)
        else:
            temporary.write_bytes(text)


def near_genes(fasta: FastaReader, genes: Sequence[Interval], flank: int) -> list[Interval]:
    """Stretches within ``flank`` bp of a gene, merged, within their contigs, in the order of the FASTA.

    Genes on contigs that the FASTA does not have are left out, which is said in the log.

    Raises
    ------
    InputError
        When there are none.
    """
    stretches: dict[str, list[tuple[int, int]]] = {}
    absent = 0
    for gene in genes:
        if match_contig(gene.chrom, fasta.contigs) is None:
            absent += 1
            continue
        chrom = fasta.resolve(gene.chrom)
        start, end = max(0, gene.start - flank), min(fasta.contigs[chrom], gene.end + flank)
        if start < end:
            stretches.setdefault(chrom, []).append((start, end))
    if absent:
        logger.warning("%d of %d genes lie on contigs that %s does not have", absent, len(genes), fasta.path)
    merged = []
    for chrom in fasta.contigs:
        for start, end in sorted(stretches.get(chrom, [])):
            if merged and merged[-1].chrom == chrom and start <= merged[-1].end:
                merged[-1] = Interval(chrom, merged[-1].start, max(end, merged[-1].end))
            else:
                merged.append(Interval(chrom, start, end))
    if not merged:
        raise InputError(f"no gene lies on a contig of {fasta.path}: variants near genes cannot be drawn")
    return merged


def _alternative(base: str, rng: np.random.Generator) -> str:
    if rng.random() < _TRANSITION_SHARE:
        return _TRANSITION[base]
    return _TRANSVERSIONS[base][int(rng.integers(2))]
