"""The check of data sets: each fault is found where it was planted, and nowhere else."""

import shutil

import numpy as np
import pytest
from coverage_files import write_bigwig, write_targets
from data_cases import write_sequences
from genome_files import random_sequence, write_fasta

from kipoi_borzoi.dataloaders.bed import read_bed_records
from kipoi_borzoi.dataloaders.coverage import Recipe
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.genome import Interval
from kipoi_borzoi.training.build import Sources, build
from kipoi_borzoi.training.check import CODES, check_sources, check_store, fragment_unit
from kipoi_borzoi.training.windows import fold_overlaps

LENGTHS = {"chr1": 40000}
GENES = [(2000, 6000, "+"), (9000, 13000, "-"), (20000, 25000, "+"), (31000, 36000, "-"), (24000, 26000, "-")]
WINDOWS = [("chr1", start, start + 4096, fold) for start, fold in
           [(1000, "train"), (5096, "train"), (9192, "train"), (20000, "valid"), (24096, "valid"), (31000, "test")]]  # fmt: skip


def reads(seed, strand, length=50, value=1.0, count=300):
    """Coverage of reads that fall in the genes of a strand, and here and there."""
    rng = np.random.default_rng(seed)
    coverage = np.zeros(40000)
    for start, end, where in GENES:
        if where == strand:
            for place in rng.integers(start, end - length, count):
                coverage[place : place + length] += value
    for place in rng.integers(0, 40000 - length, 120):
        coverage[place : place + length] += value
    return {"chr1": np.where(coverage > 0, coverage, np.nan)}


