"""Prints whether explanations find the truth of a simulated genome: planted sites, drivers with their sign, and nothing in null contrasts.

Needs a simulation (`kipoi-borzoi simulate --out SIM`) and models trained on it, in a zoo:

    python benchmarks/drivers.py --sim SIM --zoo ZOO --model lab/cells [--max-genes 100] [--nulls 6]

For every contrast of SIM/truth/contrasts.tsv whose tracks the models have:

- real contrasts: changed genes are those whose true log2 change is 0.5 or more (test and validation folds with --folds). AUROC: the
  driver's sites of changed genes against stretches as long that overlap no site of any factor, by the absolute sum of
  contributions. Rank, sign and p-values of the driver among all factors' motifs.
- null contrasts (replicates of one condition): changed genes are those whose measured coverage differs most between the
  replicates, as a table of differential expression would have it. The smallest p-values. Only genes of --null-folds, which the
  models were not trained on, and whose noise they cannot have learned ("all" for all genes).

With --methods, also the AUROC and the seconds of other methods, in a few genes of the first real contrast and near their
starts, all on the same stretches:

    python benchmarks/drivers.py ... --methods input_x_gradient gradient ism --method-genes 6 --method-span 400
"""

import argparse
import csv
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

WANTED = {"auroc": 0.9, "first": 0.9, "null p": 0.01}


def rows_of(path: Path) -> list[dict]:
    """Rows of a TSV with a header."""
    with open(path, newline="") as handle:
        return list(csv.DictReader(handle, delimiter="\t"))


def auroc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Chance that a positive is larger than a negative; ties count half."""
    values = np.concatenate([positive, negative])
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    n, m = len(positive), len(negative)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


class Truth:
    """The tables of a simulation."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.contrasts = rows_of(folder / "truth" / "contrasts.tsv")
        self.changes = rows_of(folder / "truth" / "expression_changes.tsv")
        self.sites: dict[str, list[tuple[str, int, int]]] = {}
        for row in rows_of(folder / "truth" / "gene_sites.tsv"):
            self.sites.setdefault(row["gene_id"], []).append((row["motif"], int(row["start"]), int(row["end"])))
        self.every: dict[str, list[tuple[int, int]]] = {}
        for row in rows_of(folder / "truth" / "sites.tsv"):
            self.every.setdefault(row["chrom"], []).append((int(row["start"]), int(row["end"])))

    def of_models(self, known: set[str]) -> Iterator[dict]:
        """Contrasts whose tracks are all known."""
        for row in self.contrasts:
            if set(row["treated_tracks"].split(",")) | set(row["control_tracks"].split(",")) <= known:
                yield row

    def write_true_changes(self, path: Path, contrast: str, folds: set[str] | None) -> None:
        """A table of differential expression with the true changes."""
        rows = [row for row in self.changes if folds is None or row["fold"] in folds]
        path.write_text("gene\tlogFC\n" + "".join(f"{row['gene_id']}\t{row[contrast]}\n" for row in rows))

    def write_measured_changes(self, path: Path, contrast: dict, folds: set[str] | None) -> None:
        """The same with what was measured: log2 of the ratio of coverage over exons; the upper fifth counts as changed."""
        import pyBigWig

        from kipoi_borzoi.dataloaders.gtf import read_gtf

        fold = {row["gene_id"]: row["fold"] for row in self.changes}
        genes = [gene for gene in read_gtf(self.folder / "genes.gtf") if folds is None or fold[gene.gene_id] in folds]
        sums = np.zeros((2, len(genes)))
        for side, tracks in enumerate((contrast["treated_tracks"], contrast["control_tracks"])):
            for track in tracks.split(","):
                name = track.removesuffix("+").removesuffix("-")
                with pyBigWig.open(
                    str(self.folder / "coverage" / f"{name}.{'plus' if track.endswith('+') else 'minus'}.bw")
                ) as file:
                    for number, gene in enumerate(genes):
                        if gene.strand == track[-1]:
                            sums[side, number] += sum(
                                np.nansum(file.values(gene.chrom, *exon, numpy=True)) for exon in gene.exons
                            )
        change = np.log2(1 + sums[0]) - np.log2(1 + sums[1])
        change /= np.quantile(np.abs(change), 0.8)
        path.write_text(
            "gene\tlogFC\n" + "".join(f"{gene.gene_id}\t{value}\n" for gene, value in zip(genes, change, strict=True))
        )


def site_auroc(truth: Truth, attributions: Path, driver: str, changed: set[str]) -> float:
    """AUROC of the driver's sites in changed genes."""
    from kipoi_borzoi.interpret.attribution_file import AttributionFile

    positive, negative = [], []
    with AttributionFile(attributions) as file:
        for row in file.rows():
            if file.names[row] not in changed:
                continue
            start, end = int(file.starts[row]), int(file.ends[row])
            values = np.concatenate([[0.0], np.cumsum(file.contributions(row), dtype=float)])
            mine = [
                (a, b)
                for name, a, b in truth.sites.get(file.names[row], [])
                if name == driver and start <= a and b <= end
            ]
            positive += [abs(values[b - start] - values[a - start]) for a, b in mine]
            free = np.ones(end - start, bool)
            for a, b in truth.every.get(file.chroms[row], []):
                free[max(a - start, 0) : max(b - start, 0)] = False
            width = mine[0][1] - mine[0][0] if mine else 12
            negative += [
                abs(values[at + width] - values[at])
                for at in range(0, end - start - width, width)
                if free[at : at + width].all()
            ]
    return auroc(np.array(positive), np.array(negative)) if positive and negative else float("nan")


