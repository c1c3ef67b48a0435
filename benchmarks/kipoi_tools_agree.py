"""Prints how far the numbers of Kipoi's tools are from those of `kipoi-borzoi score`, for a base and an adapter of it.

    python benchmarks/kipoi_tools_agree.py                                   the demonstration model
    python benchmarks/kipoi_tools_agree.py --parts params.json model.h5 targets.txt --head human \\
        --fasta hg38.fa --vcf snvs.vcf                                       a network in Calico's format
    python benchmarks/kipoi_tools_agree.py --full --variants 1               the full-size network, generated weights

The base is imported into a zoo of its own, an adapter of random weights is published on it, and the commands of
docs/kipoi-tools.md are run on both: every SNV by each tool, in the same window. SUM is compared in units of the
largest predicted sum and logSED in log2 units. Beside each difference stands the largest score in the same
units, which says how many digits agree. "gradient" holds kipoi_interpret's gradient against finite
differences of predictions. Exit status 1 where a difference is above --tolerance.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ADAPTER_TRACKS = 4
CHECKS = ("veff", "veff rc", "veff API", "veff2", "map", "ism", "gradient")


@dataclass(frozen=True)
class Case:
    """What is scored, and what `kipoi-borzoi score` says of it.

    Attributes
    ----------
    folder : Path
    entry : str
        Without its view.
    fasta, vcf : Path
    variants : list of (id, chrom, pos, alt)
    pair : (tracks,) int
        Each track's partner on the other strand, or itself.
    own : dict
        (variants, tracks) by score: for a stranded track the score of the pair.
    scale : float
        The largest predicted sum.
    """

    folder: Path
    entry: str
    fasta: Path
    vcf: Path
    variants: list
    pair: np.ndarray
    own: dict
    scale: float

    def merged(self, values) -> np.ndarray:
        """Scores of tracks (variants, tracks) with those of their partners added."""
        values = np.asarray(values, dtype=float)
        alone = self.pair == np.arange(len(self.pair))
        return np.where(alone, values, values + values[:, self.pair])

    def line(self, what, score, values, rows=slice(None)):
        """(what, score, numbers, largest score, largest difference) of tracks' scores (variants, tracks)."""
        found, own = self.merged(values), self.own[score][rows]
        if found.shape != own.shape:
            raise SystemExit(f"{self.entry}: {what} gives {found.shape} numbers, expected {own.shape}")
        unit = self.scale if score == "SUM" else 1.0
        return what, score, found.size, np.abs(own).max() / unit, np.abs(found - own).max() / unit


