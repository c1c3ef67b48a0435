"""Building a store: equal to a plain computation, whatever the number of processes and interruptions; changed inputs are refused."""

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from coverage_files import plain_target, write_bigwig, write_targets
from data_cases import (
    BINS,
    CONTIGS,
    CROP,
    LENGTH,
    LENGTHS,
    ROWS,
    WIDTH,
    WINDOWS,
    make_inputs,
    some_values,
    write_sequences,
)
from genome_files import one_hot_by_letter, window, write_fasta

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.training import build as building
from kipoi_borzoi.training.build import build
from kipoi_borzoi.training.store import Store

OPTIONS = {"crop_bp": CROP, "pool_width": WIDTH}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_inputs(tmp_path_factory.mktemp("made") / "in")


@pytest.fixture
def inputs(made, tmp_path):
    """A copy that a test may change."""
    shutil.copytree(made.folder, tmp_path / "in")
    return replace(made, folder=tmp_path / "in")


@pytest.fixture(scope="module")
def store(made, tmp_path_factory):
    return build(*made.arguments, tmp_path_factory.mktemp("store") / "store", **OPTIONS)


def plain_targets(inputs, number, transform, black=(), rows=ROWS):
    chrom, start, end, _ = WINDOWS[number]
    columns = [
        plain_target(inputs.coverage[row[0]][chrom].tolist(), start, end, row, transform, CROP, WIDTH,
                     [(s, e) for name, s, e in black if name == chrom])
        for row in rows
    ]  # fmt: skip
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("transform", ["new", "old"])
@pytest.mark.parametrize("black", [False, True])
def test_a_store_equals_a_plain_computation(made, tmp_path, transform, black):
    blacklist = made.folder / "black.bed" if black else None
    store = build(*made.arguments, tmp_path / "store", transform=transform, blacklist=blacklist, **OPTIONS)
    stretches = [("chr1", 1200, 1300), ("chr2", 800, 810)] if black else []
    assert (len(store), store.bins, store.transform) == (5, BINS, transform)
    assert store.folds == ("train", "valid", "test") and store.indices("test").tolist() == [3, 4]
    assert store.tracks.identifiers == tuple(row[0] for row in ROWS)
    for number, (chrom, start, end, fold) in enumerate(WINDOWS):
        np.testing.assert_array_equal(store.sequence(number), one_hot_by_letter(window(CONTIGS[chrom], start, end)))
        expected = plain_targets(made, number, transform, stretches)
        # half a unit in the last place of float16, plus noise
        np.testing.assert_allclose(
            store.targets(number).astype(float), expected, rtol=2**-11 * 1.001, atol=2**-25 * 1.001
        )
        assert (str(store.interval(number)), store.fold(number)) == (f"{chrom}:{start}-{end}", fold)
    assert store.source["padded"] == {"4": 524}
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["store.h5"]


def test_black_list_changes_only_its_bins(made, store, tmp_path):
    other = build(*made.arguments, tmp_path / "store", blacklist=made.folder / "black.bed", **OPTIONS)
    assert other.key != store.key
    for number, changed in [(0, []), (1, range(1, 7)), (2, range(4, 7)), (3, []), (4, [])]:
        different = np.flatnonzero((other.targets(number) != store.targets(number)).any(axis=1))
        assert set(different) <= set(changed) and bool(len(different)) == bool(changed)


def test_processes_change_nothing(made, store, tmp_path):
    two = build(*made.arguments, tmp_path / "store", processes=2, **OPTIONS)
    assert two.key == store.key
    for number in range(len(store)):
        np.testing.assert_array_equal(two.targets(number), store.targets(number))
        np.testing.assert_array_equal(two.sequence(number), store.sequence(number))


def test_many_tracks_are_packed_in_blocks(made, store, tmp_path, monkeypatch):
    monkeypatch.setattr(building, "_BLOCK_BYTES", 2 * 4 * BINS * 2)
    assert build(*made.arguments, tmp_path / "store", **OPTIONS).key == store.key


def test_clipping_at_a_quantile(made, store, tmp_path):
    other = build(*made.arguments, tmp_path / "store", clip_quantile=0.9, **OPTIONS)
    before = np.array([store.targets(number) for number in range(5)])
    after = np.array([other.targets(number) for number in range(5)])
    for row in range(len(ROWS)):
        limit = np.float16(np.quantile(before[..., row].astype(float), 0.9))
        np.testing.assert_array_equal(after[..., row], np.minimum(before[..., row], limit))
    assert (after < before).any()


