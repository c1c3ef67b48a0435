"""Work shared between Dask workers: the same files as one process writes, whatever becomes of the workers."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from data_cases import CROP, make_inputs

pytest.importorskip("distributed", reason="Dask is not installed: pip install 'kipoi-borzoi[dask]'")

from kipoi_borzoi.cli import main
from kipoi_borzoi.cluster.connect import Local, Queue, Scheduler, connect, parse_where, visible_gpus
from kipoi_borzoi.cluster.run import Plan, check_same, plan_for, results
from kipoi_borzoi.errors import InputError, KipoiBorzoiError

EXAMPLE = Path(__file__).resolve().parents[1] / "model_zoo/BorzoiDemo/base/example"


@pytest.fixture(scope="module")
def client():
    """Two worker processes."""
    with connect("local:2") as client:
        yield client


def prepare_numbers(factor, marks):
    """What the workers of these tests prepare; each time leaves a mark."""
    Path(marks, f"prepared-{os.getpid()}-{time.time_ns()}").touch()

    def compute(item):
        if item == "bad input":
            raise InputError("that is no number")
        if item == "poison":
            os.kill(os.getpid(), signal.SIGKILL)
        if item == "flaky":
            tried = Path(marks, "flaky")
            if not tried.exists():
                tried.touch()
                raise OSError("disk hiccup")
            return "well"
        if item == "broken":
            raise ValueError("never works")
        time.sleep(0.02)
        return item * factor, os.getpid()

    return compute


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


def test_a_background_of_a_cluster_is_that_of_one_process(run):
    lines = (EXAMPLE / "variants.vcf").read_text().splitlines()
    Path("variants.vcf").write_text("\n".join(lines[:30]) + "\n")
    one, many = run("background", "--model", "BorzoiDemo/base", "--vcf", "variants.vcf", "--genes", EXAMPLE / "genes.gtf", *INPUT, out=".h5")
    assert one == many and same(".h5")


def test_a_store_built_on_a_cluster_is_that_of_one_process(run, tmp_path):
    targets, fasta, sequences = make_inputs(tmp_path / "inputs").arguments
    build = ["data", "build", "--targets", targets, "--fasta", fasta, "--sequences", sequences, "--crop-bp", CROP]
    run(*build, out="store")
    assert Path("onestore/store.h5").read_bytes() == Path("manystore/store.h5").read_bytes()
    assert {path.name for path in Path("onestore").iterdir()} == {path.name for path in Path("manystore").iterdir()}


def test_bad_coverage_on_a_worker_is_named_as_in_one_process(client, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    targets, fasta, sequences = make_inputs(tmp_path / "inputs").arguments
    (tmp_path / "inputs" / "dnase.bw").write_bytes(b"no BigWig")
    build = ["data", "build", "--targets", targets, "--fasta", fasta, "--sequences", sequences, "--crop-bp", CROP, "--quiet"]
    told = []
    for out, more in (("one", []), ("many", ["--cluster", client.scheduler.address])):
        assert main([*map(str, build), "--out", out, *more]) == 1
        told.append(capsys.readouterr().err.strip().splitlines()[-1])
        assert not Path(out, "store.h5").exists()
    assert told[0] == told[1] and "dnase.bw" in told[0]


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
    with pytest.raises(InputError, match="the scheduler does not answer"), connect("tcp://127.0.0.1:9"):
        pass
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with pytest.raises(InputError, match=r"--cluster needs distributed: pip install 'kipoi-borzoi\[dask\]'"), connect("local"):
        pass
