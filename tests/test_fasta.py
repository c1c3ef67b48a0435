"""FASTA files: the right bases at every position, and an error for every file that could give wrong ones."""

import gzip
import logging
import multiprocessing
import os
import pickle

import numpy as np
import pytest
from genome_files import bgzip, one_hot_by_letter, random_sequence, window, write_fasta

from kipoi_borzoi.dataloaders import fasta_index
from kipoi_borzoi.dataloaders.fasta import FastaReader
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.genome import Interval

CONTIGS = {"chr1": random_sequence(1234, 1, "ACGTacgtN"), "chr2": random_sequence(200, 2), "chrM": "ACGTRYN"}


@pytest.fixture(params=["plain", "bgzip", "windows line ends", "one line"])
def fasta(request, tmp_path):
    width = 10_000 if request.param == "one line" else 50
    path = write_fasta(tmp_path / "g.fa", CONTIGS, width, "\r\n" if request.param.startswith("windows") else "\n")
    return bgzip(path) if request.param == "bgzip" else path


def test_every_kind_of_stretch(fasta):
    reader = FastaReader(fasta)
    assert reader.contigs == {"chr1": 1234, "chr2": 200, "chrM": 7}
    rng = np.random.default_rng(0)
    stretches = [("chr1", *sorted(rng.choice(1235, 2, replace=False).tolist())) for _ in range(60)]
    stretches += [("chr1", 49, 50), ("chr1", 50, 51), ("chr1", 0, 1234), ("chr1", -7, 3), ("chr1", 1200, 1300)]
    stretches += [("chr2", 150, 200), ("chr2", -20, 260), ("chrM", 0, 7), ("chrM", -1, 9)]
    for chrom, start, end in stretches:
        expected = window(CONTIGS[chrom], start, end)
        assert reader.fetch(Interval(chrom, start, end)) == expected
        np.testing.assert_array_equal(
            reader.fetch_one_hot(Interval(chrom, start, end, "-")), one_hot_by_letter(expected)
        )


def test_dtype_of_one_hot(fasta):
    assert FastaReader(fasta).fetch_one_hot(Interval("chr1", -5, 5), bool).dtype == np.bool_


def test_index_made_equals_that_of_samtools(fasta):
    import pysam

    FastaReader(fasta)
    indexes = [fasta.with_name(fasta.name + ".fai")]
    if fasta.suffix == ".gz":
        indexes.append(fasta.with_name(fasta.name + ".gzi"))
    ours = [index.read_bytes() for index in indexes]
    for index in indexes:
        index.unlink()
    pysam.faidx(str(fasta))
    assert ours == [index.read_bytes() for index in indexes]


def test_index_of_a_file_longer_than_one_scan(tmp_path, monkeypatch):
    path = write_fasta(tmp_path / "g.fa", CONTIGS)
    whole = fasta_index.write_fai(FastaReader(path)._rows)
    for chunk in (1, 7, 51, 100):
        monkeypatch.setattr(fasta_index, "_CHUNK", chunk)
        (tmp_path / "g.fa.fai").unlink()
        assert fasta_index.write_fai(FastaReader(path)._rows) == whole


def test_indexes_of_samtools_are_read_and_left_alone(fasta):
    import pysam

    pysam.faidx(str(fasta))
    before = {file: file.stat().st_mtime_ns for file in fasta.parent.iterdir()}
    assert FastaReader(fasta).fetch(Interval("chr2", 100, 120)) == CONTIGS["chr2"][100:120]
    assert {file: file.stat().st_mtime_ns for file in fasta.parent.iterdir()} == before


def test_bgzip_of_several_blocks_with_and_without_gzi(tmp_path):
    sequence = random_sequence(200_000, 3)
    path = bgzip(write_fasta(tmp_path / "g.fa", {"chr1": sequence}))
    FastaReader(path)
    stretch = Interval("chr1", 60_000, 140_000)
    assert FastaReader(path).fetch(stretch) == sequence[60_000:140_000]
    (tmp_path / "g.fa.gz.gzi").unlink()
    assert FastaReader(path).fetch(stretch) == sequence[60_000:140_000]