def test_windows_given_by_their_part_with_targets(made, store, tmp_path):
    inner = [(chrom, start + CROP, end - CROP, fold) for chrom, start, end, fold in WINDOWS]
    bed = write_sequences(tmp_path / "inner.bed", inner)
    targets, fasta, _ = made.arguments
    assert build(targets, fasta, bed, tmp_path / "store", seq_length=LENGTH, **OPTIONS).key == store.key


def test_contig_names_without_chr(made, store, tmp_path, caplog):
    """The genome and one coverage file say '1' for 'chr1'."""
    targets, _, bed = made.arguments
    fasta = write_fasta(tmp_path / "g.fa", {name[3:]: sequence for name, sequence in CONTIGS.items()})
    values = {name[3:]: array for name, array in made.coverage["dnase"].items()}
    write_bigwig(tmp_path / "dnase.bw", {name[3:]: length for name, length in LENGTHS.items()}, values)
    table = write_targets(
        made.folder / "aliased.txt", [*ROWS[:3], (ROWS[3][0], str(tmp_path / "dnase.bw"), *ROWS[3][2:])]
    )
    with caplog.at_level(logging.WARNING, logger="kipoi_borzoi"):
        other = build(table, fasta, bed, tmp_path / "store", **OPTIONS)
    table.unlink()
    assert other.key == store.key
    assert "'chr1' is read as '1'" in caplog.text


def test_what_is_reported(made, tmp_path, caplog):
    bed = write_sequences(tmp_path / "s.bed", [*WINDOWS, ("chr1", 1500, 2524, "valid")])
    targets, fasta, _ = made.arguments
    with caplog.at_level(logging.WARNING, logger="kipoi_borzoi"):
        build(targets, fasta, bed, tmp_path / "store", **OPTIONS)
    assert (
        "1 of 6 sequences reach beyond the end of their contig" in caplog.text
        and "chr1:5500-6524, 524 bp" in caplog.text
    )
    assert "folds train and valid overlap: both have targets on 268 bp (such as chr1:1628-1896)" in caplog.text


def test_a_track_without_coverage_in_the_sequences(made, tmp_path, caplog):
    bed = write_sequences(tmp_path / "s.bed", [("chr2", 1900, 2924, "train")])
    values = {"chr1": some_values(9)["chr1"], "chr2": np.full(3000, np.nan)}
    write_bigwig(tmp_path / "empty_there.bw", LENGTHS, values)
    table = write_targets(tmp_path / "t.txt", [("silent", "empty_there.bw", 384.0, 320.0, 0.3, "sum_sqrt", 0)])
    with caplog.at_level(logging.WARNING, logger="kipoi_borzoi"):
        store = build(table, made.arguments[1], bed, tmp_path / "store", **OPTIONS)
    assert "1 of 1 tracks have no coverage in any sequence: silent" in caplog.text
    assert not store.targets(0).any()


# Run again, resume


def test_run_again(made, store, caplog):
    with caplog.at_level(logging.INFO, logger="kipoi_borzoi"):
        assert build(*made.arguments, store.path.parent, **OPTIONS).key == store.key
    assert "complete already, of the same inputs" in caplog.text
    with pytest.raises(
        InputError, match=r"a complete store of other inputs is here; changed: transform \(was new, now old\)"
    ):
        build(*made.arguments, store.path.parent, transform="old", **OPTIONS)


def test_replace(inputs, tmp_path):
    first = build(*inputs.arguments, tmp_path / "store", **OPTIONS)
    write_bigwig(inputs.folder / "dnase.bw", LENGTHS, some_values(77))
    with pytest.raises(InputError, match="complete store of other inputs is here; changed: .*dnase.bw"):
        build(*inputs.arguments, tmp_path / "store", **OPTIONS)
    second = build(*inputs.arguments, tmp_path / "store", replace=True, **OPTIONS)
    assert second.key != first.key


def test_left_over_parts_are_removed(inputs, store, tmp_path):
    """Killed between its last two steps, a build leaves its parts beside the complete store."""
    shutil.copytree(store.path.parent, tmp_path / "store")
    (tmp_path / "store" / "building").mkdir()
    (tmp_path / "store" / "building" / "track00000.h5").write_text("x")
    assert build(*inputs.arguments, tmp_path / "store", **OPTIONS).key == store.key
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["store.h5"]


class Interrupt(Exception):
    pass


