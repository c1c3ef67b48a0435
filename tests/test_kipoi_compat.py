"""Each fix of kipoi_compat is needed (without it Kipoi fails, seen in a process of its own) and does what it says."""

import gc
import importlib
import importlib.metadata
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kipoi_borzoi import kipoi_compat
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.kipoi_compat.writers import FIXES

HAS_ZARR_2 = importlib.util.find_spec("zarr") is not None and int(importlib.metadata.version("zarr")[0]) < 3


def _batch(rows=3, width=2):
    from kipoi.metadata import GenomicRanges

    names = np.array([f"w{row}" for row in range(rows)])
    ranges = GenomicRanges(np.array(["chr1"] * rows), np.arange(rows) * 10, np.arange(rows) * 10 + 5, names, names)
    preds = np.arange(rows * width, dtype=np.float64).reshape(rows, width)
    return {"metadata": {"ranges": ranges}, "preds": preds}


def _schema():
    from kipoi.specs import MetadataStruct, MetadataType

    return {"ranges": MetadataStruct(type=MetadataType.GENOMIC_RANGES, doc="ranges")}


# One use of Kipoi's writers per fix: fails without the fix, returns something to check with it.


def use_alias_numpy_strings(writers, folder):
    import h5py

    writers.HDF5BatchWriter.dump(str(folder / "names.h5"), _batch())
    with h5py.File(folder / "names.h5") as file:
        return [file["preds"][:].tolist(), file["metadata/ranges/id"].asstr()[:].tolist()]


def use_cap_chunk_bytes(writers, folder):
    import h5py

    # 2 MiB a row: 10,000 rows in a chunk are 20 GB, over HDF5's limit of 4 GB.
    batch = {"preds": np.ones((2, 512, 1024), dtype=np.float32)}
    writers.HDF5BatchWriter.dump(str(folder / "wide.h5"), batch)
    with h5py.File(folder / "wide.h5") as file:
        return [list(file["preds"].chunks), float(file["preds"][:].sum())]


def use_name_existing_hdf5(writers, folder):
    for preds in ({"preds": np.ones((2, 3))}, {"preds": np.zeros((2, 3))}):
        writer = writers.HDF5BatchWriter(str(folder / "there.h5"))
        try:
            writer.batch_write(preds)
        finally:
            writer.close()


def use_pass_bed_writer_its_schema(writers, folder):
    writer = writers.get_writer(str(folder / "out.bed"), metadata_schema=_schema())
    writer.batch_write(_batch(rows=2))
    return (folder / "out.bed").read_text().splitlines()


def use_name_missing_bed_ranges(writers, folder):
    writer = writers.get_writer(str(folder / "bare.bed"), metadata_schema=_schema())
    try:
        writer.batch_write({"preds": np.ones((2, 2))})
    except ValueError as error:
        return str(error)


def use_open_zarr_writer(writers, folder):
    writer = writers.get_writer(str(folder / "out.zarr"))
    writer.batch_write(_batch())
    writer.close()
    import zarr

    group = zarr.open_group(str(folder / "out.zarr"), mode="r")
    return [group["preds"][:].tolist(), group["metadata/ranges/id"][:].tolist()]


def use_drop_foreign_writer_options(writers, folder):
    writer = writers.get_writer(
        str(folder / "out.tsv"), metadata_schema=_schema(), hdf5_chunk_size=7, keep_metadata=True
    )
    writer.batch_write(_batch(rows=1))
    return (folder / "out.tsv").read_text().splitlines()


def use_write_outputs_whole(writers, folder):
    names = ("out.h5", "out.tsv", "out.parquet", "out.bed")
    several = writers.MultipleBatchWriter([writers.get_writer(str(folder / name), metadata_schema=_schema()) for name in names])
    several.batch_write(_batch())
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("out"))


USES = {fix.__name__: globals()[f"use_{fix.__name__}"] for fix in FIXES}


def report(folder):
    """Run every use with all fixes but its own, on freshly loaded writers, and print what happened."""
    from kipoi import writers

    outcomes = {}
    for fix in FIXES:
        importlib.reload(writers)
        for other in FIXES:
            if other is not fix:
                other(writers)
        (folder / fix.__name__).mkdir()
        try:
            outcomes[fix.__name__] = ["ok", USES[fix.__name__](writers, folder / fix.__name__)]
        except Exception as error:
            outcomes[fix.__name__] = [type(error).__name__, str(error)]
    print("REPORT " + json.dumps(outcomes))


