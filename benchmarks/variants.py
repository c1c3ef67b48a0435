"""Prints what scoring variants costs the network: alleles from a shared reference against two plain passes each.

Generated weights, the architecture of ``--params`` (by default the published network, 524,288 bp); all steps
take turns in one process, so that ratios hold on a machine whose speed varies. Times of N variants or
adapters are put together from the medians of the steps they consist of, as the table says.

    python benchmarks/variants.py [--params params.json] [--rounds 3] [--variants 20] [--adapters 10] [--tracks 90,all]

Beside each ratio of seconds stands that of the multiplications and additions, counted from the layers' shapes.
"""

import argparse
import os
import platform
import resource
import statistics
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

PARAMS = Path(__file__).resolve().parents[1] / "model_zoo" / "Borzoi" / "params.json"


def unit_operations(unit, spans):
    """Multiplications and additions of one unit for the spans it is asked for; elementwise work is left out."""
    from kipoi_borzoi.network.config import ConvDNA, ConvNAC, ResTower, TransformerTower, UnetConv
    from kipoi_borzoi.network.span import pool_input

    block, width = unit.block, unit.out_width
    if isinstance(block, ResTower):
        level = pool_input(spans.out, block.pool_size, unit.in_length).union(spans.skip_out).size
        return 2 * level * width * (block.kernel_size * unit.in_width + (block.num_convs - 1) * width)
    out = spans.out.union(spans.skip_out)
    if isinstance(block, ConvDNA | ConvNAC):
        level = pool_input(out, block.pool_size, unit.in_length).size
        return 2 * level * block.kernel_size * unit.in_width * width
    if isinstance(block, TransformerTower):
        length, queries, keys = unit.in_length, out.size, block.heads * block.key_size
        bands = block.num_position_features + 1 if block.num_position_features else 0
        projections = (length + queries) * width * (keys + width)
        attention = queries * length * (keys + width) + queries * keys * bands
        return 2 * (projections + attention + 2 * queries * width * int(block.dense_expansion * width))
    if isinstance(block, UnetConv):
        dense = spans.input.size * width * width if block.upsample_conv else 0
        return 2 * (dense + spans.skip_input.size * unit.skip_width * width + out.size * width * (block.kernel_size + width))
    return 0


def tile_operations(layout, first, last, tile):
    """Operations of one tile of the stem, what it computes beyond its borders included."""
    plan = layout.spans(first, last, tile, layout.owned(first, last, tile))
    return sum(unit_operations(unit, spans) for unit, spans in zip(layout.units[first:last], plan, strict=True))


def rest_operations(layout, first, tracks):
    """Operations of everything from unit ``first`` on."""
    from kipoi_borzoi.network.span import Span

    last = len(layout.units)
    plan = layout.spans(first, last, Span.whole(layout.bins), {})
    units = sum(unit_operations(unit, spans) for unit, spans in zip(layout.units[first:], plan, strict=True))
    return units + 2 * layout.bins * layout.width * tracks


def count_operations(predictor, layout, tracks, changed):
    """Operations of the whole stem, of the stem of an altered sequence, and of what follows a stem."""
    from kipoi_borzoi.inference.splice import Splicer
    from kipoi_borzoi.network.span import Span

    stem = layout.stem
    tiles = Splicer(predictor, layout, stem, "float32").plan(changed)
    whole = tile_operations(layout, 0, stem, Span.whole(layout.units[stem - 1].out_length))
    spliced = sum(tile_operations(layout, 0, stem, tile) for tile, _ in tiles)
    return whole, spliced, rest_operations(layout, stem, tracks)


class Steps:
    """Runs steps and keeps their seconds, by the clock and of the processors, by name."""

    def __init__(self):
        self.seconds, self.cpu = defaultdict(list), defaultdict(list)

    def run(self, name, function, keep=True):
        """Run a step; ``keep`` is False for warming up, where programs are compiled."""
        clock, cpu = time.perf_counter(), time.process_time()
        result = function()
        if keep:
            self.seconds[name].append(time.perf_counter() - clock)
            self.cpu[name].append(time.process_time() - cpu)
        return result

    def median(self, name):
        """Seconds of a step by the clock and of the processors: the medians over rounds."""
        return np.array([statistics.median(self.seconds[name]), statistics.median(self.cpu[name])])


