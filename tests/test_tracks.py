"""The target table is read without a guess, and coverage is squashed and unsquashed exactly as stated."""

import gzip
import logging
import math
import pickle

import numpy as np
import pytest

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.tracks import SUM_STATS, Tracks, check_transform, read_tracks, squash, unsquash

HEADER = "\tidentifier\tfile\tclip\tclip_soft\tscale\tsum_stat\tstrand_pair\tdescription\n"
LINES = [
    "0\tA+\t/a+.w5\t384\t64\t1.0\tsum_sqrt\t1\tCAGE:a\n",
    "1\tA-\t/a-.w5\t384\t64\t1.0\tsum_sqrt\t0\tCAGE:a\n",
    "2\tB\t/b.w5\t128\t32\t2.0\tmean\t2\tDNASE:b\n",
    "3\tC\t/c.w5\t768\t384\t0.01\tsum_sqrt\t3\tRNA:c\n",
]


def write(tmp_path, lines=LINES, header=HEADER, name="targets.txt"):
    path = tmp_path / name
    path.write_text(header + "".join(lines))
    return path


def make_tracks(sum_stat, clip=np.inf, clip_soft=np.inf, scale=1.0):
    n = len(sum_stat)
    return Tracks(
        index=range(n),
        identifiers=[f"t{i}" for i in range(n)],
        descriptions=[""] * n,
        files=[""] * n,
        clip=np.broadcast_to(clip, n),
        clip_soft=np.broadcast_to(clip_soft, n),
        scale=np.broadcast_to(scale, n),
        sum_stat=sum_stat,
        strand_pair=range(n),
    )


# ---------------------------------------------------------------- reading


def test_every_column_of_the_table_is_read(tmp_path):
    tracks = read_tracks(write(tmp_path), units=4)
    assert len(tracks) == 4
    assert tracks.index.tolist() == [0, 1, 2, 3]
    assert tracks.identifiers == ("A+", "A-", "B", "C")
    assert tracks.files == ("/a+.w5", "/a-.w5", "/b.w5", "/c.w5")
    assert tracks.clip.tolist() == [384, 384, 128, 768]
    assert tracks.clip_soft.tolist() == [64, 64, 32, 384]
    assert tracks.scale.tolist() == [1, 1, 2, 0.01]
    assert tracks.sum_stat == ("sum_sqrt", "sum_sqrt", "mean", "sum_sqrt")
    assert tracks.strand_pair.tolist() == [1, 0, 2, 3]
    assert tracks.descriptions == ("CAGE:a", "CAGE:a", "DNASE:b", "RNA:c")


def test_tracks_come_in_the_order_of_the_index(tmp_path):
    tracks = read_tracks(write(tmp_path, [LINES[3], LINES[0], LINES[2], LINES[1]]), units=4)
    assert tracks.identifiers == ("A+", "A-", "B", "C")
    assert tracks.scale.tolist() == [1, 1, 2, 0.01]


@pytest.mark.parametrize("encode", [gzip.compress, lambda b: b"\xef\xbb\xbf" + b, lambda b: b.replace(b"\n", b"\r\n")])
def test_gzip_byte_order_mark_and_windows_line_ends(tmp_path, encode):
    plain = write(tmp_path)
    other = tmp_path / "other.txt"
    other.write_bytes(encode(plain.read_bytes()))
    tracks = read_tracks(other, units=4)
    assert tracks.identifiers == ("A+", "A-", "B", "C")
    assert tracks.descriptions[-1] == "RNA:c"


def test_blank_lines_do_not_shift_line_numbers(tmp_path):
    path = write(tmp_path, ["\n", LINES[0], LINES[1], "\n", LINES[2], "x\n", "\n"])
    with pytest.raises(InputError, match="line 7: 1 fields, but the header has 9 columns"):
        read_tracks(path)


def test_text_stays_as_it_is(tmp_path):
    lines = [
        '0\tNA\t\t384\t64\t1.0\tsum\t0\t"cap, RNA\n',
        "1\tNone\t\t384\t64\t1.0\tsum\t1\tnan\n",
        '2\t"q\t\t384\t64\t1.0\tsum\t2\tnull\u2028 \n',
    ]
    tracks = read_tracks(write(tmp_path, lines), units=3)
    assert tracks.identifiers == ("NA", "None", '"q')
    assert tracks.descriptions == ('"cap, RNA', "nan", "null\u2028 ")


