"""Prints seconds, processor seconds and peak memory of Kipoi's tools, with reuse and without, taking turns in one run.

    python benchmarks/kipoi_tools.py                          the demonstration model, with a window of 131,072 bp
    python benchmarks/kipoi_tools.py --size full --variants 4 the full-size network with generated weights

Tools that are not installed are left out (``kipoi-borzoi doctor`` says how to install them). Each line is
measured through the tool itself, at its default batch size: kipoi_veff.score_variants, a mutation map
of kipoi_veff, kipoi_veff2, and kipoi_interpret's in-silico mutagenesis. "Without" sets KIPOI_BORZOI_REUSE=0. Both must
give the same scores; the largest difference, in units of the largest score, stands beside the ratio.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

TOOLS = {"score_variants": "kipoi_veff", "mutation map": "kipoi_veff", "veff2": "kipoi_veff2", "ism": "kipoi_interpret"}
SIZES = ("demo", "full")
ENTRY = "bench/model/logsum"
DEMO_WINDOW = 131_072  # windows below 65,536 bp are not worth reusing


def make_inputs(folder, size, variants):
    """A zoo with the model, a genome of random bases, and a VCF of SNVs near its middle."""
    from kipoi_borzoi.network.config import NetworkConfig
    from kipoi_borzoi.zoo import zoo_import, zoo_init

    zoo_init(folder / "zoo")
    files = make_full_size(folder) if size == "full" else make_demo(folder)
    zoo_import("bench/model", *files, zoo=folder / "zoo")
    window = NetworkConfig.from_params(files[0]).seq_length
    write_genome(folder, window, variants)
    (folder / "regions.bed").write_text(f"chr1\t{window}\t{window + 1}\n")


def write_genome(folder, window, variants):
    """A genome of random bases, two windows long, and a VCF of SNVs near its middle; returns both paths."""
    import numpy as np

    rng = np.random.default_rng(0)
    length = 2 * window
    bases = "".join(rng.choice(list("ACGT"), length))
    (folder / "genome.fa").write_text(">chr1\n" + "\n".join(bases[at : at + 60] for at in range(0, length, 60)) + "\n")
    lines = ["##fileformat=VCFv4.2", f"##contig=<ID=chr1,length={length}>", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    for place in sorted(rng.choice(np.arange(window - 5000, window + 5000), variants, replace=False)):
        ref = bases[place]
        lines.append(f"chr1\t{place + 1}\tv{place + 1}\t{ref}\t{'CGTA'['ACGT'.index(ref)]}\t.\t.\t.")
    (folder / "variants.vcf").write_text("\n".join(lines) + "\n")
    return folder / "genome.fa", folder / "variants.vcf"


def make_demo(folder):
    """The packaged demonstration model with a longer window: its params, weights and tracks."""
    from kipoi_borzoi.zoo.place import packaged_zoo

    model = packaged_zoo() / "BorzoiDemo" / "base"
    params = json.loads((model / "params.json").read_text())
    params["model"]["seq_length"] = DEMO_WINDOW
    (folder / "params.json").write_text(json.dumps(params))
    return folder / "params.json", model / "weights.safetensors", model / "targets.txt"


def make_full_size(folder):
    """The full-size network with generated weights: its params, weights and tracks."""
    from network import PARAMS, TRACKS

    from kipoi_borzoi.network.config import NetworkConfig
    from kipoi_borzoi.network.network import Network, named_weights, random_weights
    from kipoi_borzoi.network.weights import save_safetensors

    (folder / "params.json").write_text(json.dumps(PARAMS))
    network = Network(NetworkConfig.from_params(PARAMS), initialize=False)
    random_weights(network, seed=0)
    save_safetensors(folder / "weights.safetensors", {name: value.numpy() for name, value in named_weights(network).items()})
    header = "\tidentifier\tfile\tclip\tclip_soft\tscale\tsum_stat\tstrand_pair\tdescription"
    rows = [f"{index}\tT{index}\tnone\t384\t64\t1.0\tsum_sqrt\t{index}\tRNA:T{index}" for index in range(TRACKS)]
    (folder / "targets.txt").write_text("\n".join([header, *rows]) + "\n")
    return folder / "params.json", folder / "weights.safetensors", folder / "targets.txt"


def make_task(tool, folder, bases):
    """A function that runs the tool once and returns its scores as an array."""
    import kipoi
    import numpy as np

    vcf, fasta = str(folder / "variants.vcf"), str(folder / "genome.fa")
    if tool == "veff2":
        import pandas as pd

        from kipoi_borzoi.kipoi_tools.veff2 import veff2

        def task():
            veff2(vcf, fasta, folder / "out.tsv", ENTRY)
            return pd.read_csv(folder / "out.tsv", sep="\t").iloc[:, 5:].values

        return task
    if tool == "ism":
        from kipoi_interpret.importance_scores.ism import Mutation

        from kipoi_borzoi.kipoi_tools.interpret import limited_to

        model = kipoi.get_model(ENTRY, source="borzoi")
        x = model.default_dataloader(intervals_file=str(folder / "regions.bed"), fasta_file=fasta).load_all()["inputs"]
        middle = x.shape[1] // 2

        def task():
            with limited_to((middle, middle + bases)):
                scores = Mutation(model, "seq", scores=["diff"], test_ref_ref=True).score(x)
            return np.array(scores).reshape(4 * bases, -1)

        return task
    import kipoi_veff

    model = kipoi.get_model(ENTRY, source="borzoi")
    if tool == "score_variants":

        def task():
            found = kipoi_veff.score_variants(
                model, {"fasta_file": fasta}, vcf, str(folder / "out.vcf"), scores=["diff"], return_predictions=True
            )
            return found["diff"].values

        return task
    from kipoi_borzoi.genome import Interval
    from kipoi_borzoi.kipoi_tools.veff import mutation_map

    middle = model.config.seq_length

    def task():
        track = model.tracks.identifiers[0]
        plotter = mutation_map(model, fasta, Interval("chr1", middle, middle + bases))
        return plotter.mutation_map[0]["seq"]["diff"][track]["mutation_map"]

    return task


def work(args):
    """Answer every line on standard input with one run: its seconds, and the process's peak memory in GB."""
    import resource
    import time

    folder = Path(args.folder)
    task = make_task(args.work, folder, args.bases)
    if args.size != "full":
        task()  # compiles
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        before, cpu = time.perf_counter(), time.process_time()
        scores = task()
        seconds, cpu = time.perf_counter() - before, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(json.dumps({"seconds": seconds, "cpu": cpu, "peak": peak, "scores": scores.tolist()}), flush=True)


