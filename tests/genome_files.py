"""Small genomes and BED files for tests, and the plain way to read them back."""

import random

import numpy as np


def random_sequence(length, seed, letters="ACGT"):
    return "".join(random.Random(seed).choices(letters, k=length))


def write_fasta(path, contigs, width=50, line_end="\n"):
    """Write ``contigs`` (name to sequence) in lines of ``width`` bases; return the path."""
    with open(path, "w", newline="") as handle:
        for name, sequence in contigs.items():
            handle.write(f">{name} some words{line_end}")
            for start in range(0, len(sequence), width):
                handle.write(sequence[start : start + width] + line_end)
    return path


def bgzip(path):
    """Compress ``path`` with bgzip to ``path``.gz; return that."""
    import pysam

    compressed = path.with_name(path.name + ".gz")
    pysam.tabix_compress(str(path), str(compressed), force=True)
    return compressed


def window(sequence, start, end):
    """``sequence[start:end]``, with N where it does not reach."""
    return "".join(sequence[i] if 0 <= i < len(sequence) else "N" for i in range(start, end)).upper()


def one_hot_by_letter(sequence):
    """(length, 4) float32, letter by letter."""
    x = np.zeros((len(sequence), 4), dtype=np.float32)
    for row, letter in enumerate(sequence.upper()):
        if letter in "ACGT":
            x[row, "ACGT".index(letter)] = 1
    return x


def reverse_complement_text(sequence):
    return sequence.translate(str.maketrans("ACGT", "TGCA"))[::-1]
