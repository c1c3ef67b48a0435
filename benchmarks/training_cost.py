"""Seconds and memory of one training step of each fine-tuning method, on a network of Borzoi-lite's shape.

    python benchmarks/training_cost.py                     # every method, 131,072 bp, batch 1
    python benchmarks/training_cost.py locon lora --steps 5 --recompute

Each method runs in a process of its own, so that its peak memory is its own, TensorFlow's compilation
included. A step is everything between two batches: the frozen part, loss, gradients, Adam. Weights are
random. Beside wall time stands processor time, which other work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time

# What Calico's code (TensorFlow 2.15) takes for the same on two quiet cores of a Xeon (Ice Lake, 2.8 GHz).
CALICO = {
    "full": (7.60, 4.63),
    "linear": (2.06, 1.63),
    "lora": (2.94, 1.94),
    "ia3": (2.86, 1.93),
    "locon": (3.29, 2.32),
    "houlsby": (2.88, 2.12),
    "houlsby_se": (3.30, 2.53),
}


def lite_params(seq_length: int, tracks: int) -> dict:
    """Calico's small Borzoi; a quarter of the bins is cropped at each end."""
    shared = {"activation": "gelu", "norm_type": "batch", "bn_momentum": 0.9, "kernel_initializer": "lecun_normal"}
    trunk = [
        {"name": "conv_dna", "filters": 320, "kernel_size": 11, "norm_type": None, "activation": "linear", "pool_size": 2},
        {"name": "res_tower", "filters_init": 384, "filters_end": 768, "divisible_by": 16, "kernel_size": 5,
         "num_convs": 1, "pool_size": 2, "repeat": 6},
        {"name": "transformer_tower", "key_size": 64, "heads": 4, "num_position_features": 32, "dropout": 0.2,
         "kernel_initializer": "he_normal", "repeat": 8},
        {"name": "unet_conv", "kernel_size": 3, "upsample_conv": True},
        {"name": "unet_conv", "kernel_size": 3, "upsample_conv": True},
        {"name": "Cropping1D", "cropping": seq_length // 32 // 4},
    ]  # fmt: skip
    head = {"name": "final", "units": tracks, "activation": "softplus"}
    return {"model": {"seq_length": seq_length, **shared, "trunk": trunk, "head_human": head}}


def measure(method: str, args) -> dict:
    """Time the steps of one method in this process."""
    import numpy as np

    from kipoi_borzoi.adapters.registry import make_method
    from kipoi_borzoi.adapters.sites import make_adapter
    from kipoi_borzoi.network.config import NetworkConfig
    from kipoi_borzoi.network.network import Network, random_weights
    from kipoi_borzoi.training.fit import compiled_apply
    from kipoi_borzoi.training.losses import poisson_multinomial
    from kipoi_borzoi.training.optimizer import make_optimizer
    from kipoi_borzoi.training.step import TrainingStep

    network = Network(NetworkConfig.from_params(lite_params(args.bp, args.tracks)), initialize=False)
    random_weights(network, 0)
    sites = make_adapter(network, make_method(method))
    step = TrainingStep(
        network, sites, lambda y, p: poisson_multinomial(y, p, 0.2), args.precision, args.recompute, not args.no_dropout
    )
    variables = list(step.variables.values())
    apply = compiled_apply(make_optimizer(variables, 1e-4, 20_000, 0.1), variables)
    random = np.random.default_rng(0)
    wall, cpu = [], []
    for number in range(args.steps + 1):
        x = np.eye(4, dtype=np.float32)[random.integers(0, 4, (1, args.bp))]
        y = random.gamma(0.3, 3, (1, network.layout.bins, args.tracks)).astype(np.float32)
        start, busy = time.perf_counter(), time.process_time()
        loss, gradients = step(x, y, (0, number))
        float(apply(gradients))
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - busy)
    return {
        "method": method, "seconds": sorted(wall[1:])[len(wall[1:]) // 2], "fastest": min(wall[1:]), "cpu": min(cpu[1:]),
        "first": wall[0], "gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, "loss": float(loss),
        "trainable": sum(int(np.prod(variable.shape)) for variable in variables),
    }  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", default=list(CALICO))
    parser.add_argument("--bp", type=int, default=131_072)
    parser.add_argument("--tracks", type=int, default=68)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--recompute", action="store_true")
    parser.add_argument("--no-dropout", action="store_true")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.methods[0], args)))
        return
    print("| method | trained weights | s/step, median (fastest) | CPU s/step | peak GB | Calico s, GB | times faster |")
    print("|---|---|---|---|---|---|---|")
    options = [option for option in sys.argv[1:] if option not in args.methods]
    for method in args.methods:
        command = [sys.executable, __file__, method, "--one", *options]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
        if done.returncode:
            sys.exit(done.stderr)
        row = json.loads(done.stdout.splitlines()[-1])
        seconds, gb = CALICO.get(method, (float("nan"), float("nan")))
        print(
            f"| {method} | {row['trainable']:,} | {row['seconds']:.2f} ({row['fastest']:.2f}) | {row['cpu']:.2f} | {row['gb']:.2f}"
            f" | {seconds:.2f}, {gb:.2f} | {seconds / row['seconds']:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