def command(folder, *words, **environment):
    """Run a program of this environment; its output is shown where it fails."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PATH": path, **environment}
    done = subprocess.run([str(word) for word in words], cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words))}\n{done.stdout}\n{done.stderr}")


def score_alone(folder, entry, fasta, vcf):
    """(id, track or pair of tracks) scores by `kipoi-borzoi score`."""
    import pandas as pd

    table = folder / "own.tsv"
    files = ["--vcf", vcf, "--fasta", fasta, "--out", table, "--force"]
    command(folder, "kipoi-borzoi", "score", "--model", entry, *files, "--scores", "SUM,logSED")
    return pd.read_csv(table, sep="\t", comment="#").set_index(["scorer", "id", "track"])["score"]


def make_case(folder, entry, fasta, vcf):
    """Score the variants with `kipoi-borzoi score`."""
    import kipoi
    from pysam import VariantFile

    with VariantFile(str(vcf)) as records:
        variants = [(record.id, record.chrom, record.pos, record.alts[0]) for record in records]
    model = kipoi.get_model(f"{entry}/sum", source="borzoi")
    units = [name.rstrip("+-") for name in model.tracks.identifiers]
    found = score_alone(folder, entry, fasta, vcf)
    own = {score: np.array([[found[score, one[0], unit] for unit in units] for one in variants]) for score in ("SUM", "logSED")}
    scale = float(np.abs(model.predict_on_batch(windows(folder, model, fasta, variants[:1]))).max())
    return Case(folder, entry, fasta, vcf, variants, np.asarray(model.tracks.strand_pair), own, scale)


def windows(folder, model, fasta, variants):
    """The variants' windows, one-hot; ``regions.bed`` holds their regions.

    A region of the variant and the next base has the variant where kipoi_veff and `score` have it: left of the middle.
    """
    regions = folder / "regions.bed"
    regions.write_text("".join(f"{chrom}\t{pos - 1}\t{pos + 1}\n" for _, chrom, pos, _ in variants))
    return model.default_dataloader(intervals_file=str(regions), fasta_file=str(fasta)).load_all()["inputs"]


def by_veff(case):
    """kipoi_veff's command on the sum entry: its tables, its VCF, a selection of tracks, a restriction."""
    import kipoi
    import pandas as pd

    model = kipoi.get_model(f"{case.entry}/sum", source="borzoi")
    run = ["python", "-m", "kipoi_veff", "score_variants", f"{case.entry}/sum", "--source", "borzoi", "-i", case.vcf]
    run += ["--dataloader_args", f"fasta_file={case.fasta}"]
    command(case.folder, *run, "-o", "veff.vcf", "-e", "veff.tsv", "-s", "diff", "logSED")
    table = pd.read_csv(case.folder / "veff.tsv", sep="\t")
    tracks = range(len(case.pair))
    for score, ours in (("diff", "SUM"), ("logSED", "logSED")):
        yield case.line("veff, tsv", ours, table[[f"preds/{score}/{track}" for track in tracks]].values)
        lines = [line.split("\t") for line in (case.folder / "veff.vcf").read_text().splitlines() if line[0] != "#"]
        fields = [dict(item.partition("=")[::2] for item in line[7].split(";")) for line in lines]
        values = [[float(one) for one in found[f"KV:borzoi:{case.entry}/sum:{score.upper()}"].split("|")] for found in fields]
        yield case.line("veff, INFO", ours, values)
    yield few_by_veff(case, model, run)


def few_by_veff(case, model, run):
    """The pair of tracks 0, in HDF5, of the variants in the first one's window; only that one keeps its window there."""
    import h5py

    _, chrom, pos, _ = case.variants[0]
    half = model.config.seq_length // 2
    (case.folder / "restriction.bed").write_text(f"{chrom}\t{pos - half}\t{pos + half}\n")
    names = [model.tracks.identifiers[row] for row in sorted({0, int(case.pair[0])})]
    chosen = ["-r", "restriction.bed", "--model_outputs", *names, "-e", "few.h5", "-o", "few.vcf", "-s", "diff"]
    (case.folder / "few.h5").unlink(missing_ok=True)
    command(case.folder, *run, *chosen)
    with h5py.File(case.folder / "few.h5") as file:
        few = file["preds/diff"][:]
    inside = [one for one in case.variants if one[1] == chrom and pos - half < one[2] <= pos + half]
    if few.shape != (len(inside), len(names)):
        raise SystemExit(f"{case.entry}: the selection has {few.shape} numbers, expected {len(inside), len(names)}")
    own = case.own["SUM"][0, 0]
    return "veff, few, h5", "SUM", 1, abs(own) / case.scale, abs(few[0].sum() - own) / case.scale


def by_veff_rc(case):
    """Both strands by kipoi_veff's command: the mean of the strands' differences, whose windows are predicted here.

    `score --rc` is no measure: it averages coverage before squashing is undone.
    """
    import kipoi
    import pandas as pd

    run = ["python", "-m", "kipoi_veff", "score_variants", f"{case.entry}/sum", "--source", "borzoi", "-i", case.vcf]
    options = ["-o", "rc.vcf", "-e", "rc.tsv", "-s", "diff", "--dataloader_args", f"fasta_file={case.fasta}"]
    command(case.folder, *run, *options, KIPOI_BORZOI_VEFF_RC="1")
    table = pd.read_csv(case.folder / "rc.tsv", sep="\t")
    # By name: Kipoi orders the columns of a .tsv as text, 0 1 10 11 ... 2.
    found = table[[f"preds/diff/{track}" for track in range(len(case.pair))]].values
    model = kipoi.get_model(f"{case.entry}/sum", source="borzoi")
    middle, expected = model.config.seq_length // 2, []
    for variant, ref in zip(case.variants, windows(case.folder, model, case.fasta, case.variants), strict=True):
        pair = np.stack([ref, ref])
        pair[1, middle - 1] = np.eye(4)["ACGT".index(variant[3])]
        forward, reverse = (model.predict_on_batch(one) for one in (pair, pair[:, ::-1, ::-1]))
        expected.append((forward[1] - forward[0] + (reverse[1] - reverse[0])[case.pair]) / 2)
    expected = np.array(expected)
    yield "veff, rc", "SUM", expected.size, np.abs(expected).max() / case.scale, np.abs(found - expected).max() / case.scale


