"""Explains genes or regions with models of a zoo: what the command `kipoi-borzoi attribute` does, as functions."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from kipoi_borzoi._version import __version__
from kipoi_borzoi.cluster.run import check_same, enter, plan_for, results
from kipoi_borzoi.dataloaders.bed import read_bed
from kipoi_borzoi.dataloaders.fasta import FastaReader
from kipoi_borzoi.dataloaders.gtf import Gene, read_gtf
from kipoi_borzoi.dataloaders.text import read_lines
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.files import sweep_temporaries
from kipoi_borzoi.genome import Interval
from kipoi_borzoi.interpret.contrasts import names_models, read_contrast
from kipoi_borzoi.interpret.methods import Method, explain, predictions
from kipoi_borzoi.interpret.outputs import Summary, check_out, explained_errors, publish
from kipoi_borzoi.interpret.parts import Explained, WorkFolder
from kipoi_borzoi.interpret.passes import make_passes
from kipoi_borzoi.interpret.quantity import PSEUDOCOUNT, check_pseudocount
from kipoi_borzoi.interpret.targets import REASONS, Skipped, Target, TargetMaker, chosen_genes, make_sides
from kipoi_borzoi.provenance import describe_file, describe_model, loaded_models
from kipoi_borzoi.variants.alleles import Genome
from kipoi_borzoi.variants.columns import Contrast, Table, make_table
from kipoi_borzoi.variants.shards import bounds
from kipoi_borzoi.variants.windows import reference_sequence

DEFAULT_SPAN = {"ism": 200, "shuffle": 2000}
"""bp around the start of transcription, or a region's centre, that mutagenesis explains unless said otherwise."""

logger = logging.getLogger("kipoi_borzoi")


@dataclass(frozen=True, eq=False)
class Explaining:
    """Explanations that are ready to run: inputs are checked, the models are loaded.

    Attributes
    ----------
    explainer : kipoi_borzoi.interpret.explainer.Explainer
    genome : Genome
    targets : tuple of Target or Skipped
    method : Method
    provenance : dict
        What JSON can hold.
    arguments : dict
        Of the `prepare_explaining` that made this, so that workers of a cluster can make it as well.
    """

    explainer: object
    genome: Genome
    targets: tuple[Target | Skipped, ...]
    method: Method
    provenance: Mapping
    arguments: Mapping = field(default_factory=dict)

    @property
    def key(self) -> str:
        """SHA-256 over all that decides the numbers."""
        return hashlib.sha256(json.dumps(self.provenance, sort_keys=True).encode()).hexdigest()

    @property
    def length(self) -> int:
        """bp of every explained stretch."""
        span = self.provenance["quantity"]["span"]
        return self.explainer.length if span is None else span

    def sequence(self, target: Target):
        """The window of a target, one-hot (length, 4) float32."""
        return reference_sequence(self.genome, target.window)

    def explain(self, target: Target | Skipped, tick: Callable[[], None] | None = None) -> Explained | Skipped:
        """Explain one target; see `kipoi_borzoi.interpret.methods.explain`."""
        if isinstance(target, Skipped):
            return target
        salt = zlib.crc32(f"{target.window}".encode())
        attribution = explain(
            self.explainer, self.sequence(target), target.quantity, target.span, self.method, salt, tick
        )
        window = (target.window.start, target.window.end)
        return Explained(
            target.name,
            target.label,
            target.window.contig,
            target.start,
            target.end,
            target.strand,
            window,
            attribution,
        )

    def steps(self, target: Target | Skipped) -> int:
        """Calls of ``tick`` while a target is explained."""
        if isinstance(target, Skipped):
            return 0
        return predictions(self.explainer, self.sequence(target), target.span, self.method) * len(self.explainer.passes)