def test_folder_that_cannot_be_written_to(fasta, monkeypatch, caplog):
    def refuse(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("kipoi_borzoi.files.create_temporary", refuse)
    reader = FastaReader(fasta)
    assert reader.fetch(Interval("chr2", 0, 9)) == CONTIGS["chr2"][:9]
    assert not list(fasta.parent.glob("*.fai"))
    assert f"samtools faidx {fasta}" in caplog.text


# Contig names


def test_alias_is_taken_and_reported_once(tmp_path, caplog):
    reader = FastaReader(write_fasta(tmp_path / "g.fa", {"chr1": "ACGT", "2": "CCCC", "3": "GGGG", "chr3": "TTTT"}))
    with caplog.at_level(logging.WARNING, logger="kipoi_borzoi"):
        assert reader.fetch(Interval("1", 0, 4)) == "ACGT"
        assert reader.fetch(Interval("chr2", 0, 4)) == "CCCC"
        assert [reader.fetch(Interval(name, 0, 4)) for name in ("3", "chr3")] == ["GGGG", "TTTT"]
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("kipoi_borzoi")]
    assert [message.split(": ")[1].split(" of ")[0] for message in ours] == ["'1' is read as 'chr1'"]


def test_unknown_contig_lists_near_matches_and_the_prefix(tmp_path):
    reader = FastaReader(write_fasta(tmp_path / "g.fa", {f"chr{n}": "ACGT" for n in (1, 2, 10, 11, 12, 20)}))
    with pytest.raises(InputError, match=r"'CHR1' is not in .*6 in all.*near matches: chr1,.* prefix 'chr'"):
        reader.fetch(Interval("CHR1", 0, 4))


def test_stretch_outside_its_contig(fasta):
    for start in (-10, 200):
        with pytest.raises(InputError, match="wholly outside contig 'chr2'.*200 bp"):
            FastaReader(fasta).fetch(Interval("chr2", start, start + 10))


# Files that are not what they should be


def refused(path, message, contig="chr1", start=0, end=40):
    with pytest.raises(InputError, match=message) as caught:
        FastaReader(path).fetch(Interval(contig, start, end))
    assert str(path) in str(caught.value)


def write(folder, text):
    path = folder / "g.fa"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_missing_file(tmp_path):
    refused(tmp_path / "none.fa", "no such file")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("ACGT\nACGT\n", "not a FASTA file: it does not start with a header line"),
        ("<!DOCTYPE html>", "not a FASTA file"),
        (">\nACGT\n", "line 1: a FASTA header without a contig name"),
        (">chr1\nACGT\n>chr2\nAC\n>chr1\nAAAA\n", "line 5: duplicate contig name 'chr1'"),
        (">chr1\nACGT\nAC\nACGT\n", "line 4: the lines of contig 'chr1' are of different length"),
        (">chr1\nACGT\nACGTA\n", "line 3: .*different length"),
        (">chr1\nACGT\n\nACGT\n", "line 4: .*different length"),
        (">chr1\nACGT\r\nACGTA\nACGT\r\n", "line 3: .*different length"),
        (">chr1\nMKTAYIAKQRQISFVKSHFSRQ\n", "position 6 .*'I' is not in the nucleotide alphabet"),
        (">chr1\nACGT-ACGT\n", "position 5 .*character '-'"),
        (">chr1\nACGTACG*\n", "position 8 .*character '\\*'"),
        (">chr1\nACGUACGU\n", "position 4 .*character 'U'.*RNA"),
        (">chr1\nACG ACGT\n", "position 4 .*character ' '"),
    ],
)
def test_malformed_file(tmp_path, text, message):
    refused(write(tmp_path, text), message)


