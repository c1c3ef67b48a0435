"""Alleles of an input: each has one outcome and keeps its row; equivalent spellings become one change; a wrong genome stops."""

import logging
import random
import tracemalloc

import pytest
from genome_files import random_sequence, write_fasta
from plain_scores import difference, haplotype
from variant_cases import write_vcf

from kipoi_borzoi.dataloaders.bed import read_bed_records
from kipoi_borzoi.dataloaders.fasta import FastaReader
from kipoi_borzoi.dataloaders.vcf import VcfReader
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.variants.alleles import REASONS, AlleleSource, Change, Genome, Rules, normalised

#          1234567890123456789012345678901
SEQUENCE = "GATTACAAAAAATGCNNCCGGTTacgtACGT"


@pytest.fixture
def genome(tmp_path):
    return Genome(FastaReader(write_fasta(tmp_path / "genome.fa", {"chr1": SEQUENCE, "chr2": random_sequence(400, 5)})))


def alleles(tmp_path, genome, records, rules=None):
    source = AlleleSource(VcfReader(write_vcf(tmp_path / "a.vcf", records)), genome, rules or Rules())
    return source, list(source)


@pytest.mark.parametrize(
    ("pos", "ref", "alt", "status", "detail"),
    [
        (1, "G", "A", "SCORED", ""),
        (1, "g", "a", "SCORED", ""),
        (24, "A", "C", "SCORED", ""),  # soft-masked in the FASTA
        (1, "G", "g", "REF_EQ_ALT", ""),
        (1, "A", "C", "REF_MISMATCH", "the FASTA has G (REF fits at POS +1: positions seem to be off by one, 0-based)"),
        (1, "A", "G", "REF_MISMATCH", "the FASTA has G (ALT fits: REF and ALT seem to be swapped)"),
        (1, "C", "T", "REF_MISMATCH", "the FASTA has G (the complement fits: alleles seem to be of the other strand)"),
        (3, "AT", "A", "REF_MISMATCH", "the FASTA has TT (REF fits at POS -1: positions seem to be off by one, one too high)"),
        (2, "C", "T", "REF_MISMATCH", "the FASTA has A"),
        (16, "N", "A", "REF_NOT_ACGT", "the FASTA has N"),
        (16, "A", "C", "REF_NOT_ACGT", "the FASTA has N"),
        (1, "R", "C", "REF_NOT_ACGT", "the FASTA has G"),
        (1, "G", "R", "ALT_NOT_ACGT", ""),
        (1, "G", "GN", "ALT_NOT_ACGT", ""),
        (1, "G", "<DEL>", "ALT_SYMBOLIC", ""),
        (1, "G", "<*>", "ALT_SYMBOLIC", ""),
        (1, "G", "G[chr2:5[", "ALT_BREAKEND", ""),
        (1, "G", "]chr2:5]G", "ALT_BREAKEND", ""),
        (1, "G", "G.", "ALT_BREAKEND", ""),
        (1, "G", ".G", "ALT_BREAKEND", ""),
        (1, "G", "*", "ALT_STAR", ""),
        (1, "G", ".", "ALT_MISSING", ""),
        (0, "G", "A", "POS_OUT_OF_RANGE", "contig chr1 is 31 bp long"),
        (31, "TA", "T", "POS_OUT_OF_RANGE", "contig chr1 is 31 bp long"),
        (32, "T", "A", "POS_OUT_OF_RANGE", "contig chr1 is 31 bp long"),
        (1, "GATTAC", "G", "TOO_LONG", "5 bp; the limit is 4"),
        (1, "GATTACA", "GATTACT", "SCORED", ""),  # long as written, one base when trimmed
    ],
)
def test_each_allele_has_its_outcome(tmp_path, genome, pos, ref, alt, status, detail):
    _, (allele,) = alleles(tmp_path, genome, [("chr1", pos, "x", ref, alt)], Rules(max_indel=4))
    assert (allele.row.status, allele.row.detail) == (status, detail)
    assert (allele.change is not None) == (status == "SCORED")
    assert (allele.row.pos, allele.row.ref, allele.row.alt) == (pos, ref, alt)
    assert status in {"SCORED", *REASONS}