def prepare_explaining(
    models: str | Sequence[str] | Mapping[str, object],
    fasta: str | os.PathLike,
    *,
    genes: str | os.PathLike | None = None,
    gene_ids: str | os.PathLike | Sequence[str] | None = None,
    regions: str | os.PathLike | Sequence[Interval] | None = None,
    relative_to: str | os.PathLike | None = None,
    method: Method | str = "input_x_gradient",
    tracks: Sequence[str] | None = None,
    contrast: str | os.PathLike | None = None,
    contrast_name: str | None = None,
    rc: bool = False,
    shifts: Sequence[int] = (0,),
    span: int | None = None,
    pseudocount: float = PSEUDOCOUNT,
    exon_bins: str = "overlap",
    precision: str = "float32",
    zoo: str | os.PathLike | None = None,
) -> Explaining:
    """Check the inputs, load the models and make ready to explain.

    Parameters
    ----------
    models : str, sequence of str, or dict of name to BorzoiModel
        Entries of a zoo without their view, or loaded models. Those with the same tracks are an ensemble, unless the
        contrast names them.
    fasta : path
    genes : path, optional
        GTF annotation. Either this or ``regions``.
    gene_ids : path or sequence of str, optional
        Which genes: identifiers or names, in a file one per line. None: all.
    regions : path or sequence of Interval, optional
        BED; a strand restricts the tracks to that strand's.
    relative_to : path, optional
        BED whose names (column 4) are those of genes or regions: the quantity is then the logarithm of a gene's bins
        less that of these, as for the usage of an exon or a polyadenylation site.
    method : Method or str
    tracks : sequence of str, optional
        Identifiers, columns, files or patterns; see `kipoi_borzoi.variants.columns.chosen_rows`. Their coverage is averaged.
    contrast : path, optional
        See `kipoi_borzoi.interpret.contrasts.read_contrast`.
    contrast_name : str, optional
        Which, where the file holds several.
    rc, shifts
        Strands and shifts of the ensemble; see `kipoi_borzoi.interpret.passes`.
    span : int, optional
        bp to explain around a gene's start of transcription, or a region's centre. By default the window for
        gradients, `DEFAULT_SPAN` for the others.
    pseudocount : float
    exon_bins : {'overlap', 'majority'}
    precision : {'float32', 'mixed_bfloat16'}
        Of altered predictions; gradients are always float32.
    zoo : path, optional

    Raises
    ------
    KipoiBorzoiError
        Unknown models, tracks, contrasts or genes; files that cannot be read or do not go together.
    """
    arguments = dict(locals())  # as they were given: workers of a cluster repeat this call
    from kipoi_borzoi.interpret.explainer import Explainer

    method = Method(method) if isinstance(method, str) else method
    passes = make_passes(rc, shifts)
    check_pseudocount(pseudocount)
    _check_choices(genes, gene_ids, regions, tracks, contrast, contrast_name)
    wanted = _wanted_genes(genes, gene_ids) if genes is not None else _wanted_regions(regions)
    denominators = None if relative_to is None else _by_name(read_bed(relative_to), relative_to)
    genome = Genome(FastaReader(fasta))
    loaded = loaded_models(models, zoo)
    chosen = None if contrast is None else read_contrast(contrast, loaded, contrast_name)
    table = _table(loaded, tracks, chosen)
    explainer = Explainer(table, passes, precision)
    span = min(DEFAULT_SPAN[method.name], explainer.length) if span is None and not method.is_gradient else span
    maker = TargetMaker(
        table, genome, explainer.length, explainer.crop, explainer.bins, explainer.bin_size, span, pseudocount, exon_bins,
        denominators,
    )  # fmt: skip
    targets = tuple(maker.gene(one) if isinstance(one, Gene) else maker.region(one) for one in wanted)
    _report(targets)
    files = {"fasta": fasta, "genes": genes, "relative_to": relative_to}
    files["regions"] = regions if isinstance(regions, (str, os.PathLike)) else None
    provenance = {
        "software": f"kipoi-borzoi {__version__}",
        "models": [describe_model(name, model) for name, model in loaded.items()],
        "files": {role: describe_file(path) for role, path in files.items() if path is not None},
        "quantity": _describe_quantity(maker, chosen),
        "method": asdict(method),
        "ensemble": {"rc": rc, "shifts": list(shifts), "precision": precision},
        "targets": hashlib.sha256(repr([_identity(target) for target in targets]).encode()).hexdigest(),
    }
    return Explaining(explainer, genome, targets, method, provenance, arguments)


def _explainer_on_worker(folder: str, arguments: Mapping, key: str, provenance: Mapping) -> Callable:
    """What a worker prepares: from the number of a target to its explanation."""
    enter(folder)
    explaining = prepare_explaining(**arguments)
    check_same(key, explaining.key, provenance, explaining.provenance)
    return lambda number: explaining.explain(explaining.targets[number])