def alternative_of(x, place):
    """The sequence with the base at ``place`` replaced by another."""
    y = x.copy()
    y[place] = y[place][[1, 2, 3, 0]]
    return y


def run_variants(predictor, x, crop, tracks, rounds):
    """Let plain passes, a reference and alternatives of it take turns.

    Returns
    -------
    Steps, with ``plain``, ``reference``, ``altered``, ``call`` (an alternative through `predict_on_batch`'s reuse)
    difference : largest deviation of an alternative from its plain pass, relative to the largest value
    nbytes : what the reference holds
    """
    from kipoi_borzoi.inference.recent import RecentStems
    from kipoi_borzoi.inference.reuse import Reference
    from kipoi_borzoi.inference.together import Member

    steps, middle, difference, recent = Steps(), len(x) // 2 - 1, 0.0, RecentStems()
    options = {"tracks": tracks, "crop": crop}

    def through_call(sequence):
        return next(predictor.batches(sequence[None], stems=recent.call(10**9), **options))[1][0]

    through_call(x)
    for number in range(-1, rounds):
        keep, y = number >= 0, alternative_of(x, middle + 7 * number)
        steps.run("plain", lambda: predictor.predict(x[None], **options), keep)
        plain = steps.run("plain", lambda y=y: predictor.predict(y[None], **options), keep)[0]
        reference = Reference([Member(predictor, tracks=tracks)], x, crop=crop)
        steps.run("reference", reference.coverage, keep)
        for name, function in (("altered", lambda y=y, r=reference: r.altered(y)[0][0]), ("call", lambda y=y: through_call(y))):
            got = steps.run(name, function, keep)
            difference = max(difference, float(np.abs(got - plain).max() / np.abs(plain).max()))
    return steps, difference, reference.nbytes


def run_adapters(network, x, crop, tracks, count, rounds):
    """Let the plain passes of one adapter and a reference and alternative of ``count`` adapters together take turns."""
    from kipoi_borzoi.adapters.registry import make_method
    from kipoi_borzoi.adapters.sites import make_adapter
    from kipoi_borzoi.inference.predictor import Predictor
    from kipoi_borzoi.inference.reuse import Reference
    from kipoi_borzoi.inference.together import Member

    steps, middle, random = Steps(), len(x) // 2 - 1, np.random.default_rng(0)
    predictors = []
    for seed in range(count):
        sites = make_adapter(network, make_method("lora"), tracks=tracks, seed=seed)
        for variable in sites.trainable_variables:  # away from the identity
            variable.assign(np.asarray(variable) + 0.01 * random.standard_normal(variable.shape).astype(np.float32))
        predictors.append(Predictor(network, sites))
    for number in range(-1, rounds):
        keep, y = number >= 0, alternative_of(x, middle + 7 * number)
        for sequence in (x, y):
            steps.run("plain", lambda sequence=sequence: predictors[-1].predict(sequence[None], crop=crop), keep)
        reference = Reference([Member(predictor) for predictor in predictors], x, crop=crop)
        steps.run("together, reference", reference.coverage, keep)
        steps.run("together, altered", lambda y=y, reference=reference: reference.altered(y), keep)
    return steps


def line(name, target, seconds, operations):
    """One row: ``seconds`` (by the clock, of the processors) and ``operations`` are pairs, ours and compared with."""
    (ours, plain), (clock, cpu) = seconds, seconds[1] / seconds[0]
    counted = operations[1] / operations[0]
    print(f"{name:<58}{ours[0]:>9.1f}{plain[0]:>9.1f}{clock:>8.2f}{cpu:>8.2f}{counted:>8.2f}  {target}", flush=True)


