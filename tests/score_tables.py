"""Made-up scores for tests of their writers: each allele's numbers depend on its own number only."""

import hashlib
from dataclasses import dataclass

import numpy as np

from kipoi_borzoi.variants.results import SCORED, AlleleRow, Chunk, Column, GeneRow, Measures


@dataclass(frozen=True)
class Scorer:
    name: str
    formula: str = "sum(alt) - sum(ref)"
    signed: bool = True
    per_gene: bool = False
    description: str = ""


COLUMNS = (
    Column("ENCFF1", "track", 'RNA:liver "adult"', "rep0", ("ENCFF1+", "ENCFF1-")),
    Column("CAGE+", "track", "CAGE:blood", "rep0", ("CAGE+",)),
    Column("treated-control", "contrast", "treated minus control", "rep0", ("T", "C")),
)
SCORERS = (Scorer("SUM"), Scorer("D2", "norm2(alt - ref)", False))
GENE_SCORERS = (Scorer("SUM", per_gene=True), Scorer("logSED", "log2 ratio", per_gene=True))
PROVENANCE = {"version": "0.1", "fasta": {"name": "hg38.fa", "sha256": "aa"}, "options": {"rc": True, "shifts": [0, 1]}}
KEY = hashlib.sha256(b"a run").hexdigest()
SKIPPED = {3: "REF_MISMATCH", 4: "ALT_STAR", 9: "REF_MISMATCH"}
ALTS = {4: "*", 7: "GTT", 8: "<DEL>"}


def allele(number, skipped=SKIPPED):
    """Records of one allele, but 10 and 11 share one; positions grow, and from number 12 on lie on chr2."""
    chrom = "chr1" if number < 12 else "chr2"
    record = number - (number >= 11)
    status = skipped.get(number % 20 if number >= 20 else number, SCORED)
    return AlleleRow(
        number=number,
        chrom=chrom,
        pos=100 + 7 * record,
        ref="A",
        alt=ALTS.get(number, "CGT"[number % 3]),
        id={0: "rs1", 2: "rs2;odd,id=1", 5: "rs1"}.get(number, "."),
        status=status,
        detail="REF is T; 50% of it, they say" if status == "REF_MISMATCH" else "",
        padded=float("nan") if status != SCORED else (0.25 if number % 5 == 0 else 0.0),
        record=record,
    )


def genes_of(number):
    return [] if allele(number).status != SCORED else ["ENSG2", "ENSG1.1", "ENSG3"][: number % 4]


def numbers(seed, rows, columns):
    return np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)


def make_chunk(start, stop, columns=COLUMNS, scorers=SCORERS, gene_scorers=GENE_SCORERS, ensemble=True, profiles=()):
    """Alleles ``start`` to ``stop``."""
    alleles = tuple(allele(number) for number in range(start, stop))
    genes = tuple(
        GeneRow(place, gene, gene.replace("ENSG", "GEN"), "+-"[row.number % 2], 1 / (1 + row.number))
        for place, row in enumerate(alleles)
        for gene in (genes_of(row.number) if gene_scorers else [])
    )
    return Chunk(
        alleles,
        {scorer.name: measures(alleles, range(len(alleles)), i, columns, ensemble) for i, scorer in enumerate(scorers)},
        genes,
        {
            scorer.name: measures(alleles, [gene.allele for gene in genes], 50 + i, columns, ensemble, genes)
            for i, scorer in enumerate(gene_scorers)
        },
        {name: np.stack([numbers((9, i, row.number), 4, len(columns)) for row in alleles]) for i, name in enumerate(profiles)},
    )


def measures(alleles, places, seed, columns, ensemble, genes=None):
    rows = len(places)
    fields = {}
    for k, name in enumerate(("mean", "sd", "quantile") if ensemble else ("mean",)):
        array = np.full((rows, len(columns)), np.nan, np.float32)
        for i, place in enumerate(places):
            row = alleles[place]
            if row.status == SCORED:
                gene = int(genes[i].gene_id[4]) if genes else 0
                array[i] = numbers((k, seed, row.number, gene), 1, len(columns))
        fields[name] = array
    return Measures(**fields)


def chunks_from(n, size=4, calls=None, **options):
    """``chunks_from(start, stop)`` of an input with ``n`` alleles, in chunks that end at multiples of ``size``."""

    def chunks(start, stop):
        if calls is not None:
            calls.append((start, stop))
        stop = n if stop is None else stop
        while start < stop:
            end = min(stop, (start // size + 1) * size)
            yield make_chunk(start, end, **options)
            start = end

    return chunks
