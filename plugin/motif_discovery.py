"""Motifs discovered in attributions, named by known ones and tested in the model: what `kipoi-borzoi motifs` does."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kipoi_borzoi.attributing import Explaining
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.files import atomic_write
from kipoi_borzoi.interpret.attribution_file import AttributionFile
from kipoi_borzoi.interpret.discovery import MIN_SEQLETS, Pattern, check_installed, discover
from kipoi_borzoi.interpret.knockout import Place, insert, knock_out
from kipoi_borzoi.interpret.outputs import check_file, explained_errors
from kipoi_borzoi.interpret.pictures import MotifRow, check_picture, draw_motifs
from kipoi_borzoi.interpret.pwm import Motif, closest, read_meme, write_meme
from kipoi_borzoi.interpret.targets import Target

COLUMNS = (
    "pattern", "direction", "seqlets", "targets", "mean_contribution", "consensus", "closest", "similarity",
    "knock_out", "knock_out_sd", "knock_out_sites", "insertion", "insertion_sd", "insertion_sites",
)  # fmt: skip

_PAGE = 12

logger = logging.getLogger("kipoi_borzoi")


@dataclass(frozen=True, eq=False)
class TestedPattern:
    """A pattern with what is known of it.

    Attributes
    ----------
    pattern : Pattern
    closest : str
        The most similar known motif; empty when none were given.
    similarity : float
    knock_outs, insertions : (n,) float64
        What each tested site's edit does to the quantity; empty when nothing was tested.
    """

    pattern: Pattern
    closest: str
    similarity: float
    knock_outs: np.ndarray
    insertions: np.ndarray


def find_motifs(
    attributions: str | os.PathLike | Sequence[str | os.PathLike],
    out: str | os.PathLike,
    *,
    motifs: str | os.PathLike | None = None,
    explaining: Explaining | None = None,
    sites: int = 10,
    min_seqlets: int = MIN_SEQLETS,
    max_seqlets: int = 20_000,
    seed: int = 0,
    pictures: str | None = ".png",
    force: bool = False,
    progress: bool | None = None,
) -> list[TestedPattern]:
    """Discover motifs in attributions; compare them with known ones; test them in the model.

    Parameters
    ----------
    attributions : path or sequence of path
        Attribution file, or the shards of one.
    out : path
        Table (``.tsv``). Beside it come ``NAME.meme``, which `find_drivers` and other tools read, and the page of
        pictures.
    motifs : path, optional
        MEME file of known motifs.
    explaining : Explaining, optional
        The models and targets that the attributions are of, for tests; see `kipoi_borzoi.attributing.prepare_explaining`.
    sites : int
        Of each pattern, how many instances to take out (those that contribute most), and into how many targets without
        an instance to put it.
    min_seqlets, max_seqlets : int
        See `kipoi_borzoi.interpret.discovery.discover`.
    seed : int
    pictures : str or None
        ``.png``, ``.svg`` or ``.pdf``; None for none.
    force : bool
    progress : bool, optional

    Raises
    ------
    KipoiBorzoiError
        See `discover`; outputs that cannot be written; an ``explaining`` of another run.
    """
    out = Path(out)
    if out.suffix != ".tsv":
        raise InputError(f"{out}: the table of motifs is written as .tsv; give --out NAME.tsv")
    meme = out.with_suffix(".meme")
    given = [attributions] if isinstance(attributions, (str, os.PathLike)) else list(attributions)
    for path in (out, meme):
        check_file(path, [*given, *([motifs] if motifs is not None else [])], force)
    if pictures is not None:
        check_picture(out.with_suffix(pictures))
    if sites < 1:
        raise InputError(f"sites is {sites}, expected 1 or more")
    known = [] if motifs is None else read_meme(motifs)
    check_installed()
    with AttributionFile(attributions) as file:
        if explaining is not None:
            check_same_run(file, explaining)
        patterns = discover(file, min_seqlets, max_seqlets)
        if not patterns:
            logger.warning("%s: TF-MoDISco found no pattern; the table is empty", given[0])
        tested = tested_patterns(patterns, file, known, explaining, sites, seed, progress)
    with explained_errors(out):
        if pictures is not None and tested:
            _draw(out.with_suffix(f".motifs{pictures}"), tested)
        with atomic_write(meme) as temporary:
            write_meme(temporary, [one.pattern.motif for one in tested])
        _write(out, tested)
    return tested


def check_same_run(file: AttributionFile, explaining: Explaining) -> None:
    """Raise InputError unless models and quantity are those of the attribution file."""
    for part in ("models", "quantity"):
        if file.provenance[part] != _plain(explaining.provenance[part]):
            raise InputError(
                f"{file.paths[0]}: is of another run than the options describe: its {part} differ. Give the same --model, --tracks or "
                "--contrast, --span, ... that made it"
            )
    known = _by_place(explaining)
    for key in _places(file):
        if key not in known:
            raise InputError(
                f"{file.paths[0]}: explains {key[0]} at {key[1]}:{key[2]}, which is not among the given genes or regions"
            )


def _by_place(explaining: Explaining) -> dict[tuple[str, str, int], Target]:
    """Targets by name and place: names alone need not be unique."""
    targets = (target for target in explaining.targets if isinstance(target, Target))
    return {(target.name, target.window.contig, target.start): target for target in targets}


def _places(file: AttributionFile) -> list[tuple[str, str, int]]:
    return list(zip(file.names, file.chroms, map(int, file.starts), strict=True))


def _plain(value):
    return json.loads(json.dumps(value))


def tested_patterns(
    patterns: Sequence[Pattern],
    file: AttributionFile,
    known: Sequence[Motif] = (),
    explaining: Explaining | None = None,
    sites: int = 10,
    seed: int = 0,
    progress: bool | None = None,
) -> list[TestedPattern]:
    """Name patterns by known motifs and, given models, take out their instances and put them elsewhere.

    A pattern is put into targets without an instance of it, at places in which it has instances in others.
    """
    from tqdm import tqdm

    tested, disable = [], None if progress is None else not progress
    bar = tqdm(patterns, desc="testing motifs", unit=" motifs", disable=disable or explaining is None, file=sys.stderr)
    for pattern in bar:
        best, alike = closest(pattern.motif, known)
        knocks, inserts = np.zeros(0), np.zeros(0)
        if explaining is not None:
            targets = _by_place(explaining)
            of_row = [targets[key] for key in _places(file)]
            knocks, inserts = _test(pattern, of_row, explaining, sites, seed)
        tested.append(TestedPattern(pattern, "" if best is None else best.name, alike, knocks, inserts))
    return tested


def _test(pattern: Pattern, targets: Sequence[Target], explaining: Explaining, sites: int, seed: int):
    """Effects of taking out the strongest instances, and of putting the pattern where there is none."""
    chosen = sorted(pattern.seqlets, key=lambda one: -abs(one.contribution))[:sites]
    knocks = []
    for seqlet in chosen:
        target = targets[seqlet.row]
        place = Place(target.span[0] + seqlet.start, seqlet.strand)
        try:
            (effect,) = knock_out(
                explaining.explainer, explaining.sequence(target), [target.quantity], pattern.motif, [place], seed=seed
            )
        except InputError as error:
            logger.warning("%s", error)
            break
        knocks.append(effect.effects[0])
    random = np.random.default_rng([seed, len(pattern.seqlets)])
    without = [row for row in range(len(targets)) if row not in {one.row for one in pattern.seqlets}]
    inserts = []
    for row in random.permutation(without)[:sites]:
        target = targets[int(row)]
        like = pattern.seqlets[random.integers(len(pattern.seqlets))]
        place = Place(target.span[0] + like.start, like.strand)
        (effect,) = insert(explaining.explainer, explaining.sequence(target), [target.quantity], pattern.motif, [place])
        inserts.append(effect.effects[0])
    return np.array(knocks), np.array(inserts)


def _write(out: Path, tested: Sequence[TestedPattern]) -> None:
    lines = ["\t".join(COLUMNS)]
    for one in tested:
        pattern = one.pattern
        cells: Mapping = {
            "pattern": pattern.name, "direction": pattern.sign, "seqlets": len(pattern.seqlets),
            "targets": len({seqlet.row for seqlet in pattern.seqlets}),
            "mean_contribution": float(np.mean([seqlet.contribution for seqlet in pattern.seqlets])),
            "consensus": pattern.motif.consensus, "closest": one.closest or "NA",
            "similarity": one.similarity if one.closest else float("nan"),
        }  # fmt: skip
        for name, values in (("knock_out", one.knock_outs), ("insertion", one.insertions)):
            cells[name] = float(values.mean()) if len(values) else float("nan")
            cells[f"{name}_sd"] = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
            cells[f"{name}_sites"] = len(values)
        lines.append("\t".join(_text(cells[name]) for name in COLUMNS))
    with atomic_write(out) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _text(value) -> str:
    if isinstance(value, float):
        return "NA" if np.isnan(value) else f"{value:.5g}"
    return str(value)


def _draw(path: Path, tested: Sequence[TestedPattern]) -> None:
    rows = []
    for one in tested[:_PAGE]:
        pattern = one.pattern
        words = "raises" if pattern.sign == "+" else "lowers"
        caption = f"{pattern.name}   {words}   {len(pattern.seqlets)} instances"
        caption += f"   like {one.closest} ({one.similarity:.2f})" if one.closest else ""
        points = {"instances": np.array([seqlet.contribution for seqlet in pattern.seqlets])}
        if len(one.knock_outs):
            points["knocked out"] = one.knock_outs
        if len(one.insertions):
            points["inserted"] = one.insertions
        rows.append(MotifRow(pattern.motif, caption, points))
    draw_motifs(path, rows, "Motifs discovered by TF-MoDISco", "contribution, or effect of the edit (log2)")