def test_an_older_table_without_optional_columns(tmp_path):
    path = write(tmp_path, ["0\tA\tsum\n", "1\tB\tsum_sqrt\n"], header="index\tidentifier\tsum_stat\n")
    tracks = read_tracks(path, units=2)
    assert tracks.clip.tolist() == tracks.clip_soft.tolist() == [math.inf, math.inf]
    assert tracks.scale.tolist() == [1, 1]
    assert tracks.strand_pair.tolist() == [0, 1]
    assert tracks.files == tracks.descriptions == ("", "")


def test_other_columns_are_ignored_and_said_so(tmp_path, caplog):
    path = write(tmp_path, ["0\tA\thg38\tsum\n"], header="\tidentifier\tgenome\tsum_stat\n")
    with caplog.at_level(logging.INFO):
        assert read_tracks(path).identifiers == ("A",)
    assert "columns ignored: genome" in caplog.text


def changed(row, column, value):
    cells = LINES[row].rstrip("\n").split("\t")
    cells[HEADER.rstrip("\n").split("\t").index(column)] = value
    return [*LINES[:row], "\t".join(cells) + "\n", *LINES[row + 1 :]]


@pytest.mark.parametrize(
    "lines, message",
    [
        ([], "no targets"),
        ([*LINES, "7611\tZ\tz\t1\t1\t1\tsum\t7611\tz\n"], "line 6: index 7611 is out of range: the head has 4 tracks"),
        (changed(3, "", "-1"), "line 5: index is -1"),
        (changed(3, "", "x"), "line 5: index is 'x', expected an integer"),
        (changed(3, "", "9" * 30), "line 5: index is 999"),
        (changed(3, "", "2"), "line 5: duplicate index 2: 'C' and 'B'"),
        (changed(3, "identifier", "B"), "line 5: duplicate identifier 'B': index 2"),
        (changed(3, "identifier", ""), "line 5: the identifier is empty"),
        (changed(1, "strand_pair", "9"), "line 3: strand_pair 9 is out of range"),
        (changed(1, "strand_pair", "-1"), "strand_pair"),
        (changed(1, "strand_pair", "1"), "line 2: strand_pair 1 is not mutual: index 0 names 1 .* 1 names 1"),
        (changed(2, "strand_pair", "1"), "line 4: strand_pair 1 is not mutual"),
        (changed(0, "sum_stat", "sum_sqr"), "line 2: unknown sum_stat 'sum_sqr'; known: sum, mean, max, sum_sqrt"),
        (changed(2, "scale", "0"), "line 4: scale is 0.0, expected a number greater than 0"),
        (changed(2, "scale", "inf"), "line 4: scale is inf"),
        (changed(2, "clip", "nan"), "line 4: clip is nan"),
        (changed(2, "clip_soft", "-3"), "line 4: clip_soft is -3.0"),
        (changed(2, "clip_soft", ""), "line 4: clip_soft is '', expected a number"),
        (changed(0, "description", "CAGE:x\ty"), "line 2: 10 fields, but the header has 9 columns"),
        (LINES[:3], "lists 3 tracks, but the head has 4; missing index 3$"),
        ([LINES[0], LINES[2]], "lists 2 tracks, but the head has 4; missing index 1, 3$"),
    ],
)
def test_bad_lines_are_named(tmp_path, lines, message):
    path = write(tmp_path, lines)
    with pytest.raises(InputError, match=message) as caught:
        read_tracks(path, units=4)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "no targets: the file is empty"),
        (b"\n \n", "no targets: the file is empty"),
        ((HEADER + LINES[0]).replace("\t", ",").encode(), "line 1: no tab in the header, but commas"),
        (b"<!DOCTYPE html>\n<html>", "line 1: no tab in the header, but '<!DOCTYPE html>'"),
        (b"identifier\tsum_stat\nA\tsum\n", "first column is called 'identifier', expected the unnamed index"),
        (b"\tidentifier\tfile\n0\tA\ta\n", "column 'sum_stat' is missing; found: identifier, file"),
        (b"\tidentifier\tclip_sfot\tsum_stat\n0\tA\t3\tsum\n", "unknown column 'clip_sfot'; did you mean 'clip_soft'"),
        (b"\tidentifier\tsum_stat\tsum_stat\n0\tA\tsum\tsum\n", "more than one column is called 'sum_stat'"),
        (b"\tidentifier\tindex\tsum_stat\n0\tA\t5\tsum\n", "more than one column is called 'index'"),
        (b"\tidentifier\tsum_stat\n0\t\xff\tsum\n", "not UTF-8"),
        (b"\x89HDF\r\n\x1a\n", "not UTF-8"),
        (gzip.compress(HEADER.encode() * 99, mtime=0)[:-20], "truncated or corrupt gzip"),
        (b"\x1f\x8bnot gzip at all", "truncated or corrupt gzip"),
    ],
)
def test_files_that_are_no_target_table(tmp_path, content, message):
    path = tmp_path / "targets.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_tracks(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_folder_are_input_errors(tmp_path):
    with pytest.raises(InputError, match="cannot read the target table: No such file"):
        read_tracks(tmp_path / "absent.txt")
    with pytest.raises(InputError, match="cannot read the target table"):
        read_tracks(tmp_path)


