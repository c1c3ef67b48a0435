"""Runs that are killed, repeated, divided or refused leave whole tables, and the same ones as an undisturbed run."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from score_tables import COLUMNS, GENE_SCORERS, KEY, PROVENANCE, SCORERS, chunks_from, make_chunk

from kipoi_borzoi import cli
from kipoi_borzoi.errors import InputError, KipoiBorzoiError
from kipoi_borzoi.variants import shards, writers
from kipoi_borzoi.variants.header import Summary, differences
from kipoi_borzoi.variants.output import merge_shards, write_scores
from kipoi_borzoi.variants.parts import key_of, pack, unpack

N = 25
TESTS = Path(__file__).parent


def write(path, chunks=None, n=N, key=KEY, provenance=PROVENANCE, **options):
    stream = chunks or chunks_from(n)
    return write_scores(stream, path, COLUMNS, SCORERS, GENE_SCORERS, provenance, key, n_alleles=n, **options)


def broken_at(number, error, n=N, calls=None):
    """Chunks that fail when allele ``number`` is due."""
    whole = chunks_from(n, calls=calls)

    def chunks(start, stop):
        for chunk in whole(start, stop):
            if chunk.alleles[-1].number >= number:
                raise error
            yield chunk

    return chunks


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Bytes of an undisturbed run, by suffix."""
    folder = tmp_path_factory.mktemp("undisturbed")
    for suffix in writers.SUFFIXES:
        write(folder / f"x{suffix}")
    return {suffix: (folder / f"x{suffix}").read_bytes() for suffix in writers.SUFFIXES}


def same_numbers(one, other):
    """Whether two chunks are equal, bit by bit."""
    assert [repr(row) for row in one.alleles] == [repr(row) for row in other.alleles] and one.genes == other.genes
    for scores, others in ((one.scores, other.scores), (one.gene_scores, other.gene_scores)):
        assert list(scores) == list(others)
        for name in scores:
            for field, array in vars(scores[name]).items():
                wanted = getattr(others[name], field)
                assert (array is None) == (wanted is None)
                if array is not None:
                    assert array.dtype == wanted.dtype
                    np.testing.assert_array_equal(array.view(np.uint32), wanted.view(np.uint32))
    for name, profile in one.profiles.items():
        np.testing.assert_array_equal(profile, other.profiles[name])


def test_parts_hold_chunks_exactly():
    for chunk in (make_chunk(0, 14, profiles=("REF",)), make_chunk(3, 5), make_chunk(20, 21, scorers=(), ensemble=False)):
        same_numbers(unpack(pack(chunk), "part"), chunk)


def test_a_changed_byte_of_a_part_is_noticed():
    content = bytearray(pack(make_chunk(0, 6)))
    for place in random.Random(0).sample(range(len(content)), 60):
        content[place] ^= 1
        with pytest.raises(InputError, match="part-x: damaged"):
            unpack(bytes(content), "part-x")
        content[place] ^= 1
    with pytest.raises(InputError, match="damaged"):
        unpack(bytes(content[:-1]), "part-x")


@pytest.mark.parametrize("suffix", writers.SUFFIXES)
def test_a_failed_run_goes_on_where_it_was(tmp_path, suffix, undisturbed):
    path = tmp_path / f"x{suffix}"
    for number in (5, 14, 21):
        with pytest.raises(RuntimeError, match="out of memory"):
            write(path, broken_at(number, RuntimeError("out of memory")))
        assert [entry.name for entry in tmp_path.iterdir()] == [f"{path.name}.parts"]
    calls = []
    summary = write(path, chunks_from(N, calls=calls))
    assert calls == [(20, N)]
    assert path.read_bytes() == undisturbed[suffix]
    assert str(summary) == "25 alleles: 20 scored, 5 skipped (REF_MISMATCH 3, ALT_STAR 2)"
    assert not path.with_name(f"{path.name}.parts").exists()


def test_only_what_is_missing_or_damaged_is_computed_again(tmp_path, undisturbed):
    path = tmp_path / "x.tsv"
    with pytest.raises(KeyboardInterrupt):
        write(path, broken_at(21, KeyboardInterrupt()), part_seconds=0)
    parts = sorted(path.with_name("x.tsv.parts").glob("part-*"))
    assert [part.name for part in parts] == [f"part-{a:012d}-{a + 4:012d}" for a in range(0, 20, 4)]
    parts[1].unlink()
    content = bytearray(parts[3].read_bytes())
    content[-40] ^= 255
    parts[3].write_bytes(content)
    calls = []
    write(path, chunks_from(N, calls=calls))
    assert calls == [(4, 8), (12, 16), (20, N)]
    assert path.read_bytes() == undisturbed[".tsv"]