def interrupted_build(inputs, out, after, monkeypatch, **options):
    """Build until ``after`` parts are made; return the names of all parts that are there."""
    made = []

    def make_part(job, row, tick, real=building.make_part):
        if len(made) == after:
            raise Interrupt
        made.append(row)
        return real(job, row, tick)

    with monkeypatch.context() as patch:
        patch.setattr(building, "make_part", make_part)
        with pytest.raises(Interrupt):
            build(*inputs.arguments, out, **{**OPTIONS, **options})
    return sorted(path.name for path in (out / "building").glob("*.h5"))


def test_parts_are_used_again(inputs, store, tmp_path, monkeypatch):
    out = tmp_path / "store"
    assert interrupted_build(inputs, out, 3, monkeypatch) == ["sequences.h5", "track00000.h5", "track00001.h5"]
    with pytest.raises(InputError, match="the store is not complete; run the same 'data build' again"):
        Store.open(out)
    stamps = {path: path.stat().st_mtime_ns for path in (out / "building").glob("*.h5")}
    interrupted_build(inputs, out, 4, monkeypatch)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert build(*inputs.arguments, out, **OPTIONS).key == store.key


def test_a_damaged_part_is_made_again(inputs, store, tmp_path, monkeypatch, caplog):
    out = tmp_path / "store"
    interrupted_build(inputs, out, 4, monkeypatch)
    with h5py.File(out / "building" / "track00000.h5", "r+") as file:
        file["targets"][2, 3] += 1
    part = out / "building" / "track00001.h5"
    part.write_bytes(part.read_bytes()[:500])
    with caplog.at_level(logging.WARNING, logger="kipoi_borzoi"):
        assert build(*inputs.arguments, out, **OPTIONS).key == store.key
    assert "track00000.h5: a damaged part, made again" in caplog.text
    assert "track00001.h5: a damaged part, made again" in caplog.text


def other_genome(inputs):
    write_fasta(inputs.folder / "genome.fa", {**CONTIGS, "chr2": CONTIGS["chr2"][::-1]})


def other_folds(inputs):
    write_sequences(inputs.folder / "sequences.bed", [*WINDOWS[:-1], (*WINDOWS[-1][:3], "train")])


def other_scale(inputs):
    write_targets(inputs.folder / "targets.txt", [*ROWS[:3], (*ROWS[3][:4], 0.5, *ROWS[3][5:])])


def other_coverage(inputs):
    write_bigwig(inputs.folder / "rna_minus.bw", LENGTHS, some_values(50))


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (other_genome, {}, "changed: the FASTA file"),
        (other_folds, {}, "changed: the sequences or their folds"),
        (other_scale, {}, r"changed: the target table \(dnase\)"),
        (other_coverage, {}, "rna_minus.bw: the file has changed since its part of the store was made"),
        (None, {"transform": "old"}, r"changed: transform \(was new, now old\)"),
        (None, {"crop_bp": 0}, r"changed: crop_bp \(was 128, now 0\)"),
        (None, {"negative": "abs"}, "changed: negative"),
        (None, {"blacklist": "black.bed"}, "changed: the black list"),
    ],
)
def test_changed_inputs_are_refused(inputs, tmp_path, monkeypatch, change, options, message):
    out = tmp_path / "store"
    interrupted_build(inputs, out, 3, monkeypatch)
    if change:
        change(inputs)
    if "blacklist" in options:
        options = {"blacklist": inputs.folder / "black.bed"}
    with pytest.raises(InputError, match=message):
        build(*inputs.arguments, out, **{**OPTIONS, **options})
    assert not (out / "store.h5").exists()
    assert len(build(*inputs.arguments, out, restart=True, **{**OPTIONS, **options})) == 5


PROGRAM = """
import sys, time, pathlib
from kipoi_borzoi.training import build as building
from kipoi_borzoi.dataloaders import coverage
folder, out, processes = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])

def slow(*arguments, real=coverage.read_target, **options):
    time.sleep(0.05)
    return real(*arguments, **options)

building.read_target = slow
if __name__ == "__main__":
    building.build(folder / "targets.txt", folder / "genome.fa", folder / "sequences.bed", out, crop_bp=128,
                   processes=processes)
"""


