"""Reading VCF and BCF: every ALT comes out, in order; what is cut, shifted or no VCF is an error with its line."""

import gzip
import logging

import pytest
from genome_files import bgzip
from variant_cases import HEADER, write_vcf

from kipoi_borzoi.dataloaders.vcf import VcfReader
from kipoi_borzoi.errors import InputError

RECORDS = [("chr1", 10, "rs1;rs2", "A", "C,<DEL>,*"), ("chr2", 5, ".", "ac", "a"), ("chr1", 3, "=1+1", "N", ".")]
LINES = "chr1\t10\tx\tA\tC\t.\t.\t.\nchr1\t11\ty\tA\tC\t.\t.\t.\n"


def read(path):
    return [(r.chrom, r.pos, r.id, r.ref, r.alts) for r in VcfReader(path)]


def expected():
    return [(*record[:4], tuple(record[4].split(","))) for record in RECORDS]


def test_records_come_out_as_written_and_in_order(tmp_path):
    path = write_vcf(tmp_path / "a.vcf", RECORDS)
    assert read(path) == expected()
    assert [record.where for record in VcfReader(path)] == [f"{path}, line {n}" for n in (3, 4, 5)]


@pytest.mark.parametrize("change", [
    lambda text: text.replace("\n", "\r\n"),
    lambda text: "\ufeff" + text,
    lambda text: text.replace("\nchr2", "\n\n\nchr2") + "\n\n",
    lambda text: text.removesuffix("\n"),
    lambda text: text.replace("INFO\n", "INFO\tFORMAT\ts\ts\n").replace(".\t.\t.\n", ".\t.\t.\tGT\t0/1\t.\n"),
], ids=["CRLF", "byte-order mark", "blank lines", "no last line end", "samples of one name"])  # fmt: skip
def test_harmless_oddities_change_nothing(tmp_path, change):
    path = write_vcf(tmp_path / "a.vcf", RECORDS)
    path.write_text(change(path.read_text()), newline="")
    assert read(path) == expected()


def test_compression_is_found_by_content(tmp_path):
    path = write_vcf(tmp_path / "a.vcf", RECORDS)
    text = path.read_text()
    packed = bgzip(path)
    assert read(packed) == expected()
    packed.rename(tmp_path / "named.vcf")
    assert read(tmp_path / "named.vcf") == expected()
    with gzip.open(tmp_path / "plain.vcf.gz", "wt") as handle:
        handle.write(text)
    assert read(tmp_path / "plain.vcf.gz") == expected()


def test_bcf_gives_the_same_as_its_vcf(tmp_path, capfd):
    import pysam

    # pysam cannot write a symbolic allele without INFO/END
    records = [("chr1", 10, "rs1;rs2", "A", "C,*"), ("chr2", 5, ".", "AC", "A"), ("chr1", 3, "=1+1", "N", ".")]
    header = HEADER.replace("#CHROM", "##contig=<ID=chr1,length=100>\n##contig=<ID=chr2,length=50>\n#CHROM")
    path = write_vcf(tmp_path / "a.vcf", records, header)
    with pysam.VariantFile(str(path)) as source, pysam.VariantFile(str(tmp_path / "a.bcf"), "wb", header=source.header) as out:
        for record in source:
            out.write(record)
    reader = VcfReader(tmp_path / "a.bcf")
    capfd.readouterr()
    assert [(r.chrom, r.pos, r.id, r.ref, r.alts) for r in reader] == read(path)
    assert reader.contigs["chr2"].length == 50
    assert "index" not in capfd.readouterr().err
    whole = (tmp_path / "a.bcf").read_bytes()
    (tmp_path / "cut.bcf").write_bytes(whole[:-28])
    with pytest.raises(InputError, match="EOF"):
        list(VcfReader(tmp_path / "cut.bcf"))


def test_what_the_header_says_of_contigs(tmp_path):
    header = HEADER.replace("#CHROM", '##reference=file:///b37.fa\n##contig=<ID=1,assembly="GRCh37, p13",length=249>\n##contig=<ID=2>\n#CHROM')
    reader = VcfReader(write_vcf(tmp_path / "a.vcf", [], header))
    assert list(reader) == [] and reader.reference == "file:///b37.fa"
    assert (reader.contigs["1"].length, reader.contigs["1"].assembly) == (249, "GRCh37, p13")
    assert reader.contigs["2"].length is None