def test_a_subset_table_keeps_the_numbering_of_the_head(tmp_path):
    path = write(tmp_path, [LINES[3], LINES[1]])
    for tracks in (read_tracks(path), read_tracks(path, units=4, subset=True)):
        assert tracks.index.tolist() == [1, 3]
        assert tracks.strand_pair.tolist() == [0, 3]
    with pytest.raises(InputError, match="line 2: index 3 is out of range: the head has 3 tracks"):
        read_tracks(path, units=3, subset=True)


def test_two_tracks_cannot_share_an_absent_partner(tmp_path):
    lines = ["4\tA\ta\t1\t1\t1\tsum\t9\ta\n", "5\tB\tb\t1\t1\t1\tsum\t9\tb\n"]
    with pytest.raises(InputError, match="line 3: strand_pair 9 is not mutual: index 4 names 9 as well"):
        read_tracks(write(tmp_path, lines))


# ---------------------------------------------------------------- Tracks


def test_select_by_index_and_identifier_in_the_order_asked(tmp_path):
    tracks = read_tracks(write(tmp_path)).select(["C", 1, np.int64(0)])
    assert tracks.identifiers == ("C", "A-", "A+")
    assert tracks.index.tolist() == [3, 1, 0]
    assert tracks.strand_pair.tolist() == [3, 0, 1]
    assert tracks.scale.tolist() == [0.01, 1, 1]
    assert tracks.pair_rows().tolist() == [0, 2, 1]
    assert tracks.select([1]).identifiers == ("A-",)  # indices are the head's, not rows of the subset


def test_a_selected_track_without_its_partner_still_knows_it(tmp_path):
    tracks = read_tracks(write(tmp_path)).select(["A-", "B"])
    assert tracks.strand_pair.tolist() == [0, 2]
    with pytest.raises(InputError, match=r"track 'A-' \(index 1\) is stranded, but its partner \(strand_pair 0\)"):
        tracks.pair_rows()


@pytest.mark.parametrize(
    "chosen, message",
    [
        ([4], "unknown track 4; known: index 0 to 3"),
        ([-1], "unknown track -1"),
        (["a+"], "unknown track 'a\\+'; near matches: A\\+"),
        (["zzzzz"], "unknown track 'zzzzz'; known: A\\+, A-, B, C"),
        (["A+", 0], "track 0 is chosen twice"),
        ([], "no tracks are chosen"),
        ("A+", "expected a list: \\['A\\+'\\]"),
        ([True, False, True, True], "got True"),
        (np.array([True]), "got .*True"),
        ([1.0], "got 1.0"),
    ],
)
def test_bad_selections(tmp_path, chosen, message):
    tracks = read_tracks(write(tmp_path))
    with pytest.raises(InputError, match=message):
        tracks.select(chosen)


def test_tracks_validate_themselves():
    with pytest.raises(InputError, match="row 1: unknown sum_stat 'median'"):
        make_tracks(["sum", "median"])
    with pytest.raises(InputError, match="one value per track"):
        Tracks([0], ["a", "b"], [""], [""], [1], [1], [1], ["sum"], [0])
    with pytest.raises(InputError, match="no targets"):
        make_tracks([])


