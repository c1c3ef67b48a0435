"""Mutation maps of kipoi_veff over a part of the window, and its commands with the fixes applied from the start.

kipoi_veff maps every base of a window: 1.57 million mutants at 524,288 bp. `mutation_map` makes the same map, for
its own plotter and file format, over a region in the middle of the window. Two of kipoi_veff's commands load no
model, so that nothing of ours would mend them: `run` does.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from kipoi_borzoi import kipoi_compat
from kipoi_borzoi.dataloaders.fasta import FastaReader
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.files import atomic_write
from kipoi_borzoi.genome import Interval
from kipoi_borzoi.kipoi_tools.entries import get_model
from kipoi_borzoi.sequence import BASES, one_hot, reverse_complement

INSTALL = (
    "pip install PyVCF3 cyvcf2 pybedtools 'intervaltree<3' deepdish shapely descartes seaborn matplotlib"
    " && pip install --no-deps kipoi_veff==0.3.1"
)
PICTURES = (".png", ".svg", ".pdf")
CHUNK_BYTES = 2**26  # mutants that are handed to the model at a time


def kipoi_veff():
    """Import kipoi_veff, mended.

    Raises
    ------
    InputError
        When it, or what it needs, is not installed.
    """
    try:
        import kipoi_veff
    except ImportError as error:
        raise InputError(f"kipoi_veff cannot be imported ({error}): {INSTALL}") from error
    kipoi_compat.mend_loaded_tools()
    return kipoi_veff


def load_entry(entry: str, source: str, both_strands: bool = False):
    """Load an entry for `mutation_map`, kipoi_veff first."""
    kipoi_veff()
    model = get_model(entry, source, with_dataloader=False)
    model.postprocessing["variant_effects"].use_rc = both_strands
    return model


def parse_region(text: str) -> Interval:
    """Read ``CHROM:START-END``, 1-based with both ends included, as genome browsers show it.

    Raises
    ------
    InputError
    """
    match = re.fullmatch(r"(.+):([\d,]+)-([\d,]+)", text.strip())
    start, end = (int(match[group].replace(",", "") or 0) for group in (2, 3)) if match else (0, 0)
    if not match or not 1 <= start <= end:
        raise InputError(f"region {text!r}: expected CHROM:START-END, 1-based, such as chr7:5,530,600-5,530,700")
    return Interval(match[1], start - 1, end)


def mutation_map(
    model,
    fasta: str | os.PathLike,
    region: Interval,
    scores: Sequence[str] = ("diff",),
    tracks: Sequence[int | str] | None = None,
):
    """Score every substitution in a region, the model's window being centred on it.

    Parameters
    ----------
    model
        Entry of view ``sum`` or ``logsum``, as ``kipoi.get_model`` gives it.
    fasta : path
    region : Interval
        0-based half-open, no longer than the window, wholly on its contig.
    scores : sequence of str
        Names that kipoi_veff knows for the model: diff, ref, alt, and ``logSED`` for ``sum``.
    tracks : sequence of int or str, optional
        Only these are computed; None for all.

    Returns
    -------
    kipoi_veff.MutationMapPlotter
        One region: entry 0, model input ``seq``. Where the reference is N there is NaN.

    Raises
    ------
    InputError
        A view, region, track or score that does not fit.
    """
    tool = kipoi_veff()
    if model.view == "coverage":
        raise InputError("a mutation map needs one number per track: take the entry's view sum or logsum")
    length = model.config.seq_length
    with FastaReader(fasta) as genome:
        contig = genome.contigs[genome.resolve(region.chrom)]
        if not 0 <= region.start < region.end <= contig or region.length > length:
            raise InputError(
                f"region {region}: expected at most {length:,} bp within {region.chrom}, which is {contig:,} bp long"
            )
        window = region.resize(length)
        bases = genome.fetch(window)
    known = tool.scores.get_avail_scoring_fns(model)[2]
    missing = [name for name in scores if name not in known]
    if missing:
        raise InputError(f"unknown score {missing[0]!r}; known for this entry: {', '.join(known)}")
    functions = tool.scores.get_scoring_fns(model, list(scores))
    chosen = model.tracks if tracks is None else model.tracks.select(tracks)
    offset = region.start - window.start
    places = [(row, base) for row in range(region.length) for base in range(4) if bases[offset + row] in BASES]
    places = [(row, base) for row, base in places if BASES[base] != bases[offset + row]]
    predictions = _predict(model, one_hot(bases), [(offset + row, base) for row, base in places], chosen)
    maps = {}
    for name, function in functions.items():
        values = np.asarray(function(**predictions)) if places else np.empty((0, len(chosen)))
        table = np.full((4, region.length, len(chosen)), np.nan)
        for row, letter in enumerate(bases[offset : offset + region.length]):
            if letter in BASES:
                table[BASES.index(letter), row] = 0.0  # as kipoi_veff has it for the base that is there
        for (row, base), value in zip(places, values, strict=True):
            table[base, row] = value
        maps[name] = {
            label: _entry(table[:, :, column], bases[offset : offset + region.length], region)
            for column, label in enumerate(chosen.identifiers)
        }
    return tool.MutationMapPlotter(mutation_map=[{"seq": maps}])


def _entry(table: np.ndarray, bases: str, region: Interval) -> dict:
    return {
        "mutation_map": table,
        "ovlp_var": {key: [] for key in ("chr", "pos", "ref", "alt", "id", "varpos_rel")},
        "ref_seq": bases,
        "metadata_region": {"chr": region.chrom, "start": region.start, "end": region.end, "strand": "*"},
    }


def _predict(model, x: np.ndarray, places: list[tuple[int, int]], tracks) -> dict[str, np.ndarray]:
    """Predictions of all mutants and, repeated beside them, of the reference, as kipoi_veff's scores take them."""
    strands = [("", tracks.index)]
    if model.postprocessing["variant_effects"].use_rc:
        strands.append(("_rc", tracks.strand_pair))  # what a reversed window predicts for these tracks
    found = {}
    for suffix, columns in strands:
        oriented = (lambda batch: reverse_complement(batch)) if suffix else (lambda batch: batch)
        ref = model.predict_on_batch(oriented(x[np.newaxis]), tracks=columns)
        alts = [model.predict_on_batch(oriented(batch), tracks=columns) for batch in _mutants(x, places)]
        found[f"alt{suffix}"] = np.concatenate(alts) if alts else ref[:0]
        found[f"ref{suffix}"] = np.repeat(ref, len(places), axis=0)
    return found


