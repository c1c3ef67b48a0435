"""Work shared between Dask workers: the same files as one process writes, whatever becomes of the workers."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cluster_work import Unpacked, prepare_numbers, prepare_unpacked
from data_cases import make_inputs
from evaluation_cases import make_zoo_and_store
from variant_cases import write_vcf

pytest.importorskip("distributed", reason="Dask is not installed: pip install 'kipoi-borzoi[dask]'")

from kipoi_borzoi.cli import main
from kipoi_borzoi.cluster.connect import Local, Queue, Scheduler, connect, parse_where, visible_gpus
from kipoi_borzoi.cluster.run import Plan, check_same, plan_for, results
from kipoi_borzoi.dataloaders.fasta import FastaReader
from kipoi_borzoi.errors import InputError, KipoiBorzoiError
from kipoi_borzoi.genome import Interval

EXAMPLE = Path(__file__).resolve().parents[1] / "model_zoo/BorzoiDemo/base/example"


@pytest.fixture(scope="module")
def client():
    """Two worker processes."""
    with connect("local:2") as client:
        yield client


def plan(tmp_path, key="k"):
    return Plan(prepare_numbers, {"factor": 3, "marks": str(tmp_path)}, f"{key}-{tmp_path}")


def test_results_come_in_order_and_workers_prepare_once(client, tmp_path):
    found = list(results(client, plan(tmp_path), range(40), str))
    assert [value for value, _ in found] == [3 * number for number in range(40)]
    workers = {process for _, process in found}
    assert len(workers) == 2 and os.getpid() not in workers
    assert len(list(tmp_path.glob("prepared-*"))) == 2


def test_a_killed_worker_costs_nothing_but_time(client, tmp_path):
    killed, found = False, []
    for value, process in results(client, plan(tmp_path), range(60), str):
        found.append(value)
        if len(found) == 10 and not killed:
            os.kill(process, signal.SIGKILL)
            killed = True
    assert found == [3 * number for number in range(60)]


def test_the_plan_is_sent_once_and_made_again_when_all_who_hold_it_are_killed(client, tmp_path):
    client.wait_for_workers(2, timeout=60)  # those that the tests before have killed start again
    heavy = Plan(prepare_unpacked, {"factor": 3, "marks": str(tmp_path), "load": Unpacked(str(tmp_path))}, f"heavy-{tmp_path}")
    assert len(list(results(client, heavy, range(40), str))) == 40
    assert 1 <= len(list(tmp_path.glob("unpacked-*"))) <= 4  # made on one worker, handed to the other
    killed, found, workers = False, [], set()
    for value, process in results(client, heavy, range(60), str):
        found.append(value)
        workers.add(process)
        if len(found) >= 10 and len(workers) == 2 and not killed:
            for worker in workers:
                os.kill(worker, signal.SIGKILL)
            killed = True
    assert killed and found == [3 * number for number in range(60)]


def test_what_failed_on_a_worker_is_tried_on_another(client, tmp_path):
    client.wait_for_workers(2, timeout=60)
    for number in range(8):  # by chance, all of them would go elsewhere once in 256 times
        (tmp_path / str(number)).mkdir()
        assert list(results(client, plan(tmp_path / str(number)), ["picky"], str)) == [True]


def test_failures_are_tried_again_and_then_named(client, tmp_path):
    assert list(results(client, plan(tmp_path), ["flaky"], str)) == ["well"]
    with pytest.raises(InputError, match="that is no number"):
        list(results(client, plan(tmp_path), ["bad input"], str))
    found = []
    with pytest.raises(KipoiBorzoiError, match="item broken: failed 3 times on workers, at last with ValueError: never works"):
        for value in results(client, plan(tmp_path), [1, 2, "broken", 4], lambda item: f"item {item}"):
            found.append(value[0])
    assert found == [3, 6]  # what came before has been handed over


def test_work_that_kills_every_worker_is_named(client, tmp_path):
    with pytest.raises(KipoiBorzoiError, match="item poison: every worker that began it died"):
        list(results(client, plan(tmp_path), ["poison"], lambda item: f"item {item}"))
    client.wait_for_workers(2, timeout=60)
    assert [value for value, _ in results(client, plan(tmp_path, "after"), [5], str)] == [15]


def test_loaded_models_and_other_versions_are_refused(client, tmp_path):
    with pytest.raises(InputError, match="names of entries"):
        plan_for(prepare_numbers, {"models": {"a": object()}}, "k", {})
    other = Plan(prepare_numbers, {"factor": 1, "marks": str(tmp_path)}, "k", "0.0.0")
    with pytest.raises(InputError, match="a worker has kipoi-borzoi .*, this side 0.0.0"):
        list(results(client, other, [1], str))


@pytest.fixture
def run(client, tmp_path, monkeypatch, capsys):
    """Runs a command, in this process and on the workers; returns what each printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))

    def run(*words, out, where=client.scheduler.address):
        printed = []
        for name, extra in ((f"one{out}", []), (f"many{out}", ["--cluster", where])):
            assert main([*map(str, words), "--out", name, *extra]) == 0, capsys.readouterr().err
            printed.append(capsys.readouterr().out)
        return printed

    return run


