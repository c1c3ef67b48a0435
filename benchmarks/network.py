"""Prints seconds per pass and peak memory of the full-size network, ours and CREsted's, taking turns in one run.

524,288 bp, 6,144 bins, 7,611 human tracks, generated weights. CREsted (pip install crested) may live
in another environment:

    python benchmarks/network.py --crested-python OTHER_VENV/bin/python [--rounds 3]

Beside each time stands what the multiplications alone would take at the rate of a large float32
matrix product on this machine, measured in the same run.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys

SEQ_LENGTH, BINS, TRACKS = 524_288, 6_144, 7_611
PARAMS = {
    "model": {
        "seq_length": SEQ_LENGTH,
        "activation": "gelu",
        "norm_type": "batch-sync",
        "trunk": [
            {"name": "conv_dna", "filters": 512, "kernel_size": 15, "norm_type": None, "activation": "linear", "pool_size": 2},
            {"name": "res_tower", "filters_init": 608, "filters_end": 1536, "divisible_by": 32, "kernel_size": 5,
             "num_convs": 1, "pool_size": 2, "repeat": 6},
            {"name": "transformer_tower", "key_size": 64, "heads": 8, "num_position_features": 32, "repeat": 8},
            {"name": "unet_conv", "kernel_size": 3, "upsample_conv": True},
            {"name": "unet_conv", "kernel_size": 3, "upsample_conv": True},
            {"name": "Cropping1D", "cropping": 5120},
            {"name": "conv_nac", "filters": 1920},
        ],
        "head_human": {"name": "final", "units": TRACKS, "activation": "softplus"},
    }
}  # fmt: skip
WORKERS = ("ours", "ours, 90 tracks", "ours, bfloat16", "CREsted")


def floating_point_operations(tracks=TRACKS):
    """Multiply-adds counted as two: (stem, rest) of one pass, attention by the position table."""
    widths, length, stem = [4, 512, 608, 736, 896, 1056, 1280, 1536], SEQ_LENGTH, 0
    for level, (width, filters) in enumerate(zip(widths, widths[1:], strict=False)):
        stem += 2 * length * (15 if level == 0 else 5) * width * filters
        length //= 2
    c, heads, key = 1536, 8, 64
    dense = 2 * length * c * (2 * heads * key + 2 * c + 4 * c)
    attention = 2 * length * length * (heads * key + c) + 2 * length * heads * key * 33
    unet = sum(2 * n * c * (c + 2 * skip + 2 * c) for n, skip in ((length, 1536), (BINS // 2, 1280)))
    return stem, 8 * (dense + attention) + unet + 2 * BINS * (c * 1920 + 1920 * tracks)


def matrix_product_rate():
    """Floating-point operations per second of a large float32 matrix product."""
    import time

    import tensorflow as tf

    a, b = tf.random.normal((4096, 1536)), tf.random.normal((1536, 3072))
    product = tf.function(tf.matmul)
    best = float("inf")
    for _ in range(8):
        started = time.perf_counter()
        product(a, b).numpy()
        best = min(best, time.perf_counter() - started)
    return 2 * 4096 * 1536 * 3072 / best


def make_ours(name):
    """A function from one-hot windows to coverage, by our network."""
    from kipoi_borzoi.inference.predictor import Predictor
    from kipoi_borzoi.network.config import NetworkConfig
    from kipoi_borzoi.network.network import Network, random_weights

    network = Network(NetworkConfig.from_params(PARAMS), initialize=False)
    random_weights(network, seed=0)
    predictor = Predictor(network)
    options = {"ours, 90 tracks": {"tracks": list(range(0, 4500, 50))}, "ours, bfloat16": {"precision": "mixed_bfloat16"}}
    return lambda x: predictor.predict(x, **options.get(name, {}))


def make_crested(name):
    """The same by CREsted's network, as its users run it."""
    import crested

    model = crested.tl.zoo.borzoi(seq_len=SEQ_LENGTH, num_classes=TRACKS, tower_start_filters=608)
    return lambda x: model.predict(x, verbose=0)


def work(name):
    """Answer every line on standard input with one pass: its seconds and the process's peak memory in GB."""
    import resource
    import time

    import numpy as np

    predict = (make_crested if name == "CREsted" else make_ours)(name)
    x = np.eye(4, dtype=np.float32)[np.random.default_rng(0).integers(0, 4, (1, SEQ_LENGTH))]
    predict(x)
    print(json.dumps({"ready": name, "rate": matrix_product_rate() if name == "ours" else None}), flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        shape = predict(x).shape
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(json.dumps({"seconds": seconds, "peak": peak, "shape": shape}), flush=True)


def answer(process):
    """The next line of a worker that is JSON; the libraries print others."""
    for line in process.stdout:
        if line.startswith("{"):
            return json.loads(line)
    raise SystemExit(f"a worker ended with exit status {process.wait()}")


def main():
    """Start the workers one after the other, let them take turns, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--crested-python", help="Python of an environment with CREsted; left out without it")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        return work(args.work)
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    names = WORKERS if args.crested_python else WORKERS[:-1]
    workers, results, rate = {}, {name: [] for name in names}, None
    for name in names:
        python = args.crested_python if name == "CREsted" else sys.executable
        workers[name] = subprocess.Popen(
            [python, __file__, "--work", name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        rate = answer(workers[name])["rate"] or rate
    for _ in range(args.rounds):
        for name, process in workers.items():
            process.stdin.write("go\n")
            process.stdin.flush()
            results[name].append(answer(process))
    for process in workers.values():
        process.stdin.close()
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if "model name" in line), platform.processor())
    print(f"{cpu}, {os.cpu_count()} cores; float32 matrix product {rate / 1e9:.0f} GFLOP/s; {args.rounds} rounds\n")
    print(f"{'network':<18}{'seconds: median':>16}{'min':>8}{'max':>8}{'floor':>8}{'peak GB':>9}  output")
    for name, passes in results.items():
        seconds = [one["seconds"] for one in passes]
        floor = "" if "bfloat16" in name else f"{sum(floating_point_operations(90 if '90' in name else TRACKS)) / rate:.1f}"
        print(
            f"{name:<18}{statistics.median(seconds):>16.1f}{min(seconds):>8.1f}{max(seconds):>8.1f}{floor:>8}"
            f"{max(one['peak'] for one in passes):>9.2f}  {'x'.join(map(str, passes[0]['shape']))}"
        )
    ours = statistics.median(one["seconds"] for one in results["ours"])
    for name in names[1:]:
        print(f"{name} / ours: {statistics.median(one['seconds'] for one in results[name]) / ours:.2f}")


if __name__ == "__main__":
    main()