def _check_choices(genes, gene_ids, regions, tracks, contrast, contrast_name) -> None:
    """Refuse arguments of `prepare_explaining` that do not go together."""
    if (genes is None) == (regions is None):
        raise InputError("give either genes (a GTF file) or regions (a BED file) to explain")
    if gene_ids is not None and genes is None:
        raise InputError("genes are chosen (gene_ids), but no annotation is given (genes, a GTF file)")
    if tracks is not None and contrast is not None:
        raise InputError("give either tracks or a contrast: a contrast names its own tracks")
    if contrast_name is not None and contrast is None:
        raise InputError("a contrast is named, but no file of contrasts is given")


def _table(loaded: Mapping[str, object], tracks: Sequence[str] | None, chosen: Contrast | None) -> Table:
    """The tracks or the contrast to explain, with what `make_sides` would refuse refused."""
    contrasts = () if chosen is None else (chosen,)
    table = make_table(loaded, tracks, contrasts, separate=chosen is not None and names_models(chosen, loaded))
    make_sides(table)
    return table


def _describe_quantity(maker: TargetMaker, chosen: Contrast | None) -> dict:
    """The quantity as the provenance has it."""
    tracks = [list(column.tracks) for column in maker.table.columns if column.kind == "track"]
    terms = None if chosen is None else {term.track: term.weight for term in chosen.terms}
    return {
        "tracks": tracks if chosen is None else None,
        "contrast": None if chosen is None else {"name": chosen.name, "terms": terms},
        "pseudocount": maker.pseudocount,
        "exon_bins": maker.exon_bins,
        "span": maker.span,
        "ratio": maker.denominators is not None,
        "logarithm": "log2",
    }


def attribute(
    models: str | Sequence[str] | Mapping[str, object],
    fasta: str | os.PathLike,
    out: str | os.PathLike | None = None,
    *,
    shard: tuple[int, int] = (1, 1),
    bigwig: bool = True,
    npz: bool = True,
    force: bool = False,
    progress: bool | None = None,
    client=None,
    **options,
) -> list[Explained | Skipped] | Summary:
    """Explain genes or regions: which bases contribute how much to a prediction, or to its change.

    Parameters
    ----------
    models, fasta, **options
        See `prepare_explaining`.
    out : path, optional
        The attribution file (``.h5``; see `kipoi_borzoi.interpret.attribution_file`). While it is made, finished targets are
        kept in the folder ``OUT.parts``, from which a run that was killed goes on. None: return the results.
    shard : (int, int)
        Explain only the I-th of N parts of the targets.
    bigwig, npz : bool
        Whether to write, beside ``out``, ``NAME.bw`` and, for methods that know the contributions of all four
        bases, ``NAME.sequences.npz`` and ``NAME.scores.npz`` for ``modisco motifs``.
    force : bool
        Replace ``out`` if it exists, and start over.
    progress : bool, optional
        Whether to show a progress bar; by default, on a terminal.
    client : distributed.Client, optional
        Workers to explain on, which must see the same files under the same names; see `kipoi_borzoi.cluster.connect`.

    Returns
    -------
    list of Explained or Skipped
        Without ``out``, in the order of the targets.
    Summary
        With it.

    Raises
    ------
    KipoiBorzoiError
        See `prepare_explaining`; an output that exists or cannot be written.

    Examples
    --------
    >>> results = attribute("lab/treated", "hg38.fa", genes="genes.gtf", gene_ids=["GATA1"])  # doctest: +SKIP
    >>> results[0].attribution.contributions  # doctest: +SKIP
    """
    if out is not None:
        check_out(out, _given(fasta, options), force)
    explaining = prepare_explaining(models, fasta, **options)
    first, last = bounds(len(explaining.targets), shard)
    if out is None:
        return [result for _, result in _run(explaining, range(first, last), progress, client)]
    return write_explained(explaining, out, shard, bigwig, npz, force, progress, client)


