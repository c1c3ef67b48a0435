"""Coverage files and targets: equal to a plain computation and to Calico's recorded values; damaged files are refused."""

import json
import pickle

import h5py
import numpy as np
import pytest
from coverage_files import plain_target, write_bigwig, write_w5

from kipoi_borzoi.dataloaders.bed import read_bed
from kipoi_borzoi.dataloaders.coverage import (
    Blacklist,
    Recipe,
    locate_coverage,
    open_coverage,
    pool,
    read_target,
)
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.genome import Interval
from kipoi_borzoi.tracks import SUM_STATS, Tracks

LENGTHS = {"chr1": 3000, "chr2": 500}


def some_coverage(seed=0, low=1e-3, high=3e5):
    """Per contig, numbers over many orders of magnitude, with gaps; exact in float32."""
    rng = np.random.default_rng(seed)
    values = {}
    for name, length in LENGTHS.items():
        array = np.exp(rng.uniform(np.log(low), np.log(high), length)).astype(np.float32)
        array[rng.random(length) < 0.3] = 0
        values[name] = array
    values["chr1"][1000:1100] = np.nan
    values["chr1"][2990:] = np.nan
    return values


def track(row):
    name, file, clip, clip_soft, scale, stat, _ = row
    return Tracks([0], [name], [""], [file], [clip], [clip_soft], [scale], [stat], [0])


@pytest.fixture
def coverage():
    return some_coverage()


@pytest.fixture
def bigwig(tmp_path, coverage):
    return write_bigwig(tmp_path / "a.bw", LENGTHS, coverage)


@pytest.fixture
def w5(tmp_path, coverage):
    return write_w5(tmp_path / "a.w5", coverage, np.float32)


@pytest.mark.parametrize("kind", ["bigwig", "w5"])
def test_windows_of_both_formats(request, coverage, kind):
    path = request.getfixturevalue(kind)
    with open_coverage(path) as reader:
        assert reader.contigs == LENGTHS
        for start, end in [(0, 3000), (900, 1200), (-10, 20), (2950, 3100), (5, 6)]:
            values = reader.read(Interval("chr1", start, end))
            assert values.dtype == np.float32
            expected = [coverage["chr1"][i] if 0 <= i < 3000 else np.nan for i in range(start, end)]
            np.testing.assert_array_equal(values, np.array(expected, dtype=np.float32))
        np.testing.assert_array_equal(reader.read(Interval("2", 0, 500)), coverage["chr2"])
        assert reader.aliases == {"2": "chr2"}
        assert np.isnan(reader.read(Interval("chr1", 5000, 5010))).all()


def read_sum(reader):
    return float(reader.read(Interval("chr2", 0, 500)).sum(dtype=float))


@pytest.mark.parametrize("kind", ["bigwig", "w5"])
def test_readers_work_in_other_processes_and_after_closing(request, kind):
    import multiprocessing

    reader = open_coverage(request.getfixturevalue(kind))
    expected = read_sum(reader)
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(1) as pool_of_one:
            assert pool_of_one.apply(read_sum, (reader,)) == expected
    reader.close()
    assert read_sum(reader) == read_sum(pickle.loads(pickle.dumps(reader))) == expected


def test_total_of_a_bigwig(bigwig, w5, coverage):
    expected = sum(float(np.nansum(array.astype(float))) for array in coverage.values())
    with open_coverage(bigwig) as reader:
        assert reader.total() == pytest.approx(
            expected, rel=1e-5
        )  # the header's sum is kept in single steps by the library
        reader.close()
        assert reader.total() == pytest.approx(expected, rel=1e-5)
    assert open_coverage(w5).total() is None


