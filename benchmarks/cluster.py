"""Prints what `--cluster` costs and gives, on workers of this machine.

scaling: seconds per allele on 1 worker and on 2, one thread each, taking turns; start-up apart. Efficiency is t1 / (2 t2): 1
when two workers take half the time of one. Where other programs keep the cores busy, it says less by the clock; processor
seconds of the workers stand beside it.
overhead: seconds per item of work that does nothing, with results of several sizes.
memory: peak of the process that gives the command, by number of alleles, which should not grow. A stub stands in place of the
network: it is not loaded, and workers return made-up scores. All else is `score` as it is: check of the input, pieces to
workers, results, parts, table.

    python benchmarks/cluster.py [scaling] [overhead] [memory] [--model BorzoiDemo/base] [--sizes 10000 100000 1000000]
"""

import argparse
import functools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "model_zoo" / "BorzoiDemo" / "base" / "example"
PARTS = ("scaling", "overhead", "memory")


def write_inputs(folder: Path, count: int) -> None:
    """A genome of one contig, and as many single-base variants, at every second base or as dense as it must be."""
    bases = np.frombuffer(b"ACGT", np.uint8)
    codes = np.random.default_rng(0).integers(0, 4, max(100_000, 2 * count + 1000))
    sequence = bases[codes].tobytes().decode()
    with open(folder / "genome.fa", "w", encoding="ascii") as file:
        file.write(">chr1\n")
        file.writelines(sequence[start : start + 60] + "\n" for start in range(0, len(sequence), 60))
    with open(folder / "in.vcf", "w", encoding="ascii") as file:
        file.write("##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n")
        for place in range(500, 500 + 2 * count, 2):
            file.write(f"chr1\t{place + 1}\t.\t{sequence[place]}\t{'CGTA'[codes[place]]}\t.\t.\t.\n")


# ---------------------------------------------------------------------- scaling


