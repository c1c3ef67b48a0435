"""Prints what adapters of the full-size network cost: bytes on disk, resident memory, and seconds when predicted together.

524,288 bp, 6,144 bins, generated weights, 4 tracks per adapter, everything by the way of a user: a base
imported into a zoo, adapters published on it and loaded by name. "Together" is one call for all adapters,
"separate" as many calls of one adapter each; of these a few are timed and their mean counted for each.

    python benchmarks/adapters.py [--methods linear lora ...] [--adapters 10] [--separate 3]

Each method runs in a process of its own. Shares are given by wall time and by processor time, which other
work on the machine disturbs less. With --precision mixed_bfloat16 the same in that precision.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

TRACKS = 4
METHODS = ("linear", "lora", "ia3", "houlsby", "locon", "houlsby_se")
TARGETS = {"linear": 0.20, "lora": 0.65, "ia3": 0.65, "houlsby": 0.65, "locon": 0.75}


def make_zoo(folder: Path) -> Path:
    """A zoo with a full-size base of generated weights, ``bench/base``."""
    from kipoi_borzoi.network.config import NetworkConfig
    from kipoi_borzoi.network.schema import weight_shapes
    from kipoi_borzoi.network.weights import save_safetensors
    from kipoi_borzoi.zoo import zoo_import
    from kipoi_borzoi.zoo.place import packaged_zoo

    params = json.loads((packaged_zoo() / "Borzoi" / "params.json").read_text())
    params["model"] = {key: value for key, value in params["model"].items() if key != "head_mouse"}
    for block in params["model"]["trunk"]:
        if block["name"] == "Cropping1D":
            block["cropping"] = 5120  # as in training
    (folder / "params.json").write_text(json.dumps(params))
    config = NetworkConfig.from_params(folder / "params.json")
    save_safetensors(folder / "base.safetensors", dict(generated(weight_shapes(config), seed=0)))
    write_targets(folder / "base.txt", config.heads[0].units)
    zoo = folder / "zoo"
    zoo.mkdir()
    files = {"params": "params.json", "weights": "base.safetensors", "targets": "base.txt"}
    zoo_import("bench/base", **{role: folder / file for role, file in files.items()}, zoo=zoo)
    (folder / "base.safetensors").unlink()
    return zoo


def generated(shapes, seed):
    """Yield (name, values): non-trivial, statistics and biases included, of a size that keeps activations in range."""
    random = np.random.default_rng(seed)
    for name, shape in shapes.items():
        kind = name.rsplit(".", 1)[-1]
        if kind in ("gamma", "moving_variance"):
            yield name, random.uniform(0.7, 1.3, shape).astype(np.float32)
        elif kind.endswith("kernel"):
            fan_in = int(np.prod(shape[:-1]))
            yield name, random.standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(fan_in))
        else:
            yield name, random.normal(0, 0.1, shape).astype(np.float32)


def write_targets(path: Path, tracks: int) -> None:
    """A target table of unstranded RNA tracks."""
    lines = ["\tidentifier\tfile\tclip\tclip_soft\tscale\tsum_stat\tstrand_pair\tdescription"]
    lines += [f"{i}\ttrack{i}\tt{i}.bw\t768\t384\t0.3\tsum_sqrt\t{i}\tRNA:{i}" for i in range(tracks)]
    path.write_text("\n".join(lines) + "\n")


def publish(
    folder: Path, zoo: Path, method: str, count: int, base: str = "bench/base", tracks: int = TRACKS
) -> tuple[list[str], int]:
    """Publish ``count`` adapters of random weights; their names, and the bytes of one adapter directory."""
    from kipoi_borzoi.adapters.adapter import Adapter, Scheme, with_head
    from kipoi_borzoi.adapters.base import read_trunk, trunk_hash
    from kipoi_borzoi.adapters.directory import save_adapter
    from kipoi_borzoi.adapters.registry import make_method
    from kipoi_borzoi.network.config import NetworkConfig
    from kipoi_borzoi.zoo import zoo_publish

    config = NetworkConfig.from_params(zoo / base / "params.json")
    trunk = read_trunk(next((zoo / base).glob("weights.*")), config)
    digest, scheme = trunk_hash(trunk, config), Scheme(make_method(method), with_head(config, tracks))
    write_targets(folder / "adapter.txt", tracks)
    names = []
    for number in range(count):
        tensors = {
            name: trunk[name] if name in trunk else 0.3 * value
            for name, value in generated(scheme.shapes(), seed=number + 1)
        }
        directory = folder / f"{method}{number}"
        save_adapter(directory, Adapter(scheme, tensors), folder / "adapter.txt", base, digest, "old", replace=True)
        names.append(f"bench/{method}{number}")
        zoo_publish(directory, names[-1], zoo=zoo, replace=True)
    return names, sum(path.stat().st_size for path in directory.iterdir())


def resident() -> float:
    """Resident memory of this process in MB."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1e3 for line in status if line.startswith("VmRSS"))