def by_veff_api(case):
    """kipoi_veff's function on the logsum entry, with a score of the user's own."""
    import kipoi
    import kipoi_veff

    model = kipoi.get_model(f"{case.entry}/logsum", source="borzoi")

    class Sums:
        __name__ = "sums"

        def __call__(self, ref, alt, ref_rc=None, alt_rc=None):
            return np.exp2(alt) - np.exp2(ref)

    files = {"fasta_file": str(case.fasta)}, str(case.vcf), str(case.folder / "api.vcf")
    found = kipoi_veff.score_variants(model, *files, scores=["diff", Sums()], return_predictions=True)
    yield case.line("veff, API", "logSED", found["diff"].values)
    yield case.line("veff, API", "SUM", found["sums"].values)


def by_veff2(case):
    """kipoi_veff2's own command, and ours."""
    import pandas as pd

    for view in ("sum", "logsum"):
        model = f"{case.entry}/{view}"
        scorers = ["-s", "kipoi_borzoi.veff2.SUM", "-s", "kipoi_borzoi.veff2.logSED"]
        command(case.folder, "kipoi_veff2_predict", case.vcf, case.fasta, "veff2.tsv", *scorers, "-m", model)
        table = pd.read_csv(case.folder / "veff2.tsv", sep="\t")
        for score in ("SUM", "logSED"):
            columns = [name for name in table.columns if name.startswith(model) and name.endswith(f"/{score}")]
            yield case.line(f"veff2, {view}", score, table[columns].values)


def by_map(case):
    """A mutation map of the first variant's base and the next, and its picture."""
    import kipoi_veff

    _, chrom, pos, alt = case.variants[0]
    run = ["kipoi-borzoi", "veff", "map", f"{case.entry}/sum", "--fasta", case.fasta, "--region", f"{chrom}:{pos}-{pos + 1}"]
    command(case.folder, *run, "--out", "map.h5", "--plot", "map.png")
    tracks = kipoi_veff.MutationMapPlotter(fname=str(case.folder / "map.h5")).mutation_map[0]["seq"]["diff"]
    import kipoi

    names = kipoi.get_model(f"{case.entry}/sum", source="borzoi").tracks.identifiers
    yield case.line("map", "SUM", [[tracks[name]["mutation_map"]["ACGT".index(alt), 0] for name in names]], slice(1))