def grade_methods(truth: Truth, models, files: list[Path], methods: list[str], count: int, span: int) -> None:
    """Print AUROC and seconds per gene of every method, in the genes that change most by the first real contrast."""
    from kipoi_borzoi.attributing import attribute

    known = {track for model in models.values() for track in model.tracks.identifiers}
    contrast = next(row for row in truth.of_models(known) if row["driver"] != "none")
    ordered = sorted(truth.changes, key=lambda row: -abs(float(row[contrast["contrast"]])))
    genes = [row["gene_id"] for row in ordered[:count]]
    print(f"\n{contrast['contrast']}, {count} genes, {span} bp\n{'method':20}{'AUROC':>8}{'s per gene':>12}")
    for method in methods:
        with tempfile.TemporaryDirectory() as name:
            out, start = Path(name, "explained.h5"), time.perf_counter()
            attribute(
                models, files[0], out, genes=files[1], gene_ids=genes, contrast=files[2], contrast_name=contrast["contrast"],
                method=method, span=span, bigwig=False, npz=False, progress=False,
            )  # fmt: skip
            seconds = (time.perf_counter() - start) / count
            print(f"{method:20}{site_auroc(truth, out, contrast['driver'], set(genes)):8.3f}{seconds:12.1f}")


def main() -> None:
    """Run all contrasts and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sim", type=Path, required=True)
    parser.add_argument("--zoo", type=Path)
    parser.add_argument("--model", required=True, action="append")
    parser.add_argument("--max-genes", type=int, default=100)
    parser.add_argument("--nulls", type=int, default=6, help="null contrasts at most")
    parser.add_argument("--folds", nargs="*", help="only genes of these folds (default: all)")
    parser.add_argument("--null-folds", nargs="+", default=["test", "valid"], help="of null contrasts (default: %(default)s)")
    parser.add_argument("--methods", nargs="+", default=[], help="compare these methods of attribution as well")
    parser.add_argument("--method-genes", type=int, default=6)
    parser.add_argument("--method-span", type=int, default=400)
    args = parser.parse_args()
    from kipoi_borzoi import load_model
    from kipoi_borzoi.drivers import direction_of, find_drivers

    truth = Truth(args.sim)
    models = {name: load_model(name, zoo=args.zoo) for name in args.model}
    known = {track for model in models.values() for track in model.tracks.identifiers}
    folds = set(args.folds) if args.folds else None
    null_folds = None if args.null_folds == ["all"] else set(args.null_folds)
    files = [args.sim / "genome.fa.gz", args.sim / "genes.gtf", args.sim / "truth" / "contrasts.tsv"]
    aurocs, firsts, nulls = [], [], []
    print(f"{'contrast':44}{'driver':>10}{'change':>8}{'AUROC':>8}{'first':>10}{'sign':>5}{'p':>9}{'adjusted':>10}")
    with tempfile.TemporaryDirectory() as name:
        for number, contrast in enumerate(truth.of_models(known)):
            null = contrast["driver"] == "none"
            if null and len(nulls) >= args.nulls:
                continue
            table, out = Path(name, f"{number}.tsv"), Path(name, f"{number}.drivers.tsv")
            if null:
                truth.write_measured_changes(table, contrast, null_folds)
            else:
                truth.write_true_changes(table, contrast["contrast"], folds)
            found = find_drivers(
                models, *files, table, args.sim / "truth" / "motifs.meme", out, contrast_name=contrast["contrast"],
                min_change=1.0 if null else 0.5, max_genes=args.max_genes, test=0, pictures=None, progress=False,
            )  # fmt: skip
            first, value = found.ranked[0], float("nan")
            if null:
                nulls.append(min(driver.p_adjusted for driver in found.ranked))
            else:
                changed = {row["gene_id"] for row in truth.changes if abs(float(row[contrast["contrast"]])) >= 0.5}
                value = site_auroc(truth, found.files[1], contrast["driver"], changed)
                aurocs.append(value)
                sign = "+" if float(contrast["activity_change"]) > 0 else "-"
                firsts.append(first.motif == contrast["driver"] and direction_of(first) == sign)
            print(
                f"{contrast['contrast']:44}{contrast['driver']:>10}{contrast['activity_change']:>8}{value:8.3f}{first.motif:>10}"
                f"{direction_of(first):>5}{first.p:9.2g}{first.p_adjusted:10.2g}"
            )
    if aurocs:
        print(
            f"\nAUROC of sites: mean {np.nanmean(aurocs):.3f}, least {np.nanmin(aurocs):.3f} (wanted: {WANTED['auroc']} or more)"
        )
        print(f"planted driver first with the right sign: {sum(firsts)} of {len(firsts)} (wanted: 9 of 10)")
    if nulls:
        print(
            f"null contrasts: least adjusted p {min(nulls):.3g} of {len(nulls)} (wanted: none below {WANTED['null p']})"
        )
    if args.methods:
        grade_methods(truth, models, files, args.methods, args.method_genes, args.method_span)


if __name__ == "__main__":
    main()
