"""Calico's TFRecord folders: read without TensorFlow what TensorFlow wrote, and nothing of a damaged folder is taken over."""

import json
import shutil
import subprocess
import sys
import zlib

import numpy as np
import pytest

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.training.store import Store
from kipoi_borzoi.training.tfrecords import import_tfrecords, parse_example, read_tfrecords

LENGTH, CROP, WIDTH, BINS, TRACKS = 256, 32, 32, 6, 3
FOLDS = ["fold1", "fold0", "fold0", "fold1", "fold0"]  # mixed: each fold's records are its lines in order
FILES = {"fold0": [[1, 2], [4]], "fold1": [[0, 3]]}


def write_folder(folder, one_hot=False, dtype=np.float16):
    """A data folder written by TensorFlow; returns bases as numbers and targets."""
    import tensorflow as tf

    rng = np.random.default_rng(0)
    codes = rng.integers(0, 5, (len(FOLDS), LENGTH)).astype(np.uint8)
    targets = rng.gamma(0.5, 4, (len(FOLDS), BINS, TRACKS)).astype(np.float16)
    (folder / "tfrecords").mkdir(parents=True)
    statistics = {"num_targets": TRACKS, "seq_length": LENGTH, "seq_1hot": True, "pool_width": WIDTH, "crop_bp": CROP,
                  "target_length": BINS, "fold0_seqs": 3, "fold1_seqs": 2}  # fmt: skip
    (folder / "statistics.json").write_text(json.dumps(statistics))
    rows = [f"chr1\t{1000 * n + CROP}\t{1000 * n + LENGTH - CROP}\t{fold}\n" for n, fold in enumerate(FOLDS)]
    (folder / "sequences.bed").write_text("".join(rows))
    lines = ["\tidentifier\tsum_stat\tdescription", "0\ta\tsum\tx", "1\tb\tsum_sqrt\ty", "2\tc\tmean\tz"]
    (folder / "targets.txt").write_text("\n".join(lines) + "\n")

    def feature(array):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[array.tobytes()]))

    for fold, files in FILES.items():
        for number, members in enumerate(files):
            path = str(folder / "tfrecords" / f"{fold}-{number}.tfr")
            with tf.io.TFRecordWriter(path, tf.io.TFRecordOptions(compression_type="ZLIB")) as writer:
                for n in members:
                    x = np.eye(5, dtype=np.uint8)[codes[n]][:, :4] if one_hot else codes[n]
                    content = {
                        "sequence": feature(np.ascontiguousarray(x)),
                        "target": feature(targets[n].astype(dtype)),
                    }
                    example = tf.train.Example(features=tf.train.Features(feature=content))
                    writer.write(example.SerializeToString())
    return codes, targets


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tf") / "data"
    return folder, *write_folder(folder)


@pytest.fixture
def folder(written, tmp_path):
    shutil.copytree(written[0], tmp_path / "data")
    return tmp_path / "data"


def check(store, codes, targets, columns=(0, 1, 2)):
    assert len(store) == 5 and store.folds == ("fold0", "fold1")
    for n, fold in enumerate(FOLDS):
        expected = np.concatenate([np.eye(4), np.zeros((1, 4))])[codes[n]]
        np.testing.assert_array_equal(store.sequence(n), expected)
        np.testing.assert_array_equal(store.targets(n), targets[n][:, columns])
        assert store.fold(n) == fold and str(store.interval(n)) == f"chr1:{1000 * n}-{1000 * n + LENGTH}"


def test_what_tensorflow_wrote(written, tmp_path):
    folder, codes, targets = written
    store = import_tfrecords(folder, tmp_path / "store")
    check(store, codes, targets)
    assert (store.seq_length, store.crop_bp, store.bin_size, store.bins) == (LENGTH, CROP, WIDTH, BINS)
    assert store.transform == "new" and store.tracks.identifiers == ("a", "b", "c")
    assert import_tfrecords(folder, tmp_path / "old", transform="old").key != store.key


def test_one_hot_and_float32(tmp_path):
    codes, targets = write_folder(tmp_path / "data", one_hot=True, dtype=np.float32)
    check(import_tfrecords(tmp_path / "data", tmp_path / "store"), codes, targets)


def test_tracks_follow_the_index(written, folder, tmp_path):
    lines = ["\tidentifier\tsum_stat", "7\ta\tsum", "9\tb\tsum_sqrt", "3\tc\tmean"]
    (folder / "targets.txt").write_text("\n".join(lines) + "\n")
    store = import_tfrecords(folder, tmp_path / "store")
    assert store.tracks.identifiers == ("c", "a", "b")
    check(store, *written[1:], columns=(2, 0, 1))


def test_another_table_and_whole_windows(written, folder, tmp_path):
    shutil.move(folder / "targets.txt", tmp_path / "t.txt")
    rows = [f"chr1\t{1000 * n}\t{1000 * n + LENGTH}\t{fold}\n" for n, fold in enumerate(FOLDS)]
    (folder / "sequences.bed").write_text("".join(rows))
    check(import_tfrecords(folder, tmp_path / "store", targets=tmp_path / "t.txt"), *written[1:])


