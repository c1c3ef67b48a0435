"""From a list of differential genes to the motifs that drive the change: what `kipoi-borzoi drivers` does, as functions."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kipoi_borzoi.attributing import Explaining, prepare_explaining, write_explained
from kipoi_borzoi.dataloaders.gtf import Gene, read_gtf
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.files import atomic_write
from kipoi_borzoi.interpret.attribution_file import AttributionFile
from kipoi_borzoi.interpret.de_genes import DifferentialGenes, read_de_genes
from kipoi_borzoi.interpret.knockout import Place, knock_out
from kipoi_borzoi.interpret.methods import Method
from kipoi_borzoi.interpret.outputs import check_file, check_out, explained_errors
from kipoi_borzoi.interpret.pictures import MotifRow, check_picture, draw_motifs, draw_stretch
from kipoi_borzoi.interpret.portrait import marks_of, stretch_of
from kipoi_borzoi.interpret.pwm import HIT_P_VALUE, Hit, Motif, find_hits, read_meme
from kipoi_borzoi.interpret.ranking import MIN_GENES, PERMUTATIONS, Driver, hit_contribution, rank_drivers, score_motifs
from kipoi_borzoi.interpret.targets import Target, genes_by_name, genes_within
from kipoi_borzoi.provenance import describe_file, loaded_models

SPAN = 16_384
"""bp around the start of transcription in which motifs are looked for, unless said otherwise."""

COLUMNS = (
    "rank", "motif", "direction", "effect", "concordance", "z", "p", "p_adjusted", "effect_unchanged", "changed_with_hit",
    "changed", "unchanged_with_hit", "unchanged", "hits_changed", "hits_unchanged", "knock_out", "knock_out_genes", "consensus",
)  # fmt: skip

_PAGE = 8  # motifs on the page of pictures

logger = logging.getLogger("kipoi_borzoi")


@dataclass(frozen=True)
class KnockOut:
    """What taking out a driver's strongest hit does to the contrast: the mean over genes, and how many."""

    effect: float
    genes: int


@dataclass(frozen=True, eq=False)
class Drivers:
    """A ranking of motifs.

    Attributes
    ----------
    ranked : list of Driver
        The strongest first.
    motifs : dict of name to Motif
    knock_outs : dict of name to KnockOut
        Of those that were tested.
    changed, unchanged : int
        Genes that were compared.
    files : list of Path
        All that was written.
    """

    ranked: list[Driver]
    motifs: Mapping[str, Motif]
    knock_outs: Mapping[str, KnockOut]
    changed: int
    unchanged: int
    files: list[Path]


