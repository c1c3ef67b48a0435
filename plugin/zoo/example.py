"""Generates the small genome and regions that let `kipoi test` and `kipoi get-example` run on any entry."""

import hashlib
import os
import tempfile
from pathlib import Path

import numpy as np

from kipoi_borzoi.zoo.yaml_text import dump_yaml, read_yaml

LINE_BASES = 60


def make_genome(contigs: dict[str, int], seed: int) -> dict[str, str]:
    """Generate sequences: 41 % G + C, each contig with a stretch of N and a soft-masked one.

    Parameters
    ----------
    contigs : dict of str to int
        Length in bp by name.
    seed : int

    Returns
    -------
    dict of str to str
        The same sequences for the same arguments, on every machine.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    genome = {}
    for name, length in contigs.items():
        bases = np.frombuffer(b"ACGT", np.uint8)[rng.choice(4, length, p=[0.295, 0.205, 0.205, 0.295])]
        bases[length // 2 : length // 2 + length // 50] += 32  # lower case
        bases[: length // 100] = ord("N")
        genome[name] = bases.tobytes().decode("ascii")
    return genome


def write_fasta(path: str | os.PathLike, genome: dict[str, str]) -> None:
    """Write a bgzipped FASTA file with its ``.fai`` and ``.gzi`` index beside it."""
    import pysam

    with tempfile.TemporaryDirectory() as directory:
        plain = Path(directory, "plain.fa")
        with open(plain, "w", encoding="ascii", newline="\n") as file:
            for name, sequence in genome.items():
                file.write(f">{name}\n")
                for start in range(0, len(sequence), LINE_BASES):
                    file.write(sequence[start : start + LINE_BASES] + "\n")
        pysam.tabix_compress(str(plain), str(path), force=True)
    pysam.faidx(str(path))


def write_bed(path: str | os.PathLike, regions: list[tuple[str, int, int, str]]) -> None:
    """Write chrom, start, end (0-based, half-open) and name, one region a line."""
    Path(path).write_text("".join("\t".join(map(str, region)) + "\n" for region in regions), encoding="ascii")


def write_example(directory: Path, seed: int = 0) -> None:
    """Write ``genome.fa.gz`` with its indexes and ``regions.bed`` of two regions, one at a contig's start.

    The genome is smaller than a Borzoi window: the windows around the regions are padded, as they
    are at the ends of any contig.
    """
    directory.mkdir()
    write_fasta(directory / "genome.fa.gz", make_genome({"example1": 40_000, "example2": 20_000}, seed))
    write_bed(directory / "regions.bed", [("example1", 20_000, 20_032, "middle"), ("example2", 0, 32, "start")])


def localise_examples(folder: Path, place: Path) -> None:
    """Give the example files of every ``dataloader.yaml`` in ``folder`` the addresses they will have below ``place``.

    Kipoi resolves a plain path in the entry's folder, but `kipoi get-example` then names a path
    that means nothing where the user is; a URL it copies to where the user asked for.
    """
    for path in folder.rglob("dataloader.yaml"):
        description = read_yaml(path)
        for argument in description["args"].values():
            example = argument.get("example")
            if isinstance(example, str) and (path.parent / example).is_file():
                file = Path(os.path.normpath(path.parent / example))
                argument["example"] = {
                    "url": (place / file.relative_to(folder)).as_uri(),
                    "md5": hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest(),  # Kipoi knows no other
                    "name": file.name,
                }
        path.write_text(dump_yaml(description), encoding="utf-8")