def scaling(args) -> None:
    """Print seconds per allele on one worker and on two."""
    os.environ["TF_NUM_INTRAOP_THREADS"] = "1"
    from kipoi_borzoi.cluster.connect import connect
    from kipoi_borzoi.scoring import prepare_scoring

    lines = (EXAMPLE / "variants.vcf").read_text(encoding="utf-8").splitlines(keepends=True)
    records = [line for line in lines if not line.startswith("#")]
    with tempfile.TemporaryDirectory() as folder:
        vcf = Path(folder, "in.vcf")
        vcf.write_text("".join(lines[: len(lines) - len(records)] + (records * args.alleles)[: args.alleles]), encoding="utf-8")
        scoring = prepare_scoring(args.model, vcf, EXAMPLE / "genome.fa.gz", zoo=args.zoo)
        size = scoring.engine.chunk_alleles
        print(f"\nscaling: {args.model}, {args.alleles} alleles in pieces of {size}, one thread per worker, {args.rounds} rounds")
        print(f"load of the machine before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        with connect("local:1") as one, connect("local:2") as two:  # both are there, but only one of them works at a time
            clients, seconds, processor = {1: one, 2: two}, {1: [], 2: []}, {1: [], 2: []}
            for count in clients:
                begun = time.perf_counter()
                with connect(f"local:{count}"):
                    print(f"{count} workers: start {time.perf_counter() - begun:.1f} s", end="")
                begun = time.perf_counter()
                for _ in scoring.chunks_on(clients[count], 0, 4 * count * size):
                    pass
                print(f"; models loaded, {4 * count} pieces done {time.perf_counter() - begun:.1f} s later")
            for _ in range(args.rounds):
                for count, client in clients.items():
                    before, begun = processor_seconds(client), time.perf_counter()
                    for _ in scoring.chunks_on(client):
                        pass
                    seconds[count].append((time.perf_counter() - begun) / args.alleles)
                    processor[count].append((processor_seconds(client) - before) / args.alleles)
    t1, t2 = (statistics.median(seconds[count]) for count in (1, 2))
    p1, p2 = (statistics.median(processor[count]) for count in (1, 2))
    print(f"{'':>10}{'s per allele':>14}{'processor s':>14}")
    for count, by_clock, by_processor in ((1, t1, p1), (2, t2, p2)):
        print(f"{count:>2} workers{by_clock:14.4f}{by_processor:14.4f}")
    print(f"efficiency {t1 / (2 * t2):.2f}; processor seconds of two for those of one {p2 / p1:.2f}")
    print(f"each round: 1 worker {rounded(seconds[1])}, 2 workers {rounded(seconds[2])}")


def processor_seconds(client) -> float:
    """Processor seconds that a client's workers have taken so far, all together."""
    return sum(client.run(time.process_time).values())


def rounded(values) -> str:
    """Numbers for a line of text."""
    return " ".join(f"{value:.4f}" for value in values)


# ---------------------------------------------------------------------- overhead


def prepare_nothing(size: int):
    """On a worker: from any item to ``size`` bytes of zeros."""
    return lambda item: np.zeros(size, np.uint8)


def overhead(args) -> None:
    """Print seconds per item whose work is nothing."""
    from kipoi_borzoi.cluster.connect import connect
    from kipoi_borzoi.cluster.run import Plan, results

    print(f"\noverhead: {args.items} items that take no work, 2 workers, load of the machine {os.getloadavg()[0]:.1f}")
    print(f"{'bytes of a result':>20}{'of the plan':>14}{'ms per item':>14}")
    with connect("local:2") as client:
        for size, ballast in ((0, 0), (100_000, 0), (1_000_000, 0), (0, 1_000_000)):
            plan = Plan(functools.partial(prepare_with, ballast=bytes(ballast)), {"size": size}, f"nothing {size} {ballast}")
            for _ in results(client, plan, range(8), str):  # prepared
                pass
            begun = time.perf_counter()
            for _ in results(client, plan, range(args.items), str):
                pass
            print(f"{size:>20,}{ballast:>14,}{1000 * (time.perf_counter() - begun) / args.items:14.2f}")


def prepare_with(size: int, ballast: bytes):
    """`prepare_nothing`, with a plan that is ``ballast`` heavier."""
    return prepare_nothing(size)


# ---------------------------------------------------------------------- memory


def prepare_made_up(folder: str, columns: int, scorers: list[str]):
    """On a worker: the stub. From alleles to a chunk whose scores are made of their numbers."""
    from kipoi_borzoi.variants.results import Chunk, Measures

    def score(alleles):
        numbers = np.array([[allele.row.number + column for column in range(columns)] for allele in alleles], np.float32)
        return Chunk(tuple(allele.row for allele in alleles), {name: Measures(numbers) for name in scorers})

    return score


def score_with_stub(folder: Path, out: str) -> None:
    """Score the inputs in ``folder`` on two workers with the stub, and print what it took as JSON."""
    sys.path.insert(0, str(ROOT / "tests"))
    from variant_cases import numpy_model

    from kipoi_borzoi import scoring
    from kipoi_borzoi.cluster.connect import connect
    from kipoi_borzoi.cluster.run import Plan, results
    from kipoi_borzoi.variants.output import write_scores

    scoring.loaded_models = lambda models, zoo: {models: numpy_model()}
    scoring.describe_model = lambda name, model: {"name": name}
    begun = time.perf_counter()
    ready = scoring.prepare_scoring("stub", folder / "in.vcf", folder / "genome.fa")
    prepared, before = time.perf_counter(), peak_mb()
    plan = Plan(prepare_made_up, {"folder": "", "columns": len(ready.table.columns), "scorers": [one.name for one in ready.scorers]}, "stub")
    with connect("local:2") as client:

        def chunks_from(first, last):
            return results(client, plan, ready.engine.batches(ready.source, first, last), str)

        summary = write_scores(
            chunks_from, folder / out, ready.table.columns, ready.scorers, ready.gene_scorers, ready.provenance, ready.key,
            n_alleles=ready.survey.total, align=ready.engine.chunk_alleles, progress=False,
        )  # fmt: skip
    done = time.perf_counter()
    found = {"alleles": summary.alleles, "scored": summary.scored, "before": before, "peak": peak_mb(), "check": prepared - begun, "seconds": done - prepared}
    print(json.dumps(found), flush=True)


def peak_mb() -> float:
    """Peak resident memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory(args) -> None:
    """Print the peak memory of the client by number of alleles, each in a process of its own."""
    print(f"\nmemory: a stub in place of the network, table {args.suffix}")
    print(f"{'alleles':>10}{'MB, input checked':>20}{'MB, peak':>10}{'check s':>10}{'scoring s':>11}")
    for count in args.sizes:
        with tempfile.TemporaryDirectory() as folder:
            write_inputs(Path(folder), count)
            command = [sys.executable, __file__, "--stub-in", folder, "--suffix", args.suffix]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        assert found["alleles"] == found["scored"] == count
        print("{alleles:>10,}{before:>20.0f}{peak:>10.0f}{check:>10.0f}{seconds:>11.0f}".format(**found), flush=True)


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--model", default="BorzoiDemo/base", help="scaling: a model of the zoo (default: %(default)s)")
    parser.add_argument("--zoo", default=str(ROOT / "model_zoo"))
    parser.add_argument("--alleles", type=int, default=320, help="scaling: alleles per round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="scaling: rounds (default: %(default)s)")
    parser.add_argument("--items", type=int, default=2000, help="overhead: items (default: %(default)s)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="memory: alleles")
    parser.add_argument("--suffix", default=".parquet", help="memory: format of the table (default: %(default)s)")
    parser.add_argument("--stub-in", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if args.stub_in:
        score_with_stub(args.stub_in, f"out{args.suffix}")
        return
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"unknown parts: {', '.join(sorted(unknown))}; known: {', '.join(PARTS)}")
    for part in args.parts or PARTS:
        {"scaling": scaling, "overhead": overhead, "memory": memory}[part](args)


if __name__ == "__main__":
    main()
