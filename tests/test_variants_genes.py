"""Which bins belong to genes, exons and polyadenylation sites; genes that do not fit the genome are told."""

import logging

import pytest
from genome_files import random_sequence, write_fasta

from kipoi_borzoi.dataloaders.fasta import FastaReader
from kipoi_borzoi.dataloaders.gtf import Gene
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.variants.alleles import Genome
from kipoi_borzoi.variants.genes import GeneSet, OutputWindow
from kipoi_borzoi.variants.polyadenylation import read_sites

WINDOW = OutputWindow("chr1", 1000, 10, 32)  # to 1320


@pytest.fixture
def genome(tmp_path):
    return Genome(FastaReader(write_fasta(tmp_path / "g.fa", {"chr1": random_sequence(3000, 1), "chr2": "ACGT" * 25})))


@pytest.mark.parametrize(
    ("start", "end", "overlap", "majority"),
    [
        (1000, 1032, [0], [0]),
        (1000, 1033, [0, 1], [0]),
        (1031, 1033, [0, 1], [1]),  # 31/32 and 33/32 both round to 1: one bin at least
        (1020, 1081, [0, 1, 2], [1, 2]),  # 20/32 to 1, 81/32 to 3
        (1016, 1048, [0, 1], [0, 1]),  # 0.5 to 0, 1.5 to 2: halves to the even number
        (900, 1001, [0], [0]),
        (1319, 1400, [9], [9]),
        (800, 2000, list(range(10)), list(range(10))),
        (900, 1000, [], []),
        (1320, 1400, [], []),
    ],
)
def test_bins_of_a_stretch(start, end, overlap, majority):
    assert list(WINDOW.bins_of(start, end)) == overlap
    assert list(WINDOW.bins_of(start, end, "majority")) == majority


def test_bins_of_windows_that_begin_before_the_contig():
    assert list(OutputWindow("chr1", -64, 4, 32).bins_of(0, 10)) == [2]


def test_a_gene_has_each_bin_once(genome):
    gene = Gene("G", "", "chr1", "-", ((1010, 1020), (1025, 1030), (1100, 1101), (1300, 1400)))
    genes = GeneSet([gene], genome, "x.gtf", {"G": [1005, 1100, 1310, 1330]})
    bins = genes.bins(gene, WINDOW)
    assert bins.exons.tolist() == [0, 3, 9]
    assert bins.span.tolist() == list(range(10))
    assert bins.sites.tolist() == [9, 3, 0], "in the direction of transcription"
    assert bins.covered == pytest.approx((10 + 5 + 1 + 20) / 116)
    assert genes.bins(gene, OutputWindow("chr1", 1032, 2, 32)) is None, "between two exons"


def test_genes_are_found_by_place(genome):
    genes = [Gene(f"G{n}", "", "1", "+", ((n * 300, n * 300 + 50), (n * 300 + 200, n * 300 + 250))) for n in range(8)]
    found = GeneSet(genes[::-1], genome, "x.gtf")
    assert [gene.gene_id for gene in found.overlapping("chr1", 550, 901)] == ["G2", "G3"]
    assert found.overlapping("chr2", 0, 100) == []
    # midpoints are at n * 300 + 124; a window of 200 bp around 424 is [324, 524)
    assert [gene.gene_id for gene in found.centred_on("chr1", 324, 200)] == ["G1"]
    assert found.centred_on("chr1", 323, 200) == [] and found.centred_on("chr1", 524, 200) == []
    assert [gene.gene_id for gene in found.centred_on("chr1", 523, 200)] == ["G1"]


def test_genes_that_the_genome_does_not_hold_are_told(genome, caplog):
    inside, beyond = Gene("IN", "", "chr1", ".", ((0, 10),)), Gene("OUT", "", "chr2", "+", ((50, 101),))
    with caplog.at_level(logging.INFO, "kipoi_borzoi"):
        found = GeneSet([inside, beyond, Gene("ELSE", "", "chr9", "+", ((0, 1),))], genome, "x.gtf")
    assert found.overlapping("chr2", 0, 100) == []
    text = "\n".join(record.getMessage() for record in caplog.records)
    assert "1 of 3 genes reach beyond the end of their contig" in text and "first: OUT" in text
    assert "1 of 3 genes are on contigs that the FASTA lacks" in text
    assert "1 genes have no strand (first: IN)" in text
    with pytest.raises(InputError, match="x.gtf: none of the genes lies on a contig .*first: G on 'NC_1'"):
        GeneSet([Gene("G", "", "NC_1", "+", ((0, 1),))], genome, "x.gtf")
    with pytest.raises(InputError, match="exon_bins is 'half'; known: overlap, majority"):
        GeneSet([inside], genome, "x.gtf", exon_bins="half")


def test_sites_belong_to_the_gene_they_name(tmp_path):
    genes = [Gene("ENSG1.5", "A", "chr1", "+", ((0, 9),)), Gene("ENSG2", "B", "chr1", "-", ((0, 9),))]
    path = tmp_path / "sites.bed"
    path.write_text("chr1\t5\t9\tENSG1\t0\t+\nchr1\t1\t3\tENSG1.5\t0\t+\nchr1\t4\t8\tENSG2\t0\t-\nchr1\t4\t8\tENSG2\t0\t+\n")
    assert read_sites(path, genes) == {"ENSG1.5": (2, 8), "ENSG2": (4,)}
    path.write_text("chr1\t5\t9\tENSG1\t0\t.\n")
    with pytest.raises(InputError, match="line 1: a polyadenylation site needs"):
        read_sites(path, genes)
    path.write_text("chr1\t5\t9\tENSG9\t0\t+\n")
    with pytest.raises(InputError, match="none of its 1 sites names a gene"):
        read_sites(path, genes)
