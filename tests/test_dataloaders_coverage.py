"""SeqCoverageDl: the examples of a store, straight from the coverage files, and at home in Kipoi's own machinery."""

import json
import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from coverage_files import plain_target, write_targets
from data_cases import BINS, CONTIGS, CROP, LENGTH, ROWS, WIDTH, WINDOWS, make_inputs, write_sequences
from genome_files import one_hot_by_letter, window

from kipoi_borzoi.dataloaders import SeqCoverageDl
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.training.build import build

OPTIONS = {"crop_bp": CROP, "pool_width": WIDTH}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_inputs(tmp_path_factory.mktemp("made") / "in")


def make_loader(made, intervals=None, **options):
    targets, fasta, bed = made.arguments
    return SeqCoverageDl(str(intervals or bed), str(fasta), str(targets), **{**OPTIONS, **options})


@pytest.mark.parametrize("transform", ["new", "old"])
@pytest.mark.parametrize("black", [False, True])
def test_the_same_examples_as_a_store(made, tmp_path, transform, black):
    blacklist = made.folder / "black.bed" if black else None
    store = build(*made.arguments, tmp_path / "store", transform=transform, blacklist=blacklist, **OPTIONS)
    loader = make_loader(made, transform=transform, blacklist_file=blacklist)
    assert len(loader) == len(store) == 5
    for number in range(5):
        item = loader[number]
        np.testing.assert_array_equal(item["inputs"], store.sequence(number))
        np.testing.assert_array_equal(item["targets"], store.targets(number).astype(np.float32))
        assert item["targets"].dtype == np.float32
        ranges, interval = item["metadata"]["ranges"], store.interval(number)
        assert (ranges.chr, ranges.start, ranges.end) == (interval.chrom, interval.start, interval.end)


def test_an_example_equals_a_plain_computation(made):
    chrom, start, end, _ = WINDOWS[1]
    item = make_loader(made, target_dtype="np.float16")[1]
    assert item["targets"].dtype == np.float16 and item["targets"].shape == (BINS, len(ROWS))
    np.testing.assert_array_equal(item["inputs"], one_hot_by_letter(window(CONTIGS[chrom], start, end)))
    for row, columns in enumerate(ROWS):
        expected = plain_target(made.coverage[columns[0]][chrom].tolist(), start, end, columns, "new", CROP, WIDTH)
        np.testing.assert_allclose(item["targets"][:, row].astype(float), expected, rtol=2**-11 * 1.001, atol=2**-25)


def test_windows_around_intervals(made, tmp_path):
    inner = [(chrom, start + CROP, end - CROP) for chrom, start, end, _ in WINDOWS]
    loader = make_loader(made, write_sequences(tmp_path / "inner.bed", inner), auto_resize_len=LENGTH)
    np.testing.assert_array_equal(loader[2]["targets"], make_loader(made)[2]["targets"])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches(made, num_workers):
    loader = make_loader(made)
    expected = [loader[number] for number in range(5)]
    batches = list(loader.batch_iter(batch_size=2, num_workers=num_workers))
    assert [batch["targets"].shape for batch in batches] == [(2, BINS, 4)] * 2 + [(1, BINS, 4)]
    for name in ("inputs", "targets"):
        found = np.concatenate([batch[name] for batch in batches])
        np.testing.assert_array_equal(found, [item[name] for item in expected])


def test_batches_for_training(made):
    loader = make_loader(made)
    batches = loader.batch_train_iter(batch_size=2)
    x, y = next(batches)
    assert x.shape == (2, LENGTH, 4) and y.shape == (2, BINS, 4)
    for _ in range(5):
        next(batches)  # begins again after the last


def test_pickle(made):
    from kipoi.specs import DataLoaderImport

    defaults = {"auto_resize_len": LENGTH, **OPTIONS}
    loader_class = DataLoaderImport(defined_as="kipoi_borzoi.dataloaders.SeqCoverageDl", default_args=defaults).get()
    targets, fasta, bed = made.arguments
    loader = loader_class(intervals_file=str(bed), fasta_file=str(fasta), targets_file=str(targets))
    copy = pickle.loads(pickle.dumps(loader))
    np.testing.assert_array_equal(copy[1]["targets"], loader[1]["targets"])
    schema = loader_class.get_output_schema()
    assert schema.inputs.shape == (LENGTH, 4) and schema.targets.shape == (BINS, None)
    assert SeqCoverageDl.get_output_schema().targets.shape == (None, None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transform": "newer"}, "unknown transform 'newer'"),
        ({"crop_bp": 100}, "leaves 824 bp after a crop of 100 bp"),
        ({"pool_width": 0}, "expected positive numbers"),
        ({"negative": "zero"}, "negative is 'zero'"),
        ({"target_dtype": "int32"}, "target_dtype is 'int32', expected a floating type"),
        ({"blacklist_file": "nothing.bed"}, "nothing.bed: no such file"),
    ],
)
def test_wrong_option(made, options, message):
    with pytest.raises(InputError, match=message):
        make_loader(made, **options)


def test_coverage_that_is_not_there(made, tmp_path):
    _, fasta, bed = made.arguments
    table = write_targets(tmp_path / "t.txt", [("x", "none.bw", 384.0, 320.0, 0.3, "sum", 0)])
    with pytest.raises(InputError, match="none.bw: no such file; the column 'file' of .*t.txt names it"):
        SeqCoverageDl(bed, fasta, table, **OPTIONS)


def write_component(folder):
    """The dataloader.yaml of the guide, with the lengths of these examples."""
    guide = (Path(__file__).resolve().parents[1] / "docs" / "data.md").read_text()
    text = guide.split("```yaml\n")[1].split("```")[0]
    for of_borzoi, here in [("163840", CROP), ("524288", LENGTH), ("6144", BINS)]:
        text = text.replace(of_borzoi, str(here))
    folder.mkdir()
    (folder / "dataloader.yaml").write_text(text)
    return folder


def run_kipoi(home, *arguments):
    command = [str(Path(sys.executable).with_name("kipoi")), *arguments]
    done = subprocess.run(
        command, cwd=home, env={**os.environ, "HOME": str(home)}, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_kipoi_preproc(made, tmp_path):
    component, output = write_component(tmp_path / "zoo"), tmp_path / "out.h5"
    targets, fasta, bed = map(str, made.arguments)
    arguments = json.dumps({"intervals_file": bed, "fasta_file": fasta, "targets_file": targets})
    status, text = run_kipoi(
        tmp_path, "preproc", str(component), "--source=dir", f"--dataloader_args={arguments}", "--keep_metadata",
        "--batch_size=2", "--num_workers=2", f"--output={output}",
    )  # fmt: skip
    assert status == 0, text
    loader = make_loader(made)
    with h5py.File(output) as file:
        np.testing.assert_array_equal(file["targets"][:], [loader[number]["targets"] for number in range(5)])
        np.testing.assert_array_equal(file["inputs"][:], [loader[number]["inputs"] for number in range(5)])
        assert file["metadata/ranges/start"][:].tolist() == [row[1] for row in WINDOWS]


def test_padding_is_reported(made, caplog):
    with caplog.at_level(logging.WARNING, logger="kipoi_borzoi"):
        make_loader(made)
    assert "1 of 5 intervals reach beyond the end of their contig" in caplog.text


def test_tensorflow_is_never_imported():
    code = "import sys; from kipoi_borzoi.dataloaders import SeqCoverageDl; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