def by_ism(case):
    """kipoi_interpret's mutagenesis of the first variant's base."""
    import h5py
    import kipoi

    length = kipoi.get_model_descr(f"{case.entry}/logsum", source="borzoi").schema.inputs.shape[0]
    run = ["kipoi-borzoi", "interpret", "ism", f"{case.entry}/logsum", "--source", "borzoi", "--model_input", "seq"]
    place = ["--positions", length // 2 - 1, length // 2]
    model = kipoi.get_model(f"{case.entry}/logsum", source="borzoi")
    windows(case.folder, model, case.fasta, case.variants[:1])
    command(
        case.folder, *run, *place, "-o", "ism.h5", "--dataloader_args", "intervals_file=regions.bed", f"fasta_file={case.fasta}"
    )
    with h5py.File(case.folder / "ism.h5") as file:
        found = file["scores"][:, 0, "ACGT".index(case.variants[0][3]), 0]
    yield case.line("ism", "logSED", found, slice(1))


def by_gradient(case, most=0.003):
    """kipoi_interpret's gradient beside a finite difference along it, and times the input.

    A single position of a large network changes its output by less than float32 can tell. So all positions move at once, in the
    direction of the gradient, the first of them by ``most``: the output then changes by the gradient's length times the step.
    """
    import h5py
    import kipoi

    model = kipoi.get_model(f"{case.entry}/logsum", source="borzoi")
    x = windows(case.folder, model, case.fasta, case.variants[:1])
    for verb, output in (("grad", "grad.h5"), ("grad_input", "grad_input.h5")):
        run = ["kipoi-borzoi", "interpret", verb, f"{case.entry}/logsum", "--source", "borzoi", "--filter_idx", "0"]
        command(case.folder, *run, "-o", output, "--dataloader_args", "intervals_file=regions.bed", f"fasta_file={case.fasta}")
    with h5py.File(case.folder / "grad.h5") as grad, h5py.File(case.folder / "grad_input.h5") as product:
        gradient, times_input = grad["grads"][0].astype(float), product["importance_scores"][0]
    length = np.sqrt((gradient**2).sum())
    step = most * length / np.abs(gradient).max()
    ends = [(x[0] + sign * step * gradient / length).astype(np.float32) for sign in (-1, 1)]
    low, high = model.predict_on_batch(np.stack(ends), tracks=[0])[:, 0].astype(float)
    yield "gradient", "relative", gradient.size, 1.0, abs((high - low) / (2 * step) / length - 1)
    yield "grad*input", "relative", x.size, 1.0, np.abs(times_input - gradient * x[0]).max() / np.abs(gradient).max()


PROGRAMS = dict(zip(CHECKS, (by_veff, by_veff_rc, by_veff_api, by_veff2, by_map, by_ism, by_gradient), strict=True))
FINITE = 0.02  # how far a finite difference may be off: the output's curvature, and float32


def make_entries(folder, args):
    """A zoo with the base and an adapter of it; their names."""
    from adapters import publish
    from kipoi_tools import make_full_size

    from kipoi_borzoi.zoo import zoo_import, zoo_init

    zoo = folder / "zoo"
    zoo_init(zoo)
    base = "BorzoiDemo/base"
    if args.parts or args.full:
        parts = make_full_size(folder) if args.full else [Path(one).absolute() for one in args.parts]
        base = "agree/base"
        zoo_import(base, *parts, head=args.head, zoo=zoo)
    names, _ = publish(folder, zoo, "lora", 1, base=base, tracks=ADAPTER_TRACKS)
    return [base, *names]


def make_genome(folder, entry, variants):
    """A genome of random bases, and SNVs near its middle."""
    import kipoi
    from kipoi_tools import write_genome

    window = kipoi.get_model_descr(f"{entry}/sum", source="borzoi").schema.inputs.shape[0]
    return write_genome(folder, window, variants)


def main():
    """Print a line for each tool, entry and score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs=3, metavar=("PARAMS", "WEIGHTS", "TARGETS"))
    parser.add_argument("--head")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--fasta", help="with --vcf; else a random genome with --variants SNVs")
    parser.add_argument("--vcf", help="SNVs with one ALT and an ID each")
    parser.add_argument("--variants", type=int, default=4)
    parser.add_argument("--checks", nargs="+", choices=CHECKS, default=list(CHECKS))
    parser.add_argument("--tolerance", type=float, default=5e-6, help="(default: %(default)s)")
    args = parser.parse_args()
    far = []
    with tempfile.TemporaryDirectory(prefix="kipoi_tools_agree_") as name:
        folder = Path(name)
        (folder / "home").mkdir()
        os.environ.update(HOME=str(folder / "home"), TF_CPP_MIN_LOG_LEVEL="3")
        entries = make_entries(folder, args)
        fasta, vcf = (args.fasta, args.vcf) if args.vcf else make_genome(folder, entries[0], args.variants)
        if importlib.util.find_spec("kipoi_veff"):
            import kipoi_veff  # noqa: F401  before the models are loaded
        print(f"{'entry':<18}{'tool':<16}{'score':<10}{'numbers':>8}{'largest':>10}{'difference':>12}")
        for entry in entries:
            case = make_case(folder, entry, Path(fasta).absolute(), Path(vcf).absolute())
            for check in args.checks:
                for what, score, numbers, largest, difference in PROGRAMS[check](case):
                    print(f"{entry:<18}{what:<16}{score:<10}{numbers:>8}{largest:>10.1e}{difference:>12.1e}", flush=True)
                    if not difference <= (FINITE if what == "gradient" else args.tolerance):
                        far.append(f"{entry} {what} {score}")
    if far:
        raise SystemExit(f"above the tolerance: {', '.join(far)}")


if __name__ == "__main__":
    main()