def test_a_missing_header_line_is_reported_once(tmp_path, caplog):
    path = tmp_path / "a.vcf"
    path.write_text("##fileformat=VCFv4.2\nchr1\t10\tx\tA\tC\t.\t.\nchr1\t11\ty\tA\tC\t.\t.\n")
    reader = VcfReader(path)
    with caplog.at_level(logging.WARNING, "kipoi_borzoi"):
        assert len(list(reader)) == len(list(reader)) == 2
    assert [record.getMessage() for record in caplog.records] == [
        f"{path} has no #CHROM header line; its first five columns are taken as CHROM, POS, ID, REF, ALT"
    ]


def test_a_header_alone_is_an_input_without_records(tmp_path):
    assert read(write_vcf(tmp_path / "a.vcf", [])) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER + LINES + "chr1\t-5\tz\tA\tC\t.\t.\t.\n", "line 5: POS is '-5'"),
        (HEADER + "chr1\t400,000\tz\tA\tC\t.\t.\t.\n", "line 3: POS is '400,000', expected a 1-based position of digits alone"),
        (HEADER + LINES + "chr1\t12\tr\ts\tA\tC\t.\t.\t.\n", "line 5: 9 columns, but the header .line 2. has 8; is there a tab inside"),
        (HEADER + LINES + "chr1\t12\tz\tA\n", "line 5: 4 columns, but the header .line 2. has 8; is the line cut"),
        (HEADER + "chr1\t12\tz\t\tC\t.\t.\t.\n", "line 3: REF is empty"),
        (HEADER.replace("\t", " ") + LINES, "line 2: not a VCF header: .* not by tabs"),
        (HEADER + LINES + "chr1\t12\tz\0\tA\tC\t.\t.\t.\n", "line 5: holds a NUL byte"),
        ("<!DOCTYPE html>\n<html></html>\n", "line 1: not a VCF file: .*#CHROM header"),
        ("chr1\t5\t6\n", "line 1: not a VCF file"),
        ("##fileformat=VCFv4.2\n", "neither a #CHROM header line nor a record"),
    ],
)
def test_what_is_no_sound_vcf_is_refused_with_its_line(tmp_path, text, message):
    path = tmp_path / "a.vcf"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        list(VcfReader(path))


def test_truncation_is_an_error_even_between_blocks(tmp_path):
    packed = bgzip(write_vcf(tmp_path / "a.vcf", RECORDS))
    (tmp_path / "cut.vcf.gz").write_bytes(packed.read_bytes()[:-28])
    with pytest.raises(InputError, match="EOF"):
        list(VcfReader(tmp_path / "cut.vcf.gz"))
    with gzip.open(tmp_path / "plain.gz", "wt") as handle:
        handle.write(HEADER + LINES * 1000)
    (tmp_path / "half.gz").write_bytes((tmp_path / "plain.gz").read_bytes()[:-40])
    with pytest.raises(InputError, match="truncated or damaged gzip"):
        list(VcfReader(tmp_path / "half.gz"))
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(InputError, match="the file is empty"):
        list(VcfReader(tmp_path / "empty"))


def test_a_file_that_changes_is_refused(tmp_path):
    path = write_vcf(tmp_path / "a.vcf", RECORDS)
    reader = VcfReader(path)
    assert len(list(reader)) == 3
    write_vcf(path, RECORDS[:2])
    with pytest.raises(InputError, match="a.vcf: the file changed while it was in use"):
        list(reader)


def test_long_lines_are_read_up_to_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("kipoi_borzoi.dataloaders.vcf.MAX_LINE", 3_000_000)
    path = tmp_path / "a.vcf"
    path.write_text(HEADER + f"chr1\t1\t.\t{'A' * 2_000_000}\tA\t.\t.\t.\n")
    assert len(next(iter(VcfReader(path))).ref) == 2_000_000
    path.write_text(HEADER + f"chr1\t1\t.\t{'A' * 3_000_000}\tA\t.\t.\t.\n")
    with pytest.raises(InputError, match="line 3: longer than the limit"):
        list(VcfReader(path))