def report_variants(label, steps, operations, variants):
    """The rows of one choice of tracks."""
    plain, reference, altered = (steps.median(name) for name in ("plain", "reference", "altered"))
    stem, spliced, rest = operations
    pair = 2 * (stem + rest)
    line(
        f"an SNV in its own window, {label}: reference + altered", ">= 1.3",
        (reference + altered, 2 * plain), (stem + spliced + 2 * rest, pair),
    )  # fmt: skip
    line(
        f"the same through predict_on_batch's reuse, {label}", ">= 1.3",
        (plain + steps.median("call"), 2 * plain), (stem + spliced + 2 * rest, pair),
    )  # fmt: skip
    line(
        f"{variants} SNVs in a window, {label}: reference + {variants} altered", ">= 2.8" if variants == 20 else "",
        (reference + variants * altered, variants * 2 * plain),
        (stem + rest + variants * (spliced + rest), variants * pair),
    )  # fmt: skip


def main():
    """Build the network, run the steps, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", type=Path, default=PARAMS)
    parser.add_argument("--head", default="human")
    parser.add_argument("--crop", type=int, help="bins at each end; by default 5,120 for the published network, else its own")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--variants", type=int, default=20, help="that share a window")
    parser.add_argument("--adapters", type=int, default=10, help="lora adapters; 0 leaves them out")
    parser.add_argument("--tracks", default="90,all", help="numbers of tracks, and 'all'")
    args = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

    from kipoi_borzoi.inference.predictor import Predictor
    from kipoi_borzoi.network.config import NetworkConfig
    from kipoi_borzoi.network.network import Network, random_weights

    config = NetworkConfig.from_params(args.params).with_heads(args.head)
    crop = args.crop if args.crop is not None else 5120 if args.params == PARAMS else config.crop
    network = Network(config, initialize=False)
    random_weights(network, seed=0)
    predictor = Predictor(network)
    layout, units = predictor.layout(crop), config.heads[0].units
    x = np.eye(4, dtype=bool)[np.random.default_rng(0).integers(0, 4, config.seq_length)]
    changed = [(config.seq_length // 2 - 1, config.seq_length // 2)]

    cpu = next((row.split(":")[1].strip() for row in open("/proc/cpuinfo") if "model name" in row), platform.processor())
    print(f"{cpu}, {os.cpu_count()} cores; {config.seq_length:,} bp, {layout.bins:,} bins, medians of {args.rounds} rounds\n")
    print(f"{'':<58}{'seconds':>18}{'times faster, by':>24}")
    print(f"{'':<58}{'ours':>9}{'plain':>9}{'clock':>8}{'CPU':>8}{'FLOPs':>8}  target")
    notes = []
    for count in dict.fromkeys(units if one == "all" else min(int(one), units) for one in args.tracks.split(",")):
        tracks = None if count == units else list(range(0, units, units // count))[:count]
        steps, difference, held = run_variants(predictor, x, crop, tracks, args.rounds)
        operations = count_operations(predictor, layout, count, changed)
        label = f"{count:,} tracks"
        report_variants(label, steps, operations, args.variants)
        stem, spliced, rest = (value / 1e12 for value in operations)
        notes += [
            f"{label}: TFLOP of the stem {stem:.3f}, of an altered one {spliced:.4f}, of the rest {rest:.3f}",
            "  seconds (processor seconds): "
            + ", ".join("{} {:.2f} ({:.2f})".format(name, *steps.median(name)) for name in steps.seconds),
            f"  largest deviation from the plain pass {difference:.1e} of the largest value; a reference holds {held / 1e6:.0f} MB",
        ]
    if args.adapters:
        count = min(90, units)
        steps = run_adapters(network, x, crop, count, args.adapters, args.rounds)
        stem, spliced, rest = count_operations(predictor, layout, count, changed)
        plain = args.adapters * 2 * steps.median("plain")
        together = steps.median("together, reference") + steps.median("together, altered")
        counted = stem + spliced + 2 * args.adapters * rest, args.adapters * 2 * (stem + rest)
        line(f"an SNV with {args.adapters} lora adapters of {count} tracks together", ">= 1.33 (75 %)", (together, plain), counted)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print("\n" + "\n".join(notes) + f"\npeak memory of the process {peak:.2f} GB")


if __name__ == "__main__":
    main()