def test_tracks_cannot_be_changed_and_survive_pickling():
    clip = np.array([5.0])
    tracks = make_tracks(["sum"], clip=clip)
    clip[0] = 9
    assert tracks.clip.tolist() == [5]
    with pytest.raises(ValueError):
        tracks.clip[0] = 1
    again = pickle.loads(pickle.dumps(tracks))
    assert again.clip.tolist() == [5] and again.identifiers == ("t0",)


# ---------------------------------------------------------------- transforms


@pytest.mark.parametrize(
    "stat, binned, squashed",
    [
        ("sum", 3.0, 6.0),  # 3 * 2
        ("mean", 3.0, 6.0),
        ("max", 3.0, 6.0),
        ("sum", 10.0, 13.0),  # 20 > 10: 10 - 1 + sqrt(20 - 10 + 1) = 9 + sqrt(11)
        ("sum", 5.0, 10.0),  # at the limit: unchanged
        ("sum_sqrt", 4.0, 2.0),  # sqrt(1 + 8) - 1
        ("mean_sqrt", 4.0, 2.0),
        ("max_sqrt", 4.0, 2.0),
        ("sum_sqrt", 180.0, 12.0),  # sqrt(361) - 1 = 18; 10 - 1 + sqrt(18 - 10 + 1) = 12
        ("sum_sqrt", 0.0, 0.0),
    ],
)
def test_new_transform_by_hand(stat, binned, squashed):
    tracks = make_tracks([stat], clip=100, clip_soft=10, scale=2)
    squashed = 9 + math.sqrt(11) if (stat, binned) == ("sum", 10.0) else squashed
    result = squash(np.array([[binned]]), tracks, "new", dtype=np.float64)
    np.testing.assert_allclose(result, [[squashed]], rtol=1e-15)
    np.testing.assert_allclose(unsquash(result, tracks, "new", dtype=np.float64), [[2 * binned]], rtol=1e-14)
    np.testing.assert_allclose(unsquash(result, tracks, "new", True, dtype=np.float64), [[binned]], rtol=1e-14)


@pytest.mark.parametrize(
    "stat, binned, squashed",
    [
        ("sum", 3.0, 6.0),  # 3, then * 2
        ("mean", 26.0, 28.0),  # 10 + sqrt(26 - 10) = 14, then * 2
        ("max", 10.0, 20.0),
        ("sum_sqrt", 16.0, 16.0),  # 16^0.75 = 8
        ("mean_sqrt", 16.0, 16.0),
        ("max_sqrt", 81.0, 2 * (10 + math.sqrt(17))),  # 81^0.75 = 27 > 10
        ("sum_sqrt", 0.0, 0.0),
    ],
)
def test_old_transform_by_hand(stat, binned, squashed):
    tracks = make_tracks([stat], clip=100, clip_soft=10, scale=2)
    result = squash(np.array([[binned]]), tracks, "old", dtype=np.float64)
    np.testing.assert_allclose(result, [[squashed]], rtol=1e-15)
    np.testing.assert_allclose(unsquash(result, tracks, "old", dtype=np.float64), [[2 * binned]], rtol=1e-14)
    np.testing.assert_allclose(unsquash(result, tracks, "old", True, dtype=np.float64), [[binned]], rtol=1e-14)


def test_the_hard_clip_comes_after_scaling_in_the_new_and_before_it_in_the_old_transform():
    tracks = make_tracks(["sum"], clip=50, scale=0.5)
    assert squash([[1000.0]], tracks, "new") == 50
    assert squash([[1000.0]], tracks, "old") == 25


def reference_unsquash(x, tracks, transform, unscale):
    """The formulas of the design once more, value by value."""
    result = np.empty_like(x)
    for place, value in np.ndenumerate(x):
        t = place[-1]
        scale, c, root = tracks.scale[t], tracks.clip_soft[t], tracks.sum_stat[t].endswith("_sqrt")
        if transform == "new":
            value = c - 1 + (value - c + 1) ** 2 if value > c else value
            value = (value + 1) ** 2 - 1 if root else value
            value = value / scale if unscale else value
        else:
            value = value / scale
            value = c + (value - c) ** 2 if value > c else value
            value = value ** (4 / 3) if root else value
            value = value if unscale else value * scale
        result[place] = value
    return result