def find_drivers(
    models: str | Sequence[str] | Mapping[str, object],
    fasta: str | os.PathLike,
    genes: str | os.PathLike,
    contrast: str | os.PathLike,
    de_genes: str | os.PathLike,
    motifs: str | os.PathLike,
    out: str | os.PathLike,
    *,
    min_change: float = 1.0,
    max_adjusted: float = 0.05,
    change_column: str | None = None,
    adjusted_column: str | None = None,
    max_genes: int = 100,
    within: str | os.PathLike | None = None,
    span: int | None = None,
    p_value: float = HIT_P_VALUE,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    test: int = 3,
    test_genes: int = 5,
    pictures: str | None = ".png",
    force: bool = False,
    progress: bool | None = None,
    zoo: str | os.PathLike | None = None,
    **options,
) -> Drivers:
    """Rank motifs by how well they explain the changes of genes.

    Changed and unchanged genes are explained (their predicted contrast, by input x gradient); motifs are found in
    their sequences; and the contributions at the hits are compared: see `kipoi_borzoi.interpret.ranking`.

    Parameters
    ----------
    models, fasta, genes, contrast, zoo, **options
        As `kipoi_borzoi.attributing.prepare_explaining`.
    de_genes : path
        Table of differential expression; see `kipoi_borzoi.interpret.de_genes.read_de_genes`.
    motifs : path
        MEME file of the motifs to rank.
    out : path
        Table (``.tsv``). The attributions are kept in ``NAME.attributions.h5`` beside it, and used again by a later call
        with the same genes, models and options.
    min_change, max_adjusted, change_column, adjusted_column
        Which genes count as changed; see `DifferentialGenes.direction`.
    max_genes : int
        Changed genes to explain at most (those that changed most), and unchanged ones (drawn by ``seed``).
    within : path, optional
        BED file: only genes in its stretches, such as the windows that the model was not trained on.
    span : int, optional
        bp around the start of transcription; `SPAN` or the window by default.
    p_value : float
        What counts as a hit of a motif.
    permutations, seed : int
    test, test_genes : int
        How many of the first drivers to test in the model, each by taking its strongest hit out of so many changed genes.
    pictures : str or None
        Format of the pictures, ``.png``, ``.svg`` or ``.pdf``; None for no pictures.
    force : bool
        Replace ``out`` and what belongs to it.
    progress : bool, optional

    Raises
    ------
    KipoiBorzoiError
        Inputs that cannot be used; too few genes that changed, or did not.
    """
    out, inputs = Path(out), [fasta, genes, contrast, de_genes, motifs, *([] if within is None else [within])]
    attributions = _check_outputs(out, inputs, pictures, force)
    known = read_meme(motifs)
    table = read_de_genes(de_genes, change_column, adjusted_column)
    annotation = read_gtf(genes)
    inside = None if within is None else genes_within(annotation, within)
    chosen = _chosen(table, annotation, inside, min_change, max_adjusted, max_genes, seed, str(de_genes), str(genes))
    loaded = loaded_models(models, zoo)
    span = min(SPAN, *(model.config.seq_length for model in loaded.values())) if span is None else span
    gene_ids = [gene.gene_id for gene in chosen]
    explaining = prepare_explaining(
        loaded, fasta, genes=genes, gene_ids=gene_ids, contrast=contrast, span=span, method=Method(), **options
    )
    _explain(explaining, attributions, inputs, force, progress)
    with AttributionFile(attributions) as explained:
        context = _context(explaining, explained, chosen, known, p_value)
        scores, counts = _scored(known, context.codes, context.contributions, p_value, progress)
        ranked = rank_drivers([motif.name for motif in known], scores, counts, context.directions, permutations, seed)
        knock = _knock_outs(context, ranked[:test], test_genes, seed, progress)
        provenance = _provenance(explaining, de_genes, motifs, within, min_change, max_adjusted, p_value, permutations, seed)
        changed = int((context.directions != 0).sum())
        found = Drivers(ranked, context.motifs, knock, changed, len(context.directions) - changed, [out, attributions])
        with explained_errors(out):
            if pictures is not None:
                found.files.extend(_draw(context, found, scores, annotation, out, pictures))
            _write(out, found, provenance)
    return found


def _check_outputs(out: Path, inputs: Sequence, pictures: str | None, force: bool) -> Path:
    """Refuse outputs that could not be written before anything is computed; gives the path of the attributions."""
    if out.suffix != ".tsv":
        raise InputError(f"{out}: the table of drivers is written as .tsv; give --out NAME.tsv")
    check_file(out, inputs, force)
    if pictures is not None:
        check_picture(out.with_suffix(pictures))
    return out.with_suffix(".attributions.h5")


@dataclass(frozen=True, eq=False)
class _Context:
    """What knock-outs and pictures need."""

    explaining: Explaining
    explained: AttributionFile
    codes: list[np.ndarray]
    contributions: list[np.ndarray]
    directions: np.ndarray
    motifs: Mapping[str, Motif]
    p_value: float

    def strongest(self, motif: Motif, row: int) -> tuple[float, Hit] | None:
        """The hit of a motif in a row whose contribution is largest, up or down; None without hits."""
        hits = find_hits(motif, self.codes[row], self.p_value)
        values = [(hit_contribution(motif, hit, self.contributions[row]), hit) for hit in hits]
        return max(values, key=lambda one: abs(one[0])) if values else None

    def changed_rows(self, motif: Motif) -> list[tuple[int, Hit]]:
        """Changed genes with a hit, those first whose hit says most about the observed direction."""
        found = [(row, self.strongest(motif, row)) for row in np.flatnonzero(self.directions)]
        with_hit = [(row, *one) for row, one in found if one is not None]
        with_hit.sort(key=lambda one: -self.directions[one[0]] * one[1])
        return [(int(row), hit) for row, _, hit in with_hit]

    def target(self, row: int) -> Target:
        """The target of a row."""
        by_place = {(one.name, one.window.contig): one for one in self.explaining.targets if isinstance(one, Target)}
        return by_place[self.explained.names[row], self.explained.chroms[row]]


