"""A motif put into given sites, or taken out of them, and what that does: what `kipoi-borzoi edit` does, as functions."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kipoi_borzoi.attributing import Explaining, prepare_explaining
from kipoi_borzoi.dataloaders.bed import read_bed
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.files import atomic_write
from kipoi_borzoi.genome import Interval
from kipoi_borzoi.interpret.knockout import Place, insert, knock_out
from kipoi_borzoi.interpret.outputs import check_file, explained_errors
from kipoi_borzoi.interpret.pwm import HIT_P_VALUE, Motif, read_meme
from kipoi_borzoi.interpret.quantity import Quantity
from kipoi_borzoi.interpret.targets import Target
from kipoi_borzoi.provenance import describe_file

COLUMNS = ("target", "chrom", "start", "end", "strand", "site", "motif", "edit", "column", "kind", "effect", "sd")

logger = logging.getLogger("kipoi_borzoi")


@dataclass(frozen=True)
class EditEffect:
    """What one edit does to one quantity of one target.

    Attributes
    ----------
    target : str
    chrom, start, end, strand : str, int, int, str
        The stretch that was replaced, 0-based, half-open; the motif's strand.
    site : str
        Name of the site in its file.
    motif : str
    edit : {'insertion', 'knock_out'}
    column : str
        A track, the contrast, or ``mean`` of the tracks.
    kind : {'track', 'contrast', 'mean'}
    effect, sd : float
        In log2; mean and standard deviation over the ensemble.
    """

    target: str
    chrom: str
    start: int
    end: int
    strand: str
    site: str
    motif: str
    edit: str
    column: str
    kind: str
    effect: float
    sd: float


def edit_motif(
    models: str | Sequence[str] | Mapping[str, object],
    fasta: str | os.PathLike,
    motif: str | Motif,
    sites: str | os.PathLike | Sequence[Interval],
    out: str | os.PathLike | None = None,
    *,
    knocked_out: bool = False,
    replacements: int = 3,
    p_value: float = HIT_P_VALUE,
    seed: int = 0,
    force: bool = False,
    progress: bool | None = None,
    **options,
) -> list[EditEffect]:
    """Put a motif into sites, or take it out of them, one site at a time.

    Parameters
    ----------
    models, fasta, **options
        See `kipoi_borzoi.attributing.prepare_explaining`: genes or regions, and the tracks or contrast whose change is asked for.
    motif : str or Motif
        A sequence of A, C, G, T; or ``FILE:NAME``, a motif of a MEME file.
    sites : path or sequence of Interval
        BED; the motif is placed at a site's start, on its strand (+ where it has none), whatever the site's length.
    out : path, optional
        Table (``.tsv``).
    knocked_out : bool
        Replace the site by random bases without a hit of the motif (the mean over ``replacements``), instead of putting it there.
    replacements, p_value, seed
        See `kipoi_borzoi.interpret.knockout.knock_out`.
    force : bool
        Replace ``out``.
    progress : bool, optional

    Returns
    -------
    list of EditEffect
        For every target, site in its window, and: the contrast or the mean of the tracks, then each track.

    Raises
    ------
    InputError
        See `prepare_explaining`; a motif that is none; sites in no target's window.
    """
    if out is not None:
        out = Path(out)
        if out.suffix != ".tsv":
            raise InputError(f"{out}: effects are written as .tsv; give --out NAME.tsv")
        check_file(out, [fasta, *([sites] if isinstance(sites, (str, os.PathLike)) else [])], force)
    if replacements < 1:
        raise InputError(f"replacements is {replacements}, expected 1 or more")
    motif = motif if isinstance(motif, Motif) else parse_motif(motif)
    wanted = read_bed(sites) if isinstance(sites, (str, os.PathLike)) else list(sites)
    explaining = prepare_explaining(models, fasta, **options)
    jobs = _jobs(explaining, wanted, motif)
    settings = {"knocked_out": knocked_out, "replacements": replacements, "p_value": p_value, "seed": seed}
    rows = _run(explaining, jobs, motif, settings, progress)
    if out is not None:
        files = {"sites": describe_file(sites)} if isinstance(sites, (str, os.PathLike)) else {}
        provenance = {
            "models": explaining.provenance,
            "motif": motif.probabilities.tolist(),
            "files": files,
            "options": settings,
        }
        with explained_errors(out):
            _write(out, rows, provenance)
    return rows


def parse_motif(text: str) -> Motif:
    """A motif from a sequence, or from ``FILE:NAME``; without a name, the only motif of the file.

    Raises
    ------
    InputError
        Neither; or no such motif.
    """
    path, _, name = text.partition(":")
    if not Path(path).is_file():
        try:
            return Motif.of_sequence(text)
        except InputError:
            raise InputError(f"motif {text!r}: expected a sequence of A, C, G, T, or FILE.meme:NAME") from None
    motifs = {motif.name: motif for motif in read_meme(path)}
    found = [motif for key, motif in motifs.items() if not name or name == key or name in key.split()]
    if len(found) != 1:
        said = ", ".join(list(motifs)[:8]) + (", ..." if len(motifs) > 8 else "")
        raise InputError(
            f"{path}: {'no' if not found else len(found)} motif{'s' * (len(found) > 1)} {name!r}; name one of: {said}"
        )
    return found[0]


def per_track(quantity: Quantity, names: Sequence[str]) -> list[tuple[str, Quantity]]:
    """The logarithm of every single track of a quantity, over the bins of its first term, by the track's name.

    Parameters
    ----------
    quantity : Quantity
    names : sequence of str
        Of the ensembles; put before the track where there are several.
    """
    first, found = quantity.terms[0], {}
    for term in quantity.terms:
        for place, column in enumerate(term.columns.tolist()):
            identifier = term.tracks.identifiers[place]
            name = f"{names[term.source]}:{identifier}" if len(names) > 1 else identifier
            single = replace(
                term,
                sign=1.0,
                bins=first.bins,
                columns=[column],
                weights=[1.0],
                tracks=term.tracks.select([identifier]),
            )
            found.setdefault(name, Quantity((single,)))
    return list(found.items())


def _jobs(explaining: Explaining, sites: Sequence[Interval], motif: Motif) -> list[tuple[Target, list[Interval]]]:
    """Every target with the sites in its window."""
    targets = [target for target in explaining.targets if isinstance(target, Target)]
    jobs, used = [], set()
    for target in targets:
        inside = []
        for number, site in enumerate(sites):
            at = site.start - target.window.start
            if explaining.genome.resolve(site.chrom) == target.window.contig and 0 <= at <= target.window.length - len(
                motif
            ):
                inside.append(site)
                used.add(number)
        if inside:
            jobs.append((target, inside))
    if not jobs:
        raise InputError(
            f"none of the {len(sites)} sites lies in the window of one of the {len(targets)} genes or regions"
        )
    if len(used) < len(sites):
        first = next(site for number, site in enumerate(sites) if number not in used)
        logger.warning(
            "%d of %d sites lie in no target's window and are left out (first: %s)",
            len(sites) - len(used),
            len(sites),
            first,
        )
    return jobs


def _run(explaining: Explaining, jobs, motif: Motif, settings: Mapping, progress: bool | None) -> list[EditEffect]:
    from tqdm import tqdm

    contrast = explaining.provenance["quantity"]["contrast"]
    name, kind = ("mean", "mean") if contrast is None else (contrast["name"], "contrast")
    ensembles = [ensemble.name for ensemble in explaining.explainer.table.ensembles]
    rows: list[EditEffect] = []
    disable = None if progress is None else not progress
    edit = "knock_out" if settings["knocked_out"] else "insertion"
    with tqdm(
        total=sum(len(sites) for _, sites in jobs), desc="editing", unit=" sites", disable=disable, file=sys.stderr
    ) as bar:
        for target, sites in jobs:
            columns = [(name, target.quantity), *per_track(target.quantity, ensembles)]
            quantities, x = [quantity for _, quantity in columns], explaining.sequence(target)
            places = [Place(site.start - target.window.start, "-" if site.strand == "-" else "+") for site in sites]
            if settings["knocked_out"]:
                effects = knock_out(
                    explaining.explainer,
                    x,
                    quantities,
                    motif,
                    places,
                    settings["replacements"],
                    settings["seed"],
                    settings["p_value"],
                )
            else:
                effects = insert(explaining.explainer, x, quantities, motif, places)
            for site, place, one in zip(sites, places, effects, strict=True):
                start = target.window.start + place.start
                for number, (column, _) in enumerate(columns):
                    rows.append(
                        EditEffect(
                            target.name, target.window.contig, start, start + len(motif), place.strand, site.name or ".", motif.name, edit,
                            column, kind if number == 0 else "track", float(one.effects[number]), float(one.sd[number]),
                        )
                    )  # fmt: skip
                bar.update()
    return rows


def _write(out: Path, rows: Sequence[EditEffect], provenance: Mapping) -> None:
    lines = [f"# {json.dumps(provenance, sort_keys=True)}", "\t".join(COLUMNS)]
    for row in rows:
        lines.append("\t".join(_text(getattr(row, name)) for name in COLUMNS))
    with atomic_write(out) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _text(value) -> str:
    if isinstance(value, float):
        return "NA" if np.isnan(value) else f"{value:.6g}"
    return str(value)
