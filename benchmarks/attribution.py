"""Prints what explaining a gene costs at full size: seconds and peak memory of a gradient, and seconds per mutant.

524,288 bp, generated weights, the coverage of a few tracks summed over 200 bins. Three processes, so that each has a peak
memory of its own:

    gradient   `input_gradient`: checkpointed, the stem tile by tile
    plain      backpropagation through the whole network at once, nothing recomputed (may not fit into memory)
    mutants    base by base: a mutant by the reuse of its reference, against two plain predictions

    python benchmarks/attribution.py [--params PARAMS.json] [--tracks 4] [--mutants 8] [--skip plain]

Each first runs once unmeasured, to compile. Times are given by the clock and by processor time, which other work on the
machine disturbs less. The gradients of the first two are compared.
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

PARTS = ("gradient", "plain", "mutants")


def full_params(folder: Path) -> Path:
    """The published network with its human head and the crop of prediction."""
    from kipoi_borzoi.zoo.place import packaged_zoo

    params = json.loads((packaged_zoo() / "Borzoi" / "params.json").read_text())
    params["model"] = {key: value for key, value in params["model"].items() if key != "head_mouse"}
    (folder / "params.json").write_text(json.dumps(params))
    return folder / "params.json"


class Case:
    """A network of generated weights, a sequence, and the gradient of a quantity with respect to coverage."""

    def __init__(self, params: str, tracks: int):
        from adapters import generated
        from keras import ops

        from kipoi_borzoi.inference.predictor import Predictor
        from kipoi_borzoi.network.config import NetworkConfig
        from kipoi_borzoi.network.network import Network, named_weights
        from kipoi_borzoi.network.schema import weight_shapes

        config = NetworkConfig.from_params(params)
        self.network = Network(config, initialize=False)
        weights = named_weights(self.network)
        for name, values in generated(weight_shapes(config), seed=0):
            weights[name].assign(ops.convert_to_tensor(values))
        self.head = config.heads[0].name
        self.predictor = Predictor(self.network)
        self.tracks = list(range(min(tracks, config.heads[0].units)))
        random = np.random.default_rng(1)
        self.x = np.eye(4, dtype=np.float32)[random.integers(0, 4, config.seq_length)]
        bins = config.layout.bins
        self.bins = np.arange(bins // 2 - min(100, bins // 2), bins // 2 + min(100, bins // 2))

    def coverage_gradient(self, coverage: np.ndarray) -> np.ndarray:
        """That of log2(1 + sum over the bins of the mean over the tracks)."""
        gradient = np.zeros_like(coverage)
        total = coverage[:, self.bins].mean(axis=2).sum()
        gradient[:, self.bins] = 1 / (len(self.tracks) * (1 + total) * np.log(2))
        return gradient


def gradient(case: Case):
    """One gradient, checkpointed."""
    from kipoi_borzoi.inference.gradients import input_gradient

    return input_gradient(case.predictor, case.x[None], case.coverage_gradient, case.head, tracks=case.tracks)


def plain(case: Case):
    """One gradient, all activations held."""
    import tensorflow as tf

    if not hasattr(case, "function"):
        tracks, bins = tf.constant(case.tracks, tf.int32), tf.constant(case.bins, tf.int32)

        @tf.function(autograph=False)
        def function(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                coverage = case.network(x, head=case.head, tracks=tracks)
                total = tf.reduce_sum(tf.reduce_mean(tf.gather(coverage, bins, axis=1), axis=2))
                value = tf.math.log(1 + total) / tf.math.log(2.0)
            return tape.gradient(value, x)

        case.function = function
    return case.function(tf.constant(case.x[None])).numpy()


def measure(function):
    """Result, seconds by the clock, seconds of processor time."""
    clock, processor = time.perf_counter(), time.process_time()
    result = function()
    return result, time.perf_counter() - clock, time.process_time() - processor


def peak_gb() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def mutants(case: Case, count: int) -> dict:
    """Seconds per mutant, and of two predictions."""
    from kipoi_borzoi.inference.reuse import Reference
    from kipoi_borzoi.inference.together import Member

    member = Member(case.predictor, case.head, case.tracks)
    options = {"head": case.head, "tracks": case.tracks}
    places = np.random.default_rng(2).integers(len(case.x) // 4, 3 * len(case.x) // 4, count + 1)

    def mutant(number):
        x = case.x.copy()
        x[places[number]] = np.roll(x[places[number]], 1)
        return x

    case.predictor.predict(case.x[None], **options)
    _, two, two_cpu = measure(lambda: [case.predictor.predict(one[None], **options) for one in (case.x, mutant(0))])
    Reference([member], case.x).coverage()  # compiles
    reference = Reference([member], case.x)
    _, base, base_cpu = measure(reference.coverage)
    reference.altered(mutant(count))
    altered, each, each_cpu = measure(lambda: [reference.altered(mutant(number))[0][0] for number in range(count)])
    expected = case.predictor.predict(mutant(0)[None], **options)[0]
    return {
        "two": two, "two_cpu": two_cpu, "reference": base, "reference_cpu": base_cpu, "each": each / count, "each_cpu": each_cpu / count,
        "difference": float(np.abs(altered[0] - expected).max() / np.abs(expected).max()),
    }  # fmt: skip


def run_part(args) -> None:
    """What a child process does."""
    case = Case(args.params, args.tracks)
    before = peak_gb()
    if args.part == "mutants":
        print(json.dumps({**mutants(case, args.mutants), "before": before, "peak": peak_gb()}))
        return
    function = {"gradient": gradient, "plain": plain}[args.part]
    function(case)
    result, clock, processor = measure(lambda: function(case))
    np.save(args.save, result)
    print(json.dumps({"seconds": clock, "cpu": processor, "before": before, "peak": peak_gb()}))


def child(args, part: str, folder: Path) -> dict | None:
    """Run a part in a process of its own; None when it died."""
    command = [sys.executable, __file__, "--part", part, "--params", args.params, "--tracks", str(args.tracks)]
    command += ["--mutants", str(args.mutants), "--save", str(folder / f"{part}.npy")]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
    if done.returncode:
        print(f"{part:9} died with status {done.returncode}{' (out of memory?)' if done.returncode == -9 else ''}")
        return None
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Run all parts and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", help="Calico params (default: the published network)")
    parser.add_argument("--tracks", type=int, default=4)
    parser.add_argument("--mutants", type=int, default=8)
    parser.add_argument("--skip", nargs="*", choices=PARTS, default=[])
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--save", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        run_part(args)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        args.params = args.params or str(full_params(folder))
        found = {part: child(args, part, folder) for part in PARTS if part not in args.skip}
        print(f"{'gradient of a gene':22}{'seconds':>10}{'cpu s':>10}{'peak GB':>10}{'before GB':>11}")
        for part in ("gradient", "plain"):
            if row := found.get(part):
                print(f"{part:22}{row['seconds']:10.1f}{row['cpu']:10.1f}{row['peak']:10.2f}{row['before']:11.2f}")
        if found.get("gradient") and found.get("plain"):
            one, other = (np.load(folder / f"{part}.npy") for part in ("gradient", "plain"))
            print(f"largest difference: {np.abs(one - other).max() / np.abs(other).max():.1e} of the largest gradient")
        if row := found.get("mutants"):
            print(f"\n{'mutagenesis':22}{'seconds':>10}{'cpu s':>10}")
            for key, words in (("two", "two plain passes"), ("reference", "reference, once"), ("each", "each mutant")):
                print(f"{words:22}{row[key]:10.2f}{row[f'{key}_cpu']:10.2f}")
            ratio, ratio_cpu = row["two"] / row["each"], row["two_cpu"] / row["each_cpu"]
            print(
                f"a mutant is {ratio:.1f} times faster than two passes (by processor time {ratio_cpu:.1f}; wanted: 3)"
            )
            print(f"largest difference: {row['difference']:.1e} of the largest coverage; peak {row['peak']:.2f} GB")


if __name__ == "__main__":
    main()