def test_inputs_of_unknown_length_are_read_to_their_end(tmp_path, undisturbed):
    path = tmp_path / "x.tsv"
    write_scores(lambda start, stop: chunks_from(N)(start, stop), path, COLUMNS, SCORERS, GENE_SCORERS, PROVENANCE, KEY)
    assert path.read_bytes() == undisturbed[".tsv"]


def test_a_changed_run_is_refused_with_what_changed(tmp_path, undisturbed):
    path = tmp_path / "x.tsv"
    with pytest.raises(RuntimeError):
        write(path, broken_at(14, RuntimeError()))
    changed = {**PROVENANCE, "fasta": {"name": "hg38.fa", "sha256": "bb"}}
    with pytest.raises(InputError, match='beginning of another run: fasta.sha256 was "aa", is "bb". Run it with the same'):
        write(path, key=key_of({"other": 1}), provenance=changed)
    with pytest.raises(InputError, match="key was"):
        write(path, key=key_of({"other": 1}))
    with pytest.raises(InputError, match="total was 25, is 24"):
        write(path, n=24)
    write(path, key=key_of({"other": 1}), provenance=changed, force=True)
    assert '"sha256": "bb"' in path.read_text().splitlines()[0]


def test_provenance_of_the_first_start_is_kept_where_the_key_is_the_same(tmp_path, undisturbed):
    path = tmp_path / "x.tsv"
    with pytest.raises(RuntimeError):
        write(path, broken_at(14, RuntimeError()))
    write(path, provenance={**PROVENANCE, "folder": "elsewhere"})
    assert path.read_bytes() == undisturbed[".tsv"]


def test_differences_name_the_leaves():
    old, new = {"a": {"b": [1, 2]}, "c": 1}, {"a": {"b": [1, 3]}, "d": "x" * 200}
    found = differences(old, new)
    assert found[0] == "a.b[1] was 2, is 3" and found[1] == "c was 1, is null" and len(found[2]) < 120
    assert differences(old, old) == []


@pytest.mark.parametrize("suffix", [".tsv", ".vcf.gz"])
def test_a_finished_table_is_replaced_only_by_force(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    write(path)
    before = path.read_bytes()
    calls = []
    with pytest.raises(InputError, match="exists; give --force to replace it, or another name"):
        write(path, chunks_from(24, calls=calls), n=24)
    assert calls == [] and path.read_bytes() == before
    assert not path.with_name(f"{path.name}.parts").exists()
    write(path, chunks_from(24, calls=calls), n=24, force=True)
    assert calls and path.read_bytes() != before


@pytest.mark.parametrize("suffix", [".tsv", ".vcf.gz"])
def test_a_run_killed_between_table_and_clearing_away_is_done(tmp_path, suffix, undisturbed, monkeypatch):
    path = tmp_path / f"x{suffix}"
    monkeypatch.setattr("kipoi_borzoi.work_folder.WorkFolder.clear", lambda self: None)
    write(path)
    assert path.with_name(f"{path.name}.parts").exists()
    monkeypatch.undo()
    calls = []
    assert write(path, chunks_from(N, calls=calls)).scored == 20
    assert calls == [] and path.read_bytes() == undisturbed[suffix]
    assert not path.with_name(f"{path.name}.parts").exists()


def test_an_output_that_is_an_input_is_refused(tmp_path):
    path = tmp_path / "in.vcf.gz"
    path.write_bytes(b"variants")
    (tmp_path / "link.vcf.gz").symlink_to(path)
    for name in ("in.vcf.gz", "link.vcf.gz"):
        with pytest.raises(InputError, match="is an input as well; write to another file"):
            write(tmp_path / name, inputs=[tmp_path / "genome.fa", path], force=True)
    assert path.read_bytes() == b"variants"


def test_two_processes_cannot_write_one_output(tmp_path):
    path = tmp_path / "x.tsv"
    messages = []

    def chunks(start, stop):
        for chunk in chunks_from(N)(start, stop):
            if not messages:
                with pytest.raises(InputError) as caught:
                    write(path)
                messages.append(str(caught.value))
            yield chunk

    write(path, chunks)
    assert "another process is writing it" in messages[0]


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda chunk: make_chunk(4, 8), "follow one another from 0"),
        (lambda chunk: chunk.__class__(chunk.alleles, {"SAX": chunk.scores["SUM"]}), r"scores of \['SAX'\]"),
        (lambda chunk: chunk.__class__(chunk.alleles[:2], chunk.scores), r"SUM.mean: float32 \(4, 3\), expected float32 \(2, 3\)"),
        (lambda chunk: make_chunk(0, 4, profiles=("ALT",)), "profile 'ALT'"),
        (lambda chunk: chunk.__class__(chunk.alleles, {}, chunk.genes[::-1]), "not in the order"),
        (lambda chunk: chunk.__class__(chunk.alleles, {}, chunk.genes[:1] * 2), "none twice"),
    ],
)
def test_chunks_that_are_not_what_was_promised_are_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "x.tsv", lambda start, stop: iter([change(make_chunk(0, 4))]))
    assert list(tmp_path.iterdir()) == []  # no folder either, of a run that computed nothing