def test_records_are_split_anywhere(written, monkeypatch):
    from kipoi_borzoi.training import tfrecords

    path = written[0] / "tfrecords" / "fold0-0.tfr"
    whole = list(read_tfrecords(path))
    assert len(whole) == 2
    for size in (1, 7, 64, 1000):
        monkeypatch.setattr(tfrecords, "_READ_BYTES", size)
        assert list(read_tfrecords(path)) == whole


def test_an_empty_file_has_no_records(tmp_path):
    (tmp_path / "x-0.tfr").write_bytes(zlib.compress(b""))
    assert list(read_tfrecords(tmp_path / "x-0.tfr")) == []


def test_every_truncation_is_found(written, tmp_path):
    data = (written[0] / "tfrecords" / "fold0-0.tfr").read_bytes()
    path = tmp_path / "x-0.tfr"
    for cut in range(0, len(data), 97):
        path.write_bytes(data[:cut])
        with pytest.raises(InputError, match="truncated"):
            list(read_tfrecords(path))
    path.write_bytes(zlib.compress(zlib.decompress(data)[:-9]))
    with pytest.raises(InputError, match="the last record is cut short"):
        list(read_tfrecords(path))


def test_every_changed_byte_is_found(written, tmp_path):
    data = bytearray((written[0] / "tfrecords" / "fold1-0.tfr").read_bytes())
    path = tmp_path / "x-0.tfr"
    for place in range(0, len(data), 61):
        data[place] ^= 0x10
        path.write_bytes(data)
        with pytest.raises(InputError):
            list(read_tfrecords(path))
        data[place] ^= 0x10


def test_messages_that_are_no_example():
    assert parse_example(b"", "x") == {}
    for record in (b"\x0a\xff\x01x", b"\x0b", b"\x0a\x05\x0a\x03\x0a\x01", b"\xff"):
        with pytest.raises(InputError, match="x: not an Example message"):
            parse_example(record, "x")


def edit_statistics(**changes):
    def change(folder):
        statistics = {**json.loads((folder / "statistics.json").read_text()), **changes}
        (folder / "statistics.json").write_text(json.dumps(statistics))

    return change


def edit_bed(change_lines):
    def change(folder):
        path = folder / "sequences.bed"
        path.write_text("".join(line + "\n" for line in change_lines(path.read_text().splitlines())))

    return change


def remove(name):
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove("statistics.json"), "statistics.json: cannot be read .* is this a data folder of Calico's"),
        (remove("targets.txt"), "targets.txt: cannot read"),
        (remove("sequences.bed"), "sequences.bed: no such file"),
        (remove("tfrecords/fold1-0.tfr"), "no files fold1-N.tfr, but sequences.bed has the fold fold1"),
        (
            remove("tfrecords/fold0-1.tfr"),
            r"fold fold0 has fewer records than its 3 lines in sequences.bed .missing: chr1:4000-4256",
        ),
        (remove("tfrecords/fold0-0.tfr"), "fold0-0.tfr is missing, fold0-1.tfr is there"),
        (edit_statistics(num_targets=4), "targets.txt: 3 tracks, but 4 in"),
        (edit_statistics(target_length=7), "target_length is 7, but its seq_length, crop_bp and pool_width make 6"),
        (edit_statistics(seq_length=320), "chr1:32-224 is 192 bp long, expected 320 .seq_length. or 256"),
        (edit_statistics(crop_bp="no"), "'crop_bp' is missing or no integer"),
        (edit_bed(lambda lines: lines[:-1]), "fold fold0 has more records than its 2 lines"),
        (edit_bed(lambda lines: [line.replace("fold1", "fold2") for line in lines]), "no files fold2-N.tfr"),
        (edit_bed(lambda lines: ["\t".join(line.split("\t")[:3]) for line in lines]), "line 1: no fold in column 4"),
    ],
)
def test_folders_that_do_not_fit(folder, tmp_path, change, message):
    change(folder)
    with pytest.raises(InputError, match=message):
        import_tfrecords(folder, tmp_path / "store")
    assert not (tmp_path / "store" / "store.h5").exists()


def test_other_lengths_than_stated(folder, tmp_path):
    edit_statistics(seq_length=512, crop_bp=160)(folder)  # the same bins of another window
    with pytest.raises(
        InputError, match="fold1-0.tfr, record 0: a sequence of 256 bytes, expected 512 or 4 times that"
    ):
        import_tfrecords(folder, tmp_path / "store")


def test_tensorflow_is_not_needed():
    code = "import sys; import kipoi_borzoi.training.tfrecords; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_real_folder_against_its_description(shared_data, tmp_path):
    """Calico's mouse data: numbers of records by fold, sequences without N, and coverage where genes are."""
    folder = shared_data / "tiny" / "mm10"
    store = import_tfrecords(folder, tmp_path / "store")
    statistics = json.loads((folder / "statistics.json").read_text())
    for fold in ("train", "valid", "test"):
        assert len(store.indices(fold)) == statistics[f"{fold}_seqs"]
    assert store.bins == statistics["target_length"] and len(store.tracks) == statistics["num_targets"]
    assert all(store.sequence(number, np.uint8).sum(axis=1).max() == 1 for number in range(0, len(store), 9))
    assert Store.open(tmp_path / "store").targets(0).max() > 1