def test_every_alternative_is_a_row_of_its_own_in_order(tmp_path, genome):
    _, found = alleles(tmp_path, genome, [("chr1", 1, "x", "G", "A,,T,*"), ("1", 2, ".", "A", "C"), ("chrX", 1, ".", "A", "C")])
    rows = [(a.row.number, a.row.record, a.row.chrom, a.row.alt, a.row.status) for a in found]
    assert rows == [
        (0, 0, "chr1", "A", "SCORED"), (1, 0, "chr1", "", "ALT_MISSING"), (2, 0, "chr1", "T", "SCORED"),
        (3, 0, "chr1", "*", "ALT_STAR"), (4, 1, "1", "C", "SCORED"), (5, 2, "chrX", "C", "CONTIG_UNKNOWN"),
    ]  # fmt: skip
    assert found[4].change == Change("chr1", 1, "A", "C")


def test_positions_that_windows_are_centred_on(genome):
    assert normalised(genome, "chr1", 0, "G", "A").pos == 1
    assert normalised(genome, "chr1", 2, "TTA", "TCA") == Change("chr1", 3, "T", "C")
    assert normalised(genome, "chr1", 2, "TTA", "TCA").pos == 4
    deletion = normalised(genome, "chr1", 9, "AA", "A")  # one A of the run at 7 to 12 (1-based): moved to its left end
    assert deletion == Change("chr1", 6, "A", "") and deletion.pos == 6 and deletion.size == -1
    insertion = normalised(genome, "chr1", 11, "A", "AA")
    assert insertion == Change("chr1", 6, "", "A") and insertion.pos == 6 and insertion.size == 1
    assert normalised(genome, "chr1", 0, "GA", "A") == Change("chr1", 0, "G", "")  # nothing on its left


def test_equivalent_spellings_become_one_change(tmp_path):
    """Two spellings are equivalent when they give the same sequence; the plain difference of the sequences decides."""
    chance = random.Random(8)
    repeats = "".join(chance.choice(["A", "AC", "ACG", "T"]) * chance.randint(1, 6) for _ in range(60))
    sequence = repeats + random_sequence(300, 6) + "AC" * 400  # the last run is longer than one look to the left
    genome = Genome(FastaReader(write_fasta(tmp_path / "genome.fa", {"chr1": sequence})))
    for _ in range(600):
        start = chance.randrange(len(sequence) - 12)
        ref = sequence[start : start + chance.randint(1, 8)]
        alt = chance.choice([ref[0], ref + ref[-2:], sequence[start : start + 2] * 2, "".join(chance.choices("ACGT", k=3))])
        if alt == ref:
            continue
        expected = Change("chr1", *difference(sequence, haplotype(sequence, start + 1, ref, alt)))
        assert normalised(genome, "chr1", start, ref, alt) == expected
        left, right = chance.randint(0, min(5, start)), chance.randint(0, 5)
        before, after = sequence[start - left : start], sequence[start + len(ref) : start + len(ref) + right]
        assert normalised(genome, "chr1", start - left, before + ref + after, before + alt + after) == expected
    last = len(sequence) - 1
    assert normalised(genome, "chr1", last - 2, sequence[last - 2 :], sequence[last]).pos == len(sequence) - 800


def test_duplicates_are_scored_and_marked(tmp_path, genome):
    records = [("chr1", 1, "a", "G", "A,A"), ("chr1", 1, "b", "g", "a"), ("chr1", 1, "c", "G", "C"), ("chr1", 1, "d", "G", "<DEL>,<DEL>")]
    source, found = alleles(tmp_path, genome, records)
    assert [a.row.detail.partition(":")[0] for a in found] == ["", "DUPLICATE", "DUPLICATE", "", "", ""]
    survey = source.survey()
    assert (survey.total, survey.scored, survey.duplicates, dict(survey.skipped)) == (6, 4, 2, {"ALT_SYMBOLIC": 2})