def test_letters_are_checked_only_in_what_is_read(tmp_path):
    path = write(tmp_path, ">chr1\nACGTACGT\nACGTAC-T\n")
    assert FastaReader(path).fetch(Interval("chr1", 0, 14)) == "ACGTACGTACGTAC"
    refused(path, "position 15 ", end=15)


def test_empty_lines_at_a_contigs_end_are_harmless(tmp_path):
    path = write(tmp_path, ">chr1\nACGT\nAC\n\n\n>chr2\n\n>chr3\nGG")
    for _ in range(2):  # with the index just made, then with the file of it
        reader = FastaReader(path)
        assert reader.contigs == {"chr1": 6, "chr2": 0, "chr3": 2}
        assert reader.fetch(Interval("chr1", 0, 6)) + reader.fetch(Interval("chr3", 0, 2)) == "ACGTACGG"


def test_plain_gzip(tmp_path):
    path = tmp_path / "g.fa.gz"
    path.write_bytes(gzip.compress(b">chr1\nACGT\n"))
    refused(path, "gzip.*bgzip")


@pytest.fixture
def indexed(tmp_path):
    path = write_fasta(tmp_path / "g.fa", CONTIGS)
    FastaReader(path)
    return path


@pytest.mark.parametrize(
    ("contig", "message"),
    [
        ("chr1", "index does not match"),
        ("chr2", "lines are not 60 bases long"),  # its 200 bases fill as many lines either way: seen when they are read
    ],
)
def test_index_with_another_line_width(indexed, contig, message):
    fai = indexed.with_name("g.fa.fai")
    lines = fai.read_text().splitlines()
    fai.write_text(
        "".join(line.replace("50\t51", "60\t61") + "\n" if contig in line else line + "\n" for line in lines)
    )
    refused(indexed, f"{message}.*samtools faidx {indexed}", contig, end=200)


def test_index_of_an_older_file(indexed):
    fai = indexed.with_name("g.fa.fai").read_text()
    write_fasta(indexed, {"chr0": "A" * 300, **CONTIGS})
    indexed.with_name("g.fa.fai").write_text(fai)
    for contig in CONTIGS:
        refused(indexed, "index does not match", contig, end=5)


def test_index_that_lacks_a_contig_added_later(indexed):
    with open(indexed, "a") as handle:
        handle.write(">chr9\nACGT\n")
    refused(indexed, "index does not match.*chr9", "chrM", end=5)


def test_index_without_the_second_of_two_equal_names(tmp_path):
    # samtools leaves the second out of the index, with a warning only
    path = write(tmp_path, ">chr1\nACGT\n>chr1\nTTTT\n>chr2\nACGT\n")
    path.with_name("g.fa.fai").write_text("chr1\t4\t6\t4\t5\nchr2\t4\t28\t4\t5\n")
    refused(path, "index does not match.*has contig chr1.*duplicate", end=4)


def test_lines_of_other_length_inside_a_contig_are_noticed_when_read(tmp_path):
    path = write(tmp_path, ">chr1\n" + "ACGTACGT\n" + "ACGTA\n" + "ACGTACGTACG\n" + "ACGTACGT\n")
    path.with_name("g.fa.fai").write_text("chr1\t32\t6\t8\t9\n")  # tiles the file, yet is wrong in the middle
    assert FastaReader(path).fetch(Interval("chr1", 0, 8)) == "ACGTACGT"
    refused(path, "lines are not 8 bases long", end=24)
    refused(path, "lines are not 8 bases long", start=9, end=15)  # within one line


@pytest.mark.parametrize(
    "text", ["chr1\t4\t6\t4\n", "chr1\tx\t6\t4\t5\n", "chr1\t4\t6\t0\t5\n", "chr1\t4\t6\t4\t5\n" * 2, ""]
)
def test_malformed_index(tmp_path, text):
    path = write(tmp_path, ">chr1\nACGT\n")
    path.with_name("g.fa.fai").write_text(text)
    refused(path, "fai.*Delete .*samtools faidx")