def start(tmp_path, inputs, out, processes):
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, str(tmp_path / "program.py"), str(inputs.folder), str(out), str(processes)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def children(pid):
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1]) == pid:
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize(("processes", "how"), [(1, signal.SIGKILL), (2, signal.SIGKILL), (2, signal.SIGINT)])
def test_stopped_and_continued(inputs, store, tmp_path, processes, how):
    out = tmp_path / "store"
    process = start(tmp_path, inputs, out, processes)
    work = out / "building"
    wait_for(lambda: (work / "track00000.h5").exists() or process.poll() is not None)
    workers = children(process.pid)
    assert len(workers) >= (2 if processes == 2 else 0)
    process.send_signal(how)
    process.communicate()
    wait_for(lambda: not any(map(alive, workers)))  # nothing outlives its parent
    assert not (out / "store.h5").exists()
    with pytest.raises(InputError, match="not complete"):
        Store.open(out)
    stamp = (work / "track00000.h5").stat().st_mtime_ns
    seen = []

    def make_part(job, row, tick, real=building.make_part):
        seen.append((row, job.part(row).exists()))
        result = real(job, row, tick)
        if row == 0:
            assert job.part(row).stat().st_mtime_ns == stamp
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, "make_part", make_part)
        assert build(*inputs.arguments, out, **OPTIONS).key == store.key
    assert (0, True) in seen
    assert [path.name for path in out.iterdir()] == ["store.h5"]


def test_a_second_process_is_refused(inputs, tmp_path):
    out = tmp_path / "store"
    process = start(tmp_path, inputs, out, 1)
    wait_for(lambda: (out / "building" / "plan.json").exists())
    with pytest.raises(InputError, match="another process is building this store"):
        build(*inputs.arguments, out, **OPTIONS)
    process.communicate()
    assert process.returncode == 0 and len(Store.open(out)) == 5


def test_a_killed_worker_is_an_error(inputs, tmp_path):
    out = tmp_path / "store"
    process = start(tmp_path, inputs, out, 2)
    wait_for(lambda: (out / "building" / "track00000.h5").exists() or process.poll() is not None)
    for worker in children(process.pid):
        os.kill(worker, signal.SIGKILL)
    _, text = process.communicate()
    assert process.returncode != 0 and "KipoiBorzoiError: a worker process died" in text
    assert not (out / "store.h5").exists()