def test_regions_bound_the_input(tmp_path, genome):
    bed = tmp_path / "r.bed"
    bed.write_text("1\t2\t4\nchr1\t3\t6\nchr1\t20\t22\n")
    records = [("chr1", pos, ".", ref, "C") for pos, ref in ((2, "AT"), (1, "GA"), (2, "A"), (6, "CA"), (7, "A"), (21, "G"))]
    source, found = alleles(tmp_path, genome, records, Rules(regions=read_bed_records(bed)))
    assert [(a.row.number, a.row.pos, len(a.row.ref)) for a in found] == [(0, 2, 2), (1, 6, 2), (2, 21, 1)]
    assert source.survey().outside == 3


def records_with(mismatches, total, text):
    """Single bases of chr2, some of them given another REF than the genome has."""
    wrong = {"A": "C", "C": "G", "G": "T", "T": "A"}
    return [
        ("chr2", pos, ".", wrong[text[pos - 1]] if pos <= mismatches else text[pos - 1], wrong[wrong[text[pos - 1]]])
        for pos in range(1, total + 1)
    ]


def test_a_genome_that_does_not_fit_stops_the_run(tmp_path, genome):
    text = random_sequence(400, 5)
    source, _ = alleles(tmp_path, genome, records_with(2, 20, text))
    with pytest.raises(InputError, match="2 of 20 REF alleles mismatch .*another assembly .build.* raise --max-mismatch"):
        source.survey()
    assert source.survey(max_mismatch=0.1).skipped == {"REF_MISMATCH": 2}
    for mismatches, total in ((1, 20), (5, 19)):  # at the limit; too few to tell
        source, _ = alleles(tmp_path, genome, records_with(mismatches, total, text))
        assert source.survey().skipped == {"REF_MISMATCH": mismatches}


def test_contigs_that_are_all_unknown_stop_the_run(tmp_path, genome):
    source, _ = alleles(tmp_path, genome, [("NC_01.1", 1, ".", "G", "A")] * 3)
    with pytest.raises(InputError, match="none of the 3 alleles lies on a contig of .*rename-chrs"):
        source.survey()


def test_a_header_of_another_assembly_is_reported(tmp_path, genome, caplog):
    header = "##contig=<ID=1,length=249,assembly=GRCh37>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    path = write_vcf(tmp_path / "b.vcf", [("1", 1, ".", "G", "A")], header)
    with caplog.at_level(logging.WARNING, "kipoi_borzoi"):
        assert AlleleSource(VcfReader(path), genome).survey().scored == 1
    text = "\n".join(record.getMessage() for record in caplog.records)
    assert "contig 1 a length of 249 bp (GRCh37)" in text and "has 31" in text
    assert "'1' is read as 'chr1'" in text


def test_bases_are_looked_up_beyond_the_ends(genome):
    assert genome.text("chr1", -2, 3) == "NNGAT"
    assert genome.text("chr1", 28, 33) == "CGTNN"
    assert genome.text("chr1", 40, 43) == genome.text("chr1", -9, -6) == "NNN"
    assert genome.text("chr1", 23, 27) == "ACGT"


def test_memory_does_not_grow_with_the_number_of_alleles(tmp_path, genome, monkeypatch):
    monkeypatch.setattr("kipoi_borzoi.variants.alleles._REMEMBERED", 100)
    text = random_sequence(400, 5)

    def peak(total):
        records = [("chr2", 1 + n % 400, f"id{n}", text[n % 400], "ACGT".replace(text[n % 400], "")[n % 3]) for n in range(total)]
        source = AlleleSource(VcfReader(write_vcf(tmp_path / f"{total}.vcf", records)), genome)
        del records
        tracemalloc.start()
        assert source.survey().total == total
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(10)
    assert peak(8000) < peak(1000) + 50_000
