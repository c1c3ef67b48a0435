"""A small genome, small models and VCF files for tests of variant scoring."""

from types import SimpleNamespace

import numpy as np
from genome_files import random_sequence, write_fasta
from network_cases import make_network

from kipoi_borzoi.inference.predictor import Predictor
from kipoi_borzoi.sequence import shift
from kipoi_borzoi.tracks import Tracks

HEADER = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"

# Strand pairs that interleave, the - strand before the + of one of them, and two tracks without strands.
IDENTIFIERS = ("A+", "B-", "A-", "B+", "C", "D")
PAIRS = {"A": (0, 2), "B": (3, 1), "C": (4,), "D": (5,)}


def make_tracks(identifiers=IDENTIFIERS, strand_pair=(2, 3, 0, 1, 4, 5), seed=0):
    """A head's tracks; half of them squashed by a root, all with a soft clip that some bins reach."""
    n = len(identifiers)
    return Tracks(
        index=np.arange(n), identifiers=identifiers, descriptions=[f"RNA:tissue {one} of {n}" for one in identifiers],
        files=["x.w5"] * n, clip=[384.0] * n, clip_soft=[0.9] * n, scale=[1.0] * n,
        sum_stat=[("sum_sqrt", "sum")[i % 2] for i in range(n)], strand_pair=strand_pair,
    )  # fmt: skip


def make_model(params, seed=1, tracks=None, dtype="float64", replicates=1):
    """What the engine needs of a `BorzoiModel`, with random weights, in float64 so that rounding hides nothing."""
    tracks = tracks or make_tracks()
    model = params["model"]
    heads = {"head_human": {**model["head_human"], "units": len(tracks)}}
    params = {"model": {**{k: v for k, v in model.items() if not k.startswith("head")}, **heads}}
    networks = [make_network(params, seed + number, dtype) for number in range(replicates)]
    config = networks[0].config
    return SimpleNamespace(
        predictors=[Predictor(network) for network in networks], tracks=tracks, head=config.head(None), config=config,
        transform="new",
    )  # fmt: skip


def write_vcf(path, records, header=HEADER):
    """Write (chrom, pos, id, ref, alt) records; return the path."""
    lines = ["\t".join([str(field) for field in record] + [".", ".", "."]) + "\n" for record in records]
    path.write_text(header + "".join(lines))
    return path


def small_genome(path, seed=3):
    """chr1 of 2,600 bp with a run of As and a repeat in it, and chr2 of 300 bp, shorter than a window; the sequences."""
    body = random_sequence(2600, seed)
    body = body[:1200] + "C" + "A" * 9 + "G" + body[1211:1300] + "T" + "ACG" * 5 + "T" + body[1317:]
    contigs = {"chr1": body, "chr2": random_sequence(300, seed + 1)}
    write_fasta(path, contigs)
    return contigs




class NumpyNetwork:
    """Stands for a network and its predictor where only what is made of predictions is tested: local, with one global term."""

    def __init__(self, seed, length, bin_size, crop, tracks):
        random = np.random.default_rng(seed)
        self.network, self.sites = self, SimpleNamespace()
        self.length, self.bin_size, self.crop = length, bin_size, crop
        self.kernel = random.normal(0, 0.6, (9 * 4, tracks))
        self.everywhere = random.normal(0, 1.5, (tracks, tracks))

    def predict(self, x, head=None, crop=None):
        """(1, length, 4) to (1, bins, tracks)."""
        x = np.pad(np.asarray(x[0], dtype=np.float64), ((4, 4), (0, 0)))
        taps = np.lib.stride_tricks.sliding_window_view(x, 9, axis=0).reshape(self.length, 36)
        local = np.tanh(taps @ self.kernel).reshape(-1, self.bin_size, self.kernel.shape[1]).mean(axis=1)
        coverage = np.log1p(np.exp(2 * local + local.mean(axis=0) @ self.everywhere))
        return coverage[None, self.crop : len(coverage) - self.crop]


class NumpyReference:
    """Takes the place of `kipoi_borzoi.inference.reuse.Reference` for members on a `NumpyNetwork`."""

    def __init__(self, members, x, crop, rc, shifts, precision):
        self.members, self.x, self.rc, self.shifts = members, x, rc, shifts

    def coverage(self):
        return self.altered(self.x)

    def altered(self, x):
        return [np.stack([self.one(member, shift(x, by)) for by in self.shifts]) for member in self.members]

    def one(self, member, x):
        coverage = member.predictor.predict(x[None])[0]
        if self.rc:
            coverage = (coverage + member.predictor.predict(x[None, ::-1, ::-1])[0][::-1][:, member.strand_pair]) / 2
        return coverage if member.tracks is None else coverage[:, member.tracks]


def numpy_model(seed=1, tracks=None, replicates=1, length=384, bin_size=8, crop=4):
    """A model on `NumpyNetwork`."""
    tracks = tracks or make_tracks()
    layout = SimpleNamespace(bins=length // bin_size - 2 * crop, bin_size=bin_size)
    config = SimpleNamespace(seq_length=length, crop=crop, layout=layout)
    networks = [NumpyNetwork(seed + number, length, bin_size, crop, len(tracks)) for number in range(replicates)]
    return SimpleNamespace(
        predictors=networks, tracks=tracks, head=SimpleNamespace(name="head"), config=config, transform="new"
    )