ZOO = ["--zoo", EXAMPLE.parents[2]]
INPUT = ["--fasta", EXAMPLE / "genome.fa.gz", *ZOO]


def same(out):
    return Path(f"one{out}").read_bytes() == Path(f"many{out}").read_bytes()


def test_scores_on_a_cluster_are_those_of_one_process(run):
    lines = (EXAMPLE / "variants.vcf").read_text().splitlines()
    Path("variants.vcf").write_text("\n".join(lines[:30]) + "\n")
    score = ["score", "--model", "BorzoiDemo/unseen1", "--vcf", "variants.vcf", "--genes", EXAMPLE / "genes.gtf", *INPUT]
    one, many = run(*score, out=".tsv")
    assert one == many and same(".tsv")


# The command, which keeps every chunk at once: there is not the time to wait for 30 s of them.
KEEPING = """
import functools, sys
from kipoi_borzoi.cli import main
from kipoi_borzoi.variants import output
output.write_scores = functools.partial(output.write_scores, part_seconds=0)
sys.exit(main(sys.argv[1:]))
"""


def children_of(process):
    """Numbers of the Python processes that a process has started and that live, workers of a local cluster among them."""
    found = set()
    for task in Path(f"/proc/{process}/task").iterdir():
        found |= set(map(int, (task / "children").read_text().split()))
    return {one for one in found if lives(one) and b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()}


