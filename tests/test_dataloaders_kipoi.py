"""SeqIntervalDl: windows equal to the plain reading of the files, and at home in Kipoi's own machinery."""

import json
import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from genome_files import bgzip, one_hot_by_letter, random_sequence, reverse_complement_text, window, write_fasta

from kipoi_borzoi.dataloaders import SeqIntervalDl
from kipoi_borzoi.errors import InputError

CONTIGS = {"chr1": random_sequence(3000, 1, "ACGTacgtNR"), "chr2": random_sequence(400, 2)}
BED6 = [
    ("chr1", 100, 101, "one", "0", "+"),
    ("chr1", 2000, 2011, "odd", "0", "-"),
    ("chr1", 2500, 2510, "even", "0", "-"),
    ("chr1", 2, 4, "left", "0", "-"),  # windows of 64 reach beyond the start
    ("chr2", 390, 400, ".", "0", "."),  # and the end
    ("chr2", 399, 420, "over", "0", "+"),  # the interval itself reaches beyond
]


@pytest.fixture
def fasta(tmp_path):
    return write_fasta(tmp_path / "g.fa", CONTIGS)


def write_bed(folder, rows, name="regions.bed"):
    path = folder / name
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
    return path


@pytest.fixture
def bed(tmp_path):
    return write_bed(tmp_path, BED6)


def expected_item(row, length, use_strand):
    """Bases, start and end of a window, from the definition: ``length // 2`` bases before the centre."""
    start = (row[1] + row[2]) // 2 - length // 2
    bases = window(CONTIGS[row[0]], start, start + length)
    if use_strand and row[5] == "-":
        bases = reverse_complement_text(bases)
    return one_hot_by_letter(bases), start, start + length


@pytest.mark.parametrize("length", [64, 65])
@pytest.mark.parametrize("use_strand", [False, True])
@pytest.mark.parametrize("compressed", [False, True])
def test_windows_equal_plain_reading(fasta, bed, length, use_strand, compressed):
    loader = SeqIntervalDl(
        str(bed), str(bgzip(fasta) if compressed else fasta), auto_resize_len=length, use_strand=use_strand
    )
    assert len(loader) == len(BED6)
    for index, row in enumerate(BED6):
        item = loader[index]
        x, start, end = expected_item(row, length, use_strand)
        np.testing.assert_array_equal(item["inputs"], x)
        assert item["inputs"].dtype == np.float32 and item["inputs"].flags["C_CONTIGUOUS"]
        assert item["metadata"]["ranges"].to_dict() == {
            "chr": row[0],
            "start": start,
            "end": end,
            "id": row[3] if row[3] != "." else str(index),
            "strand": row[5] if use_strand and row[5] != "." else "*",
        }
        assert set(item) == {"inputs", "metadata"}


def test_same_windows_as_kipoiseq(fasta, tmp_path):
    """kipoiseq's own resize on the same intervals (its loader needs pybedtools, so only that step is called)."""
    functional = pytest.importorskip("kipoiseq.transforms.functional", reason="kipoiseq is not installed")
    rows = [("chr1", 500 + k, 500 + 2 * k + 1) for k in range(6)]
    loader = SeqIntervalDl(write_bed(tmp_path, rows), fasta, auto_resize_len=32)
    for index, (_, start, end) in enumerate(rows):
        theirs = functional.resize_interval(SimpleNamespace(start=start, end=end), 32)
        ours = loader[index]["metadata"]["ranges"]
        assert (ours.start, ours.end) == (theirs.start, theirs.end)


def test_intervals_are_kept_without_a_length(fasta, tmp_path):
    rows = [("chr1", 10, 42), ("chr1", 2990, 3022)]
    loader = SeqIntervalDl(write_bed(tmp_path, rows), fasta)
    for index, row in enumerate(rows):
        np.testing.assert_array_equal(loader[index]["inputs"], one_hot_by_letter(window(CONTIGS["chr1"], *row[1:])))


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("np.float32", np.float32), (np.float16, np.float16), ("float64", np.float64), (bool, bool), ("bool", bool),
     ("np.bool_", bool), (None, np.float32)],
)  # fmt: skip
def test_dtype(fasta, bed, dtype, expected):
    item = SeqIntervalDl(bed, fasta, auto_resize_len=64, dtype=dtype)[0]
    assert item["inputs"].dtype == np.dtype(expected)
    np.testing.assert_array_equal(item["inputs"], expected_item(BED6[0], 64, False)[0])