def test_an_allele_less_or_more_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="the chunks end at allele 24, asked for were 0 to 25"):
        write(tmp_path / "x.tsv", lambda start, stop: chunks_from(24)(start, 24))
    with pytest.raises(ValueError, match="the chunks go on to allele"):
        write(tmp_path / "y.tsv", lambda start, stop: chunks_from(40)(start, 40))
    assert not list(tmp_path.glob("*.tsv"))


def test_summaries():
    assert str(Summary.of({"SCORED": 1})) == "1 allele: 1 scored, 0 skipped"
    counts = {"ALT_STAR": 2, "SCORED": 3, "TOO_LONG": 2, "REF_MISMATCH": 4}
    assert str(Summary.of(counts)) == "11 alleles: 3 scored, 8 skipped (REF_MISMATCH 4, ALT_STAR 2, TOO_LONG 2)"


# Shards


def write_shards(folder, count, n=N, align=1, **options):
    paths = [folder / f"{number}.shard" for number in range(1, count + 1)]
    summaries = [write(path, n=n, shard=(i + 1, count), align=align, **options) for i, path in enumerate(paths)]
    return paths, summaries


@pytest.mark.parametrize("n, count, align", [(25, 1, 1), (25, 4, 1), (25, 3, 4), (3, 5, 1), (0, 2, 1), (100, 7, 8)])
def test_shards_cover_the_input_in_order(n, count, align):
    spans = [shards.bounds(n, (number, count), align) for number in range(1, count + 1)]
    assert [place for start, stop in spans for place in range(start, stop)] == list(range(n))
    assert all(start % align == 0 for start, _ in spans if start < n)
    lengths = [stop - start for start, stop in spans]
    assert max(lengths) - min(lengths) <= 2 * align - 1


@pytest.mark.parametrize("suffix", writers.SUFFIXES)
def test_merged_shards_are_the_table_of_one_run(tmp_path, suffix, undisturbed):
    paths, summaries = write_shards(tmp_path, 4, align=4)
    out = tmp_path / f"x{suffix}"
    summary = merge_shards([paths[i] for i in (2, 0, 3, 1)], out)
    assert out.read_bytes() == undisturbed[suffix]
    assert summary.alleles == sum(part.alleles for part in summaries) == N
    assert summary.scored == sum(part.scored for part in summaries) == 20
    assert out.with_name(f"{out.name}.tbi").exists() == (suffix == ".vcf.gz")


def test_more_shards_than_alleles(tmp_path):
    paths, summaries = write_shards(tmp_path, 5, n=3)
    assert merge_shards(paths, tmp_path / "x.tsv").alleles == 3
    write(tmp_path / "y.tsv", n=3)
    assert (tmp_path / "x.tsv").read_bytes() == (tmp_path / "y.tsv").read_bytes()