def test_an_error_of_a_worker_arrives(inputs, tmp_path):
    values = some_values(2)
    values["chr1"][4500] = -2
    write_bigwig(inputs.folder / "dnase.bw", LENGTHS, values)
    with pytest.raises(InputError, match=r"dnase.bw: negative coverage \(-2\) at chr1:4501"):
        build(*inputs.arguments, tmp_path / "store", processes=2, **OPTIONS)
    positive = build(*inputs.arguments, tmp_path / "other", negative="abs", **OPTIONS)
    assert positive.targets(3)[(4500 - 4000 - CROP) // WIDTH, 3] > 0


def test_disk_full(inputs, store, tmp_path):
    program = """
import resource, sys
from kipoi_borzoi.training.build import build
from kipoi_borzoi.errors import InputError
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
try:
    build(*sys.argv[2:6], crop_bp=128)
except InputError as error:
    sys.exit(str(error))
"""
    out = tmp_path / "store"
    for limit in (2000, 6000, 12000):
        command = [sys.executable, "-c", program, str(limit), *map(str, inputs.arguments), str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 1, (limit, done.stderr)
        assert f"{out}: cannot be written or read (File too large); is the disk full" in done.stderr
        assert not (out / "store.h5").exists()
    assert build(*inputs.arguments, out, **OPTIONS).key == store.key


def test_folder_that_cannot_be_written(inputs, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="the folder cannot be made"):
        build(*inputs.arguments, tmp_path / "file" / "store", **OPTIONS)


# Bad input


def bad_targets(rows):
    def change(inputs):
        write_targets(inputs.folder / "targets.txt", rows)

    return change


def bad_sequences(*rows):
    def change(inputs):
        write_sequences(inputs.folder / "sequences.bed", rows)

    return change


def remove(name):
    return lambda inputs: (inputs.folder / name).unlink()


def truncate(inputs):
    path = inputs.folder / "rna_minus.bw"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def without_contig(inputs):
    write_bigwig(inputs.folder / "dnase.bw", {"chr1": 6000}, {"chr1": some_values(3)["chr1"]})


def other_length(inputs):
    write_bigwig(inputs.folder / "dnase.bw", {**LENGTHS, "chr2": 3001}, some_values(3))


def no_values(inputs):
    write_bigwig(inputs.folder / "dnase.bw", LENGTHS, {})


def foreign_blacklist(inputs):
    (inputs.folder / "black.bed").write_text("scaffold7\t1\t5\n")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (bad_targets([*ROWS[:3], ("rna+", *ROWS[3][1:])]), "line 5: duplicate identifier 'rna\\+'"),
        (bad_targets([*ROWS[:3], (*ROWS[3][:6], 9)]), "targets.txt: track 'dnase' .*strand_pair 9.* is not among the 4"),
        (bad_targets([*ROWS[:3], (*ROWS[3][:6], 0)]), "strand_pair 0 is not mutual"),
        (bad_targets([*ROWS[:3], ("dnase", "", *ROWS[3][2:])]), "targets.txt: a track has no file"),
        (remove("cage.w5"), "cage.w5: no such file"),
        (truncate, "rna_minus.bw: the BigWig file is corrupt or truncated"),
        (without_contig, "sequences.bed: contig 'chr2' is not in .*dnase.bw, so there is no coverage for it"),
        (other_length, "contig 'chr2' is 3001 bp long in .*dnase.bw, but 3000 bp in the genome"),
        (no_values, "dnase.bw: no data"),
        (bad_sequences(*WINDOWS[:2], ("chr1", 5, 1028, "train")), "line 3: chr1:5-1028 is 1023 bp long, expected 1024, the length of line 1"),
        (bad_sequences(("chr1", 0, 1030, "train")), "a window of 1030 bp leaves 774 bp after a crop of 128"),
        (bad_sequences(("chr1", 0, 256, "train")), "leaves 0 bp"),
        (bad_sequences(("chr1", 0, 1024)), "line 1: 3 columns, expected 4: chrom, start, end and the fold"),
        (bad_sequences(("chr1", 0, 1024, ".")), "line 1: the fold .column 4. is '.'"),
        (bad_sequences(*[("chr1", n, n + 1024, f"seq{n}") for n in range(40)]), "40 different folds for 40 sequences"),
        (bad_sequences(WINDOWS[0], WINDOWS[1], WINDOWS[0]), "line 3: chr1:0-1024 is in line 1, too"),
        (bad_sequences(("chr7", 0, 1024, "train")), "line 1: contig 'chr7' is not in .*genome.fa"),
        (bad_sequences(("chr2", 3000, 4024, "train")), "line 1: chr2:3000-4024 lies beyond the end of its contig"),
        (foreign_blacklist, "black.bed: none of its contigs .scaffold7. is in the genome"),
    ],
)  # fmt: skip
def test_bad_input(inputs, tmp_path, change, message):
    change(inputs)
    with pytest.raises(InputError, match=message):
        build(*inputs.arguments, tmp_path / "store", blacklist=inputs.folder / "black.bed", **OPTIONS)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transform": "newest"}, "unknown transform"),
        ({"processes": 0}, "processes is 0"),
        ({"clip_quantile": 99}, "the quantile to clip at is 99"),
        ({"pool_width": 0}, "expected positive numbers"),
        ({"crop_bp": -1}, "expected positive numbers"),
        ({"seq_length": 2048}, "line 1: chr1:0-1024 is 1024 bp long, expected 2048 or 1792"),
    ],
)
def test_bad_options(made, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        build(*made.arguments, tmp_path / "store", **{**OPTIONS, **options})


def test_all_bad_coverage_files_are_counted(inputs, tmp_path):
    remove("cage.w5")(inputs)
    truncate(inputs)
    with pytest.raises(InputError, match="rna_minus.bw.*and 1 more of 4 coverage files cannot be used"):
        build(*inputs.arguments, tmp_path / "store", **OPTIONS)


def test_recorded_bad_bigwigs(shared_data, tmp_path):
    """Each file of the collection, held against its expected outcome."""
    folder = shared_data / "badinputs"
    lines = (folder / "manifest.tsv").read_text().splitlines()
    header = lines[0].split("\t")
    tried = 0
    bed = write_sequences(tmp_path / "s.bed", [("chr1", 345000, 353192, "train")])
    for line in lines[1:]:
        case = dict(zip(header, line.split("\t"), strict=False))
        path = folder / line.split("\t")[1]
        if path.parent.name != "bigwig":
            continue
        tried += 1
        out = tmp_path / case[header[0]]
        (tmp_path / "copy.bw").write_bytes(path.read_bytes())
        table = write_targets(tmp_path / "t.txt", [("x", "copy.bw", 384.0, 320.0, 1.0, "sum", 0)])
        shutil.copy(folder / "fasta" / "ref.fa.gz", tmp_path)
        try:
            store = build(table, tmp_path / "ref.fa.gz", bed, out)
        except InputError as error:
            import re

            assert line.split("\t")[4] == "error", (path, error)
            assert re.search(line.split("\t")[5], str(error), re.IGNORECASE), (path, error)
        else:
            assert "score-normally" in line, path
            assert store.targets(0).any()
    assert tried == 8