def _mutants(x: np.ndarray, places: list[tuple[int, int]]) -> Iterator[np.ndarray]:
    size = max(1, CHUNK_BYTES // x.nbytes)
    for start in range(0, len(places), size):
        part = places[start : start + size]
        batch = np.repeat(x[np.newaxis], len(part), axis=0)
        for mutant, (position, base) in zip(batch, part, strict=True):
            mutant[position] = 0
            mutant[position, base] = 1
        yield batch


def write_map(plotter, path: str | os.PathLike) -> None:
    """Write a map in kipoi_veff's HDF5 format, for `MutationMapPlotter(fname=...)`."""
    with atomic_write(path) as temporary:
        plotter.save_to_file(str(temporary))


def draw_map(plotter, path: str | os.PathLike, score: str, track: str) -> None:
    """Draw a map with kipoi_veff's own plot, as PNG, SVG or PDF."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    bases = plotter.mutation_map[0]["seq"][score][track]["mutation_map"].shape[1]
    figure, axes = plt.subplots(figsize=(max(6.0, min(0.25 * bases, 60.0)), 2.5), layout="constrained")
    plotter.plot_mutmap(0, "seq", score, track, ax=axes)
    axes.set_title(f"{track}, {score}", fontsize=9)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format=Path(path).suffix.lstrip("."), dpi=150)
    plt.close(figure)


def run(arguments: Sequence[str]) -> None:
    """Run a command of ``python -m kipoi_veff``, mended from the start.

    Parameters
    ----------
    arguments : sequence of str
        The command (score_variants, create_mutation_map, plot_mutation_map) and its options.
    """
    kipoi_veff()
    from kipoi_veff import cli

    cli.cli_main("veff", list(arguments))