@pytest.mark.parametrize("transform", ["new", "old"])
@pytest.mark.parametrize("unscale", [False, True])
@pytest.mark.parametrize("order", ["runs", "mixed"])
def test_unsquash_of_an_array_with_many_tracks(transform, unscale, order):
    rng = np.random.default_rng(1)
    stats = list(SUM_STATS) * 5
    stats = sorted(stats, key=lambda s: s.endswith("_sqrt")) if order == "runs" else list(rng.permutation(stats))
    clip_soft = rng.choice([4.0, 20.0, np.inf], 30)
    tracks = make_tracks(stats, clip_soft=clip_soft, scale=rng.choice([0.01, 0.3, 2.0], 30))
    coverage = rng.gamma(0.5, 8.0, size=(2, 50, 30))
    before = coverage.copy()
    expected = reference_unsquash(coverage, tracks, transform, unscale)
    found = unsquash(coverage, tracks, transform, unscale=unscale)
    assert found.dtype == np.float32 and found.shape == (2, 50, 30)
    np.testing.assert_allclose(found, expected, rtol=3e-6, atol=1e-12)
    np.testing.assert_allclose(unsquash(coverage, tracks, transform, unscale, np.float64), expected, 1e-12, 1e-12)
    np.testing.assert_allclose(unsquash(coverage[0, 3], tracks, transform, unscale, np.float64), expected[0, 3])
    np.testing.assert_array_equal(coverage, before)


@pytest.mark.parametrize("transform", ["new", "old"])
def test_the_round_trip_of_real_track_settings(transform):
    tracks = make_tracks(["sum", "sum_sqrt", "mean", "mean_sqrt"], 1e9, [384, 320, 32, 64], [1, 0.3, 2, 0.01])
    binned = np.random.default_rng(2).gamma(0.3, 2000.0, size=(3, 200, 4))
    squashed = squash(binned, tracks, transform, dtype=np.float64)
    np.testing.assert_allclose(unsquash(squashed, tracks, transform, True, np.float64), binned, rtol=1e-9, atol=1e-9)


def test_small_values_keep_their_digits_in_float32():
    tracks = make_tracks(["sum_sqrt"])
    assert unsquash(np.float32([[1e-6]]), tracks, "new")[0, 0] == pytest.approx(2e-6, rel=1e-5)
    assert squash(np.float32([[2e-6]]), tracks, "new")[0, 0] == pytest.approx(1e-6, rel=1e-5)


def test_rows_are_all_done_when_they_exceed_one_block():
    tracks = make_tracks(["sum_sqrt", "sum"] * 500)
    coverage = np.full((3, 700, 1000), 3.0, np.float32)  # 2.1 million values
    found = unsquash(coverage, tracks, "new")
    assert (found[..., ::2] == 15).all() and (found[..., 1::2] == 3).all()


def test_arrays_that_are_views_or_half_precision_or_empty():
    tracks = make_tracks(["sum_sqrt", "sum"])
    wide = np.arange(24.0).reshape(2, 3, 4).astype(np.float16)
    found = unsquash(wide[:, ::-1, 1:3], tracks, "new")
    np.testing.assert_array_equal(found[0, 0], [9 * 11, 10])
    assert found.dtype == np.float32
    assert unsquash(np.empty((0, 5, 2)), tracks, "old").shape == (0, 5, 2)


@pytest.mark.parametrize("function", [squash, unsquash])
def test_bad_arguments_of_the_transforms(function):
    tracks = make_tracks(["sum", "sum"])
    with pytest.raises(InputError, match="unknown transform 'newer'; known: new, old"):
        function(np.ones((3, 2)), tracks, "newer")
    with pytest.raises(InputError, match=r"shape \(3, 4\), expected \(..., bins, 2\)"):
        function(np.ones((3, 4)), tracks, "new")
    with pytest.raises(InputError, match=r"shape \(\)"):
        function(1.0, tracks, "new")


def test_check_transform():
    check_transform("old")
    with pytest.raises(InputError, match="known: new, old"):
        check_transform("Old")


# ---------------------------------------------------------------- real tables and recorded values


@pytest.mark.parametrize("name, units", [("targets_human.txt.gz", 7611), ("targets_mouse.txt.gz", 2608)])
def test_the_published_tables(shared_data, name, units):
    tracks = read_tracks(shared_data / "borzoi" / name, units=units)
    assert len(tracks) == units
    np.testing.assert_array_equal(tracks.strand_pair[tracks.strand_pair], np.arange(units))