def test_shards_that_do_not_belong_together_are_refused(tmp_path):
    paths, _ = write_shards(tmp_path, 3)
    (tmp_path / "other").mkdir()
    changed = {**PROVENANCE, "version": "0.2"}
    others, _ = write_shards(tmp_path / "other", 3, key=key_of({"b": 1}), provenance=changed)
    (tmp_path / "four").mkdir()
    four, _ = write_shards(tmp_path / "four", 4)
    (tmp_path / "copy.shard").write_bytes(paths[0].read_bytes())
    (tmp_path / "text.shard").write_text("no shard")
    out = tmp_path / "x.tsv"
    for given, message in (
        (paths[:2], "1 of 3 shards are missing: 3/3"),
        (paths[1:2], "2 of 3 shards are missing: 1/3, 3/3"),
        ([*paths, tmp_path / "copy.shard"], "are both shard 1/3"),
        ([paths[0], others[1], paths[2]], 'is of another run than .*: version was "0.1", is "0.2"'),
        ([paths[0], four[1], paths[2]], "is 1 of 4 shards of 25 alleles, .* of 3 of 25"),
        ([*paths[:2], tmp_path / "text.shard"], "text.shard: not a shard"),
        ([*paths[:2], tmp_path / "none.shard"], "none.shard: cannot be read"),
        ([], "no shards are given"),
    ):
        with pytest.raises(InputError, match=message):
            merge_shards(given, out)
    with pytest.raises(InputError, match="is an input as well"):
        merge_shards(paths, paths[0], force=True)
    with pytest.raises(InputError, match="its suffix names no format"):
        merge_shards(paths, tmp_path / "x.shard")
    (tmp_path / "y.tsv").write_text("mine")
    (tmp_path / "y.tsv.parts").mkdir()
    with pytest.raises(InputError, match="exists; give --force"):
        merge_shards(paths, tmp_path / "y.tsv")
    assert not out.exists()


def test_damaged_and_truncated_shards_are_refused(tmp_path):
    paths, _ = write_shards(tmp_path, 2)
    whole = paths[1].read_bytes()
    ends = random.Random(0).sample(range(len(whole)), 25) + [len(whole) - 10240 - 512]
    for end in ends:
        paths[1].write_bytes(whole[:end])
        try:
            merge_shards(paths, tmp_path / "x.tsv")
        except InputError as error:
            assert str(paths[1]) in str(error)
        else:  # cut within the padding after the last member
            assert whole[:end].find(b"statuses") > 0
            (tmp_path / "x.tsv").unlink()
    end = whole.rfind(b"statuses") + 60  # behind the last member is padding
    for place in random.Random(0).sample(range(end), 60):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        if damaged[place] in b" \0" and whole[place] in b" \0":
            continue  # padding of a tar header
        paths[1].write_bytes(damaged)
        try:
            merge_shards(paths, tmp_path / "x.tsv")
        except InputError as error:
            assert str(paths[1]) in str(error)
        else:  # padding between members
            assert damaged[place] == 1
            (tmp_path / "x.tsv").unlink()
    assert not list(tmp_path.glob("x.tsv*")) and not list(tmp_path.glob(".tmp*"))


def test_shards_are_resumed_too(tmp_path, undisturbed):
    paths, _ = write_shards(tmp_path, 2, align=4)
    paths[1].unlink()
    with pytest.raises(RuntimeError):
        write(paths[1], broken_at(20, RuntimeError()), shard=(2, 2), align=4)
    calls = []
    write(paths[1], chunks_from(N, calls=calls), shard=(2, 2), align=4)
    assert calls == [(20, N)]
    merge_shards(paths, tmp_path / "x.h5")
    assert (tmp_path / "x.h5").read_bytes() == undisturbed[".h5"]


def test_a_shard_is_not_written_as_a_table(tmp_path):
    with pytest.raises(InputError, match="a shard is written as .shard"):
        write(tmp_path / "x.tsv", shard=(1, 2))
    with pytest.raises(InputError, match="shard 3/2: expected I/N with I from 1 to N"):
        write(tmp_path / "x.shard", shard=(3, 2))


def test_merge_command(tmp_path, capsys, undisturbed):
    paths, _ = write_shards(tmp_path, 2)
    arguments = ["merge", *map(str, paths), "--out", str(tmp_path / "x.parquet")]
    assert cli.main(arguments) == 0
    assert capsys.readouterr().out == "25 alleles: 20 scored, 5 skipped (REF_MISMATCH 3, ALT_STAR 2)\n"
    assert (tmp_path / "x.parquet").read_bytes() == undisturbed[".parquet"]
    assert cli.main(arguments) == 1
    assert capsys.readouterr().err == f"kipoi-borzoi: error: {tmp_path}/x.parquet: exists; give --force to replace it, or another name\n"
    assert cli.main([*arguments, "--force"]) == 0
    assert cli.main(["merge", str(paths[0]), "--out", str(tmp_path / "y.tsv")]) == 1
    assert "1 of 2 shards are missing: 2/2" in capsys.readouterr().err


