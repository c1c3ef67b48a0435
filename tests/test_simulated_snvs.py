"""Simulated variants lie near genes, have the genome's reference base, and come again with the same seed."""

import numpy as np
import pysam
import pytest
from genome_files import random_sequence, write_fasta

from kipoi_borzoi.dataloaders.fasta import FastaReader
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.genome import Interval
from kipoi_borzoi.variants.simulate import near_genes, simulated_snvs, write_snvs

CONTIGS = {"chr1": random_sequence(20_000, 1), "chr2": "N" * 3000 + random_sequence(2000, 2).lower()}
GENES = [Interval("chr1", 5000, 6000, "+"), Interval("chr1", 5500, 7000, "-"), Interval("2", 1000, 3500), Interval("chr9", 5, 9)]


@pytest.fixture(scope="module")
def fasta(tmp_path_factory):
    return FastaReader(write_fasta(tmp_path_factory.mktemp("genome") / "genome.fa", CONTIGS))


def test_stretches_near_genes_are_merged_and_end_with_their_contig(fasta, caplog):
    assert [str(region) for region in near_genes(fasta, GENES, 2000)] == ["chr1:3000-9000", "chr2:0-5000"]
    assert "1 of 4 genes lie on contigs" in caplog.text


def test_variants_lie_near_genes_and_have_the_reference_base(fasta):
    snvs = simulated_snvs(fasta, GENES, 3000, seed=0, flank=1000)
    assert len({(chrom, pos) for chrom, pos, *_ in snvs}) == 3000
    assert snvs == sorted(snvs)
    for chrom, pos, ref, alt in snvs:
        assert CONTIGS[chrom][pos - 1].upper() == ref != alt and ref in "ACGT" and alt in "ACGT"
        assert (chrom, 4000 < pos <= 8000) == ("chr1", True) or (chrom == "chr2" and 3000 < pos <= 4500)


def test_bases_are_equally_likely_and_two_of_three_changes_are_transitions(fasta):
    snvs = simulated_snvs(fasta, GENES[:2], 3000, seed=3, flank=5000)  # of 12,000 bases
    thirds = np.histogram([pos for _, pos, *_ in snvs], bins=[1, 4001, 8001, 12001])[0]
    assert abs(thirds - 1000).max() < 110  # about 4 standard deviations
    transitions = sum({ref, alt} in ({"A", "G"}, {"C", "T"}) for *_, ref, alt in snvs)
    assert abs(transitions - 2000) < 105
    others = {ref + alt for *_, ref, alt in snvs if {ref, alt} not in ({"A", "G"}, {"C", "T"})}
    assert others == {"AC", "AT", "CA", "CG", "GC", "GT", "TA", "TG"}


def test_the_seed_decides(fasta):
    first = simulated_snvs(fasta, GENES, 50, seed=1)
    assert first == simulated_snvs(fasta, GENES, 50, seed=1) != simulated_snvs(fasta, GENES, 50, seed=2)


@pytest.mark.parametrize("name", ["x.vcf", "x.vcf.gz"])
def test_written_variants_are_a_vcf(fasta, tmp_path, name):
    snvs = simulated_snvs(fasta, GENES, 20, seed=1)
    write_snvs(tmp_path / name, fasta, snvs)
    with pysam.VariantFile(tmp_path / name) as file:
        assert [(record.chrom, record.pos, record.ref, *record.alts) for record in file] == snvs
        assert file.header.contigs["chr1"].length == 20_000
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_more_variants_than_there_are_bases_are_refused(fasta):
    with pytest.raises(InputError, match="7000 variants are asked for, but only 2000 bases lie within 0 bp"):
        simulated_snvs(fasta, GENES[:2], 7000, seed=0, flank=0)
    with pytest.raises(InputError, match="only 500 known bases were found near 1 genes in .*genome.fa, 600 were asked for"):
        simulated_snvs(fasta, [Interval("chr2", 1000, 3500)], 600, seed=0, flank=0)
    with pytest.raises(InputError, match="no gene lies on a contig of"):
        simulated_snvs(fasta, GENES[3:], 1, seed=0)