ROWS = [
    ("a", "", 1e9, float("inf"), 1.0, stat, 0) for stat in SUM_STATS
] + [
    ("b", "", 384.0, 320.0, 0.3, "sum_sqrt", 0),
    ("c", "", 768.0, 64.0, 0.01, "mean_sqrt", 0),
    ("d", "", 60.0, 32.0, 2.0, "sum", 0),
    ("e", "", 384.0, 32.0, 0.1, "max_sqrt", 0),
    ("f", "", 384.0, 5.0, 0.5, "mean", 0),
]  # fmt: skip
BLACK = [(700, 760), (750, 800), (1990, 2010)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join(map(str, row[2:6])))
@pytest.mark.parametrize("transform", ["new", "old"])
@pytest.mark.parametrize("black", [(), BLACK])
def test_targets_equal_a_plain_computation(tmp_path, bigwig, coverage, row, transform, black):
    blacklist = None
    if black:
        (tmp_path / "black.bed").write_text("".join(f"1\t{start}\t{end}\n" for start, end in black))  # alias of chr1
        blacklist = Blacklist(tmp_path / "black.bed")
    recipe = Recipe(transform, crop_bp=48, pool_width=16)
    with open_coverage(bigwig) as reader:
        # without a gap; with one; over both ends of the contig; with a black stretch that begins before it
        for start in (300, 640, 900, -100, 2800, 790):
            window = Interval("chr1", start, start + 416)
            y = read_target(reader, window, track(row), recipe, blacklist)
            expected = plain_target(coverage["chr1"].tolist(), start, start + 416, row, transform, 48, 16, black)
            assert y.dtype == np.float16 and y.shape == (20,)
            # half a unit in the last place of float16, plus float64 noise
            np.testing.assert_allclose(y.astype(float), expected, rtol=2**-11 * 1.001, atol=2**-25 * 1.001)
    assert expected.max() > 0


def test_hand_counted_target(tmp_path):
    values = np.full(500, np.nan)
    values[100:108] = 2  # a sum of 16 in the first bin, 8 by its scale: sqrt(9) - 1 = 2
    values[132] = 7  # 3.5: above the soft clip of 3, 3 - 1 + sqrt(1.5)
    path = write_bigwig(tmp_path / "b.bw", {"chr2": 500}, {"chr2": values})
    row = ("x", "", 384.0, 3.0, 0.5, "sum_sqrt", 0)
    with open_coverage(path) as reader:
        y = read_target(reader, Interval("chr2", 90, 174), track(row), Recipe("new", 10, 32))
        np.testing.assert_array_equal(y, np.float16([2, np.sqrt(4.5) - 1]))
        y = read_target(reader, Interval("chr2", 90, 174), track((*row[:5], "sum", 0)), Recipe("new", 10, 32))
        np.testing.assert_array_equal(y, np.float16([3 - 1 + np.sqrt(6), 2 + np.sqrt(1.5)]))
        y = read_target(reader, Interval("chr2", 90, 174), track((*row[:5], "sum", 0)), Recipe("old", 10, 32))
        np.testing.assert_array_equal(y, np.float16([(3 + np.sqrt(13)) / 2, (3 + np.sqrt(4)) / 2]))


def test_values_over_the_range_of_float16_are_not_lost(tmp_path):
    values = np.full(500, 70000.0)
    row = ("x", "", float("inf"), float("inf"), 1.0, "mean", 0)
    write_bigwig(tmp_path / "big.bw", {"chr2": 500}, {"chr2": values})
    with np.errstate(over="ignore"):
        write_w5(tmp_path / "big.w5", {"chr2": values})  # float16: infinite
    window = Interval("chr2", 0, 64)
    for name, expected in [("big.bw", 65504), ("big.w5", 65504)]:
        with open_coverage(tmp_path / name) as reader:
            assert read_target(reader, window, track(row), Recipe()).tolist() == [expected] * 2
    scaled = track((*row[:4], 0.5, "mean", 0))
    assert read_target(open_coverage(tmp_path / "big.bw"), window, scaled, Recipe()).tolist() == [35008] * 2  # to 16
    assert read_target(open_coverage(tmp_path / "big.w5"), window, scaled, Recipe()).tolist() == [32752] * 2


def test_negative_coverage(tmp_path):
    values = np.full(500, 1.0)
    values[70] = -3
    path = write_bigwig(tmp_path / "n.bw", {"chr2": 500}, {"chr2": values})
    row = track(("x", "", 384.0, 384.0, 1.0, "sum", 0))
    with open_coverage(path) as reader:
        with pytest.raises(InputError, match=r"n.bw: negative coverage \(-3\) at chr2:71 .*--abs"):
            read_target(reader, Interval("chr2", 0, 96), row, Recipe())
        assert read_target(reader, Interval("chr2", 0, 96), row, Recipe(negative="abs")).tolist() == [32, 32, 34]
    with pytest.raises(InputError, match="negative is 'clip', expected one of error, abs"):
        Recipe(negative="clip")


