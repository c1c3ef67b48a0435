"""Prints seconds per 524,288-bp item of our dataloader and of kipoiseq's, on the same files in one run.

kipoiseq needs pybedtools, which it does not install:  pip install kipoiseq pybedtools
Run:  python benchmarks/dataloader.py [--fasta GENOME.fa] [--items 40]
"""

import argparse
import platform
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

WINDOW = 524_288


def write_genome(path, length=8_000_000, contigs=2, line=60):
    """Write random contigs of ``length`` bp, half of it in lower case, in lines of ``line`` bases."""
    letters = np.frombuffer(b"ACGTacgt", dtype=np.uint8)
    rng = np.random.default_rng(0)
    with open(path, "wb") as handle:
        for number in range(1, contigs + 1):
            sequence = rng.choice(letters, length).tobytes()
            handle.write(b">chr%d\n" % number)
            handle.writelines(sequence[start : start + line] + b"\n" for start in range(0, length, line))


def write_intervals(path, contigs, count):
    """Write ``count`` intervals of 100 bp whose windows lie within their contig, at random places."""
    usable = {name: length for name, length in contigs.items() if length > 2 * WINDOW and name.startswith("chr")}
    rng = np.random.default_rng(1)
    with open(path, "w") as handle:
        for _ in range(count):
            name = str(rng.choice(list(usable)))
            start = int(rng.integers(WINDOW, usable[name] - WINDOW))
            handle.write(f"{name}\t{start}\t{start + 100}\n")


def time_items(loaders, count):
    """Return, per loader, the median seconds of its items; the loaders take turns, so that noise hits all alike."""
    times = {name: [] for name in loaders}
    for index in range(count):
        items = {}
        for name, loader in loaders.items():
            started = time.perf_counter()
            items[name] = loader[index]
            times[name].append(time.perf_counter() - started)
        first, *others = (item["inputs"] for item in items.values())
        known = first.sum(axis=1) == 1  # kipoiseq writes 0.25 for N, ours zeros
        if not all(np.array_equal(first[known], other[known]) for other in others):
            raise SystemExit(f"item {index}: the loaders disagree")
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def main():
    """Parse the arguments and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fasta", help="genome to read from, with contigs named chr... (default: a generated one)")
    parser.add_argument("--items", type=int, default=40)
    parser.add_argument("--dtype", default="np.float32")
    options = parser.parse_args()

    from kipoiseq.dataloaders import SeqIntervalDl as TheirLoader

    from kipoi_borzoi.dataloaders import FastaReader
    from kipoi_borzoi.dataloaders import SeqIntervalDl as OurLoader

    with tempfile.TemporaryDirectory() as folder:
        fasta = options.fasta or str(Path(folder, "genome.fa"))
        if not options.fasta:
            write_genome(fasta)
        bed = str(Path(folder, "intervals.bed"))
        write_intervals(bed, FastaReader(fasta).contigs, options.items)
        arguments = {"intervals_file": bed, "fasta_file": fasta, "auto_resize_len": WINDOW, "dtype": options.dtype}
        names = {"kipoi-borzoi": OurLoader, f"kipoiseq {version('kipoiseq')}": TheirLoader}
        medians = time_items({name: loader(**arguments) for name, loader in names.items()}, options.items)

    slowest = max(medians.values())
    print(f"{options.items} items of {WINDOW:,} bp, {options.dtype}, {options.fasta or 'generated FASTA'}")
    print(f"{'loader':<18}{'ms per item':>14}{'times faster':>14}")
    for name, seconds in medians.items():
        print(f"{name:<18}{seconds * 1e3:>14.2f}{slowest / seconds:>14.1f}")
    print(f"machine: {platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}, {cpu_name()}")


def cpu_name():
    """Name of the processor, where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor() or "unknown processor"


if __name__ == "__main__":
    main()