# Kills and full disks, on real processes

PROGRAM = """
import sys, time
sys.path.insert(0, sys.argv[1])
from score_tables import COLUMNS, GENE_SCORERS, KEY, PROVENANCE, SCORERS, chunks_from
from kipoi_borzoi.variants.output import write_scores
def slow(start, stop):
    for chunk in chunks_from(60)(start, stop):
        time.sleep(0.01)
        yield chunk
write_scores(slow, sys.argv[2], COLUMNS, SCORERS, GENE_SCORERS, PROVENANCE, KEY, n_alleles=60, part_seconds=0)
"""


def start(path, *prefix):
    return subprocess.Popen(
        [*prefix, sys.executable, "-c", PROGRAM, str(TESTS), str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("suffix", [".tsv.gz", ".h5", ".vcf.gz"])
def test_killed_at_random_moments_and_run_again_gives_the_same_bytes(tmp_path, suffix):
    write(tmp_path / f"whole{suffix}", n=60)
    path = tmp_path / f"x{suffix}"
    moments = random.Random(suffix)
    kills = 0
    while True:
        process = start(path)
        work = path.with_name(f"{path.name}.parts")
        if kills < 4:
            deadline = time.monotonic() + 60
            while not work.exists() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.005)
            time.sleep(moments.uniform(0, 0.25))
            process.send_signal(signal.SIGKILL)
        status = process.wait(120)
        error = process.stderr.read()
        process.stdout.close(), process.stderr.close()
        if status == 0 and kills:
            break
        if status == 0:  # it was quicker than the kill
            path.unlink()
            continue
        assert status == -signal.SIGKILL, error
        kills += 1
        assert not path.exists() or path.read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()
        if path.exists() and not work.exists():  # it had done all but exit; run again, it would refuse to replace the table
            path.unlink()
    assert path.read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()
    left = {entry.name for entry in tmp_path.iterdir()}
    assert left == {f"{name}{suffix}{end}" for name in ("whole", "x") for end in ([""] + [".tbi"] * (suffix == ".vcf.gz"))}


LIMITED = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from score_tables import COLUMNS, GENE_SCORERS, KEY, PROVENANCE, SCORERS, chunks_from
from kipoi_borzoi.errors import KipoiBorzoiError
from kipoi_borzoi.variants.output import write_scores
import h5py, pysam, pyarrow.parquet
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
for limit in map(int, sys.argv[3:]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        write_scores(chunks_from(25, 1), sys.argv[2], COLUMNS, SCORERS, GENE_SCORERS, PROVENANCE, KEY, n_alleles=25, part_seconds=0)
    except KipoiBorzoiError as error:
        print("refused", error)
    else:
        print("written")
"""


@pytest.mark.parametrize("suffix", writers.SUFFIXES)
def test_a_full_disk_is_one_clear_error_and_leaves_no_table(tmp_path, suffix, undisturbed):
    """A limit on file size stands in for the full disk: writes fail in the same way, part of the way."""
    path, whole = tmp_path / f"x{suffix}", undisturbed[suffix]
    limits = [20, 4000, len(whole) // 2, len(whole) - 200, len(whole) - 1]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(TESTS), str(path), *map(str, limits)], capture_output=True, text=True, timeout=240
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and len(lines) == len(limits), done.stderr
    assert all(line.startswith(f"refused {path}: cannot be written (") for line in lines), done.stdout
    assert {entry.name for entry in tmp_path.iterdir()} == {f"{path.name}.parts"}
    calls = []
    write(path, chunks_from(N, calls=calls))
    assert path.read_bytes() == whole


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(KipoiBorzoiError, match=r"x.tsv: cannot be written \(Permission denied\)"):
        write(tmp_path / "x.tsv")
    assert os.listdir(tmp_path) == []


def test_an_error_in_reading_the_input_is_not_said_to_be_the_outputs(tmp_path):
    with pytest.raises(FileNotFoundError, match="genome.fa"):
        write(tmp_path / "x.tsv", broken_at(14, FileNotFoundError(2, "No such file", "genome.fa")))


def test_the_work_folder_says_what_the_run_is(tmp_path):
    with pytest.raises(RuntimeError):
        write(tmp_path / "x.tsv", broken_at(14, RuntimeError()))
    run = json.loads((tmp_path / "x.tsv.parts" / "run.json").read_text())
    assert run["key"] == KEY and run["total"] == N and run["header"]["provenance"] == PROVENANCE