def test_a_published_table_of_some_tracks(shared_data):
    path = shared_data / "tiny" / "hg38" / "targets_rna.txt"
    tracks = read_tracks(path, units=74, subset=True)
    assert tracks.index.tolist() == list(range(34, 74))
    assert tracks.pair_rows()[:4].tolist() == [1, 0, 3, 2]
    with pytest.raises(InputError, match="lists 40 tracks, but the head has 74"):
        read_tracks(path, units=74)


def test_bad_tables_have_the_outcome_that_a_careful_user_wants(shared_data):
    folder = shared_data / "badinputs"
    lines = [line.split("\t") for line in (folder / "manifest.tsv").read_text().splitlines()]
    rows = [dict(zip(lines[0], line, strict=True)) for line in lines[1:] if line[0].startswith("T")]
    assert len(rows) >= 12
    for row in rows:
        path = folder / row["path(s)"]
        outcome = row["expected outcome class (error|skip-and-report|score-normally)"]
        if outcome == "error" and not row["also_ok"].startswith("score-normally when the model has all tracks"):
            with pytest.raises(InputError, match="(?i)" + row["expected message keyword(s)"]):
                read_tracks(path, units=4, subset=True)
        else:
            content = path.read_text().splitlines()
            assert len(read_tracks(path, units=4, subset=True)) == len(content) - 1


@pytest.mark.parametrize("transform, key", [("new", "untransform_preds"), ("old", "untransform_preds1")])
def test_unsquash_gives_the_values_of_calicos_code(shared_data, tmp_path, transform, key):
    folder = shared_data / "reference" / "targets"
    # Calico's code leaves 'sum_exp75' as it leaves 'sum' here: it never undoes that squashing.
    table = (folder / "untransform_targets.tsv").read_text().replace("sum_exp75", "sum")
    (tmp_path / "targets.tsv").write_text(table)
    tracks = read_tracks(tmp_path / "targets.tsv", units=8)
    recorded = np.load(folder / "untransform.npz")
    for unscale in (False, True):
        expected = recorded[f"{key}_unscale{int(unscale)}_unclip1"]
        np.testing.assert_allclose(unsquash(recorded["preds"], tracks, transform, unscale), expected, rtol=5e-6)


@pytest.mark.parametrize("transform", ["new", "old"])
@pytest.mark.parametrize("stat", ["sum", "sum_sqrt", "mean", "mean_sqrt"])
def test_squash_gives_the_targets_of_calicos_code(shared_data, transform, stat):
    folder = shared_data / "reference" / "targets"
    recorded = np.load(folder / "read_out.npz")
    settings = {
        "none": {},
        "c384_cs320_s0.3": {"clip": 384, "clip_soft": 320, "scale": 0.3},
        "c768_cs384_s1": {"clip": 768, "clip_soft": 384},
        "c5_cs64_s0.1": {"clip": 5, "clip_soft": 64, "scale": 0.1},
        "cs32_s2": {"clip_soft": 32, "scale": 2.0},
    }
    intervals = [line.split() for line in (folder / "seqs.bed").read_text().splitlines()]
    per_base = np.stack([recorded["coverage"][int(start) : int(end)] for _, start, end in intervals])
    per_base = np.nan_to_num(per_base[:, 1024:-1024]).reshape(len(intervals), -1, 32)
    half = (per_base <= np.finfo(np.float16).max).all(-1)  # the recorded run casts per-base values: some overflow
    per_bin = np.where(half[..., None], per_base, 0).astype(np.float16).astype(np.float32)
    binned = per_bin.sum(-1) if stat.startswith("sum") else per_bin.mean(-1)
    compared = 0
    for name, setting in settings.items():
        key = f"{transform}__{stat}__{name}__crop1024_w32"
        if key in recorded:
            found = squash(binned[..., None], make_tracks([stat], **setting), transform)[..., 0]
            expected = recorded[key].astype(np.float32)
            found = np.minimum(found, expected.max())  # the recorded run clips at a quantile of its values
            np.testing.assert_allclose(found[half], expected[half], rtol=1e-3, atol=1e-3)
            compared += 1
    assert compared >= 2 and half.mean() > 0.99
