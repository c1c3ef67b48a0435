"""Every bad or tricky input of the collection through the commands that users type: exit status, one message, nothing left."""

import csv
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import REPOSITORY
from coverage_files import write_targets
from data_cases import write_sequences
from network_cases import make_params
from variant_cases import write_vcf
from zoo_parts import make_parts

from kipoi_borzoi.cli import main
from kipoi_borzoi.dataloaders.fasta import FastaReader
from kipoi_borzoi.genome import Interval

FOLDER = Path(os.environ.get("KIPOI_BORZOI_TEST_DATA") or REPOSITORY.parent / "shared" / "data") / "badinputs"
OUTCOME, WORDS = "expected outcome class (error|skip-and-report|score-normally)", "expected message keyword(s)"
FITTING = [("chr1", 400000, "ok1", "A", "G"), ("chr1", 401000, "ok2", "C", "T"), ("chr1", 402000, "ok3", "A", "G")]
WINDOW = 4096

# Where this package does otherwise than the collection expects, and why.
OURS = {
    "B005": ("error", "beyond|line 5", "a table of predictions has one row per line of the BED file, so none can be left out"),
    "B015": ("error", "line 4", "a line with fewer columns than the others may be a cut one"),
    "V005": ("score-normally", "", "a byte-order mark changes nothing else"),
    "V080": ("score-normally", "", "the file is read as a stream, so no index is needed"),
    "T005": ("error", "line 5|duplicate|identifier", "the first of two acceptable outcomes"),
}


