"""Small models for tests of explanations: what `make_table` and `Explainer` read of a model, and no more."""

from types import SimpleNamespace

import numpy as np
from genome_files import write_fasta
from network_cases import CONV_DNA, CONV_NAC, TOWER, TRANSFORMER, borzoi_like, make_network, make_params

from kipoi_borzoi.inference.predictor import Predictor
from kipoi_borzoi.network.network import named_weights
from kipoi_borzoi.tracks import Tracks

STRANDED = {"name": "final", "units": 5, "activation": "softplus"}
PAIRS = [1, 0, 3, 2, 4]
NAMES = ["treated+", "treated-", "control+", "control-", "both"]


def make_tracks(names=NAMES, pairs=PAIRS, clip_soft=3.0):
    """Tracks with two strands; the soft clip is low, so that its branch matters."""
    n = len(names)
    return Tracks(
        np.arange(n), tuple(names), tuple(f"RNA:{name}" for name in names), ("f",) * n, np.full(n, np.inf),
        np.full(n, clip_soft), np.linspace(0.5, 1.5, n), ("sum_sqrt",) * (n - 1) + ("sum",), np.array(pairs),
    )  # fmt: skip


def make_model(seeds=(1,), params=None, dtype="float64", tracks=None, transform="new"):
    """A model of one replicate per seed."""
    params = params or borzoi_like(seq_length=128, head=STRANDED)
    networks = [make_network(params, seed, dtype) for seed in seeds]
    return SimpleNamespace(
        predictors=[Predictor(network) for network in networks],
        tracks=tracks or make_tracks(),
        transform=transform,
        config=networks[0].config,
        head=networks[0].config.heads[0],
    )


def smooth_params(length=64):
    """A network without pooling: its output has a derivative everywhere, also at one-hot sequences."""
    tower = {**TOWER, "pool_size": 1}
    return make_params({**CONV_DNA, "pool_size": 1}, tower, TRANSFORMER, CONV_NAC, seq_length=length, head=STRANDED)


def dna(length, seed=0):
    """A one-hot sequence (length, 4) float32."""
    return np.eye(4, dtype=np.float32)[np.random.default_rng(seed).integers(0, 4, length)]


MOTIF = "TGACTCAGC"
PLANTED = make_params(
    {"name": "conv_dna", "filters": 2, "kernel_size": 9, "norm_type": None, "activation": "relu", "pool_size": 16},
    {"name": "conv_nac", "filters": 2, "kernel_size": 63, "norm_type": None, "activation": "relu"},
    {"name": "Cropping1D", "cropping": 4},
    seq_length=512, activation="relu", norm_type=None, head={"name": "final", "units": 2, "activation": "softplus"},
)  # fmt: skip


def planted_network(sign=1.0, dtype="float32"):
    """A network that counts sites of `MOTIF`, on both strands and wherever they are: track 0 follows them, track 1 does not."""
    network = make_network(PLANTED, 0, dtype)
    weights = named_weights(network)
    for variable in weights.values():
        variable.assign(np.zeros(variable.shape))
    word = np.eye(4)[["ACGT".index(letter) for letter in MOTIF]]
    weights["conv_dna.conv.kernel"].assign(np.stack([word, word[::-1, ::-1]], axis=-1))
    weights["conv_dna.conv.bias"].assign([-8.5, -8.5])  # 0.5 where all nine bases match, else below 0
    weights["conv_nac.conv.kernel"].assign(np.tile([[[5.0, 0.0], [5.0, 0.0]]], (63, 1, 1)))
    weights["head.dense.kernel"].assign([[sign, 0.0], [0.0, 0.0]])
    weights["head.dense.bias"].assign([4.0, 4.0])
    return network


def planted_model(sign=1.0, names=("treated", "control")):
    """`planted_network` as a model of two tracks without strands."""
    network = planted_network(sign)
    infinite = np.full(2, np.inf)
    tracks = Tracks(np.arange(2), names, names, names, infinite, infinite, np.ones(2), ("sum", "sum"), np.arange(2))
    head = network.config.heads[0]
    return SimpleNamespace(
        predictors=[Predictor(network)], tracks=tracks, transform="new", config=network.config, head=head
    )


def planted_genome(folder, genes=24, carriers=12, seed=0):
    """A FASTA and a GTF: a gene of two exons every 400 bp; the first ``carriers`` have the motif upstream, on either strand."""
    random = np.random.default_rng(seed)
    bases = np.array(list("ACGT"))[random.integers(0, 4, 400 * genes)]
    lines, sites = [], {}
    for number in range(genes):
        start, strand = 400 * number + 260, "+-"[number % 2]
        if number < carriers:
            at = start - 60 if strand == "+" else start + 130
            word = MOTIF if number % 3 else MOTIF.translate(str.maketrans("ACGT", "TGCA"))[::-1]
            bases[at : at + 9] = list(word)
            sites[f"G{number}"] = at
        for first, last in ((start, start + 40), (start + 80, start + 120)):
            tags = f'gene_id "G{number}"; gene_name "name{number}";'
            lines.append("\t".join(["c1", "x", "exon", str(first + 1), str(last), ".", strand, ".", tags]))
    (folder / "genes.gtf").write_text("\n".join(lines) + "\n")
    text = "".join(bases)
    write_fasta(folder / "genome.fa", {"c1": text})
    return text, sites