ROWS = [
    ("rna+", "plus.bw", 384.0, 320.0, 0.02, "sum_sqrt", 1),
    ("rna-", "minus.bw", 384.0, 320.0, 0.02, "sum_sqrt", 0),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    write_fasta(folder / "genome.fa", {"chr1": random_sequence(40000, 3)})
    write_sequences(folder / "sequences.bed", WINDOWS)
    write_bigwig(folder / "plus.bw", LENGTHS, reads(1, "+"))
    write_bigwig(folder / "minus.bw", LENGTHS, reads(2, "-"))
    write_targets(folder / "targets.txt", ROWS)
    exons = [f'chr1\tx\texon\t{start + 1}\t{end}\t.\t{strand}\t.\tgene_id "g";\n' for start, end, strand in GENES]
    (folder / "genes.gtf").write_text("#!comment\n" + "".join(exons))
    (folder / "genes.bed").write_text("".join(f"1\t{s}\t{e}\tg\t0\t{strand}\n" for s, e, strand in GENES))
    return folder


@pytest.fixture
def folder(made, tmp_path):
    shutil.copytree(made, tmp_path / "in")
    return tmp_path / "in"


def sources(folder):
    return Sources(*(folder / name for name in ("targets.txt", "genome.fa", "sequences.bed")))


def found(folder, genes="genes.gtf", **options):
    report = check_sources(sources(folder), Recipe(**options), genes=folder / genes if genes else None)
    assert all(finding.code in CODES for finding in report.findings)
    return {(finding.code, finding.subject): finding for finding in report.findings}


def built(folder, out, genes="genes.gtf"):
    build(folder / "targets.txt", folder / "genome.fa", folder / "sequences.bed", out)
    report = check_store(out, genes=folder / genes)
    return report, {(finding.code, finding.subject): finding for finding in report.findings}


@pytest.mark.parametrize("genes", ["genes.gtf", "genes.bed"])
def test_nothing_is_found_in_good_data(made, tmp_path, genes):
    assert found(made, genes) == {}
    report, findings = built(made, tmp_path / "store", genes)
    assert findings == {} and report.problems == [] and report.examples == 6
    for row in report.tracks:
        assert 0.1 < row["covered"] < 1 and row["sense"] > 0.85 and row["soft_clipped"] == 0


def test_numbers_of_a_track(made, tmp_path):
    report, _ = built(made, tmp_path / "store")
    from kipoi_borzoi.training.store import Store

    store = Store.open(tmp_path / "store")
    y = np.concatenate([store.targets(number)[:, 1] for number in range(6)]).astype(float)
    row = report.tracks[1]
    assert row["covered"] == (y > 0).mean() and row["max"] == y.max()
    assert row["mean"] == pytest.approx(y.mean(), rel=1e-6)


def test_swapped_strands(folder, tmp_path):
    write_targets(folder / "targets.txt", [("rna+", "minus.bw", *ROWS[0][2:]), ("rna-", "plus.bw", *ROWS[1][2:])])
    finding = found(folder)["STRAND_SWAPPED", "rna+, rna-"]
    assert finding.value < 0.15 and "exchange the two files" in finding.message and "taking" not in finding.message
    _, findings = built(folder, tmp_path / "store")
    assert list(findings) == [("STRAND_SWAPPED", "rna+, rna-")]
    assert findings["STRAND_SWAPPED", "rna+, rna-"].value == pytest.approx(finding.value, rel=1e-6)


def test_no_opinion_on_strands_from_a_few_bins(folder):
    for name in ("plus.bw", "minus.bw"):
        few = np.full(40000, np.nan)
        few[range(9500, 9500 + 320, 32)] = 1  # 10 bins in a gene of the - strand, each track
        few[30000:30040] = 40
        write_bigwig(folder / name, LENGTHS, {"chr1": few})
    report = check_sources(sources(folder), Recipe(), genes=folder / "genes.gtf")
    assert "STRAND_UNCLEAR" in {finding.code for finding in report.findings}  # 20 bins are enough
    few[9500] = np.nan
    write_bigwig(folder / "plus.bw", LENGTHS, {"chr1": few})
    report = check_sources(sources(folder), Recipe(), genes=folder / "genes.gtf")
    assert not {"STRAND_UNCLEAR", "STRAND_SWAPPED"} & {finding.code for finding in report.findings}
    assert report.tracks[0]["sense"] is None


def test_names_tell_the_strands(folder):
    """The reverse strand may come first; where names say nothing, the first counts as forward, and that is said."""
    rows = [("a.minus", "minus.bw", *ROWS[0][2:]), ("a.plus", "plus.bw", *ROWS[1][2:])]
    write_targets(folder / "targets.txt", rows)
    assert found(folder) == {}
    write_targets(folder / "targets.txt", [("one", "minus.bw", *ROWS[0][2:]), ("two", "plus.bw", *ROWS[1][2:])])
    assert "taking one for the forward strand" in found(folder)["STRAND_SWAPPED", "one, two"].message


def test_unstranded_library(folder):
    both = np.nan_to_num(reads(1, "+")["chr1"]) + np.nan_to_num(reads(2, "-")["chr1"])
    for name in ("plus.bw", "minus.bw"):
        write_bigwig(folder / name, LENGTHS, {"chr1": np.where(both > 0, both, np.nan)})
    findings = found(folder)
    assert list(findings) == [("STRAND_UNCLEAR", "rna+, rna-")]
    assert findings["STRAND_UNCLEAR", "rna+, rna-"].value == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    ("value", "length", "scale", "proposal"),
    [
        (1.0, 50, 0.3, 0.02),  # raw coverage with the scale of coverage in reads per million
        (1 / 30, 100, 3.0, 0.3),  # 30 M reads of 100 bp, in reads per million
        (1 / 30, 100, 0.01, 0.3),  # the same with the scale of raw coverage
        (1.0, 50, 0.02, None),
        (1 / 30, 100, 0.3, None),
    ],
)
def test_scale_that_does_not_fit_the_depth(folder, value, length, scale, proposal):
    for seed, (name, strand) in enumerate([("plus.bw", "+"), ("minus.bw", "-")]):
        write_bigwig(folder / name, LENGTHS, reads(seed, strand, length, value, count=20))
    write_targets(folder / "targets.txt", [(*row[:4], scale, *row[5:]) for row in ROWS])
    findings = {key: finding for key, finding in found(folder).items() if key[0] == "SCALE"}
    if proposal is None:
        assert not findings
    else:
        assert [finding.proposal for finding in findings.values()] == [pytest.approx(proposal, rel=0.05)] * 2