@pytest.fixture(scope="module")
def without(tmp_path_factory):
    """What each use does without its fix, by the fix's name."""
    code = (
        f"import sys, pathlib; sys.path.insert(0, {str(Path(__file__).parent)!r}); "
        f"import test_kipoi_compat as t; t.report(pathlib.Path({str(tmp_path_factory.mktemp('without'))!r}))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.split("REPORT ", 1)[1])


@pytest.fixture
def writers():
    from kipoi import writers

    kipoi_compat.apply()
    return writers


def test_strings_on_numpy_2(without, writers, tmp_path):
    expected = [[[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]], ["w0", "w1", "w2"]]
    assert use_alias_numpy_strings(writers, tmp_path) == expected
    if hasattr(np, "string_"):  # numpy 1: nothing to mend
        assert without["alias_numpy_strings"] == ["ok", expected]
        assert writers.np is np
    else:
        kind, message = without["alias_numpy_strings"]
        assert kind == "AttributeError" and "np.string_" in message


def test_numpy_itself_is_untouched(writers):
    assert hasattr(np, "string_") == (int(np.__version__.split(".")[0]) < 2)
    assert writers.np.float32 is np.float32  # all else is numpy's own


def test_chunks_are_capped(without, writers, tmp_path):
    rows, total = use_cap_chunk_bytes(writers, tmp_path)
    assert rows == [8, 512, 1024]  # 16 MiB / 2 MiB
    assert total == 2 * 512 * 1024
    kind, message = without["cap_chunk_bytes"]
    assert kind == "ValueError" and "4GB" in message.replace(" ", "")


def test_narrow_rows_keep_kipois_chunks(writers, tmp_path):
    import h5py

    writers.HDF5BatchWriter.dump(str(tmp_path / "narrow.h5"), {"preds": np.ones((3, 2), dtype=np.float32)})
    with h5py.File(tmp_path / "narrow.h5") as file:
        assert file["preds"].chunks == (10000, 2)


def test_row_wider_than_the_cap_is_its_own_chunk(writers, tmp_path, monkeypatch):
    import h5py

    monkeypatch.setattr(kipoi_compat.writers, "MAX_CHUNK_BYTES", 100)
    writer = writers.HDF5BatchWriter(str(tmp_path / "wide.h5"))
    for value in range(3):
        writer.batch_write({"preds": np.full((1, 50), value, dtype=np.float32)})
    writer.close()
    with h5py.File(tmp_path / "wide.h5") as file:
        assert file["preds"].chunks == (1, 50)
        assert file["preds"][:, 0].tolist() == [0, 1, 2]


def test_existing_hdf5_is_named_and_kept(without, writers, tmp_path):
    import h5py

    with pytest.raises(InputError, match=r"there.h5: holds 'preds' already.*remove the file or give another name"):
        use_name_existing_hdf5(writers, tmp_path)
    with h5py.File(tmp_path / "there.h5") as file:
        assert file["preds"][:].tolist() == [[1.0] * 3] * 2
    kind, message = without["name_existing_hdf5"]
    assert kind == "ValueError" and "there.h5" not in message


def test_an_hdf5_file_is_written_batch_by_batch_and_extended(writers, tmp_path):
    import h5py

    writers.HDF5BatchWriter.dump(str(tmp_path / "a.h5"), {"other": np.ones((1, 2))})
    writer = writers.HDF5BatchWriter(str(tmp_path / "a.h5"))
    for value in range(2):
        writer.batch_write({"preds": np.full((1, 2), value)})
    writer.close()
    with h5py.File(tmp_path / "a.h5") as file:
        assert sorted(file) == ["other", "preds"] and file["preds"][:, 0].tolist() == [0, 1]


def test_the_fixes_that_were_needed_are_named(writers):
    needed = kipoi_compat.apply()
    names = [fix.__name__ for fix in FIXES]
    assert needed == (names[1:] if hasattr(np, "string_") else names) and names[0] == "alias_numpy_strings"


def test_bed(without, writers, tmp_path):
    assert use_pass_bed_writer_its_schema(writers, tmp_path) == [
        "chr\tstart\tend\tname\tscore\tstrand\tpreds/0\tpreds/1",
        "chr1\t0\t5\tw0\t.\tw0\t0.0\t1.0",
        "chr1\t10\t15\tw1\t.\tw1\t2.0\t3.0",
    ]
    kind, message = without["pass_bed_writer_its_schema"]
    assert kind == "TypeError" and "dataloader_schema" in message


def test_bed_without_ranges(without, writers, tmp_path):
    message = use_name_missing_bed_ranges(writers, tmp_path)
    assert "bare.bed" in message and "--keep_metadata" in message
    assert without["name_missing_bed_ranges"][0] == "KeyError"


@pytest.mark.skipif(not HAS_ZARR_2, reason="zarr 2 is not installed: pip install 'zarr<3'")
def test_zarr(without, writers, tmp_path):
    expected = [[[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]], ["w0", "w1", "w2"]]
    assert use_open_zarr_writer(writers, tmp_path) == expected
    kind, message = without["open_zarr_writer"]
    assert kind == "AttributeError" and "NoneType" in message  # Kipoi's writer is None


def test_zarr_without_zarr_2(without, writers, tmp_path, monkeypatch):
    for module, found in ((None, "not installed"), (type(sys)("zarr"), "zarr 3.1 is installed")):
        if module is not None:
            module.__version__ = "3.1"
        monkeypatch.setitem(sys.modules, "zarr", module)
        with pytest.raises(ValueError, match=found):
            writers.get_writer(str(tmp_path / "out.zarr"))
    assert without["open_zarr_writer"][0] == "AttributeError"


def test_options_of_other_writers(without, writers, tmp_path):
    assert use_drop_foreign_writer_options(writers, tmp_path)[1] == "chr1\t5\tw0\t0\tw0\t0.0\t1.0"
    kind, message = without["drop_foreign_writer_options"]
    assert kind == "TypeError" and "unexpected keyword" in message


def test_outputs_have_their_names_only_when_they_are_whole(without, writers, tmp_path):
    assert without["write_outputs_whole"] == ["ok", ["out.bed", "out.h5", "out.tsv"]]  # incomplete under their final names
    assert use_write_outputs_whole(writers, tmp_path) == []
    gc.collect()
    assert list(tmp_path.iterdir()) == []  # nothing is left of outputs that are given up
    names = ("out.h5", "out.tsv", "out.parquet", "out.bed")
    several = writers.MultipleBatchWriter([writers.get_writer(str(tmp_path / name), metadata_schema=_schema()) for name in names])
    for _ in range(2):
        several.batch_write(_batch())
    several.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    assert [len((tmp_path / name).read_text().splitlines()) for name in ("out.tsv", "out.bed")] == [7, 7]
    import h5py

    with h5py.File(tmp_path / "out.h5") as file:
        assert file["preds"].shape == (6, 2)
    with pytest.raises(ValueError, match="out.h5: exists; remove it, or name another output"):
        writers.MultipleBatchWriter([writers.get_writer(str(tmp_path / "out.h5"))])
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["preds"].shape == (6, 2)


def test_own_options_arrive(writers, tmp_path):
    assert writers.get_writer(str(tmp_path / "a.h5"), hdf5_chunk_size=7).chunk_size == 7
    assert writers.get_writer(str(tmp_path / "a.parquet"), parquet_chunk_size=8, hdf5_chunk_size=7).chunk_size == 8


def test_unknown_ending_is_still_none(writers):
    assert writers.get_writer("out.xyz") is None


def test_applying_twice_changes_nothing(writers):
    before = (writers.get_writer, writers.np, writers.HDF5BatchWriter.batch_write, writers.BedBatchWriter.__init__)
    kipoi_compat.apply()
    after = (writers.get_writer, writers.np, writers.HDF5BatchWriter.batch_write, writers.BedBatchWriter.__init__)
    assert all(a is b for a, b in zip(before, after, strict=True))


def test_importing_the_module_does_nothing():
    code = "import sys, kipoi_borzoi.kipoi_compat; assert 'kipoi' not in sys.modules, 'kipoi was imported'"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_our_warnings_are_seen_through_kipois_logging():
    code = """
import logging, kipoi.__main__  # sets up the logging of the kipoi command
from kipoi_borzoi import kipoi_compat
from kipoi_borzoi.kipoi_compat.writers import FIXES
if {apply}:
    kipoi_compat.apply()
    kipoi_compat.apply()
logging.getLogger("kipoi_borzoi").warning("3 windows were padded")
"""
    for apply, expected in ((False, 0), (True, 1)):
        done = subprocess.run([sys.executable, "-c", code.format(apply=apply)], capture_output=True, text=True, check=True)
        assert done.stderr.count("3 windows were padded") == expected
