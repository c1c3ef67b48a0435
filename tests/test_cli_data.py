"""`kipoi-borzoi data`: one JSON object or a report on standard output, one line for an error, and the exit status."""

import json

import pytest
from coverage_files import write_bigwig, write_targets
from data_cases import LENGTHS, ROWS, WINDOWS, make_inputs, some_values, write_sequences

from kipoi_borzoi.cli import main
from kipoi_borzoi.training.build import build
from kipoi_borzoi.training.store import Store

SOURCES = [
    "--targets",
    "in/targets.txt",
    "--fasta",
    "in/genome.fa",
    "--sequences",
    "in/sequences.bed",
    "--crop-bp",
    "128",
]


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_inputs(tmp_path / "in")


def run(capsys, *arguments):
    status = main(["data", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_build(files, capsys):
    status, out, err = run(capsys, "build", *SOURCES, "--out", "store", "--blacklist", "in/black.bed")
    assert status == 0
    described = json.loads(out)
    store = Store.open("store")
    assert described.pop("bytes") == store.path.stat().st_size
    assert described == {
        "store": "store", "key": store.key, "examples": {"train": 2, "valid": 1, "test": 2}, "tracks": 4,
        "seq_length": 1024, "crop_bp": 128, "pool_width": 32, "bins": 24, "transform": "new",
    }  # fmt: skip
    assert "windows of tracks" in err  # the bar
    same = build(*files.arguments, "other", blacklist=files.folder / "black.bed", crop_bp=128)
    assert same.key == store.key


def test_options_reach_the_store(files, capsys):
    write_bigwig(files.folder / "dnase.bw", LENGTHS, {name: -values for name, values in some_values(3).items()})
    write_sequences(files.folder / "sequences.bed", [(c, s + 128, e - 128, f) for c, s, e, f in WINDOWS])
    arguments = [*SOURCES, "--out", "store", "--abs", "--transform", "old", "--seq-length", "1024", "--pool-width", "64",
                 "--clip-extremes", "--processes", "2", "--quiet"]  # fmt: skip
    status, out, err = run(capsys, "build", *arguments)
    assert status == 0 and "windows of tracks" not in err
    same = build(*files.arguments, "other", transform="old", negative="abs", seq_length=1024, pool_width=64, crop_bp=128,
                 clip_quantile=0.9999999)  # fmt: skip
    assert json.loads(out)["key"] == same.key
    assert run(capsys, "build", *SOURCES, "--out", "store", "--seq-length", "1024")[0] == 1
    arguments = [*SOURCES, "--out", "store", "--seq-length", "1024", "--abs", "--replace"]
    assert json.loads(run(capsys, "build", *arguments)[1])["transform"] == "new"


def test_errors_are_one_line(files, capsys):
    status, out, err = run(capsys, "build", *SOURCES, "--out", "in")
    assert status == 1 and out == ""
    assert err.splitlines()[-1].startswith("kipoi-borzoi: error: in: the folder is not empty and no store")


def test_check_of_files_and_store(files, capsys):
    status, out, _ = run(capsys, "check", *SOURCES)
    assert status == 0 and out.splitlines()[0] == "in/targets.txt: 5 sequences read, no problem found"
    build(*files.arguments, "store", crop_bp=128)
    status, out, _ = run(capsys, "check", "store", "--sample", "2")
    assert status == 0 and out.splitlines()[0] == "store: 2 sequences read, no problem found"
    assert out.splitlines()[1].startswith("note  PADDED  sequences: 1 sequences reach beyond")


def test_problems_are_an_exit_status(files, capsys):
    write_targets(files.folder / "targets.txt", [*ROWS[:3], (*ROWS[3][:4], 1000.0, *ROWS[3][5:])])
    (files.folder / "cage.w5").unlink()
    status, out, _ = run(capsys, "check", *SOURCES)
    assert status == 1
    lines = out.splitlines()
    assert lines[0] == "in/targets.txt: 5 sequences read, 2 problems"
    assert lines[1].startswith("PROBLEM  COVERAGE_FILE  cage: in/cage.w5: no such file")
    assert lines[2].startswith("PROBLEM  SCALE  dnase: ") and lines[3].startswith("note  PADDED")
    status, out, _ = run(capsys, "check", *SOURCES, "--format", "tsv")
    rows = [line.split("\t") for line in out.splitlines()]
    assert status == 1 and rows[0] == ["problem", "code", "subject", "value", "proposal", "message"]
    assert [row[:3] for row in rows[1:]] == [
        ["no", "PADDED", "sequences"], ["yes", "COVERAGE_FILE", "cage"], ["yes", "SCALE", "dnase"]
    ]  # fmt: skip
    assert 0 < float(rows[3][4]) < 1000
    status, out, _ = run(capsys, "check", *SOURCES, "--format", "json")
    report = json.loads(out)
    assert status == 1 and [finding["code"] for finding in report["findings"]] == ["PADDED", "COVERAGE_FILE", "SCALE"]
    assert [track["identifier"] for track in report["tracks"]] == ["rna+", "rna-", "dnase"]


@pytest.mark.parametrize("arguments", [[], ["store", *SOURCES], SOURCES[:2], ["--fasta", "x", "--sequences", "y"]])
def test_check_needs_a_store_or_files(files, capsys, arguments):
    status, _, err = run(capsys, "check", *arguments)
    assert status == 1 and "give either a store, or --targets, --fasta and --sequences together" in err


def test_check_of_nothing(files, capsys):
    status, _, err = run(capsys, "check", *SOURCES, "--sample", "0")
    assert status == 1 and "0 sequences to read, expected 1 or more" in err


def test_import(shared_data, tmp_path, capsys):
    status, out, _ = run(
        capsys, "import-tfrecords", shared_data / "tiny" / "mm10", "--out", tmp_path / "store", "--quiet"
    )
    assert status == 0 and json.loads(out)["examples"] == {"train": 28, "valid": 13, "test": 13}
    status, _, err = run(capsys, "import-tfrecords", tmp_path, "--out", tmp_path / "other")
    assert status == 1 and "statistics.json: cannot be read" in err
