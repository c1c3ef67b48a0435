"""BED files: what is read, and that everything doubtful is an error with its line number."""

import gzip

import pytest
from genome_files import bgzip

from kipoi_borzoi.dataloaders.bed import BedRecord, read_bed, read_bed_records
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.genome import Interval


def write(folder, content, name="regions.bed"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("chr1\t5\t9", Interval("chr1", 5, 9)),
        ("chr1\t5\t9\tpeak", Interval("chr1", 5, 9, ".", "peak")),
        ("chr1\t5\t9\t.", Interval("chr1", 5, 9)),
        ("chr1\t5\t9\tpeak\t0\t-", Interval("chr1", 5, 9, "-", "peak")),
        ("chr1\t5\t9\tpeak\t0\t*", Interval("chr1", 5, 9, ".", "peak")),
        ("chr1\t0\t9\ta b\t0\t+\t0\t9\t0,0,0\t1\t9,\t0,", Interval("chr1", 0, 9, "+", "a b")),
        ("chr1 5  9 peak", Interval("chr1", 5, 9, ".", "peak")),
    ],
)
def test_columns(tmp_path, line, expected):
    assert read_bed(write(tmp_path, line + "\n")) == [expected]


def test_header_comment_and_empty_lines_are_skipped_and_counted(tmp_path):
    text = 'browser position chr1:1-9\ntrack name="x y"\n# note\n\nchr1\t5\t9\n  \nchr2\t6\t8'
    assert read_bed_records(write(tmp_path, text)) == [
        BedRecord(Interval("chr1", 5, 9), line=5),
        BedRecord(Interval("chr2", 6, 8), line=7),
    ]


def test_windows_line_ends_and_byte_order_mark(tmp_path):
    path = write(tmp_path, b"\xef\xbb\xbfchr1\t5\t9\tpeak\r\nchr1\t6\t9\tother\r\n")
    assert [(i.chrom, i.end, i.name) for i in read_bed(path)] == [("chr1", 9, "peak"), ("chr1", 9, "other")]


def test_extra_columns_start_behind_the_bed_columns(tmp_path):
    path = write(tmp_path, "chr1\t5\t9\t0.5\t1\n")
    assert read_bed_records(path, bed_columns=3) == [BedRecord(Interval("chr1", 5, 9), 1, ("0.5", "1"))]


@pytest.mark.parametrize("compress", ["gzip", "bgzip"])
def test_compressed_files_are_known_by_content(tmp_path, compress):
    path = write(tmp_path, "chr1\t5\t9\n")
    if compress == "gzip":
        path.write_bytes(gzip.compress(path.read_bytes()))  # still called .bed
    else:
        path = bgzip(path)
    assert read_bed(path) == [Interval("chr1", 5, 9)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("chr1\t9\t5", "start 9 is not below end 5"),
        ("chr1\t5\t5", "start 5 is not below end 5"),
        ("chr1\t-10\t5", r"start is negative \(-10\)"),
        ("chr1\t4e5\t500000", "start is '4e5', expected an integer"),
        ("chr1\t5\t9.0", "end is '9.0', expected an integer"),
        ("chr1\t1,000\t2,000", "start is '1,000', expected an integer"),
        ("chr1\t1_0\t20", "start is '1_0'"),
        ("chr1\t٣\t20", "start is '٣'"),
        ("chr1:1,001-2000", "1 columns, expected at least 3.*chr1<TAB>1000<TAB>2000"),
        ("chr1\t5", "2 columns, expected at least 3"),
        ("\t5\t9", "contig name is ''"),
        ("chr1\t5\t9\ta\t0\tplus", "strand .column 6. is 'plus'"),
        ("<!DOCTYPE html>", "expected at least 3"),
    ],
)
def test_malformed_line_is_an_error_with_its_number(tmp_path, line, message):
    path = write(tmp_path, f"# first\n{line}\n")
    with pytest.raises(InputError, match=f"regions.bed, line 2: .*{message}"):
        read_bed(path)


def test_line_with_other_columns_is_an_error(tmp_path):
    with pytest.raises(InputError, match="line 2: 3 columns, but 4 in line 1"):
        read_bed(write(tmp_path, "chr1\t5\t9\ta\nchr1\t5\t9\n"))


@pytest.mark.parametrize("content", ["", "\n\n", "# only a comment\n"])
def test_no_interval_is_an_error(tmp_path, content):
    with pytest.raises(InputError, match="regions.bed: .*empty"):
        read_bed(write(tmp_path, content))


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(InputError, match="none.bed: no such file"):
        read_bed(tmp_path / "none.bed")
    with pytest.raises(InputError, match="not a regular file"):
        read_bed(tmp_path)


def test_truncated_gzip(tmp_path):
    content = gzip.compress(b"".join(b"chr1\t%d\t%d\n" % (i, i * 7 + 1) for i in range(5000)))
    with pytest.raises(InputError, match="truncated or damaged gzip"):
        read_bed(write(tmp_path, content[: len(content) // 2], "cut.bed.gz"))


def test_bgzip_cut_between_blocks_is_noticed_by_its_missing_end_marker(tmp_path):
    path = bgzip(write(tmp_path, "chr1\t5\t9\n"))
    path.write_bytes(path.read_bytes()[:-28])
    with pytest.raises(InputError, match=r"truncated: .*\(EOF\) marker"):
        read_bed(path)


def test_binary_file(tmp_path):
    with pytest.raises(InputError, match="NUL byte"):
        read_bed(write(tmp_path, b"chr1\t5\t9\x00\n"))
    with pytest.raises(InputError, match="not UTF-8"):
        read_bed(write(tmp_path, b"chr1\t5\t9\t\xff\xfe\n"))


def test_endless_line_is_refused(tmp_path):
    path = write(tmp_path, gzip.compress(b"A" * (3 << 20)), "bomb.bed.gz")
    with pytest.raises(InputError, match="line 1: longer than the limit"):
        read_bed(path)