def test_alphabet_axis(fasta, bed):
    x = SeqIntervalDl(bed, fasta, auto_resize_len=64, alphabet_axis=0)[1]["inputs"]
    np.testing.assert_array_equal(x, expected_item(BED6[1], 64, False)[0].T)


@pytest.mark.parametrize("columns", [3, 4, 6])
def test_bed_columns_do_not_matter_for_the_windows(fasta, tmp_path, columns):
    loader = SeqIntervalDl(write_bed(tmp_path, [row[:columns] for row in BED6]), fasta, auto_resize_len=64)
    np.testing.assert_array_equal(loader[2]["inputs"], expected_item(BED6[2], 64, False)[0])


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"auto_resize_len": 0}, "auto_resize_len is 0, expected a positive number"),
        ({"auto_resize_len": "many"}, "auto_resize_len is 'many'"),
        ({"auto_resize_len": 64.0}, "auto_resize_len is 64.0"),
        ({"alphabet_axis": 2}, "alphabet_axis is 2, expected 1"),
        ({"dummy_axis": 1}, "dummy_axis is 1, expected None"),
        ({"alphabet": "AGCT"}, "alphabet is 'AGCT', expected 'ACGT'"),
        ({"dtype": "np.float33"}, "dtype is 'np.float33', expected a numeric dtype"),
        ({"dtype": str}, "dtype is <class 'str'>"),
        ({"label_dtype": "int"}, "only with ignore_targets=False"),
    ],
)
def test_wrong_option(fasta, bed, option, message):
    with pytest.raises(InputError, match=message):
        SeqIntervalDl(bed, fasta, **{"auto_resize_len": 64, **option})


def test_options_of_kipoiseq_that_change_nothing(fasta, bed):
    item = SeqIntervalDl(bed, fasta, num_chr_fasta=True, auto_resize_len=64, alphabet=["A", "C", "G", "T"])[0]
    np.testing.assert_array_equal(item["inputs"], expected_item(BED6[0], 64, False)[0])


# Labels


def test_labels(fasta, tmp_path):
    path = write_bed(tmp_path, [("chr1", 10, 12, 0.5, 1), ("chr1", 30, 38, -2, 3)])
    loader = SeqIntervalDl(path, fasta, auto_resize_len=8, ignore_targets=False)
    np.testing.assert_array_equal(loader[0]["targets"], [0.5, 1])
    assert loader[1]["targets"].dtype == np.float64
    assert loader[0]["metadata"]["ranges"].id == "0"  # the fourth column is a label, no name
    loader = SeqIntervalDl(path, fasta, auto_resize_len=8, ignore_targets=False, label_dtype="np.float32")
    assert loader[1]["targets"].dtype == np.float32
    with pytest.raises(InputError, match="line 1: labels 0.5, 1 do not fit label_dtype int64"):
        SeqIntervalDl(path, fasta, auto_resize_len=8, ignore_targets=False, label_dtype=int)


def test_labels_behind_the_strand(fasta, tmp_path):
    path = write_bed(tmp_path, [(*BED6[1], 7), (*BED6[2], 8)])
    loader = SeqIntervalDl(path, fasta, auto_resize_len=64, use_strand=True, ignore_targets=False, label_dtype=int)
    assert loader[1]["targets"].tolist() == [8] and loader[1]["targets"].dtype.kind == "i"
    np.testing.assert_array_equal(loader[1]["inputs"], expected_item(BED6[2], 64, True)[0])


def test_names_are_no_labels(fasta, bed):
    with pytest.raises(InputError, match="line 1: a label is not a number.*'one'.*ignore_targets=True"):
        SeqIntervalDl(bed, fasta, auto_resize_len=64, ignore_targets=False)


def test_no_label_columns(fasta, tmp_path):
    loader = SeqIntervalDl(write_bed(tmp_path, [("chr1", 1, 2)]), fasta, auto_resize_len=8, ignore_targets=False)
    assert "targets" not in loader[0]