def _chosen(
    table: DifferentialGenes,
    annotation: Sequence[Gene],
    inside: set[Gene] | None,
    min_change,
    max_adjusted,
    max_genes,
    seed,
    de_path: str,
    gtf_path: str,
) -> dict[Gene, int]:
    """Direction of the genes to explain."""
    if max_genes < MIN_GENES:
        raise InputError(f"max_genes is {max_genes}, expected {MIN_GENES} or more")
    if not (min_change > 0 and 0 < max_adjusted <= 1):
        raise InputError(f"min_change {min_change} and max_adjusted {max_adjusted}: expected above 0, and above 0 to 1")
    by_name = genes_by_name(annotation)
    direction, unchanged = table.direction(min_change, max_adjusted)
    known = np.array([len(by_name.get(name, ())) == 1 for name in table.genes])
    if not known.any():
        raise InputError(
            f"{de_path}: none of its {len(table.genes)} genes (such as {table.genes[0]}) is in {gtf_path} (with genes such as "
            f"{annotation[0].gene_id})"
        )
    if not known.all():
        first = [name for name, found in zip(table.genes, known, strict=True) if not found][0]
        logger.warning(
            "%s: %d of %d genes are not in %s, or several there have the name, and are left out (first: %s)",
            de_path, int((~known).sum()), len(known), gtf_path, first,
        )  # fmt: skip
    if inside is not None:
        known &= np.array([by_name[name][0] in inside if found else False for name, found in zip(table.genes, known, strict=True)])
        logger.info("%s: %d of %d genes are where they are wanted", de_path, int(known.sum()), len(known))
    if table.untested:
        logger.info("%s: %d genes have no change or no p-value (NA) and are left out", de_path, table.untested)
    changed, steady = np.flatnonzero(known & (direction != 0)), np.flatnonzero(known & unchanged)
    if min(len(changed), len(steady)) < MIN_GENES:
        raise InputError(
            f"{de_path}: {len(changed)} changed genes (by {min_change:g} or more in log2"
            f"{'' if table.adjusted is None else f', adjusted p {max_adjusted:g} or less'}) and {len(steady)} unchanged ones (by less than "
            f"{min_change / 2:g}) are in the annotation{'' if inside is None else ' and where they are wanted (within)'}; at least {MIN_GENES} of each are needed"
        )
    changed = changed[np.argsort(-np.abs(table.change[changed]), kind="stable")][:max_genes]
    steady = np.sort(np.random.default_rng(seed).permutation(steady)[:max_genes])
    return {by_name[table.genes[row]][0]: int(direction[row]) for row in [*changed, *steady]}


def _context(
    explaining: Explaining, explained: AttributionFile, chosen: Mapping[Gene, int], known: Sequence[Motif], p_value: float
) -> _Context:
    """What was explained, with the directions of its genes; enough of them must have been."""
    by_id = {gene.gene_id: direction for gene, direction in chosen.items()}
    directions = np.array([by_id[name] for name in explained.names])
    _enough(directions, explained)
    codes = [explained.sequence(row) for row in explained.rows()]
    contributions = [explained.contributions(row) for row in explained.rows()]
    by_name = {motif.name: motif for motif in known}
    return _Context(explaining, explained, codes, contributions, directions, by_name, p_value)


def _explain(explaining: Explaining, path: Path, inputs, force: bool, progress: bool | None) -> None:
    """Make the attribution file, or see that the one that is there is it."""
    if path.exists() and not force:
        with AttributionFile(path) as there:
            wanted = json.loads(json.dumps({**explaining.provenance, "shard": [1, 1]}))
            if there.provenance == wanted:
                logger.info("%s: is there already, and used", path)
                return
        raise InputError(f"{path}: is of other genes, models or options; give --force to replace it, or another --out")
    check_out(path, inputs, True)
    print(write_explained(explaining, path, bigwig=False, npz=False, force=force, progress=progress), file=sys.stderr)


def _enough(directions: np.ndarray, explained: AttributionFile) -> None:
    changed, unchanged = int((directions != 0).sum()), int((directions == 0).sum())
    if min(changed, unchanged) < MIN_GENES:
        raise InputError(
            f"only {changed} changed and {unchanged} unchanged genes could be explained ({len(explained.skipped)} were skipped); "
            f"at least {MIN_GENES} of each are needed"
        )