def answer(process):
    """The next line of a worker that is JSON; the libraries print others."""
    for line in process.stdout:
        if line.startswith("{"):
            return json.loads(line)
    raise SystemExit(f"a worker ended with exit status {process.wait()}")


def compare(tool, args, folder):
    """One line of the table: the tool with reuse and without, in turns."""
    import numpy as np

    workers, runs = {}, {"with": [], "without": []}
    for name in runs:
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "HOME": str(folder / "home")}
        environment["KIPOI_BORZOI_REUSE"] = "1" if name == "with" else "0"
        command = [sys.executable, __file__, "--work", tool, "--folder", str(folder), "--size", args.size]
        workers[name] = subprocess.Popen(
            [*command, "--bases", str(args.bases)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment,
        )  # fmt: skip
        answer(workers[name])
    for _ in range(args.rounds):
        for name, process in workers.items():
            process.stdin.write("go\n")
            process.stdin.flush()
            runs[name].append(answer(process))
    for process in workers.values():
        process.stdin.close()
        process.wait()
    ours, plain = (np.array(runs[name][0]["scores"], dtype=float) for name in ("with", "without"))
    difference = np.nanmax(np.abs(ours - plain)) / np.nanmax(np.abs(plain))
    seconds = {name: statistics.median(run["seconds"] for run in found) for name, found in runs.items()}
    cpu = {name: statistics.median(run["cpu"] for run in found) for name, found in runs.items()}
    peak = {name: max(run["peak"] for run in found) for name, found in runs.items()}
    print(
        f"{tool:<16}{seconds['with']:>9.2f}{seconds['without']:>10.2f}{seconds['without'] / seconds['with']:>8.2f}"
        f"{cpu['without'] / cpu['with']:>10.2f}{peak['with']:>9.2f}{peak['without']:>10.2f}{difference:>12.1e}",
        flush=True,
    )


def main():
    """Make the inputs, then measure each installed tool."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="demo")
    parser.add_argument("--variants", type=int, default=40, help="SNVs in the VCF (default: %(default)s)")
    parser.add_argument("--bases", type=int, default=8, help="bases mapped and mutated (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=list(TOOLS))
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        return work(args)
    with tempfile.TemporaryDirectory(prefix="kipoi_tools_") as name:
        folder = Path(name)
        (folder / "home").mkdir()
        os.environ["HOME"] = str(folder / "home")
        make_inputs(folder, args.size, args.variants)
        print(f"{args.size}, {args.variants} SNVs, {args.bases} bases, {args.rounds} rounds, {os.cpu_count()} cores\n")
        print(
            f"{'':<16}{'seconds':>9}{'without':>10}{'ratio':>8}{'cpu ratio':>10}{'peak GB':>9}{'without':>10}{'difference':>12}"
        )
        for tool in args.tools:
            if importlib.util.find_spec(TOOLS[tool]) is None:
                print(f"{tool:<16}left out: {TOOLS[tool]} is not installed")
            else:
                compare(tool, args, folder)


if __name__ == "__main__":
    main()