def test_truncated_file_with_whole_index(indexed):
    content = indexed.read_bytes()
    indexed.write_bytes(content[: len(content) // 2])
    refused(indexed, "truncated: .*length of the file", start=0, end=10)


def test_file_cut_while_in_use(indexed):
    reader = FastaReader(indexed)
    reader.fetch(Interval("chr1", 0, 10))
    os.truncate(indexed, 600)
    with pytest.raises(InputError, match="short read"):
        reader.fetch(Interval("chr1", 0, 1000))
    with pytest.raises(InputError, match="changed while it was in use"):
        pickle.loads(pickle.dumps(reader)).fetch(Interval("chr1", 0, 10))


@pytest.fixture
def compressed(tmp_path):
    path = bgzip(write_fasta(tmp_path / "g.fa", {"chr1": random_sequence(200_000, 4)}))
    FastaReader(path)
    return path


def test_bgzip_without_its_end_marker(compressed):
    compressed.write_bytes(compressed.read_bytes()[:-28])
    refused(compressed, "truncated.*marker")


def test_damaged_bgzip_block(compressed):
    content = bytearray(compressed.read_bytes())
    content[len(content) // 2] ^= 0xFF
    compressed.write_bytes(content)
    refused(compressed, "damaged BGZF block", start=0, end=199_000)


def test_gzi_of_another_file(compressed):
    gzi = compressed.with_name(compressed.name + ".gzi")
    table = np.frombuffer(gzi.read_bytes(), dtype="<u8").copy()
    table[2] += 100  # uncompressed place of the second block
    gzi.write_bytes(table.tobytes())
    refused(compressed, "gzi: does not match", start=0, end=199_000)
    gzi.write_bytes(gzi.read_bytes()[:-3])
    refused(compressed, "gzi: not a bgzip index, or truncated")


# Processes


def fetch_in_turns(reader, worker, queue):
    queue.put([reader.fetch(Interval("chr1", start, start + 70_000)) for start in range(worker, 100_000, 9_000)])


def test_forked_readers_share_one_open_file(compressed):
    reader = FastaReader(compressed)
    sequence = reader.fetch(Interval("chr1", 0, 200_000))
    context = multiprocessing.get_context("fork")
    queues = [context.SimpleQueue() for _ in range(2)]
    workers = [context.Process(target=fetch_in_turns, args=(reader, n, queue)) for n, queue in enumerate(queues)]
    for process in workers:
        process.start()
    for number, queue in enumerate(queues):
        assert queue.get() == [sequence[start : start + 70_000] for start in range(number, 100_000, 9_000)]
    for process in workers:
        process.join()
        assert process.exitcode == 0


def test_pickled_reader_reads_on(fasta):
    reader = FastaReader(fasta)
    expected = reader.fetch(Interval("chr1", 5, 105))
    assert pickle.loads(pickle.dumps(reader)).fetch(Interval("chr1", 5, 105)) == expected
    with reader:
        pass
    assert reader.fetch(Interval("chr1", 5, 105)) == expected  # opens again after close


def test_relative_path_survives_another_working_directory(fasta, monkeypatch):
    monkeypatch.chdir(fasta.parent)
    reader = FastaReader(fasta.name)
    (fasta.parent / "elsewhere").mkdir()
    monkeypatch.chdir(fasta.parent / "elsewhere")
    copy = pickle.loads(pickle.dumps(reader))
    assert copy.fetch(Interval("chr2", 5, 15)) == CONTIGS["chr2"][5:15]


def test_real_genome(shared_data):
    import pysam

    path = shared_data / "hg38_chr1_1mb.fa.gz"
    stretch = Interval("chr1", 180_000, 704_288)
    with pysam.FastaFile(str(path)) as other:
        assert FastaReader(path).fetch(stretch) == other.fetch("chr1", stretch.start, stretch.end).upper()
