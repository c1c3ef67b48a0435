"""Regenerates model_zoo/BorzoiDemo: a base and two adapters trained on a simulated genome, and test windows of it to try them on.

    python scripts/make_demo.py [--work DIR]

Everything is done by the commands a user has, in about 20 minutes on two cores. With --work what is done is kept, and
a run that was stopped goes on. The simulated genome and the example files are the same on every machine; trained weights agree
to rounding only, so that their checksums do not.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from kipoi_borzoi.genome import Interval
from kipoi_borzoi.zoo.describe import describe_dataloader
from kipoi_borzoi.zoo.example import write_bed, write_fasta
from kipoi_borzoi.zoo.folders import IMPORT_MARK, PUBLISH_MARK
from kipoi_borzoi.zoo.names import VIEWS
from kipoi_borzoi.zoo.yaml_text import dump_yaml, read_yaml

GROUP = Path(__file__).resolve().parents[1] / "model_zoo" / "BorzoiDemo"
CELLS = ("unseen1", "unseen2")
SIMULATION = ("--transfer-cells", 6)  # the genome of benchmarks/peft_methods.py, whose folder may be given as --work
WINDOWS = 24
CONTIG = "demo1"
SIMULATED = "a genome that was simulated by `kipoi-borzoi simulate`, NOT on real data: its predictions mean nothing outside of that"


def main() -> int:
    """Train what is not trained yet, and write the folder anew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="folder to work in and to keep (default: a temporary one)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = (args.work or Path(temporary)).absolute()
        train(work)
        write_group(work, Path(temporary) / "zoo")
    return 0


def run(*words) -> None:
    """Run a command of kipoi-borzoi."""
    print("$ kipoi-borzoi", *words, flush=True)
    subprocess.run([sys.executable, "-m", "kipoi_borzoi.cli", *map(str, words)], check=True)


def train(work: Path) -> None:
    """Simulate, build the stores, train the base and an adapter for each cell type."""
    sim = work / "sim"
    if not sim.exists():
        run("simulate", *SIMULATION, "--out", sim)
    for group in ("pretrain", "transfer"):
        if not (work / group).exists():
            run(
                "data", "build", "--targets", sim / f"targets_{group}.txt", "--fasta", sim / "genome.fa.gz",
                "--sequences", sim / "sequences.bed", "--seq-length", 4096, "--crop-bp", 256, "--out", work / group,
            )  # fmt: skip
    base = work / "base"
    if not (base / "summary.json").exists():
        run("finetune", "--from-scratch", "--params", sim / "params_pretrain.json", "--data", work / "pretrain", "--out", base)
    for cell in CELLS:
        if not (work / cell / "summary.json").exists():
            run(
                "finetune", "--base", base / "base/weights.safetensors", "--params", base / "base/params.json",
                "--base-name", "BorzoiDemo/base", "--base-transform", "new", "--data", work / "transfer", "--method", "locon",
                "--tracks", *tracks_of(sim, cell), "--batch-size", 16, "--learning-rate", 0.003, "--epochs-min", 40,
                "--epochs-max", 40, "--out", work / cell,
            )  # fmt: skip


def tracks_of(sim: Path, cell: str) -> list[str]:
    """The tracks of one cell type."""
    with open(sim / "targets_transfer.txt", newline="") as file:
        return [row["identifier"] for row in csv.DictReader(file, delimiter="\t") if row["identifier"].startswith(f"{cell}.")]


def write_group(work: Path, zoo: Path) -> None:
    """Publish into a zoo of its own, under another name (that of a package is not free there), and take over what belongs here."""
    zoo.mkdir()
    (zoo / "config.yaml").write_text("{}\n")
    trained = work / "base/base"
    files = {"params": "params.json", "weights": "weights.safetensors", "targets": "targets.txt"}
    run("zoo", "import", "demo/base", "--zoo", zoo, *(w for role, file in files.items() for w in (f"--{role}", trained / file)))
    for cell in CELLS:
        run("zoo", "publish", work / cell / "adapter", f"demo/{cell}", "--base", "demo/base", "--zoo", zoo)
    shutil.rmtree(GROUP, ignore_errors=True)
    GROUP.mkdir()
    docs = {"base": f"Small network of Borzoi's building blocks, trained on {SIMULATED}."}
    docs |= {cell: f"BorzoiDemo/base fine-tuned by locon for the cell type {cell} of {SIMULATED}." for cell in CELLS}
    for name, doc in docs.items():
        # Copied file by file: links and marks of the zoo, and paths of this machine, stay behind.
        shutil.copytree(zoo / "demo" / name, GROUP / name, ignore=shutil.ignore_patterns("example", IMPORT_MARK, PUBLISH_MARK, ".*"))
        example = "example" if name == "base" else "../base/example"
        seq_length = 4096
        loader = describe_dataloader(seq_length, f"{example}/genome.fa.gz", f"{example}/regions.bed")
        (GROUP / name / "dataloader.yaml").write_text(dump_yaml(loader), encoding="utf-8")
        for view in VIEWS:
            path = GROUP / name / view / "model.yaml"
            text = read_yaml(path)
            described = text["schema"]["targets"]["doc"]
            text["info"] |= {"doc": f"{doc} {described}", "license": "Apache-2.0", "tags": ["DNA", "demo", "simulated data"]}
            path.write_text(dump_yaml(text), encoding="utf-8")
    (GROUP / "base/example").mkdir()
    write_example(work / "sim", GROUP / "base/example")


