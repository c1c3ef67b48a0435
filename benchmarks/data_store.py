"""Prints what a store costs: seconds and memory of a build per track and sequence, milliseconds per example that is read.

Coverage is generated: reads of 100 bp in clusters and in between, on 20 Mb, about half a million steps per BigWig file;
windows of 524,288 bp, 6,144 bins. Reading is timed for stores of 1 to 1,024 tracks (those of the build, shifted), from a
file that is in the system's cache, beside the one-hot DNA of the same example.

    python benchmarks/data_store.py [--processes 1 2] [--folder DIR]

Processor time of a build is that of all its processes; memory is the largest of any one of them.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

CONTIG_BP, WINDOW_BP, CROP_BP, STEP_BP, READ_BP = 20_000_000, 524_288, 163_840, 196_608, 100
BUILT_TRACKS = 4
READ_TRACKS = (1, 4, 16, 64, 256, 1024)
EXAMPLES = 6

BUILD = """
import json, resource, sys, time
from kipoi_borzoi.training.build import build
start = time.perf_counter()
build("targets.txt", "genome.fa", "sequences.bed", sys.argv[1], crop_bp=int(sys.argv[2]), processes=int(sys.argv[3]))
usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
# ru_maxrss of this process counts its parent before the exec, too.
own = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
print(json.dumps({"wall": time.perf_counter() - start, "cpu": sum(u.ru_utime + u.ru_stime for u in usage),
                  "mb": max(int(own), usage[1].ru_maxrss) / 1024}))
"""


def coverage(random) -> np.ndarray:
    """Number of reads over each base."""
    clusters = zip(random.integers(0, CONTIG_BP - 30_000, 200), random.pareto(1, 200) * 500, strict=True)
    starts = [random.integers(0, CONTIG_BP - READ_BP, 40_000)]
    starts += [random.integers(place, place + 20_000, 1 + int(min(count, 1e5))) for place, count in clusters]
    changes = np.zeros(CONTIG_BP + READ_BP, dtype=np.int32)
    for first in starts:
        np.add.at(changes, first, 1)
        np.add.at(changes, first + READ_BP, -1)
    return np.cumsum(changes)[:CONTIG_BP]


def make_inputs(folder: Path) -> None:
    """Genome, windows, BigWig files and target table."""
    import pyBigWig

    random = np.random.default_rng(0)
    lines = ["\tidentifier\tfile\tclip\tclip_soft\tscale\tsum_stat\tstrand_pair\tdescription"]
    for track in range(BUILT_TRACKS):
        depth = coverage(random)
        starts = np.flatnonzero(np.r_[True, depth[1:] != depth[:-1]])
        ends = np.r_[starts[1:], CONTIG_BP]
        starts, ends = starts[depth[starts] > 0], ends[depth[starts] > 0]
        with pyBigWig.open(str(folder / f"{track}.bw"), "w") as file:
            file.addHeader([("chr1", CONTIG_BP)])
            values = depth[starts].astype(float).tolist()
            file.addEntries(["chr1"] * len(starts), starts.tolist(), ends=ends.tolist(), values=values)
        lines.append(f"{track}\tt{track}\t{track}.bw\t768\t384\t0.01\tsum_sqrt\t{track}\tx")
    (folder / "targets.txt").write_text("\n".join(lines) + "\n")
    letters = random.choice(np.frombuffer(b"ACGT", dtype=np.uint8), (CONTIG_BP // 100, 100))
    (folder / "genome.fa").write_bytes(b">chr1\n" + b"".join(row.tobytes() + b"\n" for row in letters))
    windows = range(0, CONTIG_BP - WINDOW_BP, STEP_BP)
    (folder / "sequences.bed").write_text("".join(f"chr1\t{start}\t{start + WINDOW_BP}\ttrain\n" for start in windows))


def build_costs(folder: Path, processes: int) -> dict:
    """Build in a process of its own."""
    command = [sys.executable, "-c", BUILD, f"store{processes}", str(CROP_BP), str(processes)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def read_costs(folder: Path, tracks: int) -> tuple[float, float, float, float]:
    """ms of processor time for all targets, for two tracks and for the DNA of an example; bytes of targets per byte on disk."""
    from kipoi_borzoi.tracks import Tracks
    from kipoi_borzoi.training.store import Layout, Store, StoreWriter

    built = Store.open(folder / "store1")
    numbers = np.linspace(0, len(built) - 1, EXAMPLES).astype(int).tolist()
    names = [f"t{row}" for row in range(tracks)]
    empty, ones = [""] * tracks, [1.0] * tracks
    table = Tracks(range(tracks), names, empty, empty, ones, ones, ones, ["sum"] * tracks, range(tracks))
    windows = [built.interval(number) for number in numbers]
    layout = Layout(table, "new", WINDOW_BP, CROP_BP, 32, windows, ["train"] * EXAMPLES)
    everything = np.concatenate([built.targets(number) for number in range(len(built))], axis=1)
    with StoreWriter(folder / f"read{tracks}", layout) as writer:
        for number in range(EXAMPLES):
            columns = (np.arange(tracks) + number * BUILT_TRACKS) % everything.shape[1]
            shifted = [
                np.roll(everything[:, column], 97 * (row // everything.shape[1])) for row, column in enumerate(columns)
            ]
            writer.append(built.sequence(numbers[number], np.uint8), np.stack(shifted, axis=1))
    with Store.open(folder / f"read{tracks}") as store:
        store.targets(0)
        whole = milliseconds(lambda number: store.targets(number))
        two = milliseconds(lambda number: store.targets(number, [0, tracks - 1]))
        bases = milliseconds(lambda number: store.sequence(number))
    with h5py.File(store.path) as file:
        on_disk = file["targets"].id.get_storage_size()
    return whole, two, bases, EXAMPLES * tracks * 6144 * 2 / on_disk


def milliseconds(read) -> float:
    """Mean over all examples, twice each."""
    start = time.process_time()
    for _ in range(2):
        for number in range(EXAMPLES):
            read(number)
    return 1e3 * (time.process_time() - start) / (2 * EXAMPLES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    args = parser.parse_args()
    args.processes = sorted({1, *args.processes})
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}", flush=True)
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        make_inputs(folder)
        count = len((folder / "sequences.bed").read_text().splitlines())
        print(
            f"\nbuild: {count} windows, {BUILT_TRACKS} tracks\nprocesses  wall s  cpu s  cpu ms per track and window  MB"
        )
        for processes in args.processes:
            costs = build_costs(folder, processes)
            each = 1e3 * costs["cpu"] / count / BUILT_TRACKS
            print(
                f"{processes:9d}  {costs['wall']:6.1f}  {costs['cpu']:5.1f}  {each:27.1f}  {costs['mb']:3.0f}",
                flush=True,
            )
        print("\nread one example: cpu ms\ntracks  targets  two tracks     DNA  MB/s  compression")
        for tracks in READ_TRACKS:
            whole, two, bases, ratio = read_costs(folder, tracks)
            speed = tracks * 6144 * 2 / whole / 1e3
            print(f"{tracks:6d}  {whole:7.2f}  {two:10.2f}  {bases:6.2f}  {speed:4.0f}  {ratio:11.1f}", flush=True)


if __name__ == "__main__":
    main()