def write_explained(
    explaining: Explaining,
    out: str | os.PathLike,
    shard: tuple[int, int] = (1, 1),
    bigwig: bool = True,
    npz: bool = True,
    force: bool = False,
    progress: bool | None = None,
    client=None,
) -> Summary:
    """Explain all targets, or a shard of them, into a file; see `attribute`."""
    out = Path(out)
    first, last = bounds(len(explaining.targets), shard)
    provenance = {**explaining.provenance, "shard": list(shard)}
    key = hashlib.sha256(json.dumps(provenance, sort_keys=True).encode()).hexdigest()
    with explained_errors(out):
        sweep_temporaries(out.parent)
        with WorkFolder(out, key, provenance, force) as work:
            missing = [number for number in range(first, last) if not work.has(number)]
            if len(missing) < last - first:
                logger.info("%s: going on: %d of %d targets are done", out, last - first - len(missing), last - first)
            for number, result in _run(explaining, missing, progress, client):
                work.add(number, result)
            summary = publish(
                out, explaining.length, _results(work, first, last), provenance, explaining.genome.fasta.contigs, bigwig, npz
            )
            work.clear()
    return summary


def _results(work: WorkFolder, first: int, last: int) -> Iterator[Explained | Skipped]:
    for number in range(first, last):
        yield work.result(number)


def _run(explaining: Explaining, numbers, progress: bool | None, client=None) -> Iterator[tuple[int, Explained | Skipped]]:
    from tqdm import tqdm

    disable = None if progress is None else not progress
    with tqdm(
        total=len(numbers), desc="explaining", unit=" targets", disable=disable, file=sys.stderr, dynamic_ncols=True
    ) as bar:
        found = _one_by_one(explaining, numbers, bar) if client is None else _on_workers(explaining, numbers, client)
        for number, result in zip(numbers, found, strict=True):
            yield number, result
            bar.update()


def _one_by_one(explaining: Explaining, numbers, bar) -> Iterator[Explained | Skipped]:
    for number in numbers:
        target = explaining.targets[number]
        done, steps = 0, explaining.steps(target)

        def tick(steps=steps, name=target.name):
            nonlocal done
            done += 1
            if done % 10 == 0:
                bar.set_postfix_str(f"{name}: {done}/{steps} altered sequences")

        yield explaining.explain(target, tick)


def _on_workers(explaining: Explaining, numbers, client) -> Iterator[Explained | Skipped]:
    plan = plan_for(_explainer_on_worker, explaining.arguments, explaining.key, explaining.provenance)
    return results(client, plan, numbers, lambda number: f"target {explaining.targets[number].name}")


def _wanted_genes(path, gene_ids) -> list[Gene]:
    genes = read_gtf(path)
    if gene_ids is None:
        return genes
    if isinstance(gene_ids, (str, os.PathLike)):
        names = [
            line.split("\t")[0].strip() for _, line in read_lines(gene_ids) if line.strip() and not line.startswith("#")
        ]
        if not names:
            raise InputError(f"{gene_ids}: no genes in it: expected a gene_id or name per line")
        gene_ids = names
    return chosen_genes(genes, list(gene_ids), str(path))


def _wanted_regions(regions) -> list[Interval]:
    found = read_bed(regions) if isinstance(regions, (str, os.PathLike)) else list(regions)
    if not found:
        raise InputError("there is no region to explain")
    return found


def _by_name(intervals: Sequence[Interval], path) -> dict[str, list[Interval]]:
    found: dict[str, list[Interval]] = {}
    for interval in intervals:
        if not interval.name:
            raise InputError(f"{path}: {interval} has no name (column 4), which says whose denominator it is")
        found.setdefault(interval.name, []).append(interval)
    return found


def _identity(target: Target | Skipped):
    """What makes a target what it is."""
    if isinstance(target, Skipped):
        return (target.name, target.code)
    terms = [
        (term.source, term.sign, term.bins.tolist(), term.tracks.identifiers, term.weights.tolist(), term.pseudocount)
        for term in target.quantity.terms
    ]
    return (target.name, target.strand, str(target.window), target.span, terms)


def _report(targets: Sequence[Target | Skipped]) -> None:
    skipped = [target for target in targets if isinstance(target, Skipped)]
    for code, count in sorted(Counter(one.code for one in skipped).items()):
        first = next(one for one in skipped if one.code == code)
        logger.warning(
            "%s %d: %s (first: %s%s)",
            code,
            count,
            REASONS[code],
            first.name,
            f"; {first.detail}" if first.detail else "",
        )


def _given(fasta, options: Mapping) -> list:
    """The input files among the arguments of `prepare_explaining`."""
    names = ("genes", "gene_ids", "regions", "relative_to", "contrast")
    return [one for one in (fasta, *(options.get(name) for name in names)) if isinstance(one, (str, os.PathLike))]