def _scored(motifs, codes, contributions, p_value, progress):
    from tqdm import tqdm

    disable = None if progress is None else not progress
    parts = [
        score_motifs(motifs, [one], [values], p_value)
        for one, values in tqdm(
            list(zip(codes, contributions, strict=True)),
            desc="finding motifs",
            unit=" genes",
            disable=disable,
            file=sys.stderr,
        )
    ]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _knock_outs(context: _Context, ranked: Sequence[Driver], genes: int, seed: int, progress) -> dict[str, KnockOut]:
    from tqdm import tqdm

    jobs = [
        (driver.motif, row, hit)
        for driver in ranked
        for row, hit in context.changed_rows(context.motifs[driver.motif])[:genes]
    ]
    effects: dict[str, list[float]] = {}
    disable = None if progress is None else not progress
    for name, row, hit in tqdm(jobs, desc="taking drivers out", unit=" sites", disable=disable, file=sys.stderr):
        target = context.target(row)
        place = Place(target.span[0] + hit.start, hit.strand)
        x = context.explaining.sequence(target)
        motif = context.motifs[name]
        try:
            (effect,) = knock_out(
                context.explaining.explainer, x, [target.quantity], motif, [place], seed=seed, p_value=context.p_value
            )
        except InputError as error:
            logger.warning("%s", error)
            continue
        effects.setdefault(name, []).append(float(effect.effects[0]))
    return {name: KnockOut(float(np.mean(values)), len(values)) for name, values in effects.items()}


def _provenance(explaining, de_genes, motifs, within, min_change, max_adjusted, p_value, permutations, seed) -> dict:
    files = {"de_genes": de_genes, "motifs": motifs, "within": within}
    return {
        "attributions": explaining.provenance,
        "files": {role: describe_file(path) for role, path in files.items() if path is not None},
        "options": {
            "min_change": min_change, "max_adjusted": max_adjusted, "p_value": p_value, "permutations": permutations, "seed": seed,
        },
    }  # fmt: skip


def _write(out: Path, found: Drivers, provenance: Mapping) -> None:
    lines = [f"# {json.dumps(provenance, sort_keys=True)}", "\t".join(COLUMNS)]
    for rank, driver in enumerate(found.ranked, start=1):
        knock = found.knock_outs.get(driver.motif)
        cells = {
            **{name: getattr(driver, name) for name in COLUMNS if hasattr(driver, name)},
            "rank": rank, "direction": direction_of(driver), "changed": found.changed, "unchanged": found.unchanged,
            "knock_out": float("nan") if knock is None else knock.effect, "knock_out_genes": 0 if knock is None else knock.genes,
            "consensus": found.motifs[driver.motif].consensus,
        }  # fmt: skip
        lines.append("\t".join(_text(cells[name]) for name in COLUMNS))
    with atomic_write(out) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def direction_of(driver: Driver) -> str:
    """Whether a motif's hits raise or lower the quantity in changed genes: ``+``, ``-``, or ``.`` without hits."""
    return "." if not np.isfinite(driver.effect) or driver.effect == 0 else "+" if driver.effect > 0 else "-"


def _text(value) -> str:
    if isinstance(value, float):
        return "NA" if np.isnan(value) else f"{value:.5g}"
    return str(value)


def _draw(
    context: _Context, found: Drivers, scores: np.ndarray, annotation: Sequence[Gene], out: Path, suffix: str
) -> list[Path]:
    """The page of the first motifs, and the gene that says most about the first one."""
    columns = {name: number for number, name in enumerate(context.motifs)}
    changed = context.directions != 0
    rows = []
    for rank, driver in enumerate(found.ranked[:_PAGE], start=1):
        values = scores[:, columns[driver.motif]]
        words = {"+": "raises", "-": "lowers", ".": "no hits"}[direction_of(driver)]
        knock = found.knock_outs.get(driver.motif)
        caption = (
            f"{rank}. {driver.motif}   {words}   z {driver.z:.1f}   p {driver.p:.2g}   adjusted {driver.p_adjusted:.2g}"
        )
        caption += "" if knock is None else f"   knocked out {knock.effect:+.2f}"
        rows.append(
            MotifRow(context.motifs[driver.motif], caption, {"changed": values[changed], "unchanged": values[~changed]})
        )
    page = out.with_suffix(f".motifs{suffix}")
    contrast = context.explaining.provenance["quantity"]["contrast"]["name"]
    draw_motifs(page, rows, f"Motifs that drive {contrast}", "contribution of a gene's hits (log2)")
    written = [page]
    first = context.motifs[found.ranked[0].motif]
    if places := context.changed_rows(first):
        row = places[0][0]
        stretch = stretch_of(context.explained, row)
        marks = marks_of([context.motifs[driver.motif] for driver in found.ranked[:3]], stretch, context.p_value)
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", context.explained.names[row])
        written.append(out.with_suffix(f".{name}{suffix}"))
        on_contig = [
            gene
            for gene in annotation
            if context.explaining.genome.resolve(gene.chrom) == context.explained.chroms[row]
        ]
        draw_stretch(written[-1], stretch, on_contig, marks)
    return written
