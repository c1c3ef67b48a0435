"""Scores many variants on a local cluster whose worker and client are killed, and compares the table with that of one process.

    python benchmarks/cluster_faults.py [--variants 20000] [--workers 2] [--model BorzoiDemo/base]

SNVs at random places of the demonstration's genome, in shared windows. One process scores them undisturbed. Then the same command
with ``--cluster local:N`` is started; after a quarter of the alleles is kept one worker dies of SIGKILL, after half of them the
client does, and the command is given again. Prints seconds and whether both tables are equal byte by byte; exit status 1 where they
are not. Both take one thread per process: sums of more threads are added in another order.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

EXAMPLE = Path(__file__).resolve().parents[1] / "model_zoo" / "BorzoiDemo" / "base" / "example"


def write_variants(path: Path, count: int) -> None:
    """SNVs at ``count`` different places of the demonstration's genome."""
    import pysam

    rng = np.random.default_rng(0)
    with pysam.FastaFile(str(EXAMPLE / "genome.fa.gz")) as fasta:
        sequences = {name: fasta.fetch(name).upper() for name in fasta.references}
    places = [(name, at) for name, bases in sequences.items() for at, base in enumerate(bases) if base in "ACGT"]
    with open(path, "w", encoding="ascii") as file:
        file.write("##fileformat=VCFv4.2\n")
        file.writelines(f"##contig=<ID={name},length={len(bases)}>\n" for name, bases in sequences.items())
        file.write("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n")
        for row in np.sort(rng.choice(len(places), count, replace=False)):
            name, at = places[row]
            ref = sequences[name][at]
            alt = "ACGT".replace(ref, "")[rng.integers(3)]
            file.write(f"{name}\t{at + 1}\t.\t{ref}\t{alt}\t.\t.\t.\n")


def kept(out: Path) -> int:
    """Alleles in the finished parts of a run, which their names say."""
    parts = [path.name.split("-")[1:3] for path in out.with_name(f"{out.name}.parts").glob("part-*") if ".tmp" not in path.name]
    return sum(int(stop) - int(start) for start, stop in parts)


def wait_for(alleles: int, out: Path, process: subprocess.Popen) -> None:
    """Until so many alleles are kept."""
    while kept(out) < alleles:
        if process.poll() is not None:
            sys.exit(f"the client ended with status {process.returncode} after {kept(out)} alleles, before it could be killed")
        time.sleep(0.2)


def workers_of(client: subprocess.Popen) -> list:
    """The processes that score: children of the nannies, which are the client's own."""
    import psutil

    return [child for child in psutil.Process(client.pid).children(recursive=True) if "spawn_main" in " ".join(child.cmdline())]


def main() -> None:
    """Run, kill, run again, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--model", default="BorzoiDemo/base")
    args = parser.parse_args()
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_variants(folder / "variants.vcf", args.variants)
        command = [
            sys.executable, "-m", "kipoi_borzoi.cli", "score", "--model", args.model, "--zoo", str(EXAMPLE.parents[2]), "--fasta",
            str(EXAMPLE / "genome.fa.gz"), "--vcf", "variants.vcf", "--window", "cluster", "--scores", "SUM,logSUM",
        ]  # fmt: skip
        options = {"cwd": folder, "env": environment}
        start = time.perf_counter()
        subprocess.run([*command, "--out", "one.tsv"], check=True, stderr=subprocess.DEVNULL, **options)
        print(f"one process, undisturbed: {time.perf_counter() - start:.0f} s", flush=True)

        shared, out = [*command, "--out", "many.tsv", "--cluster", f"local:{args.workers}"], folder / "many.tsv"
        start = time.perf_counter()
        client = subprocess.Popen(shared, stderr=subprocess.DEVNULL, **options)
        wait_for(args.variants // 4, out, client)
        victim = workers_of(client)[0]
        victim.kill()
        print(f"worker killed after {kept(out)} alleles", flush=True)
        wait_for(args.variants // 2, out, client)
        left = workers_of(client)
        client.send_signal(signal.SIGKILL)
        client.wait()
        before = kept(out)
        print(f"client killed after {before} alleles; the command is given again", flush=True)
        time.sleep(10)
        print(f"workers of the killed client that still run after 10 s: {sum(worker.is_running() for worker in left)}")
        subprocess.run(shared, check=True, stderr=subprocess.DEVNULL, **options)
        print(f"cluster of {args.workers}, both killed once: {time.perf_counter() - start:.0f} s")
        same = (folder / "one.tsv").read_bytes() == out.read_bytes()
        rows = (folder / "one.tsv").read_bytes().count(b"\n")
        print(f"tables of {rows} lines: {'equal byte by byte' if same else 'DIFFERENT'}")
    sys.exit(not same)


if __name__ == "__main__":
    main()
