"""The store of examples: what is written is read, nothing unfinished or damaged is taken for whole."""

import json
import multiprocessing
import pickle
import subprocess
import sys
from dataclasses import replace

import h5py
import numpy as np
import pytest

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.genome import Interval
from kipoi_borzoi.tracks import Tracks
from kipoi_borzoi.training.store import Layout, Store, StoreWriter

LENGTH, CROP, BIN = 334, 39, 32  # no multiple of 8 or 4: the last bytes of packed bases are not full
BINS = 8


def some_tracks(count=5, **changes):
    columns = {
        "index": range(count),
        "identifiers": [f"t{number}" for number in range(count)],
        "descriptions": ["one"] * count,
        "files": [f"{number}.bw" for number in range(count)],
        "clip": [384.0] * count,
        "clip_soft": [float("inf")] * count,
        "scale": [0.3] * count,
        "sum_stat": ["sum_sqrt"] * count,
        "strand_pair": [1, 0, *range(2, count)],
    }
    return Tracks(**{**columns, **changes})


def some_layout(count=6, **changes):
    intervals = [
        Interval(f"chr{1 + number % 2}", 100 * number - 50, 100 * number - 50 + LENGTH) for number in range(count)
    ]
    folds = ["fold10", "train", "fold9", "valid", "test", "train"][:count]
    return Layout(**{**dict(tracks=some_tracks(), transform="new", seq_length=LENGTH, crop_bp=CROP, bin_size=BIN,
                            intervals=intervals, example_folds=folds), **changes})  # fmt: skip