# Intervals that do not fit


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("chr3", 5, 6), "line 2: contig 'chr3' is not in .*g.fa, which has chr1, chr2; near matches"),
        (("chr2", 400, 410), "line 2: interval chr2:400-410 lies beyond the end of its contig, which is 400 bp long"),
        (("chr2", 398, 500), "line 2: .*of 102 bp is longer than the window of 64 bp"),
    ],
)
def test_interval_that_does_not_fit(fasta, tmp_path, row, message):
    with pytest.raises(InputError, match=message):
        SeqIntervalDl(write_bed(tmp_path, [("chr1", 5, 6), row]), fasta, auto_resize_len=64)


def test_lengths_must_agree_without_a_length(fasta, tmp_path):
    with pytest.raises(InputError, match="line 2: interval of 20 bp, but 10 bp in line 1.*set auto_resize_len"):
        SeqIntervalDl(write_bed(tmp_path, [("chr1", 0, 10), ("chr1", 0, 20)]), fasta)


def test_interval_over_the_end_is_padded_and_reported(fasta, bed, caplog):
    with caplog.at_level(logging.WARNING, logger="kipoi_borzoi"):
        SeqIntervalDl(bed, fasta, auto_resize_len=64)
    assert [record.getMessage() for record in caplog.records] == [
        f"{bed}: 1 of 6 intervals reach beyond the end of their contig, where zeros stand (first: line 6, chr2:399-420(+))"
    ]


def test_strand_needs_a_strand(fasta, tmp_path):
    with pytest.raises(InputError, match="use_strand is set, but no line has a strand"):
        SeqIntervalDl(write_bed(tmp_path, [("chr1", 1, 2)]), fasta, auto_resize_len=8, use_strand=True)


# In Kipoi


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches(fasta, bed, num_workers):
    loader = SeqIntervalDl(bed, fasta, auto_resize_len=64, use_strand=True)
    batches = list(loader.batch_iter(batch_size=4, num_workers=num_workers))
    assert [batch["inputs"].shape for batch in batches] == [(4, 64, 4), (2, 64, 4)]
    x = np.concatenate([batch["inputs"] for batch in batches])
    np.testing.assert_array_equal(x, [expected_item(row, 64, True)[0] for row in BED6])
    names = np.concatenate([batch["metadata"]["ranges"]["id"] for batch in batches])
    assert names.tolist() == ["one", "odd", "even", "left", "4", "over"]


def test_load_all(fasta, bed):
    everything = SeqIntervalDl(bed, fasta, auto_resize_len=64).load_all(batch_size=4)
    assert everything["inputs"].shape == (6, 64, 4)
    assert everything["metadata"]["ranges"]["start"].tolist() == [expected_item(row, 64, False)[1] for row in BED6]


def test_error_in_a_worker_arrives(fasta, tmp_path):
    text = fasta.read_text()
    loader = SeqIntervalDl(write_bed(tmp_path, [("chr1", 100, 101)]), fasta, auto_resize_len=64)
    fasta.write_text(text.replace("C", "Z"))
    with pytest.raises(InputError, match="character 'Z'"):
        list(loader.batch_iter(batch_size=1, num_workers=1))


def overridden(**arguments):
    from kipoi.specs import DataLoaderImport

    return DataLoaderImport(defined_as="kipoi_borzoi.dataloaders.SeqIntervalDl", default_args=arguments).get()


def test_default_args_of_an_entry(fasta, bed):
    loader_class = overridden(auto_resize_len=64, dtype="np.float16", ignore_targets=True)
    loader = loader_class(intervals_file=str(bed), fasta_file=str(fasta))
    assert loader[0]["inputs"].shape == (64, 4) and loader[0]["inputs"].dtype == np.float16
    schema = loader_class.get_output_schema()
    assert schema.inputs.shape == (64, 4) and schema.targets is None
    assert schema.compatible_with_batch(next(loader.batch_iter(batch_size=2)))
    assert overridden(auto_resize_len=64, alphabet_axis=0).get_output_schema().inputs.shape == (4, 64)
    assert SeqIntervalDl.get_output_schema().inputs.shape == (None, 4)  # the class itself is as it was


def test_overridden_class_is_pickled(fasta, bed):
    loader = overridden(auto_resize_len=64)(intervals_file=str(bed), fasta_file=str(fasta), use_strand=True)
    copy = pickle.loads(pickle.dumps(loader))
    np.testing.assert_array_equal(copy[2]["inputs"], loader[2]["inputs"])
    assert copy[2]["metadata"]["ranges"].strand == "-"