def lives(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition, what, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.01)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="reads /proc")
def test_a_killed_worker_and_a_killed_command_leave_no_trace_in_the_table(lab, tmp_path):
    rng = np.random.default_rng(0)
    contig = FastaReader(EXAMPLE / "genome.fa.gz").fetch(Interval("demo1", 1000, 97000)).upper()
    places = sorted(rng.choice(len(contig), 480, replace=False).tolist())
    records = [("demo1", 1001 + place, ".", contig[place], "CGTA"["ACGT".index(contig[place])]) for place in places]
    write_vcf(tmp_path / "in.vcf", records)
    # As many threads as a worker of local:2 gets, so that sums are added in the same order.
    threads = {"TF_NUM_INTRAOP_THREADS": str(max(1, os.cpu_count() // 2)), "TF_NUM_INTEROP_THREADS": "1"}
    words = ["score", "--model", "lab/m", "--zoo", lab / "zoo", "--vcf", "in.vcf", "--fasta", EXAMPLE / "genome.fa.gz"]

    def start(out, *more):
        command = [sys.executable, "-c", KEEPING, *map(str, words), "--out", out, *more]
        return subprocess.Popen(command, cwd=tmp_path, env={**os.environ, **threads}, stderr=subprocess.PIPE, text=True)

    def parts():
        return len(list(tmp_path.glob("many.parquet.parts/part-*")))

    undisturbed, first = start("one.parquet"), start("many.parquet", "--cluster", "local:2")
    wait_for(lambda: parts() >= 4 or first.poll() is not None, "the first parts")
    workers = children_of(first.pid)
    assert len(workers) == 2
    os.kill(min(workers), signal.SIGKILL)
    kept = parts()
    wait_for(lambda: parts() >= kept + 8 and len(children_of(first.pid) - {min(workers)}) == 2, "parts after a worker's end")
    workers |= children_of(first.pid)
    first.kill()
    first.wait()
    kept = parts()
    assert 12 <= kept < 60 and not (tmp_path / "many.parquet").exists()  # of 480 / 8: it was in the middle
    wait_for(lambda: not any(map(lives, workers)), "the end of the killed command's workers", 20)
    first.stderr.close()
    again = start("many.parquet", "--cluster", "local:2")
    for process in (undisturbed, again):
        assert process.wait(timeout=240) == 0, process.stderr.read()
    assert (tmp_path / "many.parquet").read_bytes() == (tmp_path / "one.parquet").read_bytes()
    assert not (tmp_path / "many.parquet.parts").exists()


def test_attributions_on_a_cluster_are_those_of_one_process(run):
    Path("ids.txt").write_text("\n".join(line.split('"')[1] for line in (EXAMPLE / "genes.gtf").read_text().splitlines()[:12]) + "\n")
    run("attribute", "--model", "BorzoiDemo/unseen1", "--genes", EXAMPLE / "genes.gtf", "--gene-ids", "ids.txt", *INPUT, out=".h5")
    import h5py

    with h5py.File("one.h5") as one, h5py.File("many.h5") as many:
        names = []
        one.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        assert names
        for name in names:
            mine, theirs = np.asarray(one[name][()]), np.asarray(many[name][()])
            if mine.dtype.kind != "f":
                np.testing.assert_array_equal(mine, theirs, err_msg=name)
            else:  # sums of a worker with fewer threads are added in another order: rounding of float32, 6e-8 of the terms
                np.testing.assert_allclose(theirs, mine, rtol=1e-5, atol=1e-6 * max(1.0, float(np.abs(mine).max(initial=0))), err_msg=name)


def test_a_store_built_on_a_cluster_is_that_of_one_process(run):
    make_inputs(Path("in"))
    sources = ["--targets", "in/targets.txt", "--fasta", "in/genome.fa", "--sequences", "in/sequences.bed", "--blacklist", "in/black.bed"]
    one, many = run("data", "build", *sources, "--crop-bp", "128", "--clip-extremes", "--quiet", out="store")
    assert json.loads(one)["key"] == json.loads(many)["key"]
    assert Path("onestore/store.h5").read_bytes() == Path("manystore/store.h5").read_bytes()
    assert [path.name for path in Path("manystore").iterdir()] == ["store.h5"]  # parts, locks and temporaries are gone


def test_a_broken_coverage_file_on_a_cluster_is_the_error_of_one_process(run, client, capsys):
    """Found only while it is read, which workers do."""
    make_inputs(Path("in"))
    content = bytearray(Path("in/rna_plus.bw").read_bytes())
    content[len(content) // 4 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 4)
    Path("in/rna_plus.bw").write_bytes(content)
    sources = ["--targets", "in/targets.txt", "--fasta", "in/genome.fa", "--sequences", "in/sequences.bed", "--crop-bp", "128", "--quiet"]
    said = []
    for extra in ([], ["--cluster", client.scheduler.address]):
        assert main(["data", "build", *sources, "--out", "store", *extra]) == 1
        said.append([line for line in capsys.readouterr().err.splitlines() if "error:" in line])
    assert said[0] == said[1] and len(said[0]) == 1 and "rna_plus.bw" in said[0][0], said


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A folder with a zoo whose model is small, and a store."""
    folder = tmp_path_factory.mktemp("lab")
    make_zoo_and_store(folder)
    return folder


def test_an_evaluation_on_a_cluster_is_that_of_one_process(run, lab):
    genes = [("g1", 600, 700, "+"), ("g2", 1100, 1160, "-"), ("g3", 1600, 1700, "+")]
    gtf = [f'chr1\tx\texon\t{start + 1}\t{end}\t.\t{strand}\t.\tgene_id "{name}";\n' for name, start, end, strand in genes]
    Path("genes.gtf").write_text("".join(gtf))
    what = ["--genes", "genes.gtf", "--contrast", "treated-control", "--batch-size", "3", "--rc", "--no-pictures"]
    run("evaluate", "--model", "lab/m", "--zoo", lab / "zoo", "--data", lab / "store", *what, out="folder")
    names = sorted(path.name for path in Path("onefolder").iterdir())
    assert "tracks.tsv" in names and "gene_changes.tsv" in names
    assert names == sorted(path.name for path in Path("manyfolder").iterdir())
    for name in names:
        assert Path("onefolder", name).read_bytes() == Path("manyfolder", name).read_bytes(), name


def test_workers_do_not_predict_with_the_model_that_had_a_name_before(run):
    """As when an adapter is trained again, between two commands that share a scheduler."""
    for seed in (0, 5):
        Path(str(seed)).mkdir()
        make_zoo_and_store(Path(str(seed)), seed)
    tables = []
    for number, seed in enumerate((0, 5)):
        shutil.rmtree("zoo", ignore_errors=True)
        shutil.copytree(f"{seed}/zoo", "zoo")
        out = f"folder{number}"
        run("evaluate", "--model", "lab/m", "--zoo", "zoo", "--data", "0/store", "--no-pictures", out=out)
        assert Path(f"one{out}/tracks.tsv").read_bytes() == Path(f"many{out}/tracks.tsv").read_bytes()
        tables.append(Path(f"one{out}/tracks.tsv").read_bytes())
    assert tables[0] != tables[1]


@pytest.mark.parametrize("source", [["--simulate", "24", "--genes", EXAMPLE / "genes.gtf"], ["--vcf", "variants.vcf"]])
def test_a_background_on_a_cluster_is_that_of_one_process(run, lab, source):
    lines = (EXAMPLE / "variants.vcf").read_text().splitlines()
    Path("variants.vcf").write_text("\n".join(lines[:24]) + "\n")
    one, many = run("background", "--model", "lab/m", "--zoo", lab / "zoo", "--fasta", EXAMPLE / "genome.fa.gz", *source, out=".h5")
    assert one == many and int(re.match(r"\d+ alleles: (\d+) scored", one)[1]) > 10
    assert same(".h5")
    assert sorted(path.name for path in Path().iterdir() if path.suffix != ".vcf") == ["many.h5", "one.h5"]


def test_a_worker_that_sees_another_genome_says_so():
    """As when a cluster's machines do not share the folder."""
    with pytest.raises(InputError, match='this worker sees other files or models than the one who asks: files.fasta was "a", is "b"'):
        check_same("k1", "k2", {"files": {"fasta": "a"}}, {"files": {"fasta": "b"}})
    check_same("k1", "k1", {}, {})


def test_places_are_read():
    assert parse_where("local") == Local() and parse_where("local:3") == Local(3)
    assert parse_where("tcp://node1:8786") == Scheduler("tcp://node1:8786")
    for wrong in ("local:0", "local:x", "node1", "tcp://"):
        with pytest.raises(InputError, match="expected local, local:4"):
            parse_where(wrong)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("system: slurm\njobs: 2\n", "expected the keys system"),
        ("system: slurm\njobs: 2\noptions: {}\nmore: 1\n", "expected the keys system"),
        ("system: condor\njobs: 2\noptions: {}\n", "system is 'condor'"),
        ("system: slurm\njobs: 0\noptions: {}\n", "jobs is 0"),
        ("system: slurm\njobs: 2\noptions: [1]\n", "options is"),
        ("a: [\n", "not YAML"),
    ],
)
def test_files_of_queues_are_checked(tmp_path, text, message):
    path = tmp_path / "slurm.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        parse_where(str(path))
    with pytest.raises(InputError, match="cannot be read"):
        parse_where(str(tmp_path / "none.yaml"))


def test_a_queue_asks_for_jobs_with_its_options(tmp_path):
    jobqueue = pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed")
    path = tmp_path / "slurm.yaml"
    path.write_text("system: slurm\njobs: 2\noptions: {cores: 4, memory: 8GB, queue: gpu, walltime: '01:00:00'}\n")
    queue = parse_where(str(path))
    assert queue == Queue("slurm", 2, {"cores": 4, "memory": "8GB", "queue": "gpu", "walltime": "01:00:00"})
    cluster = jobqueue.SLURMCluster(processes=1, **queue.options, scheduler_options={"dashboard": False, "port": 0})
    try:
        assert "#SBATCH -p gpu" in cluster.job_script() and "--nthreads 4" in cluster.job_script()
    finally:
        cluster.close()


def test_gpus_are_those_that_the_process_may_use(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert visible_gpus() == ["2", "3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert visible_gpus() == []


def test_no_scheduler_and_no_dask_are_one_clear_error(monkeypatch):
    monkeypatch.setattr("kipoi_borzoi.cluster.connect._ANSWER_S", 1.0)
    with pytest.raises(InputError, match="the scheduler does not answer"), connect("tcp://127.0.0.1:9"):
        pass
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with pytest.raises(InputError, match=r"--cluster needs distributed: pip install 'kipoi-borzoi\[dask\]'"), connect("local"):
        pass