def some_values(layout, seed=0):
    """Bases as numbers (4 for N) and targets (examples, bins, tracks)."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 5, (len(layout.intervals), LENGTH))
    codes[1] %= 4  # one example without N
    targets = rng.gamma(0.3, 20, (len(layout.intervals), BINS, len(layout.tracks))).astype(np.float16)
    return codes, targets


def write(path, layout, codes, targets, **options):
    with StoreWriter(path, layout, **options) as writer:
        for x, y in zip(codes, targets, strict=True):
            writer.append(x, y)
    return Store.open(path)


def one_hot(codes):
    return np.concatenate([np.eye(4), np.zeros((1, 4))])[codes]


@pytest.fixture
def layout():
    return some_layout()


@pytest.fixture
def values(layout):
    return some_values(layout)


@pytest.fixture
def store(tmp_path, layout, values):
    return write(tmp_path / "store", layout, *values)


def test_what_is_written_is_read(store, layout, values):
    codes, targets = values
    assert len(store) == 6
    for i in range(6):
        x, y = store.sequence(i), store.targets(i)
        assert x.dtype == np.float32 and y.dtype == np.float16 and y.flags["C_CONTIGUOUS"]
        np.testing.assert_array_equal(x, one_hot(codes[i]))
        np.testing.assert_array_equal(y, targets[i])
        assert store.interval(i) == layout.intervals[i] and store.fold(i) == layout.example_folds[i]
    assert store.sequence(2, np.uint8).dtype == np.uint8
    assert (store.bins, store.bin_size, store.seq_length, store.crop_bp) == (BINS, BIN, LENGTH, CROP)
    assert store.transform == "new"
    for name in ("identifiers", "files", "descriptions", "sum_stat"):
        assert getattr(store.tracks, name) == getattr(layout.tracks, name)
    for name in ("index", "clip", "clip_soft", "scale", "strand_pair"):
        np.testing.assert_array_equal(getattr(store.tracks, name), getattr(layout.tracks, name))


def test_one_hot_and_numbers_are_the_same_sequence(tmp_path, store, layout, values):
    other = write(tmp_path / "other", layout, one_hot(values[0]), values[1])
    assert other.key == store.key
    np.testing.assert_array_equal(other.sequence(3), store.sequence(3))


def test_folds_come_in_order(store):
    assert store.folds == ("train", "valid", "test", "fold9", "fold10")
    assert store.indices("train").tolist() == [1, 5] and store.indices("train").dtype == np.int64
    with pytest.raises(InputError, match="no fold 'fold1'; its folds are train, valid"):
        store.indices("fold1")


@pytest.mark.parametrize("rows", [[4, 0], [1, 2, 3], slice(1, 3), np.array([3]), [4, 3, 1, 0], [2, 2, 2, 2], []])
def test_some_tracks(store, values, rows):
    np.testing.assert_array_equal(
        store.targets(2, rows), values[1][2][:, rows if isinstance(rows, slice) else list(rows)]
    )


def test_numbers_out_of_range(store):
    for number in (-1, 6):
        with pytest.raises(IndexError, match="of a store with 6 examples"):
            store.targets(number)
    with pytest.raises(InputError, match=r"\[5\] are out of range: the store has 5 tracks"):
        store.targets(0, [5])


def test_key_is_the_content_and_nothing_else(tmp_path, store, layout, values):
    codes, targets = values
    files = some_layout(tracks=some_tracks(files=["elsewhere"] * 5))
    assert write(tmp_path / "a", files, codes, targets, source={"note": "other"}).key == store.key
    changed = targets.copy()
    changed[5, 7, 4] += 1
    base = codes.copy()
    base[5, -1] = (base[5, -1] + 1) % 5
    others = [
        write(tmp_path / "b", layout, codes, changed),
        write(tmp_path / "c", layout, base, targets),
        write(tmp_path / "d", some_layout(transform="old"), codes, targets),
        write(tmp_path / "e", some_layout(example_folds=["train"] * 6), codes, targets),
        write(tmp_path / "f", some_layout(tracks=some_tracks(scale=[0.3] * 4 + [0.4])), codes, targets),
        write(tmp_path / "g", replace(layout, intervals=[replace(i, start=i.start + 1, end=i.end + 1)
                                                         for i in layout.intervals]), codes, targets),
    ]  # fmt: skip
    assert len({store.key, *(other.key for other in others)}) == 7


def read_in_worker(arguments):
    store, number = arguments
    return store.targets(number).sum(dtype=float), store.sequence(number).sum(dtype=float)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_read_it(store, method):
    expected = [read_in_worker((store, number)) for number in range(6)]  # the file is open in this process, too
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(read_in_worker, [(store, number) for number in range(6)]) == expected


def test_pickle_and_context(store, values):
    with pickle.loads(pickle.dumps(store)) as copy:
        np.testing.assert_array_equal(copy.targets(0), values[1][0])
    np.testing.assert_array_equal(copy.targets(0), values[1][0])  # opens again


def test_the_folder_holds_one_file_and_either_path_opens(tmp_path, store):
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["store.h5"]
    assert Store.open(tmp_path / "store" / "store.h5").key == store.key


def test_a_store_is_not_overwritten_unasked(tmp_path, store, layout, values):
    with pytest.raises(InputError, match="a complete store is there already"):
        write(tmp_path / "store", layout, *values)
    again = write(tmp_path / "store", layout, values[0], values[1] + 1, replace=True)
    assert again.key != store.key
    with pytest.raises(InputError, match="replaced by another"):
        pickle.loads(pickle.dumps(store)).targets(0)


@pytest.mark.parametrize("failure", [KeyboardInterrupt, InputError, None])
def test_an_interrupted_writer_leaves_nothing(tmp_path, layout, values, failure):
    with pytest.raises(failure or InputError):
        with StoreWriter(tmp_path / "store", layout) as writer:
            writer.append(values[0][0], values[1][0])
            if failure:
                raise failure("stop")
    assert list((tmp_path / "store").iterdir()) == []
    with pytest.raises(InputError, match="no store in this folder"):
        Store.open(tmp_path / "store")


def test_other_folders_are_left_alone(tmp_path, layout, values):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="the folder is not empty and no store"):
        write(tmp_path, layout, *values)
    with pytest.raises(InputError, match="a file is there already"):
        write(tmp_path / "notes.txt", layout, *values)


@pytest.mark.parametrize(
    ("value", "message"),
    [(-1, "is -1"), (np.nan, "is nan"), (np.inf, "is inf"), (70000, "is 70000")],
)
def test_values_that_are_no_targets(tmp_path, layout, values, value, message):
    targets = values[1].astype(np.float32)
    targets[3, 5, 2] = value
    with pytest.raises(InputError, match=rf"example 3 \(chr2:250-584\): target of track 't2', bin 5, {message}"):
        write(tmp_path / "store", layout, values[0], targets)


def test_shapes_that_do_not_fit(tmp_path, layout, values):
    with pytest.raises(InputError, match=r"targets of shape \(5, 8\), expected \(8, 5\)"):
        write(tmp_path / "store", layout, values[0], values[1].transpose(0, 2, 1))
    with pytest.raises(InputError, match=r"a sequence of shape \(333,\), expected \(334, 4\)"):
        write(tmp_path / "store", layout, values[0][:, :-1], values[1])
    with pytest.raises(InputError, match="the store has 6 sequences, and one more"):
        with StoreWriter(tmp_path / "store", layout) as writer:
            for number in [0, 1, 2, 3, 4, 5, 5]:
                writer.append(values[0][number], values[1][number])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bin_size": 31}, "leaves 256 bp after a crop of 39 bp at each end, expected a positive multiple of the bin size, 31"),
        ({"crop_bp": 168}, "leaves -2 bp"),
        ({"crop_bp": -1}, "expected positive numbers"),
        ({"transform": "newer"}, "unknown transform 'newer'"),
        ({"tracks": some_tracks(strand_pair=[1, 0, 2, 3, 7])}, "'t4' .index 4. is stranded, but its partner"),
        ({"example_folds": ["train"] * 5}, "6 sequences, but 5 folds"),
        ({"example_folds": ["train"] * 5 + [""]}, "has no fold"),
        ({"intervals": [Interval("chr1", 0, LENGTH)] * 5 + [Interval("chr1", 0, 333)]}, "sequence 5 .* is 333 bp long"),
        ({"intervals": (), "example_folds": ()}, "at least one sequence"),
    ],
)  # fmt: skip
def test_layouts_that_are_none(changes, message):
    with pytest.raises(InputError, match=message):
        some_layout(**changes)


# Damage


def edit(store, change):
    store.close()
    with h5py.File(store.path, "r+") as file:
        change(file)


def drop_key(file):
    del file.attrs["key"]


def other_version(file):
    file.attrs["version"] = 2


def move_window(file):
    file["start"][2] += 1


def other_scale(file):
    meta = json.loads(file["meta"].asstr()[()])
    meta["tracks"]["scale"][0] = 1.0
    del file["meta"]
    file["meta"] = json.dumps(meta)


def no_targets(file):
    del file["targets"]


def fewer_targets(file):
    del file["targets"]
    file["targets"] = np.zeros((5, 5, BINS), np.float16)


def no_format(file):
    del file.attrs["format"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop_key, "completion mark is missing"),
        (other_version, "of version 2, this program reads version 1"),
        (move_window, "damaged or edited"),
        (other_scale, "damaged or edited"),
        (no_targets, "damaged"),
        (fewer_targets, "damaged: its arrays have shapes"),
        (no_format, "not a store"),
    ],
)
def test_opening_a_damaged_store(store, change, message):
    edit(store, change)
    with pytest.raises(InputError, match=message):
        Store.open(store.path)


def test_files_that_are_no_store(tmp_path, store):
    data = store.path.read_bytes()
    store.close()
    store.path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="cut short or unreadable"):
        Store.open(store.path)
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(InputError, match="not HDF5"):
        Store.open(tmp_path / "x.txt")
    with pytest.raises(InputError, match="no such store; build one"):
        Store.open(tmp_path / "none")


@pytest.mark.parametrize("name", ["targets", "bases", "known"])
def test_a_changed_byte_in_a_chunk_is_found(store, name):
    with h5py.File(store.path) as file:
        place = file[name].id.get_chunk_info_by_coord((3, 0, 0) if name == "targets" else (3, 0))
    store.close()
    with open(store.path, "r+b") as handle:
        handle.seek(place.byte_offset + place.size // 2)
        byte = handle.read(1)[0]
        handle.seek(-1, 1)
        handle.write(bytes([byte ^ 4]))
    reopened = Store.open(store.path)  # the values are checked when they are read
    with pytest.raises(InputError, match=r"example 3 \(chr2:250-584\) cannot be read, the file is damaged"):
        reopened.targets(3) if name == "targets" else reopened.sequence(3)
    assert reopened.targets(2).shape == (BINS, 5) and reopened.sequence(2).shape == (LENGTH, 4)


def test_reading_needs_neither_keras_nor_kipoi():
    code = "import sys, kipoi_borzoi.training.store; sys.exit(bool({'tensorflow', 'keras', 'kipoi'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
