"""Making a simulation: all its parts from one seed, and all its files in one folder that appears only when it is whole."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.files import create_temporary, fsync_directory, sweep_temporaries
from kipoi_borzoi.simulation import tables, truth
from kipoi_borzoi.simulation.base_network import base_params
from kipoi_borzoi.simulation.cells import (
    CONTROL,
    PRETRAIN,
    TRANSFER,
    Contrast,
    Factor,
    State,
    make_factors,
    make_states,
)
from kipoi_borzoi.simulation.coverage import Track, make_tracks, measure, write_bigwig
from kipoi_borzoi.simulation.draw import Draw
from kipoi_borzoi.simulation.genome import MAX_GENES, WINDOW, Gene, Genome, make_genome
from kipoi_borzoi.simulation.motifs import FACTORS, Motif
from kipoi_borzoi.simulation.readme import readme_text
from kipoi_borzoi.simulation.variants import Effect, SimulatedVariant, make_variants, true_effect
from kipoi_borzoi.zoo.example import write_fasta

logger = logging.getLogger("kipoi_borzoi")

FOLDS = ("train",) * 7 + ("valid",) + ("test",) * 2


@dataclass(frozen=True)
class SimulationOptions:
    """What a simulation is made of; the same options and seed give the same files.

    Attributes
    ----------
    seed : int
    genes : int
    genome_length : int
        bp, rounded up to whole windows of 4,096 bp.
    factors : int
        Motifs with a factor each: one active everywhere, one nowhere, the others by cell type.
    pretrain_cells, transfer_cells : int
        Cell types for the base network, and unseen ones for fine-tuning.
    conditions : int
        Conditions of each cell type: the control and treatments.
    replicates : int
    noise : float
        Standard deviation of log2 expression between replicates; 0 leaves out every noise, counting noise included.
    depth : float
        Factor on the coverage.
    variants : int

    Raises
    ------
    InputError
        When a value is out of its range, or the genome is too short for the genes.
    """

    seed: int = 0
    genes: int = 3200
    genome_length: int = 1024 * WINDOW
    factors: int = 6
    pretrain_cells: int = 4
    transfer_cells: int = 2
    conditions: int = 2
    replicates: int = 2
    noise: float = 0.1
    depth: float = 1.0
    variants: int = 400

    def __post_init__(self):
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(f"{name.replace('_', '-')} is {value}, expected {low} to {high}")
        if self.genes > MAX_GENES * self.windows:
            raise InputError(
                f"{self.genes} genes do not fit into {self.windows} windows of {WINDOW} bp, {MAX_GENES} genes each at most;"
                f" a genome length of {-(-self.genes // MAX_GENES) * WINDOW} or more is needed"
            )
        if self.conditions - 1 > self.factors - 2:
            raise InputError(
                f"{self.conditions - 1} treatments switch a factor each, but only {self.factors - 2} of {self.factors}"
                " factors can be switched; take more factors or fewer conditions"
            )

    @property
    def windows(self) -> int:
        """Number of windows of the genome."""
        return -(-self.genome_length // WINDOW)

    @property
    def condition_names(self) -> tuple[str, ...]:
        """``control`` and ``treated``, or ``treated1``, ``treated2``, ..."""
        treatments = self.conditions - 1
        return (
            CONTROL,
            *(["treated"] if treatments == 1 else [f"treated{number + 1}" for number in range(treatments)]),
        )

    @property
    def cells(self) -> dict[str, str]:
        """Group of each cell type, by name."""
        first = {f"cell{number + 1}": PRETRAIN for number in range(self.pretrain_cells)}
        return {**first, **{f"unseen{number + 1}": TRANSFER for number in range(self.transfer_cells)}}


_RANGES = {
    "seed": (0, 2**32 - 1),
    "genes": (1, 100_000),
    "genome_length": (10 * WINDOW, 2**30),  # ten windows: each fold has one
    "factors": (3, len(FACTORS)),
    "pretrain_cells": (1, 50),
    "transfer_cells": (1, 50),
    "conditions": (1, 10),
    "replicates": (1, 20),
    "noise": (0, 5),
    "depth": (0.01, 1000),
    "variants": (0, 100_000),
}


@dataclass(frozen=True)
class Simulation:
    """A simulated genome with its cells and variants, before measurement noise.

    Attributes
    ----------
    options : SimulationOptions
    motifs : tuple of Motif
        Of the factors, in their order.
    factors : tuple of Factor
    states : list of State
    contrasts : list of Contrast
    genome : Genome
    variants : list of SimulatedVariant
    """

    options: SimulationOptions
    motifs: tuple[Motif, ...]
    factors: tuple[Factor, ...]
    states: list[State]
    contrasts: list[Contrast]
    genome: Genome
    variants: list[SimulatedVariant]

    @property
    def lengths(self) -> dict[str, int]:
        """bp of each contig."""
        return {chrom: len(codes) for chrom, codes in self.genome.contigs.items()}

    def tracks(self, group: str) -> list[Track]:
        """The tracks of the cell types for pre-training, or of the unseen ones."""
        return make_tracks([state for state in self.states if state.group == group], self.options.replicates)

    def effect(self, variant: SimulatedVariant) -> Effect:
        """The true effect of one of the variants."""
        genes = [gene for gene in self.genome.genes if _in_window(gene, variant)]
        return true_effect(self.genome, variant, genes, self.motifs, self.states)


def make_simulation(options: SimulationOptions) -> Simulation:
    """Build everything but the measurements.

    Parameters
    ----------
    options : SimulationOptions
    """
    seed, motifs = options.seed, FACTORS[: options.factors]
    factors = make_factors([motif.name for motif in motifs])
    states, contrasts = make_states(factors, options.cells, options.condition_names, Draw(seed, "cells"))
    genome = make_genome(options.genes, options.windows, motifs, FOLDS, Draw(seed, "genome"))
    variants = make_variants(genome, factors[-1].name, options.variants, "test", Draw(seed, "variants"))
    return Simulation(options, motifs, factors, states, contrasts, genome, variants)


def simulate(
    out: str | os.PathLike, options: SimulationOptions | None = None, progress: Callable | None = None
) -> Simulation:
    """Make a simulation and write its folder.

    Parameters
    ----------
    out : path
        Folder to make; it must not exist, or be empty.
    options : SimulationOptions, optional
    progress : callable, optional
        Wraps a sequence of tracks, such as `tqdm.tqdm`.

    Returns
    -------
    Simulation

    Raises
    ------
    InputError
        The folder is not empty, or cannot be written.
    """
    options, out = options or SimulationOptions(), Path(out)
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError(f"{out}: exists and is not an empty folder; choose another name or remove it")
        place = out.absolute()
        place.parent.mkdir(parents=True, exist_ok=True)
        sweep_temporaries(place.parent)
        temporary = create_temporary(place)
        temporary.unlink()
        (temporary / "coverage").mkdir(parents=True)
        (temporary / "truth").mkdir()
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror or error}); choose another folder") from error
    try:
        simulation = make_simulation(options)
        _write(simulation, temporary, progress or (lambda items: items))
        os.replace(temporary, place)
        fsync_directory(place.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return simulation


def _write(simulation: Simulation, folder: Path, progress: Callable) -> None:
    options, genome, lengths = simulation.options, simulation.genome, simulation.lengths
    write_fasta(folder / "genome.fa.gz", {chrom: genome.text(chrom) for chrom in genome.contigs})
    tables.write_gtf(folder / "genes.gtf", genome.genes)
    tables.write_sequences(folder / "sequences.bed", genome.windows)
    groups = {group: simulation.tracks(group) for group in (PRETRAIN, TRANSFER)}
    for group, tracks in groups.items():
        tables.write_targets(folder / f"targets_{group}.txt", tracks)
        params = json.dumps(base_params(len(tracks)), indent=1)
        (folder / f"params_{group}.json").write_text(params + "\n", encoding="ascii")
    for track in progress([track for tracks in groups.values() for track in tracks]):
        pieces = measure(track, genome, options.depth, options.noise, options.seed)
        write_bigwig(folder / track.file, lengths, pieces)
    tables.write_vcf(folder / "variants.vcf", simulation.variants, lengths)
    truth.write_truth(folder / "truth", simulation)
    (folder / "README.md").write_text(readme_text(simulation), encoding="ascii")
    settings = {field.name: getattr(options, field.name) for field in fields(options)}
    (folder / "options.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="ascii")


def _in_window(gene: Gene, variant: SimulatedVariant) -> bool:
    return gene.chrom == variant.chrom and variant.window.start <= gene.transcript.tss < variant.window.end