def rows():
    """The rows of the collection; one that says why all are skipped where it is absent."""
    if not (FOLDER / "manifest.tsv").exists():
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"no folder {FOLDER}"))]
    with open(FOLDER / "manifest.tsv", newline="") as handle:
        found = list(csv.DictReader(handle, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [pytest.param(row, id=f"{row['id']}-{Path(row['path(s)'].split(';')[0]).name}") for row in found]


class World:
    """A copy of the collection (readers write indexes beside their inputs), and a zoo with a network of four tracks."""

    def __init__(self, folder: Path):
        self.folder, self.inputs, self.zoo = folder, folder / "badinputs", folder / "zoo"
        shutil.copytree(FOLDER, self.inputs, copy_function=shutil.copyfile)
        for part in [self.inputs, *self.inputs.rglob("*")]:
            part.chmod(0o755 if part.is_dir() else 0o644)
        trunk = [{"name": "conv_dna", "filters": 4, "kernel_size": 3, "norm_type": None, "pool_size": 32}]
        head = {"name": "final", "units": 4, "activation": "softplus"}
        self.parts = make_parts(folder / "parts", make_params(*trunk, seq_length=WINDOW, head_human=head))
        self.two_tracks = make_parts(folder / "two", make_params(*trunk, seq_length=WINDOW, head_human={**head, "units": 2}))
        self.zoo.mkdir()
        assert main(self.import_command("m", self.parts["targets"])) == 0
        self.fitting = write_vcf(folder / "fitting.vcf", FITTING)

    def import_command(self, name, targets):
        """Of T018, the network has the two tracks that the table lists."""
        files = {**(self.two_tracks if name == "T018" else self.parts), "targets": targets}
        return ["zoo", "import", name, *(f"--{key}={path}" for key, path in files.items()), "--zoo", str(self.zoo)]

    def command(self, row, out: Path) -> list[str]:
        """What a user types for a row of the collection."""
        path, operation = self.inputs / row["path(s)"].split(";")[0], row["operation"]
        fasta = self.inputs / row["reference"]
        if operation.startswith("predict_bed"):
            bed = path
            if row["kind"] == "fasta":
                chrom, start, end = re.match(r"predict_bed (\w+):(\d+)-(\d+)", operation).groups()
                bed = out / "regions.bed"
                windows = range(int(start), int(end), WINDOW)
                bed.write_text("".join(f"{chrom}\t{place}\t{min(place + WINDOW, int(end))}\n" for place in windows))
            arguments = f'{{"intervals_file": "{bed}", "fasta_file": "{fasta}"}}'
            return ["kipoi", "predict", str(self.zoo / "m" / "sum"), "--source=dir", f"--dataloader_args={arguments}", "-o", str(out / "out.h5")]
        if operation.startswith("make_targets"):
            table = write_targets(out / "t.txt", [("x", os.path.relpath(path, out), 384.0, 320.0, 1.0, "sum", 0)])
            bed = write_sequences(out / "s.bed", [("chr1", 345000, 353192, "train")])
            return ["data", "build", "--targets", str(table), "--fasta", str(fasta), "--sequences", str(bed), "--out", str(out / "store"), "--quiet"]
        if row["kind"] == "targets":
            return self.import_command(row["id"], path)
        vcf = path if row["kind"] == "vcf" else self.fitting
        if operation.startswith("score_vcf vcf/"):
            vcf = self.inputs / operation.split()[1]
        more = ["--genes", str(path), "--scores", "SUM,SED"] if row["kind"] == "gtf" else ["--scores", "SUM"]
        if "--region" in operation:
            (out / "r.bed").write_text("chr1\t399999\t410000\n")
            more += ["--regions", str(out / "r.bed")]
        return ["score", "--model", "m", "--vcf", str(vcf), "--fasta", str(fasta), "--out", str(out / "out.tsv"), "--zoo", str(self.zoo), *more]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("world"))


def run(command, capsys, caplog):
    """Exit status and what a user sees; of `kipoi`, what it raises, which Kipoi shows as a traceback with this last line."""
    caplog.clear()
    if command[0] != "kipoi":
        status = main(command)
        printed = capsys.readouterr()
        return status, printed.out, printed.err
    from kipoi.cli.main import cli_predict

    from kipoi_borzoi.errors import KipoiBorzoiError

    try:
        cli_predict("predict", command[2:])
    except KipoiBorzoiError as error:
        return 1, "", f"kipoi-borzoi: error: {error}\n"
    return 0, "", "\n".join(record.getMessage() for record in caplog.records)


def outcome(status, text, printed):
    """The collection's word for what happened."""
    counts = re.match(r"(\d+) alleles?: (\d+) scored, (\d+) skipped", printed)
    if status and not (counts and counts[2] == "0"):
        return "error"
    left_out = counts and counts[3] != "0"
    return "skip-and-report" if left_out or "are left out" in text else "score-normally"


def check_message(row, text, path):
    """One line that names the file; no traceback."""
    lines = [line for line in text.splitlines() if "error:" in line]
    assert len(lines) == 1 and lines[0].startswith("kipoi-borzoi: error: "), text
    assert Path(path).name in lines[0] and "Traceback" not in text and "fault of the program" not in text, text


APART = {"V082", "F005"}  # hostile or of other rights: in processes of their own, below


@pytest.mark.parametrize("row", [row for row in rows() if row.id is None or row.id[:4] not in APART])
def test_an_input_of_the_collection_ends_as_a_careful_user_wants(row, world, tmp_path, capsys, caplog):
    out = tmp_path / "out"
    out.mkdir()
    command = world.command(row, out)
    before = {path.name for path in [*out.iterdir(), *world.zoo.iterdir()]}
    status, printed, text = run(command, capsys, caplog)
    expected, words = row[OUTCOME], row[WORDS]
    accepted = {expected, *re.findall(r"error|skip-and-report|score-normally", row["also_ok"])}
    if row["id"] in OURS:
        accepted, words = {OURS[row["id"]][0]}, OURS[row["id"]][1]
    found = outcome(status, text, printed)
    assert found in accepted, (found, status, printed, text)
    after = {path.name for path in [*out.iterdir(), *world.zoo.iterdir()]}
    if status and found == "error":
        check_message(row, text, row["path(s)"].split(";")[0])
        # Of a build that read some of its input, the finished parts stay, to be continued; there is no store.
        assert after - before <= ({"store"} if command[0] == "data" else set()) and not (out / "store" / "store.h5").exists()
    made = {"score": "out.tsv", "data": "store", "zoo": row["id"], "kipoi": "out.h5"}[command[0]]
    if found != "error":
        assert after == before | {made}
        check_counts(row, printed, status)
    if words and (found == row[OUTCOME] or row["id"] in OURS):
        assert re.search(words, printed + text + told(out, row), re.IGNORECASE), text
    assert not [path for path in world.inputs.rglob("*") if ".tmp" in path.name]


def told(out, row):
    """What the outputs say of a padded or duplicate allele: the table has columns for it."""
    table = out / "out.tsv"
    return table.read_text() if table.exists() and row["id"] in ("V062", "V040") else ""


def check_counts(row, printed, status):
    counts = re.match(r"(\d+) alleles?: (\d+) scored, (\d+) skipped", printed)
    if row["id"] == "V080":
        assert printed.startswith("11 alleles: 11 scored")
    elif counts and row["alleles_scored"]:
        assert (counts[2], counts[3]) == (row["alleles_scored"], row["alleles_skipped"])
        assert status == (counts[1] != "0" and counts[2] == "0")


def in_a_process(command, **options):
    """The command as users run it."""
    program = [sys.executable, "-m", "kipoi_borzoi.cli"] if command[0] != "kipoi" else [sys.executable, "-m", "kipoi"]
    arguments = command[command[0] == "kipoi" :]
    env = {**os.environ, **options.pop("env", {})}
    return subprocess.run([*program, *map(str, arguments)], capture_output=True, text=True, timeout=120, env=env, check=False, **options)


def row_of(number):
    """The row of this number, or a skip."""
    found = [row.values[0] for row in rows() if row.values[0] and row.values[0]["id"] == number]
    return found[0] if found else pytest.skip(f"no folder {FOLDER}")


def test_a_file_that_inflates_without_end_is_refused_in_little_memory(tmp_path):
    row = row_of("V082")
    world, limit = World(tmp_path / "world"), 2 << 30

    def limits():
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CPU, (60, 60))

    done = in_a_process(world.command(row, tmp_path), preexec_fn=limits, env={"OPENBLAS_NUM_THREADS": "1"})
    assert done.returncode == 1 and re.search(row[WORDS], done.stderr), done.stderr
    check_message(row, done.stderr, row["path(s)"])


