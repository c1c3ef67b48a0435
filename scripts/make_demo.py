"""Regenerates model_zoo/BorzoiDemo: a small network with random weights, and a generated genome to run it on.

Run from the repository: ``python scripts/make_demo.py``. The same code gives the same files.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

from kipoi_borzoi.network import NetworkConfig
from kipoi_borzoi.zoo.example import make_genome, write_bed, write_fasta
from kipoi_borzoi.zoo.make import read_source, write_model

SEED = 20
FOLDER = Path(__file__).resolve().parents[1] / "model_zoo" / "BorzoiDemo" / "base"

PARAMS = {
    "model": {
        "seq_length": 32768,
        "activation": "gelu",
        "norm_type": "batch",
        "bn_momentum": 0.9,
        "kernel_initializer": "lecun_normal",
        "l2_scale": 2e-8,
        "trunk": [
            {
                "name": "conv_dna",
                "filters": 48,
                "kernel_size": 15,
                "norm_type": None,
                "activation": "linear",
                "pool_size": 2,
            },
            {
                "name": "res_tower",
                "filters_init": 56,
                "filters_end": 96,
                "divisible_by": 8,
                "kernel_size": 5,
                "num_convs": 1,
                "pool_size": 2,
                "repeat": 6,
            },
            {
                "name": "transformer_tower",
                "key_size": 16,
                "heads": 4,
                "num_position_features": 32,
                "dropout": 0.2,
                "mha_l2_scale": 1e-8,
                "l2_scale": 1e-8,
                "kernel_initializer": "he_normal",
                "repeat": 2,
            },
            {"name": "unet_conv", "kernel_size": 3, "upsample_conv": True},
            {"name": "unet_conv", "kernel_size": 3, "upsample_conv": True},
            {"name": "Cropping1D", "cropping": 64},
            {"name": "conv_nac", "filters": 128, "dropout": 0.1},
        ],
        "head_human": {"name": "final", "units": 8, "activation": "softplus"},
    }
}

# identifier, clip, clip_soft, scale, sum_stat, strand_pair, description
TRACKS = [
    ("DEMO_RNA1+", 768, 384, 0.3, "sum_sqrt", 1, "RNA:demo cell 1"),
    ("DEMO_RNA1-", 768, 384, 0.3, "sum_sqrt", 0, "RNA:demo cell 1"),
    ("DEMO_RNA2+", 768, 384, 0.3, "sum_sqrt", 3, "RNA:demo cell 2"),
    ("DEMO_RNA2-", 768, 384, 0.3, "sum_sqrt", 2, "RNA:demo cell 2"),
    ("DEMO_CAGE+", 384, 64, 1.0, "sum_sqrt", 5, "CAGE:demo cell 1"),
    ("DEMO_CAGE-", 384, 64, 1.0, "sum_sqrt", 4, "CAGE:demo cell 1"),
    ("DEMO_DNASE", 64, 32, 2.0, "mean", 6, "DNASE:demo cell 1"),
    ("DEMO_ATAC", 64, 32, 2.0, "mean", 7, "ATAC:demo cell 2"),
]

REGIONS = [
    ("demo1", 60_000, 60_500, "middle"),
    ("demo1", 80_000, 81_000, "beside_it"),
    ("demo1", 150_000, 158_000, "over_the_end"),
    ("demo2", 20_000, 20_001, "one_base"),
]


def main() -> int:
    """Write the folder anew."""
    from kipoi_borzoi.network.network import Network, named_weights, random_weights
    from kipoi_borzoi.network.weights import save_safetensors

    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        parts = {name: Path(temporary, name) for name in ("params.json", "weights.safetensors", "targets.txt")}
        parts["params.json"].write_text(json.dumps(PARAMS, indent=1) + "\n", encoding="ascii")
        write_targets(parts["targets.txt"])
        network = Network(NetworkConfig.from_params(PARAMS))
        random_weights(network, SEED)
        tensors = {name: varied(name, np.asarray(variable)) for name, variable in named_weights(network).items()}
        save_safetensors(parts["weights.safetensors"], tensors)
        source = read_source(*parts.values(), head=None, crop=None, transform="new")
        doc = (
            "Demonstration network of Borzoi's building blocks. ITS WEIGHTS ARE RANDOM, not trained: it shows how "
            "the tools work, and its predictions mean nothing."
        )
        write_model(FOLDER, source, doc, license="Apache-2.0", tags=["DNA", "demo", "random weights"])
    write_demo_example(FOLDER / "example")
    return 0


def varied(name: str, weight: np.ndarray) -> np.ndarray:
    """Make random kernels blind to what all their inputs share, and larger: else the coverage is nearly flat."""
    if not name.endswith(".kernel") or name.startswith("conv_dna"):
        return weight
    return 1.5 * (weight - weight.mean(axis=tuple(range(weight.ndim - 1)), keepdims=True))


def write_targets(path: Path) -> None:
    """Write the track table in Calico's layout."""
    lines = ["\tidentifier\tfile\tclip\tclip_soft\tscale\tsum_stat\tstrand_pair\tdescription"]
    for index, (identifier, clip, soft, scale, stat, pair, description) in enumerate(TRACKS):
        lines.append(f"{index}\t{identifier}\tnone\t{clip}\t{soft}\t{scale}\t{stat}\t{pair}\t{description}")
    path.write_text("\n".join(lines) + "\n", encoding="ascii")


def write_demo_example(folder: Path) -> None:
    """Replace the small example by a larger genome, with variants."""
    for file in folder.iterdir():
        file.unlink()
    genome = make_genome({"demo1": 160_000, "demo2": 40_000}, SEED)
    write_fasta(folder / "genome.fa.gz", genome)
    write_bed(folder / "regions.bed", REGIONS)
    lines = ["##fileformat=VCFv4.2"]
    lines += [f"##contig=<ID={name},length={len(sequence)}>" for name, sequence in genome.items()]
    lines += ["\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO"])]
    for number, (chrom, position, size) in enumerate(
        [("demo1", 60_250, 1), ("demo1", 80_500, 3), ("demo2", 20_001, 1)]
    ):
        ref = genome[chrom][position - 1 : position - 1 + size].upper()  # positions in VCF are 1-based
        alt = {"A": "G", "C": "T", "G": "A", "T": "C"}[ref] if size == 1 else ref[0]
        lines.append("\t".join([chrom, str(position), f"demo{number}", ref, alt, ".", ".", "."]))
    (folder / "variants.vcf").write_text("\n".join(lines) + "\n", encoding="ascii")


if __name__ == "__main__":
    sys.exit(main())