def clock() -> np.ndarray:
    """Wall and processor seconds."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return np.array([time.perf_counter(), usage.ru_utime + usage.ru_stime])


def work(folder: Path, zoo: Path, method: str, count: int, separate: int, precision: str) -> dict:
    """Measure one method."""
    from kipoi_borzoi import load_model

    names, size = publish(folder, zoo, method, count)
    import gc

    import keras  # what the libraries themselves take is not the base's

    keras.ops.zeros(1)
    gc.collect()
    empty = resident()
    base = load_model("bench/base", zoo=zoo)
    gc.collect()
    with_base = resident()
    group = load_model("bench/base", adapters=names, zoo=zoo)
    gc.collect()
    with_all = resident()
    seq_length = base.config.seq_length
    x = np.eye(4, dtype=np.float32)[np.random.default_rng(0).integers(0, 4, (1, seq_length))]
    alone, seconds = {}, []
    for name in names[: separate + 1]:  # the first one is not counted: it also compiles what all share
        model = group.models[name]
        # Each call by itself: by default the later ones would take the stem from the first.
        model.predict_on_batch(x, precision=precision, reuse=False)  # compiles
        started = clock()
        alone[name] = model.predict_on_batch(x, precision=precision, reuse=False)
        seconds.append(clock() - started)
    group.predict_on_batch(x, precision=precision)  # compiles the other adapters' parts
    started = clock()
    together = group.predict_on_batch(x, precision=precision)
    together_seconds = clock() - started
    largest = max(np.abs(together[name] - y).max() / np.abs(y).max() for name, y in alone.items())
    return {
        "bytes": size,
        "base_mb": with_base - empty,
        "adapters_mb": with_all - with_base,
        "separate": (np.mean(seconds[1:], axis=0) * count).tolist(),
        "together": together_seconds.tolist(),
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "difference": float(largest),
    }


def main():
    """Make the zoo, run one process per method, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--adapters", type=int, default=10)
    parser.add_argument("--separate", type=int, default=3, help="separate calls that are timed, 1 or more")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--work", nargs=3, metavar=("FOLDER", "ZOO", "METHOD"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        folder, zoo, method = args.work
        result = work(Path(folder), Path(zoo), method, args.adapters, args.separate, args.precision)
        print("result " + json.dumps(result), flush=True)
        return
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if "model name" in line), platform.processor())
    print(f"{cpu}, {os.cpu_count()} cores; {args.adapters} adapters of {TRACKS} tracks, {args.precision}\n")
    print(f"{'method':<12}{'MB on disk':>11}{'base MB':>9}{'all adapters MB':>17}{'share':>7}"
          f"{'separate s':>12}{'together s':>12}{'share':>7}{'by cpu':>8}{'goal':>7}{'peak GB':>9}{'difference':>12}")  # fmt: skip
    options = ["--adapters", str(args.adapters), "--separate", str(args.separate), "--precision", args.precision]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        zoo = make_zoo(folder)
        for method in args.methods:
            command = [sys.executable, __file__, "--work", str(folder), str(zoo), method, *options]
            environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment)
            lines = [line for line in done.stdout.splitlines() if line.startswith("result ")]
            if done.returncode or not lines:
                raise SystemExit(f"{method} ended with exit status {done.returncode}")
            result = json.loads(lines[-1].removeprefix("result "))
            separate, together = np.array(result["separate"]), np.array(result["together"])
            share, cpu_share = together / separate
            goal = f"{TARGETS[method]:.0%}" if method in TARGETS and args.adapters == 10 else ""
            print(
                f"{method:<12}{result['bytes'] / 1e6:>11.2f}{result['base_mb']:>9.0f}{result['adapters_mb']:>17.0f}"
                f"{result['adapters_mb'] / result['base_mb']:>7.1%}{separate[0]:>12.0f}{together[0]:>12.0f}{share:>7.0%}"
                f"{cpu_share:>8.0%}{goal:>7}{result['peak_gb']:>9.2f}{result['difference']:>12.1e}",
                flush=True,
            )


if __name__ == "__main__":
    main()
