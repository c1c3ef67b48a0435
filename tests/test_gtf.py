"""Genes from GTF: the union of exons per gene, counted by hand; what could mean something else is refused."""

import pytest

from kipoi_borzoi.dataloaders.gtf import Gene, read_gtf
from kipoi_borzoi.errors import InputError


def line(feature="exon", start=11, end=20, strand="+", attributes='gene_id "G1"; transcript_id "T1";', chrom="chr1"):
    return f"{chrom}\ttest\t{feature}\t{start}\t{end}\t.\t{strand}\t.\t{attributes}\n"


def read(tmp_path, text):
    path = tmp_path / "a.gtf"
    path.write_text(text, newline="")
    return read_gtf(path)


def test_exons_of_transcripts_are_joined(tmp_path):
    text = "#!genome\n" + line("gene", 11, 60, attributes='gene_id "G1"; gene_name "NAME";')
    text += line(start=41, end=60) + line(start=11, end=20) + line(start=15, end=24) + line(start=25, end=26) + line("CDS", 1, 2)
    (gene,) = read(tmp_path, text)
    assert gene == Gene("G1", "NAME", "chr1", "+", ((10, 26), (40, 60)))
    assert (gene.start, gene.end, gene.exonic) == (10, 60, 36)
    # mean of 10..25 is 17.5, of 40..59 is 49.5: (16 * 17.5 + 20 * 49.5) / 36 = 35.28
    assert gene.midpoint == 35


def test_attributes_are_read_as_quoted(tmp_path):
    (gene,) = read(tmp_path, line(attributes='note "a; gene_id \\"EVIL\\"; b"; gene_id "G;1"; gene_name "N 1"; level 2;'))
    assert (gene.gene_id, gene.name) == ("G;1", "N 1")
    (gene,) = read(tmp_path, line(attributes='gene_id G2; exon_number 1').replace("\n", "\r\n"))
    assert gene.gene_id == "G2"


def test_genes_are_told_apart_by_identifier_contig_and_strand(tmp_path):
    text = line() + line(chrom="chrY") + line(attributes='gene_id "G2"; gene_name "N";') + line(attributes='gene_id "G3"; gene_name "N";')
    assert [(gene.gene_id, gene.chrom) for gene in read(tmp_path, text)] == [("G1", "chr1"), ("G1", "chrY"), ("G2", "chr1"), ("G3", "chr1")]
    assert [gene.gene_id for gene in read(tmp_path, line() + line(strand="-"))] == ["G1(+)", "G1(-)"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (line() + line(start=0), "line 2: start is 0; GTF is 1-based"),
        (line() + line(start=21), "line 2: end 20 is before start 21"),
        (line(start="1e3"), "line 1: start is '1e3', expected an integer"),
        (line(strand="plus"), "line 1: strand is 'plus'"),
        ("##gff-version 3\n" + line(), "line 1: this is GFF3"),
        (line(attributes="ID=exon1;Parent=T1"), "line 1: no gene_id .*looks like GFF3"),
        (line(attributes='transcript_id "T1";'), "line 1: no gene_id"),
        (line("gene"), "no exons in it"),
        ("chr1 a exon 1 2 . + . gene_id\n", "line 1: 1 columns separated by tabs, expected the 9"),
    ],
)
def test_malformed_annotation_is_refused_with_its_line(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path, text)
