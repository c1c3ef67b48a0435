"""Finds the records that a tool of one ALT per line and an unchecked REF would score wrongly, before it starts."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from kipoi_borzoi.dataloaders.contigs import match_contig
from kipoi_borzoi.dataloaders.fasta import FastaReader
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.genome import Interval
from kipoi_borzoi.sequence import BASES

_MENDING = {
    "several ALTs, of which only the first would be scored": "split them: bcftools norm -m-any",
    "REF differs from the FASTA file": "is it of another assembly, or were alleles swapped? bcftools norm --check-ref w",
    "an allele that is not of A, C, G and T": "take out symbolic alleles, breakends, '*' and ambiguous bases",
    "no such contig in the FASTA file": "is it of another assembly?",
    "position beyond the contig": "is it of another assembly?",
}
_SEVERAL, _MISMATCH, _LETTERS, _CONTIG, _BEYOND = _MENDING


def check_output(path: str | os.PathLike, inputs: tuple[str | os.PathLike, ...] = ()) -> None:
    """Check that a file can be written there, before hours are spent on it.

    Raises
    ------
    InputError
        The path is one of ``inputs`` or a folder, or its folder is missing or cannot be written.
    """
    folder = Path(path).absolute().parent
    if not folder.is_dir():
        raise InputError(f"{path}: there is no folder {folder}")
    if Path(path).is_dir():
        raise InputError(f"{path}: is a folder; give the name of a file")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{path}: the folder {folder} cannot be written")
    if Path(path).exists() and any(Path(one).exists() and Path(path).samefile(one) for one in inputs):
        raise InputError(f"{path}: the output is one of the inputs")


def check_variants(vcf: str | os.PathLike, fasta: str | os.PathLike) -> int:
    """Check that every record can be scored as it is.

    Parameters
    ----------
    vcf : path
        VCF, plain or compressed, or BCF.
    fasta : path

    Returns
    -------
    int
        How many records there are.

    Raises
    ------
    InputError
        Naming each kind of fault, how often it occurs, where first, and how to mend it; also a file without records.
    """
    import pysam

    counts, first, number = Counter(), {}, 0
    with FastaReader(fasta) as genome:
        try:
            with pysam.VariantFile(os.fspath(vcf)) as records:
                for record in records:
                    number += 1
                    fault, detail = _fault(record, genome)
                    if fault is not None:
                        counts[fault] += 1
                        first.setdefault(fault, f"{record.chrom}:{record.pos}{detail}")
        except (OSError, ValueError) as error:
            raise InputError(f"{vcf}: cannot be read as VCF after {number} records ({error})") from error
    if counts:
        faults = "; ".join(
            f"{count} with {fault} (first: {first[fault]}): {_MENDING[fault]}" for fault, count in counts.items()
        )
        raise InputError(f"{vcf}: {counts.total()} of {number} records cannot be scored: {faults}")
    if not number:
        raise InputError(f"{vcf}: there is no record to score")
    return number


def _fault(record, genome: FastaReader) -> tuple[str | None, str]:
    alts = record.alts or ()
    if len(alts) > 1:
        return _SEVERAL, f" {','.join(alts)}"
    alleles = (record.ref or "", *alts)
    if len(alleles) < 2 or any(not allele or set(allele.upper()) - set(BASES) for allele in alleles):
        return _LETTERS, f" {record.ref}>{','.join(alts) or '.'}"
    contig = match_contig(record.chrom, genome.contigs)
    if contig is None:
        return _CONTIG, ""
    start = record.pos - 1
    if start < 0 or start + len(record.ref) > genome.contigs[contig]:
        return _BEYOND, f", which is {genome.contigs[contig]} bp long"
    found = genome.fetch(Interval(record.chrom, start, start + len(record.ref)))
    if found != record.ref.upper():
        return _MISMATCH, f" says {record.ref}, the FASTA file {found}"
    return None, ""
