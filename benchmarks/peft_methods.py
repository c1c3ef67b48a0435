"""Mirrors the paper on a simulated genome: a base learns some cell types, and every method transfers it to cell types that it never saw.

    python benchmarks/peft_methods.py --out DIR                        # everything, about an hour and a half on two cores
    python benchmarks/peft_methods.py --out DIR --methods locon lora --seeds 1

Everything is done by the commands a user has: `simulate`, `data build`, `finetune --from-scratch` for the base,
`finetune` for each method and seed, `zoo publish`, `evaluate` on the test windows; and variants are scored with
`kipoi_borzoi.scoring`. What is in DIR already is not done again, so a run that was stopped goes on.

The table has, as mean over seeds (standard deviation): r over bins per track, r over genes per track, r of the
differences between tracks, r of log fold changes treated against control, and of the causal SNVs of test windows whose true
log2 fold change of a gene is above 0.2 (twice the noise between replicates): how many have the right sign, and how
many have the larger effect in a state where the truth has it than in one where the truth has none. The
untuned base is taken with the best matching of its tracks for each new track, chosen on the validation windows.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

METHODS = ("linear", "lora", "ia3", "locon", "houlsby", "houlsby_se", "lora_conv", "full")
UNTUNED, SCRATCH = "base, best matching track", "from scratch"
NOISE = 0.2
LEARNING_RATE = {"full": 0.001, SCRATCH: 0.006}
"""Others have `PEFT_RATE`: few weights that begin at nothing take larger steps than many that are trained already."""
PEFT_RATE = 0.003
FIGURES = ("track_r", "gene_r", "between_r", "change_r", "sign", "place")


@dataclass(frozen=True)
class Work:
    """Folders of the benchmark.

    Attributes
    ----------
    out, sim, zoo : Path
    epochs, base_epochs, batch : int
    """

    out: Path
    epochs: int
    base_epochs: int
    batch: int

    @property
    def sim(self) -> Path:
        """The simulated genome."""
        return self.out / "sim"

    @property
    def zoo(self) -> Path:
        """A zoo of its own."""
        return self.out / "zoo"


def run(*words, threads: int = 0) -> float:
    """Run a command of kipoi-borzoi and return its peak memory in GB."""
    command = [sys.executable, "-m", "kipoi_borzoi.cli", *map(str, words)]
    print("$ kipoi-borzoi", *command[3:], file=sys.stderr, flush=True)
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    if threads:
        environment |= {"TF_NUM_INTRAOP_THREADS": str(threads), "TF_NUM_INTEROP_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"the command above failed with status {os.waitstatus_to_exitcode(status)}")
    return usage.ru_maxrss / 1e6


def prepare(work: Work) -> None:
    """Simulate, build both stores, train the base and put it into the zoo."""
    if not work.sim.exists():
        run("simulate", "--transfer-cells", 6, "--out", work.sim)
    for group in ("pretrain", "transfer"):
        if not (work.out / group).exists():
            run(
                "data", "build", "--targets", work.sim / f"targets_{group}.txt", "--fasta", work.sim / "genome.fa.gz",
                "--sequences", work.sim / "sequences.bed", "--seq-length", 4096, "--crop-bp", 256, "--out", work.out / group,
            )  # fmt: skip
    base = work.out / "base"
    if not (base / "summary.json").exists():
        run(
            "finetune", "--from-scratch", "--params", work.sim / "params_pretrain.json", "--data", work.out / "pretrain",
            "--epochs-max", work.base_epochs, "--epochs-min", work.base_epochs, "--out", base,
        )  # fmt: skip
    work.zoo.mkdir(exist_ok=True)
    import_base(work, "sim/base", base)


def import_base(work: Work, name: str, trained: Path) -> None:
    """Put a whole network into the zoo."""
    if not (work.zoo / name).exists():
        parts = {"params": "params.json", "weights": "weights.safetensors", "targets": "targets.txt"}
        run("zoo", "import", name, "--zoo", work.zoo, *(w for role, file in parts.items() for w in (f"--{role}", trained / "base" / file)))


def train(work: Work, method: str, seed: int) -> dict:
    """Fine-tune (or train from scratch), publish, evaluate; return the figures."""
    name = method.replace(" ", "_")
    folder = work.out / "runs" / f"{name}.{seed}"
    result = folder / "result.json"
    if result.exists():
        return json.loads(result.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    options = [
        "--data", work.out / "transfer", "--epochs-min", work.epochs, "--epochs-max", work.epochs, "--batch-size", work.batch,
        "--learning-rate", LEARNING_RATE.get(method, PEFT_RATE), "--seed", seed, "--out", folder / "run",
    ]  # fmt: skip
    entry = f"sim/{name}_{seed}"
    if method == SCRATCH:
        memory = run("finetune", "--from-scratch", "--params", work.sim / "params_transfer.json", *options)
        import_base(work, entry, folder / "run")
        size = (folder / "run/base/weights.safetensors").stat().st_size
    else:
        base = work.zoo / "sim/base"
        memory = run(
            "finetune", "--base", base / "weights.safetensors", "--params", base / "params.json", "--base-name", "sim/base",
            "--base-transform", "new", "--method", method, *options,
        )  # fmt: skip
        size = sum(file.stat().st_size for file in (folder / "run/adapter").glob("*.safetensors"))
        if not (work.zoo / entry).exists():
            run("zoo", "publish", folder / "run/adapter", entry, "--zoo", work.zoo)
    run(
        "evaluate", "--model", entry, "--zoo", work.zoo, "--data", work.out / "transfer", "--split", "test", "--no-pictures",
        "--genes", work.sim / "genes.gtf", "--contrast", "treated-control", "--out", folder / "evaluation",
    )  # fmt: skip
    figures = read_evaluation(folder / "evaluation") | variant_figures(work, entry, None)
    summary = json.loads((folder / "run/summary.json").read_text())
    with open(folder / "run/steps.csv", newline="") as file:
        speeds = [float(row["examples_per_s"]) for row in csv.DictReader(file)]
    figures |= {
        "trainable": summary["trainable"], "bytes": size, "ms": 1000 / statistics.median(speeds), "gb": memory,
    }  # fmt: skip
    result.write_text(json.dumps(figures))
    return figures


def read_evaluation(folder: Path) -> dict:
    """The figures of an `evaluate` run."""
    summary = json.loads((folder / "summary.json").read_text())
    changes = list(summary["change_pearson"].values())
    return {
        "track_r": summary["track_pearson"]["mean"], "gene_r": summary["gene_pearson"]["mean"],
        "between_r": summary["gene_difference_pearson"]["mean"], "change_r": float(np.mean(changes)),
    }  # fmt: skip


class Matched:
    """The untuned base with other tracks' names: for each new track the one of its own that fits best on the validation windows."""

    def __init__(self, model, store):
        self.model, self.config, self.view, self.transform = model, model.config, "coverage", model.transform
        self.tracks = store.tracks
        measured, predicted = [], []
        for number in store.indices("valid").tolist():
            x = store.sequence(number, np.float32)[None]
            predicted.append(model.predict_on_batch(x, crop=store.crop_bp // store.bin_size)[0])
            measured.append(store.targets(number).astype(np.float64))
        y, p = np.concatenate(measured), np.concatenate(predicted).astype(np.float64)
        r = np.corrcoef(y, p, rowvar=False)[: y.shape[1], y.shape[1] :]
        strands = [[name[-1] for name in tracks.identifiers] for tracks in (store.tracks, model.tracks)]
        r[np.array(strands[0])[:, None] != np.array(strands[1])[None]] = -1
        self.rows = r.argmax(axis=1)

    def predict_on_batch(self, x, **options):
        """Coverage of the matching tracks."""
        return self.model.predict_on_batch(x, **options)[:, :, self.rows]

    @property
    def names(self) -> dict[str, str]:
        """Its own track for each new one."""
        return {new: self.model.tracks.identifiers[row] for new, row in zip(self.tracks.identifiers, self.rows, strict=True)}


def untuned(work: Work) -> dict:
    """Figures of the base as it is."""
    from kipoi_borzoi import load_model
    from kipoi_borzoi.dataloaders.gtf import read_gtf
    from kipoi_borzoi.evaluation.contrasts import find_contrasts
    from kipoi_borzoi.evaluation.evaluate import evaluate
    from kipoi_borzoi.evaluation.report import write_report
    from kipoi_borzoi.training.store import Store

    folder = work.out / "runs" / "untuned"
    result = folder / "result.json"
    if result.exists():
        return json.loads(result.read_text())
    store = Store.open(work.out / "transfer")
    model = Matched(load_model("sim/base", zoo=work.zoo), store)
    found = evaluate(
        model, store, "test", read_gtf(work.sim / "genes.gtf"), lambda tracks, columns: find_contrasts("treated-control", columns)
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_report(folder, found, {"model": UNTUNED}, pictures=False)
    figures = read_evaluation(folder) | variant_figures(work, "sim/base", model.names)
    result.write_text(json.dumps(figures | {"trainable": 0, "bytes": 0, "ms": float("nan"), "gb": float("nan")}))
    return json.loads(result.read_text())


def variant_figures(work: Work, entry: str, names: dict[str, str] | None) -> dict:
    """How many effects of causal SNVs have the right sign, and how many lie in the right state."""
    from kipoi_borzoi.scoring import score_variants

    with open(work.sim / "truth" / "variant_gene_effects.tsv", newline="") as file:
        truth = [row for row in csv.DictReader(file, delimiter="\t") if row["fold"] == "test" and len(row["ref"]) == len(row["alt"]) == 1]
    states = [name for name in truth[0] if name.startswith("unseen")]
    table = score_variants(
        entry, work.sim / "variants.vcf", work.sim / "genome.fa.gz", genes=work.sim / "genes.gtf", scores=["gene:logSED"],
        zoo=work.zoo,
    )  # fmt: skip
    table = table[(table["status"] == "SCORED") & table["gene_id"].notna()]
    scores = dict(zip(zip(table["id"], table["gene_id"], table["track"], strict=True), table["score"], strict=True))
    known = {(variant, gene) for variant, gene, _ in scores}
    right = aware = signs = places = 0
    for row in truth:
        if (row["id"], row["gene_id"]) not in known:
            continue

        def predicted(state, row=row):
            wanted = [f"{state}.rep{n}" for n in (1, 2)]
            wanted = [names[f"{track}+"].removesuffix("+") for track in wanted] if names else wanted
            return float(np.mean([scores[row["id"], row["gene_id"], track] for track in wanted]))

        effects = {state: (float(row[state]), predicted(state)) for state in states}
        for true, found in effects.values():
            if abs(true) > NOISE:
                signs += 1
                right += true * found > 0
                for other, its in effects.values():
                    if other == 0:
                        places += 1
                        aware += abs(found) > abs(its)
    return {"sign": right / signs, "place": aware / places, "effects": signs, "pairs": places}


def line(label: str, results: list[dict], whole: int) -> str:
    """One row of the table."""

    def cell(name):
        values = [result[name] for result in results]
        spread = f" ({statistics.stdev(values):.3f})" if len(values) > 1 else ""
        return f"{statistics.mean(values):.3f}{spread}"

    first = results[0]
    share = f"{first['trainable']:,} ({100 * first['trainable'] / whole:.1f} %)"
    cost = f"{statistics.median(r['ms'] for r in results):.1f}", f"{max(r['gb'] for r in results):.2f}"
    return "| " + " | ".join([label, *map(cell, FIGURES), share, f"{first['bytes'] / 1e3:,.0f}", *cost]) + " |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for everything; given again, the run goes on")
    parser.add_argument("--methods", nargs="+", default=[*METHODS, SCRATCH], choices=[*METHODS, SCRATCH])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20, help="of each transfer")
    parser.add_argument("--base-epochs", type=int, default=110)
    parser.add_argument("--batch-size", type=int, default=16)
    args = parser.parse_args()
    work = Work(args.out.absolute(), args.epochs, args.base_epochs, args.batch_size)
    work.out.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    prepare(work)
    rows: dict[str, list[dict]] = {method: [] for method in args.methods}
    for seed in range(args.seeds):  # all methods with one seed first: a run that is stopped has something of each
        for method, results in rows.items():
            results.append(train(work, method, seed))
    base = untuned(work)
    whole = rows["full"][0]["trainable"] if "full" in rows else json.loads((work.out / "base/summary.json").read_text())["trainable"]
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores; {(time.monotonic() - start) / 60:.0f} min; {' '.join(sys.argv)}")
    print(
        "| method | r, bins | r, genes | r, between tracks | r, fold changes | sign of SNVs | right state | trained weights"
        " | adapter kB | ms per window | peak GB |"
    )
    print("|---" * 11 + "|")
    print(line(UNTUNED, [base], whole))
    for method, results in rows.items():
        print(line(method, results, whole))
    print(f"signs of {base['effects']} effects, {base['pairs']} pairs of states")


if __name__ == "__main__":
    main()