def test_infinite_values_are_refused(tmp_path):
    values = np.full(500, 1.0)
    values[70] = np.inf
    path = write_bigwig(tmp_path / "i.bw", {"chr2": 500}, {"chr2": values})
    with pytest.raises(InputError, match="infinite value at chr2:71"):
        open_coverage(path).read(Interval("chr2", 0, 96))


def test_pool_refuses_what_does_not_divide():
    with pytest.raises(InputError, match="33 bp do not divide into bins of 32 bp"):
        pool(np.ones(33), 32, "sum")
    with pytest.raises(InputError, match="unknown sum_stat 'median'"):
        pool(np.ones(32), 32, "median")


def test_blacklist_stretches(tmp_path):
    path = tmp_path / "b.bed"
    path.write_text("chr1\t100\t110\nchr1\t125\t130\nchr1\t10\t400\nchr1\t900\t910\nchr3\t0\t5\n")
    blacklist = Blacklist(path)
    assert blacklist.within(Interval("chr1", 0, 1000)) == [(0, 420), (880, 930)]
    assert blacklist.within(Interval("1", 410, 890)) == [(0, 10), (470, 480)]
    assert blacklist.within(Interval("chr1", 420, 880)) == []
    assert blacklist.within(Interval("chr2", 0, 1000)) == []
    blacklist.check_contigs({"3": 10})
    with pytest.raises(InputError, match="none of its contigs .chr1, chr3. is in the genome"):
        blacklist.check_contigs({"chrX": 10})


def test_contigs_must_be_those_of_the_genome(bigwig):
    reader = open_coverage(bigwig)
    assert reader.resolve("1", 3000) == "chr1"
    with pytest.raises(
        InputError, match="x.bed: contig 'chr1' is 3000 bp long in .*a.bw, but 2999 bp in the genome.*assembly"
    ):
        reader.resolve("chr1", 2999, "x.bed: ")
    with pytest.raises(InputError, match="contig 'chrX' is not in .*a.bw, so there is no coverage for it"):
        reader.resolve("chrX")


def test_where_a_coverage_file_lies(tmp_path, monkeypatch):
    table = tmp_path / "tables" / "targets.txt"
    table.parent.mkdir()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.bw").write_text("x")
    assert locate_coverage("a.bw", table).resolve() == tmp_path / "a.bw"
    (table.parent / "a.bw").write_text("x")
    assert locate_coverage("a.bw", table) == table.parent / "a.bw"
    assert locate_coverage(str(tmp_path / "a.bw"), table) == tmp_path / "a.bw"
    with pytest.raises(InputError, match="tables/b.bw: no such file; the column 'file' of .*targets.txt names it"):
        locate_coverage("b.bw", table)
    with pytest.raises(InputError, match="a track has no file"):
        locate_coverage("", table)


# Bad files


