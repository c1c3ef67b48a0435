"""A small genome with coverage, a target table and sequences: the inputs of a store, for tests."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from coverage_files import write_bigwig, write_targets, write_w5
from genome_files import random_sequence, write_fasta

LENGTH, CROP, WIDTH = 1024, 128, 32
BINS = 24
CONTIGS = {"chr1": random_sequence(6000, 1, "ACGTacgtN"), "chr2": random_sequence(3000, 2)}
LENGTHS = {name: len(sequence) for name, sequence in CONTIGS.items()}
WINDOWS = [
    ("chr1", 0, 1024, "train"),
    ("chr1", 1000, 2024, "train"),
    ("chr2", 500, 1524, "valid"),
    ("chr1", 4000, 5024, "test"),
    ("chr1", 5500, 6524, "test"),  # reaches beyond the contig
]
ROWS = [
    ("rna+", "rna_plus.bw", 384.0, 320.0, 0.3, "sum_sqrt", 1),
    ("rna-", "rna_minus.bw", 384.0, 320.0, 0.3, "sum_sqrt", 0),
    ("cage", "cage.w5", 384.0, 64.0, 1.0, "sum", 2),
    ("dnase", "dnase.bw", 64.0, 32.0, 2.0, "mean", 3),
]


@dataclass
class Inputs:
    """Paths of the files, and coverage per base by track name and contig."""

    folder: Path
    coverage: dict = field(default_factory=dict)

    @property
    def arguments(self):
        """The four positional arguments of `build`, without the store's folder."""
        return [self.folder / name for name in ("targets.txt", "genome.fa", "sequences.bed")]


def some_values(seed, gap=0.2):
    rng = np.random.default_rng(seed)
    values = {}
    for name, length in LENGTHS.items():
        values[name] = (rng.gamma(0.2, 4, length) * 64).round().clip(0, 2000) / 64  # exact in float16
        values[name][rng.random(length) < gap] = np.nan
    return values


def write_sequences(path, rows=WINDOWS):
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
    return path


def make_inputs(folder):
    folder.mkdir()
    inputs = Inputs(folder)
    write_fasta(folder / "genome.fa", CONTIGS)
    write_sequences(folder / "sequences.bed")
    write_targets(folder / "targets.txt", ROWS)
    (folder / "black.bed").write_text("chr1\t1200\t1300\nchr2\t800\t810\n")
    for seed, (name, file, *_) in enumerate(ROWS):
        values = some_values(seed, gap=0 if name == "dnase" else 0.2)
        inputs.coverage[name] = values
        if file.endswith(".w5"):
            write_w5(folder / file, values)
        else:
            write_bigwig(folder / file, LENGTHS, values)
    return inputs