def test_scale_in_a_store(folder, tmp_path):
    write_targets(
        folder / "targets.txt", [(*row[:4], scale, *row[5:]) for row, scale in zip(ROWS, (1000.0, 1e-5), strict=True)]
    )
    _, findings = built(folder, tmp_path / "store")
    assert set(findings) == {("SCALE", "rna+"), ("SCALE", "rna-"), ("PAIR_DIFFERS", "rna+, rna-")}
    large, small = findings["SCALE", "rna+"], findings["SCALE", "rna-"]
    assert large.value > 0.02 and "too large" in large.message and large.proposal < 1000
    assert small.value < 1 and "too small" in small.message and small.proposal > 5e-5
    assert "differ in scale" in findings["PAIR_DIFFERS", "rna+, rna-"].message


def test_fragment_unit_by_hand():
    x = np.zeros(3000)
    for number in range(40):
        x[20 + 70 * number : 60 + 70 * number] = 0.25
    x[2900:2910] = 5
    x[1000:1020] += 0.25  # two that overlap stand not alone
    value, length = fragment_unit([x])
    assert (value, length) == (0.25, 40)
    assert fragment_unit([x[:1000]]) is None  # too few
    assert fragment_unit([np.where(x > 0, np.random.default_rng(0).random(3000), 0)]) is None
    noise = np.random.default_rng(0).random(40)
    y = np.zeros(3000)
    for number in range(40):
        y[20 + 70 * number : 60 + 70 * number] = noise[number]
    assert fragment_unit([y]) is None  # no common value


def test_tracks_without_coverage(folder, tmp_path):
    little = np.full(40000, np.nan)
    little[39990:] = 1
    write_bigwig(folder / "plus.bw", LENGTHS, {"chr1": little})
    few = np.full(40000, np.nan)
    few[2000:2001] = 30
    write_bigwig(folder / "minus.bw", LENGTHS, {"chr1": few})
    findings = found(folder, genes=None)
    assert ("NO_COVERAGE", "rna+") in findings
    _, findings = built(folder, tmp_path / "store")
    assert ("NO_COVERAGE", "rna+") in findings


def test_almost_no_coverage(folder):
    rows = [("chr1", start, start + 4096, "train" if start < 9000 else "test") for start in range(0, 36000, 4096)]
    write_sequences(folder / "sequences.bed", rows)
    few = np.full(40000, np.nan)
    few[2000:2001] = 3000
    write_bigwig(folder / "minus.bw", LENGTHS, {"chr1": few})
    findings = found(folder, genes=None)
    assert list(findings) == [("LOW_COVERAGE", "rna-")]
    assert findings["LOW_COVERAGE", "rna-"].value == pytest.approx(1 / (9 * 128))


def test_bad_coverage_files_do_not_hide_each_other(folder):
    (folder / "plus.bw").write_text("chr1\t0\t10\t1\n")
    values = reads(2, "-")
    values["chr1"][9300] = -1
    write_bigwig(folder / "minus.bw", LENGTHS, values)
    findings = found(folder)
    assert set(findings) == {("COVERAGE_FILE", "rna+"), ("COVERAGE_VALUES", "rna-")}
    assert "bedGraph" in findings["COVERAGE_FILE", "rna+"].message
    assert "negative coverage (-1) at chr1:9301" in findings["COVERAGE_VALUES", "rna-"].message
    write_bigwig(folder / "plus.bw", {"chr1": 39999}, {"chr1": reads(1, "+")["chr1"][:-1]})
    assert "39999 bp long" in found(folder)["COVERAGE_FILE", "rna+"].message
    write_bigwig(folder / "plus.bw", {"chrX": 40000}, {"chrX": reads(1, "+")["chr1"]})
    assert "contig 'chr1' is not in" in found(folder)["COVERAGE_FILE", "rna+"].message


def test_contig_names(folder):
    write_bigwig(folder / "plus.bw", {"1": 40000}, {"1": reads(1, "+")["chr1"]})
    findings = found(folder)
    assert list(findings) == [("CONTIG_ALIAS", "chr1")]
    assert not findings["CONTIG_ALIAS", "chr1"].problem