def test_schema_with_labels(fasta, tmp_path):
    loader_class = overridden(auto_resize_len=8, ignore_targets=False)
    loader = loader_class(str(write_bed(tmp_path, [("chr1", 1, 2, 5)])), str(fasta))
    assert loader_class.get_output_schema().compatible_with_batch(next(loader.batch_iter(batch_size=1)))


def test_variant_effect_tools_find_their_description():
    description = SeqIntervalDl.postprocessing["variant_effects"]
    assert description.bed_input == ["intervals_file"] and description.scoring_functions == []
    assert SeqIntervalDl.output_schema.inputs.special_type.value == "DNASeq"
    assert SeqIntervalDl.output_schema.inputs.associated_metadata == ["ranges"]


def test_kipoi_is_not_imported_with_the_package():
    code = "import sys, kipoi_borzoi.dataloaders; sys.exit('kipoi' in sys.modules or 'tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_tensorflow_is_never_imported():
    code = "import sys; from kipoi_borzoi.dataloaders import SeqIntervalDl; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def write_component(folder):
    """A dataloader.yaml as entries have it, with the loader's own argument descriptions."""
    examples = {"intervals_file": "regions.bed", "fasta_file": "g.fa"}
    described = {}
    for name, argument in SeqIntervalDl.args.items():
        described[name] = {"doc": argument.doc, "type": argument.type, "optional": argument.optional}
        if name in examples:
            described[name]["example"] = examples[name]
    described["auto_resize_len"]["default"] = 64
    schema = {
        "inputs": {"name": "seq", "shape": "(64, 4)", "doc": "DNA", "special_type": "DNASeq",
                   "associated_metadata": "ranges"},
        "metadata": {"ranges": {"type": "GenomicRanges", "doc": "windows"}},
    }  # fmt: skip
    component = {
        "type": "Dataset",
        "defined_as": "kipoi_borzoi.dataloaders.SeqIntervalDl",
        "args": described,
        "info": {"doc": "windows", "authors": [{"name": "somebody"}]},
        "output_schema": schema,
    }
    folder.mkdir()
    (folder / "dataloader.yaml").write_text(yaml.safe_dump(component, sort_keys=False))
    return folder


def run_kipoi(home, *arguments):
    command = [str(Path(sys.executable).with_name("kipoi")), *arguments]
    done = subprocess.run(
        command, cwd=home, env={**os.environ, "HOME": str(home)}, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("num_workers", [0, 2])
def test_kipoi_preproc(fasta, bed, tmp_path, num_workers):
    import h5py

    component = write_component(tmp_path / "zoo")
    output = tmp_path / "out.h5"
    arguments = json.dumps({"intervals_file": str(bed), "fasta_file": str(fasta), "use_strand": True})
    status, text = run_kipoi(
        tmp_path, "preproc", str(component), "--source=dir", f"--dataloader_args={arguments}", "--keep_metadata",
        "--batch_size=4", f"--num_workers={num_workers}", f"--output={output}",
    )  # fmt: skip
    assert status == 0, text
    warnings = [line for line in text.splitlines() if "WARNING" in line]
    assert len(warnings) == 1  # none of Kipoi's own
    assert "[kipoi_borzoi]" in warnings[0] and "1 of 6 intervals reach beyond the end" in warnings[0]
    with h5py.File(output) as file:
        np.testing.assert_array_equal(file["inputs"][:], [expected_item(row, 64, True)[0] for row in BED6])
        assert file["metadata/ranges/id"].asstr()[:].tolist() == ["one", "odd", "even", "left", "4", "over"]
        assert file["metadata/ranges/chr"].asstr()[:].tolist() == [row[0] for row in BED6]


def test_kipoi_preproc_of_bad_input(fasta, tmp_path):
    component = write_component(tmp_path / "zoo")
    arguments = json.dumps({"intervals_file": str(write_bed(tmp_path, [("chr7", 1, 2)])), "fasta_file": str(fasta)})
    status, text = run_kipoi(
        tmp_path, "preproc", str(component), "--source=dir", f"--dataloader_args={arguments}", "--output=out.h5"
    )
    assert status != 0
    assert "line 1: contig 'chr7' is not in" in text
    assert not (tmp_path / "out.h5").exists()