def rows_of(path: Path) -> list[dict]:
    """Rows of a TSV with a header."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def write_example(sim: Path, folder: Path) -> None:
    """Write a contig made of test windows, with its genes, variants and the truth about both cell types.

    The windows are those whose variants in factors' sites do most in the two cell types.
    """
    windows = choose_windows(sim)
    place = {(chrom, start): number * (end - start) for number, (chrom, start, end) in enumerate(windows)}
    size = windows[0][2] - windows[0][1]

    def moved(chrom: str, position: int) -> int | None:
        """0-based position on the example's contig of one on the genome."""
        start = position // size * size
        return place[chrom, start] + position - start if (chrom, start) in place else None

    genome = read_genome(sim / "genome.fa.gz")
    write_fasta(folder / "genome.fa.gz", {CONTIG: "".join(genome[chrom][start:end] for chrom, start, end in windows)})
    write_bed(folder / "regions.bed", [(CONTIG, at, at + size, f"window{at // size + 1}") for at in place.values()])
    genes = write_genes(sim / "genes.gtf", folder / "genes.gtf", moved)
    variants = write_variants(sim / "variants.vcf", folder / "variants.vcf", moved, size * len(windows))
    states = [f"{cell}.{condition}" for cell in CELLS for condition in ("control", "treated")]
    truth = folder / "truth"
    truth.mkdir()
    shutil.copyfile(sim / "truth/motifs.meme", truth / "motifs.meme")
    expression = [row for row in rows_of(sim / "truth/expression.tsv") if row["gene_id"] in genes]
    write_table(truth / "expression.tsv", ["gene_id", *states], expression)
    effects = [row for row in rows_of(sim / "truth/variant_gene_effects.tsv") if row["id"] in variants and row["gene_id"] in genes]
    write_table(truth / "variant_effects.tsv", ["id", "kind", "motif", "gene_id", *states], effects)
    contrasts = [row for row in rows_of(sim / "truth/contrasts.tsv") if row["cell_type"] in CELLS and row["driver"] not in ("", "none")]
    write_table(folder / "contrasts.tsv", list(contrasts[0]), contrasts)
    names = [row["contrast"] for row in contrasts]
    changes = [row for row in rows_of(sim / "truth/expression_changes.tsv") if row["gene_id"] in genes]
    write_table(truth / "expression_changes.tsv", ["gene_id", *names], changes)


def choose_windows(sim: Path) -> list[tuple[str, int, int]]:
    """Test windows, by place, whose variants in factors' sites have the largest effects."""
    test = {}
    for line in (sim / "sequences.bed").read_text().splitlines():
        chrom, start, end, fold = line.split("\t")
        if fold == "test":
            test[chrom, int(start)] = Interval(chrom, int(start), int(end))
    size = next(iter(test.values())).end - next(iter(test.values())).start
    largest: dict[tuple[str, int], float] = {}
    for row in rows_of(sim / "truth/variant_gene_effects.tsv"):
        key = row["chrom"], (int(row["pos"]) - 1) // size * size
        if key in test and row["kind"].startswith("site"):
            effect = max(abs(float(value)) for name, value in row.items() if name.split(".")[0] in CELLS)
            largest[key] = max(largest.get(key, 0.0), effect)
    chosen = sorted(sorted(largest, key=lambda key: (-largest[key], key))[:WINDOWS])
    return [(test[key].chrom, test[key].start, test[key].end) for key in chosen]


def read_genome(path: Path) -> dict[str, str]:
    """Sequences by contig."""
    import pysam

    with pysam.FastaFile(str(path)) as fasta:
        return {name: fasta.fetch(name) for name in fasta.references}


def write_genes(source: Path, to: Path, moved) -> set[str]:
    """Copy the genes of the example's windows; return their identifiers."""
    lines, found = [], set()
    for line in source.read_text().splitlines():
        fields = line.split("\t")
        start = moved(fields[0], int(fields[3]) - 1)
        if start is not None:
            length = int(fields[4]) - int(fields[3])
            lines.append("\t".join([CONTIG, *fields[1:3], str(start + 1), str(start + 1 + length), *fields[5:]]))
            found.add(fields[8].split('"')[1])
    to.write_text("\n".join(lines) + "\n", encoding="ascii")
    return found


def write_variants(source: Path, to: Path, moved, length: int) -> set[str]:
    """Copy the variants of the example's windows; return their identifiers."""
    lines, records, found = ["##fileformat=VCFv4.2", f"##contig=<ID={CONTIG},length={length}>"], [], set()
    for line in source.read_text().splitlines():
        fields = line.split("\t")
        if line.startswith(("##INFO", "#CHROM")):
            lines.append(line)
        elif not line.startswith("#") and (position := moved(fields[0], int(fields[1]) - 1)) is not None:
            records.append((position, "\t".join([CONTIG, str(position + 1), *fields[2:]])))
            found.add(fields[2])
    to.write_text("\n".join([*lines, *(text for _, text in sorted(records))]) + "\n", encoding="ascii")
    return found


def write_table(path: Path, columns: list[str], rows: list[dict]) -> None:
    """Write some columns as TSV."""
    with open(path, "w", newline="", encoding="ascii") as file:
        writer = csv.DictWriter(file, columns, delimiter="\t", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    sys.exit(main())