AS_NOBODY = """
import os, sys
from kipoi_borzoi.cli import main
split = sys.argv.index("then")
assert main(sys.argv[1:split]) == 0  # imports all that is needed, while it can be read
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
sys.exit(main(sys.argv[split + 1 :]))
"""


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can run a command as another user")
def test_a_genome_that_cannot_be_indexed_where_it_lies():
    row = row_of("F005")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        folder.chmod(0o755)
        world = World(folder / "world")
        (folder / "out").mkdir()
        os.chown(folder / "out", 65534, 65534)
        fasta = world.inputs / row["path(s)"]
        base = FastaReader(shutil.copy(fasta, folder / "copy.fa.gz")).fetch(Interval("chr1", 20000, 20001)).upper()
        write_vcf(world.fitting, [("chr1", 20001, ".", base, "CGTA"["ACGT".index(base)])])
        bad = world.command(row, folder / "out")
        good = [part.replace(str(fasta), str(folder / "copy.fa.gz")).replace("out.tsv", "good.tsv") for part in bad]
        program = [sys.executable, "-c", AS_NOBODY, *good, "then", *bad]
        done = subprocess.run(program, capture_output=True, text=True, env={**os.environ, "HOME": str(folder / "out")}, check=False)
        # Better than the error that is expected: the index is made in memory, with a warning that says how to mend it.
        assert done.returncode == 0, done.stderr
        assert "the index of" in done.stderr and "cannot be kept beside it" in done.stderr
        assert done.stdout.splitlines() == ["1 allele: 1 scored, 0 skipped"] * 2
        assert (folder / "out" / "out.tsv").read_text().splitlines()[2:] == (folder / "out" / "good.tsv").read_text().splitlines()[2:]
        assert not Path(f"{fasta}.fai").exists()


def test_soft_masked_sequence_is_predicted_like_any_other(tmp_path, capsys, caplog):
    row = row_of("F003")
    world, values = World(tmp_path / "world"), []
    for name in ("softmask", "upper"):
        out = tmp_path / name
        out.mkdir()
        assert run(world.command({**row, "reference": f"fasta/{name}.fa.gz"}, out), capsys, caplog)[0] == 0
        with h5py.File(out / "out.h5") as file:
            values.append(file["preds"][:])
    assert values[0].std() > 0
    np.testing.assert_array_equal(*values)


@pytest.mark.parametrize("number", ["V017", "BW010", "T003", "B002"])
def test_commands_in_processes_of_their_own_end_with_status_1(number, tmp_path):
    row = row_of(number)
    world = World(tmp_path / "world")
    done = in_a_process(world.command(row, tmp_path))
    assert done.returncode == 1
    if number != "B002":
        check_message(row, done.stderr, row["path(s)"])
    else:  # Kipoi's command shows what was raised as a traceback; the message is its last line
        assert re.search("InputError: .*start_gt_end.bed, line 4", done.stderr.splitlines()[-1])