def test_folds_that_overlap(folder, tmp_path):
    rows = [("chr1", 0, 4096, "a"), ("chr1", 4000, 8096, "b"), ("chr1", 8096, 12192, "c"), ("chr1", 38000, 42096, "c")]
    write_sequences(folder / "sequences.bed", rows)
    findings = found(folder, genes=None)
    assert (
        findings["FOLD_OVERLAP", "a and b"].value == 96
        and "chr1:4000-4096" in findings["FOLD_OVERLAP", "a and b"].message
    )
    assert findings["PADDED", "sequences"].value == 1 and "by 2096 bp" in findings["PADDED", "sequences"].message
    assert set(findings) == {("FOLD_OVERLAP", "a and b"), ("PADDED", "sequences")}
    findings = found(folder, genes=None, crop_bp=64)  # the overlapping parts have no targets
    assert findings["FOLD_WINDOWS", "a and b"].value == 96 and not findings["FOLD_WINDOWS", "a and b"].problem
    write_sequences(folder / "sequences.bed", [row[:3] + ("a",) for row in rows])
    assert ("FOLD_SINGLE", "a") in found(folder, genes=None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chr1\tx\texon\t1\t10\t.\t.\t.\tgene_id x\n", "no stranded exon"),
        ("chr9\tx\texon\t1\t10\t.\t+\t.\tgene_id x\n", "none of its contigs .chr9. has a sequence of the data set .chr1."),
        ("chr1\tx\texon\tone\t10\t.\t+\t.\tgene_id x\n", "line 1: start is .one., expected an integer"),
        ("", "the file is empty"),
    ],
)
def test_bad_genes(made, tmp_path, text, message):
    (tmp_path / "g.gtf").write_text(text)
    with pytest.raises(InputError, match=message):
        check_sources(sources(made), Recipe(), genes=tmp_path / "g.gtf")


def test_real_data_sets_pass(shared_data, tmp_path):
    from kipoi_borzoi.training.tfrecords import import_tfrecords

    for species in ("hg38", "mm10"):
        import_tfrecords(shared_data / "tiny" / species, tmp_path / species)
        assert check_store(tmp_path / species).problems == []


def test_overlaps_equal_a_plain_count():
    """Base by base, with sets."""
    rng = np.random.default_rng(5)
    for _ in range(20):
        count, crop = int(rng.integers(2, 25)), int(rng.integers(0, 30))
        starts = rng.integers(-20, 900, count)
        intervals = [Interval(f"chr{rng.integers(1, 3)}", int(start), int(start) + 80) for start in starts]
        folds = [f"f{rng.integers(0, 3)}" for _ in range(count)]
        found = {overlap.folds: overlap for overlap in fold_overlaps(intervals, folds, ["f0", "f1", "f2"], crop)}
        for pair in [("f0", "f1"), ("f0", "f2"), ("f1", "f2")]:
            shared = []
            for cut in (crop, 0):
                bases = [
                    {(i.chrom, place) for i, name in zip(intervals, folds, strict=True) if name == fold
                     for place in range(i.start + cut, i.end - cut)}
                    for fold in pair
                ]  # fmt: skip
                shared.append(len(bases[0] & bases[1]))
            assert (pair in found) == (shared[1] > 0)
            if pair in found:
                assert [found[pair].target_bp, found[pair].window_bp] == shared


def test_published_folds_share_no_targets(shared_data):
    """Borzoi's own folds: made so that none shares a base with targets, although windows reach into one another."""
    records = read_bed_records(shared_data / "borzoi" / "sequences_mouse.bed.gz", bed_columns=3)
    crop = 163_840
    intervals = [Interval(r.interval.chrom, r.interval.start - crop, r.interval.end + crop) for r in records]
    folds = [record.extra[0] for record in records]
    assert len(intervals) == 49369 and {interval.length for interval in intervals} == {524_288}
    overlaps = fold_overlaps(intervals, folds, sorted(set(folds)), crop)
    assert len(overlaps) > 20 and all(overlap.target_bp == 0 for overlap in overlaps)
