"""Prints what sharing work between Dask workers costs and gains: efficiency of two, seconds per piece, memory of the client.

    python benchmarks/cluster.py [--parts workers pieces memory] [--variants 3000] [--workers 1 2] [--sizes 10000 100000 1000000]

workers   SNVs of the demonstration's genome by the demonstration's base, in shared windows, one thread per worker. Start-up (processes,
          and the first piece of every worker: it loads and compiles) is told apart from the rest; efficiency is
          alleles per second and worker, against those of the first number of workers.
pieces    A piece of work that does nothing: what scheduling and the way there and back take.
memory    `write_scores` of many SNVs of a synthetic genome through two workers, whose scores a stub makes up in place of a network:
          the client's peak resident memory, which should not grow with their number. Each size runs in a process of its own.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

PARTS = ("workers", "pieces", "memory")
STUB_TRACKS = 8


def nothing():
    """What the workers of "pieces" prepare."""
    return lambda item: item


def made_up(columns: int):
    """What the workers of "memory" prepare: from alleles to scores that a stub makes up."""
    from kipoi_borzoi.variants.results import Chunk, Measures

    def score(alleles):
        rows = tuple(allele.row for allele in alleles)
        numbers = np.array([row.number for row in rows], np.float32)[:, None]
        return Chunk(rows, {"SUM": Measures(np.sin(numbers + np.arange(columns, dtype=np.float32)))})

    return score


def measure_workers(variants: int, counts: list[int], folder: Path) -> None:
    """Alleles per second of so many workers."""
    from cluster_faults import EXAMPLE, write_variants

    from kipoi_borzoi.cluster.connect import connect
    from kipoi_borzoi.scoring import prepare_scoring

    os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = "1"
    write_variants(folder / "variants.vcf", variants)
    scoring = prepare_scoring(
        "BorzoiDemo/base", folder / "variants.vcf", EXAMPLE / "genome.fa.gz", scores=["SUM", "logSUM"], window="cluster",
        zoo=EXAMPLE.parents[2],
    )  # fmt: skip
    print(f"{variants} SNVs, pieces of {scoring.engine.chunk_alleles} alleles, one thread per worker, {os.cpu_count()} cores")
    print(f"{'workers':>8}{'start-up s':>12}{'alleles/s':>11}{'efficiency':>12}")
    first = None
    for count in counts:
        begin = time.perf_counter()
        with connect(f"local:{count}") as client:
            warm = 3 * count * scoring.engine.chunk_alleles  # as many as are handed out before the first result
            done, since = 0, begin
            for chunk in scoring.chunks_on(client):
                done += len(chunk.alleles)
                if done <= warm:
                    since, before = time.perf_counter(), done
            rate = (done - before) / (time.perf_counter() - since)
        first = first or rate / count
        print(f"{count:>8}{since - begin:>12.1f}{rate:>11.1f}{rate / count / first:>12.2f}", flush=True)


def measure_pieces(count: int) -> None:
    """Seconds per piece that does nothing."""
    from kipoi_borzoi.cluster.connect import connect
    from kipoi_borzoi.cluster.run import Plan, results

    for workers in (1, 2):
        with connect(f"local:{workers}") as client:
            plan = Plan(nothing, {}, "nothing")
            list(results(client, plan, range(100), str))
            begin = time.perf_counter()
            assert list(results(client, plan, range(count), str)) == list(range(count))
            each = (time.perf_counter() - begin) / count
        print(f"{workers} workers: {1000 * each:.2f} ms per piece that does nothing ({count} pieces)", flush=True)


def write_synthetic(folder: Path, variants: int) -> None:
    """A genome of random bases, and an SNV at every third."""
    from genome_files import write_fasta

    codes = np.random.default_rng(0).integers(0, 4, 3 * variants + 1000)
    bases = "".join(np.array(list("ACGT"))[codes])
    write_fasta(folder / "genome.fa", {"chr1": bases})
    with open(folder / "variants.vcf", "w", encoding="ascii") as file:
        file.write(f"##fileformat=VCFv4.2\n##contig=<ID=chr1,length={len(bases)}>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n")
        for number in range(variants):
            at = 500 + 3 * number
            file.write(f"chr1\t{at + 1}\t.\t{bases[at]}\t{'CGTA'['ACGT'.index(bases[at])]}\t.\t.\t.\n")


def write_by_stub(folder: Path) -> None:
    """Score the synthetic variants by the stub through two workers; print the client's peak memory and the seconds."""
    from variant_cases import make_tracks, numpy_model

    from kipoi_borzoi import scoring as module
    from kipoi_borzoi.cluster.connect import connect
    from kipoi_borzoi.cluster.run import Plan, results
    from kipoi_borzoi.variants.output import write_scores

    module.loaded_models = lambda models, zoo: {models: numpy_model(tracks=make_tracks())}
    module.describe_model = lambda name, model: {"name": name}
    begin = time.perf_counter()
    scoring = module.prepare_scoring("stub", folder / "variants.vcf", folder / "genome.fa", scores=["SUM"])
    columns = len(scoring.table.columns)
    with connect("local:2") as client:
        plan = Plan(made_up, {"columns": columns}, "made up")

        def chunks(first, last):
            batches = scoring.engine.batches(scoring.source, first, last)
            return results(client, plan, batches, lambda alleles: str(alleles[0].row.number))

        summary = write_scores(
            chunks, folder / "out.parquet", scoring.table.columns, scoring.scorers, (), scoring.provenance, scoring.key,
            n_alleles=scoring.survey.total, progress=False,
        )  # fmt: skip
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"alleles": summary.alleles, "scored": summary.scored, "peak": peak, "seconds": time.perf_counter() - begin}))


def measure_memory(sizes: list[int], folder: Path) -> None:
    """Peak memory of the client by number of variants."""
    print(f"{'variants':>10}{'scored':>10}{'peak MB of the client':>24}{'seconds':>10}   (stub in place of a network)")
    for size in sizes:
        place = folder / str(size)
        place.mkdir()
        write_synthetic(place, size)
        command = [sys.executable, __file__, "--stub-in", str(place)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
        found = json.loads(done.stdout.splitlines()[-1])
        assert found["alleles"] == found["scored"] == size
        print(f"{size:>10}{found['scored']:>10}{found['peak'] / 1e6:>24.0f}{found['seconds']:>10.0f}", flush=True)


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--variants", type=int, default=3000, help="of workers (default: %(default)s)")
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--pieces", type=int, default=2000)
    parser.add_argument("--sizes", nargs="+", type=int, default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--stub-in", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    # Workers import this module, and the stub, by name.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).resolve().parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    if args.stub_in:
        write_by_stub(args.stub_in)
        return
    with tempfile.TemporaryDirectory() as name:
        if "workers" in args.parts:
            measure_workers(args.variants, args.workers, Path(name))
        if "pieces" in args.parts:
            measure_pieces(args.pieces)
        if "memory" in args.parts:
            measure_memory(args.sizes, Path(name))


if __name__ == "__main__":
    main()