def test_every_truncation_of_a_bigwig_is_found_or_harmless(tmp_path, coverage):
    """Cut anywhere, a file is refused, or what is read of it is right; nothing is silently missing."""
    import pyBigWig

    path = tmp_path / "z.bw"
    file = pyBigWig.open(str(path), "w")
    file.addHeader(list(LENGTHS.items()), maxZooms=3)
    values = np.nan_to_num(coverage["chr1"])
    file.addEntries("chr1", 0, values=values.tolist(), span=1, step=1)
    file.close()
    data = path.read_bytes()
    refused = 0
    cuts = sorted({*range(1, 600, 37), *range(600, len(data), max(1, len(data) // 60)), len(data) - 1})
    for cut in cuts:
        path.write_bytes(data[:cut])
        try:
            got = open_coverage(path).read(Interval("chr1", 0, 3000))
        except InputError:
            refused += 1
        else:
            np.testing.assert_array_equal(got, values)
    assert refused > len(cuts) // 3


def test_a_damaged_block_of_a_bigwig(bigwig):
    data = bytearray(bigwig.read_bytes())
    start = int.from_bytes(data[16:24], "little")
    data[start + 1000] ^= 0xFF
    bigwig.write_bytes(data)
    with pytest.raises(InputError, match="cannot be read: the BigWig file is damaged or truncated"):
        open_coverage(bigwig).read(Interval("chr1", 0, 3000))


def swapped(data):
    return data[3::-1] + data[4:]


def far_index(data):
    return data[:24] + (2**62).to_bytes(8, "little") + data[32:]


def wrong_index(data):
    return data[:24] + (100).to_bytes(8, "little") + data[32:]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (swapped, "swapped bytes .big-endian magic"),
        (far_index, "corrupt or truncated: its index should lie at offset 4611686018427387904"),
        (wrong_index, "no magic number of the index at offset 100"),
        (lambda data: b"chr1\t0\t10\t5\n" * 20, "not a BigWig file .*text, perhaps bedGraph"),
        (lambda data: b"\x1f\x8b" + data, "not a BigWig file but gzip"),
        (lambda data: (0x8789F2EB).to_bytes(4, "little") + data[4:], "a BigBed file"),
        (lambda data: b"\0" * 100, "not a BigWig file .no magic number.$"),
        (lambda data: data[:40], "truncated: a BigWig file of 40 bytes"),
        (lambda data: b"", "the file is empty"),
    ],
)
def test_files_that_are_no_bigwig(bigwig, change, message):
    bigwig.write_bytes(change(bigwig.read_bytes()))
    with pytest.raises(InputError, match=message):
        open_coverage(bigwig)


def test_files_that_are_no_w5(tmp_path):
    path = tmp_path / "x.w5"
    with h5py.File(path, "w") as file:
        pass
    with pytest.raises(InputError, match="the w5 file has no contig"):
        open_coverage(path)
    with h5py.File(path, "w") as file:
        file["chr1"] = np.zeros((4, 4))
    with pytest.raises(InputError, match="'chr1' is not an array of one number per base"):
        open_coverage(path)
    write_w5(tmp_path / "other.w5", {"chr1": [1, 2]})
    with h5py.File(path, "w") as file:
        file["chr1"] = h5py.ExternalLink("other.w5", "chr1")
    with pytest.raises(InputError, match="'chr1' is not an array"):
        open_coverage(path)
    write_w5(path, {"chr1": np.random.default_rng(0).random(5000)})
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match="corrupt or truncated"):
        open_coverage(path)


# Recorded


def test_calicos_recorded_targets(shared_data):
    """All runs whose statistic Borzoi uses, from the float16 file: Calico casts BigWig values to float16 as well.

    Bins with a base over float16's range are infinite there, and end at the clip; everywhere else at most the last
    bit differs, where float32 loses digits of sqrt(1 + x) - 1.
    """
    folder = shared_data / "reference" / "targets"
    recorded = np.load(folder / "read_out.npz")
    windows = read_bed(folder / "seqs.bed")
    blacklist = Blacklist(folder / "black.bed")
    reader = open_coverage(folder / "cov.w5")
    compared = 0
    for key, run in json.loads((folder / "info.json").read_text()).items():
        words = run["args"].split()

        def option(name, default, words=words):
            return type(default)(words[words.index(name) + 1]) if name in words else default

        stat, width = option("-u", ""), option("-w", 32)
        if stat not in SUM_STATS:
            assert stat in ("peak", "sum_exp75")  # no target table of Borzoi has them
            continue
        row = ("x", "", option("-c", np.inf), option("--clip_soft", np.inf), option("-s", 1.0), stat, 0)
        transform = "old" if "--transform_old" in words else "new"
        recipe = Recipe(transform, option("--crop", 0), width, blacklist_quantile=option("--black_pct", 0.5))
        black = blacklist if "-b" in words else None
        y = np.array([read_target(reader, window, track(row), recipe, black) for window in windows])
        limit = np.quantile(y.astype(float), option("--clip_pct", 0.9999999))
        y = np.minimum(y, limit.astype(np.float16))
        bases = np.array([np.nan_to_num(reader.read(window)) for window in windows])[
            :, recipe.crop_bp : -recipe.crop_bp
        ]
        over = bases.reshape(*y.shape, width).max(axis=-1) >= 65504
        assert 0 < over.sum() < 20
        steps = np.abs(y.view(np.int16).astype(int) - recorded[key].view(np.int16).astype(int))
        assert steps[~over].max() <= (1 if transform == "new" and stat.endswith("_sqrt") else 0), key
        assert (steps[~over] > 0).mean() < 0.08, key
        compared += 1
    assert compared == 23
