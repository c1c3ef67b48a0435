"""Scores the alleles of a VCF with models of a zoo: what the command `kipoi-borzoi score` does, as functions."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from kipoi_borzoi._version import __version__
from kipoi_borzoi.cluster.run import check_same, enter, plan_for, results
from kipoi_borzoi.dataloaders.bed import read_bed_records
from kipoi_borzoi.dataloaders.fasta import FastaReader
from kipoi_borzoi.dataloaders.gtf import read_gtf
from kipoi_borzoi.dataloaders.vcf import VcfReader
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.files import temporary_folder
from kipoi_borzoi.genome import Interval
from kipoi_borzoi.provenance import describe_file, describe_model, loaded_models
from kipoi_borzoi.variants.alleles import (
    DUPLICATE,
    MAX_INDEL,
    MAX_MISMATCH,
    REASONS,
    Allele,
    AlleleSource,
    Genome,
    Rules,
    Survey,
)
from kipoi_borzoi.variants.columns import Contrast, Table, make_table, read_contrasts
from kipoi_borzoi.variants.genes import EXON_BINS, GeneSet
from kipoi_borzoi.variants.header import Header, describe_scorers
from kipoi_borzoi.variants.options import Options
from kipoi_borzoi.variants.polyadenylation import read_sites
from kipoi_borzoi.variants.results import Chunk
from kipoi_borzoi.variants.scores import (
    DEFAULT_GENE_SCORES,
    DEFAULT_SCORES,
    GENE_SCORERS,
    VARIANT_SCORERS,
    Scorer,
    choose,
)

if TYPE_CHECKING:
    import pandas as pd

    from kipoi_borzoi.variants.background import Background
    from kipoi_borzoi.variants.engine import Engine
    from kipoi_borzoi.variants.header import Summary

MAX_INDEL_FRACTION = 1 / 4
"""Part of the window that an allele may remove or insert at most."""

_GENE_PREFIX = "gene:"

logger = logging.getLogger("kipoi_borzoi")


@dataclass(frozen=True, eq=False)
class Scoring:
    """A scoring that is ready to run: the input is checked, the models are loaded.

    Attributes
    ----------
    source : AlleleSource
    survey : Survey
        What the check of the whole input found.
    engine : Engine
    provenance : dict
        Models and hashes of their weights, files and hashes, options, version; what JSON can hold.
    background : Background or None
        What quantiles are taken from.
    arguments : dict
        Of the `prepare_scoring` that made this, so that workers of a cluster can make it as well.
    """

    source: AlleleSource
    survey: Survey
    engine: Engine
    provenance: Mapping
    background: Background | None = None
    arguments: Mapping = field(default_factory=dict)

    @property
    def table(self) -> Table:
        """The columns of all scores."""
        return self.engine.table

    @property
    def scorers(self) -> tuple[Scorer, ...]:
        """Scorers of alleles that give a number per track."""
        return tuple(scorer for scorer in self.engine.options.scorers if not scorer.is_profile)

    @property
    def gene_scorers(self) -> tuple[Scorer, ...]:
        """Scorers of genes."""
        return self.engine.options.gene_scorers

    @property
    def profiles(self) -> tuple[str, ...]:
        """Those of REF and ALT that are asked for."""
        return tuple(scorer.name for scorer in self.engine.options.scorers if scorer.is_profile)

    @property
    def contigs(self) -> dict[str, int]:
        """Lengths of the genome's contigs by the input's names: as its header declares them, else as the FASTA does."""
        genome = self.source.genome
        names = {name: genome.resolve(name) for name in self.source.vcf.contigs} or {name: name for name in genome.fasta.contigs}
        return {name: genome.length(contig) for name, contig in names.items() if contig is not None}

    @property
    def header(self) -> Header:
        """What a table of these scores says of itself."""
        return Header(
            tuple(self.table.columns), describe_scorers(self.scorers), describe_scorers(self.gene_scorers), dict(self.provenance),
            self.profiles, self.contigs,
        )  # fmt: skip

    @property
    def key(self) -> str:
        """SHA-256 over all that decides the scores."""
        return _key(self.provenance)

    @property
    def background_provenance(self) -> dict:
        """What a background must have been made with as well: models, and the options that change a score."""
        options = ("rc", "shifts", "indels", "window", "exon_bins", "precision", "separate", "contrasts")
        return {"models": self.provenance["models"], "options": {name: self.provenance["options"][name] for name in options}}

    @property
    def background_key(self) -> str:
        """SHA-256 over `background_provenance`."""
        return _key(self.background_provenance)

    def chunks(self, first: int = 0, last: int | None = None) -> Iterator[Chunk]:
        """Score the alleles ``first`` to ``last`` (excluded) of the input, both at ends of chunks; see `Engine.chunks`."""
        return map(self.score, self.engine.batches(self.source, first, last))

    def score(self, alleles: Sequence[Allele]) -> Chunk:
        """Score the alleles of one chunk."""
        chunk = self.engine.score(alleles)
        return chunk if self.background is None else self.background.add_quantiles(chunk)

    def chunks_on(self, client, first: int = 0, last: int | None = None) -> Iterator[Chunk]:
        """The same as `chunks`, computed by the workers of a Dask client.

        Parameters
        ----------
        client : distributed.Client
            See `kipoi_borzoi.cluster.connect`. Its workers must see the same files under the same names.
        first, last : int
            See `chunks`.

        Raises
        ------
        KipoiBorzoiError
            See `kipoi_borzoi.cluster.run.results`; or a worker sees other files.
        """
        plan = plan_for(_scorer_on_worker, self.arguments, self.key, self.provenance)

        def name(alleles: Sequence[Allele]) -> str:
            return f"alleles {alleles[0].row.number + 1} to {alleles[-1].row.number + 1}"

        return results(client, plan, self.engine.batches(self.source, first, last), name)


def _scorer_on_worker(folder: str, arguments: Mapping, key: str, provenance: Mapping) -> Callable:
    """What a worker prepares: from alleles to a chunk."""
    enter(folder)
    scoring = prepare_scoring(**arguments)
    check_same(key, scoring.key, provenance, scoring.provenance)
    return scoring.score


def score_variants(
    models: str | Sequence[str] | Mapping[str, object],
    vcf: str | os.PathLike,
    fasta: str | os.PathLike,
    **options,
) -> pd.DataFrame:
    """Score every allele of a VCF.

    Parameters
    ----------
    models, vcf, fasta, **options
        See `prepare_scoring`.

    Returns
    -------
    pandas.DataFrame
        Tidy: one row per allele, gene, track and scorer, in the input's order; a skipped allele has one
        row, whose ``status`` says why and whose ``score`` is NaN. It is held in memory as a whole: for large
        inputs use `prepare_scoring` and its ``chunks``, or the command.

    Raises
    ------
    InputError
        See `prepare_scoring`; also for REF and ALT, which are no numbers per track.

    Examples
    --------
    >>> table = score_variants("Borzoi/human/rep0", "my.vcf.gz", "hg38.fa", tracks=["RNA:liver"])  # doctest: +SKIP
    """
    from kipoi_borzoi.variants.tidy import to_frame

    scoring = prepare_scoring(models, vcf, fasta, **options)
    if scoring.profiles:
        raise InputError("REF and ALT do not fit a tidy table; use prepare_scoring(...).chunks(), or write an .h5 file")
    return to_frame(scoring.chunks(), scoring.header)


def prepare_scoring(
    models: str | Sequence[str] | Mapping[str, object],
    vcf: str | os.PathLike,
    fasta: str | os.PathLike,
    *,
    scores: Sequence[str] | None = None,
    genes: str | os.PathLike | None = None,
    polya: str | os.PathLike | None = None,
    tracks: Sequence[str] | None = None,
    contrasts: str | os.PathLike | Sequence[Contrast] | None = None,
    separate: bool = False,
    specificity: bool = False,
    rc: bool = False,
    shifts: Sequence[int] = (0,),
    indels: str = "align",
    max_indel: int = MAX_INDEL,
    window: str = "variant",
    exon_bins: str = EXON_BINS[0],
    precision: str = "float32",
    regions: str | os.PathLike | None = None,
    max_mismatch: float = MAX_MISMATCH,
    background: str | os.PathLike | None = None,
    zoo: str | os.PathLike | None = None,
) -> Scoring:
    """Check an input to its end, load the models and make ready to score.

    Parameters
    ----------
    models : str, sequence of str, or dict of name to BorzoiModel
        Entries of a zoo without their view, or loaded models. Those with the same tracks are an ensemble:
        mean, standard deviation and agreement of signs over all their networks.
    vcf : path
        VCF, VCF.gz or BCF; see `kipoi_borzoi.dataloaders.vcf`.
    fasta : path
        The genome that its positions refer to.
    scores : sequence of str, optional
        Names of scorers (`kipoi_borzoi.variants.scores`). Those that exist for alleles and for genes are, with
        ``genes``, computed for both; ``gene:NAME`` asks for genes alone. By default SUM, logSUM, logD2, and
        with ``genes`` SED, logSED.
    genes : path, optional
        GTF annotation; needed by gene scores.
    polya : path, optional
        BED of polyadenylation sites, for COVR; see `kipoi_borzoi.variants.polyadenylation`.
    tracks : sequence of str, optional
        Identifiers, columns, files or patterns; see `kipoi_borzoi.variants.columns.chosen_rows`.
    contrasts : path or sequence of Contrast, optional
        See `kipoi_borzoi.variants.columns.read_contrasts`.
    separate : bool
        Keep models with the same tracks apart.
    specificity, rc, shifts, indels, window, precision
        See `kipoi_borzoi.variants.options.Options`.
    max_indel : int
        bp that an allele may remove or insert; at most a quarter of the window.
    exon_bins : {'overlap', 'majority'}
        See `kipoi_borzoi.variants.genes.OutputWindow.bins_of`.
    regions : path, optional
        BED; alleles elsewhere do not belong to the input.
    max_mismatch : float
        Stop where a larger fraction of REF alleles (of 20 or more) differs from the FASTA.
    background : path, optional
        Made by `write_background` for the same models and options; gives quantiles.
    zoo : path, optional
        Where names are looked up; by default the zoo registered as Kipoi source ``borzoi``, else the packaged one.

    Raises
    ------
    KipoiBorzoiError
        Unknown scorers, tracks, models or options; an input that cannot be read whole, lies on other contigs or is
        of another genome.
    """
    arguments = dict(locals())  # as they were given: workers of a cluster repeat this call
    scorers, gene_scorers = _chosen_scorers(scores, genes is not None)
    if polya is not None and genes is None:
        raise InputError("polyadenylation sites are given, but no genes that they belong to")
    options = Options(scorers, gene_scorers, rc, tuple(shifts), indels, window, precision, specificity)
    contrasts = () if contrasts is None else _contrasts_of(contrasts)
    if max_indel < 1:
        raise InputError(f"max_indel is {max_indel}, expected 1 bp or more")
    if not 0 <= max_mismatch <= 1:
        raise InputError(f"max_mismatch is {max_mismatch}, expected a fraction from 0 to 1")
    genome = Genome(FastaReader(fasta))
    beds = None if regions is None else read_bed_records(regions)
    source = AlleleSource(VcfReader(vcf), genome, Rules(max_indel, beds))
    survey = source.survey(max_mismatch)
    _report(survey, vcf)
    annotation = _gene_set(genes, genome, polya, exon_bins) if gene_scorers else None
    loaded = loaded_models(models, zoo)
    from kipoi_borzoi.variants.engine import Engine  # TensorFlow comes in only where an input has passed

    engine = Engine(make_table(loaded, tracks, contrasts, separate), genome, options, annotation)
    limit = int(engine.length * MAX_INDEL_FRACTION)
    if limit < max_indel:
        source = AlleleSource(source.vcf, genome, Rules(limit, beds))
        if (lower := source.survey(max_mismatch)) != survey:
            survey = lower
            _report(survey, vcf)
    files = {"vcf": vcf, "fasta": fasta, "genes": genes, "polya": polya, "regions": regions, "background": background}
    provenance = {
        "software": f"kipoi-borzoi {__version__}",
        "models": [describe_model(name, model) for name, model in loaded.items()],
        "files": {role: describe_file(path) for role, path in files.items() if path is not None},
        "options": {
            "scores": [scorer.name for scorer in scorers], "gene_scores": [scorer.name for scorer in gene_scorers],
            "columns": [column.name for column in engine.table.columns], "separate": separate,
            "contrasts": {one.name: {term.track: term.weight for term in one.terms} for one in contrasts},
            "specificity": specificity, "rc": rc, "shifts": list(shifts), "indels": indels, "window": window,
            "max_indel": min(max_indel, limit), "exon_bins": exon_bins, "precision": precision,
        },
    }  # fmt: skip
    scoring = Scoring(source, survey, engine, provenance, arguments=arguments)
    if background is None:
        return scoring
    from kipoi_borzoi.variants.background import load_background

    distributions = load_background(
        background, scoring.background_key, engine.table.columns, scoring.scorers, gene_scorers, scoring.background_provenance
    )
    return replace(scoring, background=distributions)


def write_background(
    models: str | Sequence[str] | Mapping[str, object],
    fasta: str | os.PathLike,
    out: str | os.PathLike,
    vcf: str | os.PathLike | None = None,
    simulate: int | None = None,
    seed: int = 0,
    force: bool = False,
    client=None,
    **options,
) -> Summary:
    """Write the distribution of each score per track over common variants, or over simulated ones near genes.

    While it runs, finished scores are kept in the folder ``OUT.parts``; a run that was killed goes on from there. See
    `kipoi_borzoi.variants.output.write_scores`.

    Parameters
    ----------
    models, fasta, **options
        See `prepare_scoring`.
    out : path
        An HDF5 file.
    vcf : path, optional
        The variants; else ``simulate``.
    simulate : int, optional
        How many single-base variants to draw near the genes of ``genes``; see `kipoi_borzoi.variants.simulate`.
    seed : int
        Of the draw.
    force : bool
        Replace ``out`` if it exists, and throw away another run's ``OUT.parts``.
    client : distributed.Client, optional
        Workers to score on.

    Returns
    -------
    Summary

    Raises
    ------
    KipoiBorzoiError
        See `prepare_scoring`; or nothing could be scored, or ``out`` cannot be written.
    """
    from kipoi_borzoi.variants.background import build_background
    from kipoi_borzoi.variants.header import Header, Summary, describe_scorers
    from kipoi_borzoi.variants.output import by_parts, check_place, explained
    from kipoi_borzoi.variants.parts import WorkFolder
    from kipoi_borzoi.variants.simulate import simulated_snvs, write_snvs

    if (vcf is None) == (simulate is None):
        raise InputError("a background is made of the variants of a VCF or of simulated ones: give one of vcf and simulate")
    out = Path(out)
    files = [fasta, vcf, *(options.get(name) for name in ("genes", "polya", "contrasts", "regions", "background"))]
    check_place(out, [path for path in files if isinstance(path, (str, os.PathLike))], force)
    with ExitStack() as stack:
        if vcf is None:
            if options.get("genes") is None:
                raise InputError("simulated variants lie near genes: give an annotation (genes)")
            reader = FastaReader(fasta)
            genes = [Interval(gene.chrom, gene.start, gene.end) for gene in read_gtf(options["genes"])]
            variants = simulated_snvs(reader, genes, simulate, seed)
            with explained(out):
                folder = stack.enter_context(temporary_folder(out))  # where a cluster's workers find it as well
                vcf = folder / f"simulated_{simulate}_seed_{seed}.vcf"
                write_snvs(vcf, reader, variants)
        scoring = prepare_scoring(models, vcf, fasta, **options)
        columns, of_alleles, of_genes = scoring.table.columns, scoring.scorers, scoring.gene_scorers
        if not scoring.survey.scored:
            raise InputError(f"{out}: no background: {Summary.of(scoring.survey.skipped)}")
        provenance = {**scoring.background_provenance, "variants": scoring.provenance["files"]}

        def make(work: WorkFolder) -> Summary:
            return build_background(
                work.chunks(), out, columns, of_alleles, of_genes, provenance, scoring.background_key, force,
                lambda temporary, statuses: work.finish(temporary, dict(statuses)),
            )  # fmt: skip

        header = Header(columns, describe_scorers(of_alleles), describe_scorers(of_genes), dict(scoring.provenance))
        total = scoring.survey.total
        work = WorkFolder(out, header, scoring.key, (0, total), total, fresh=force)
        return by_parts(work, scoring.chunks if client is None else partial(scoring.chunks_on, client), make, force)


def draw_variant(
    models: str | Sequence[str] | Mapping[str, object],
    variant: str,
    fasta: str | os.PathLike,
    out: str | os.PathLike,
    genes: str | os.PathLike | None = None,
    zoom: int | None = None,
    max_tracks: int = 6,
    **options,
) -> list[str]:
    """Draw the predicted coverage of both alleles of a variant, their difference and the genes there.

    Parameters
    ----------
    models, fasta, **options
        See `prepare_scoring`.
    variant : str
        ``chrom:pos:ref:alt``, pos 1-based.
    out : path
        ``.png``, ``.svg`` or ``.pdf``.
    genes : path, optional
        GTF annotation.
    zoom, max_tracks
        See `kipoi_borzoi.variants.plot.plot_variant`.

    Returns
    -------
    list of str
        Names of the columns that are drawn.

    Raises
    ------
    KipoiBorzoiError
        See `prepare_scoring`; or the variant cannot be scored.
    """
    from kipoi_borzoi.variants.plot import plot_variant
    from kipoi_borzoi.variants.windows import shared_window

    parts = variant.rsplit(":", 3)  # a contig's name may hold colons
    if len(parts) != 4 or not all(parts):
        raise InputError(f"variant {variant!r}: expected chrom:pos:ref:alt, such as chr1:54490:G:A")
    chrom, pos, ref, alt = parts
    with tempfile.TemporaryDirectory() as folder:
        vcf = Path(folder, "variant.vcf")
        vcf.write_text(f"#CHROM\tPOS\tID\tREF\tALT\n{chrom}\t{pos}\t.\t{ref}\t{alt}\n", encoding="utf-8")
        scoring = prepare_scoring(models, vcf, fasta, scores=["REF", "ALT"], **options)
        (allele,) = scoring.source
        if allele.change is None:
            raise InputError(f"variant {variant}: {allele.row.status}: {REASONS[allele.row.status]} {allele.row.detail}".rstrip())
        (chunk,) = scoring.chunks()
    group = scoring.engine.groups[0]
    window = shared_window([allele.change], group.length).output(group.crop, group.bins, group.bin_size)
    near = [] if genes is None else GeneSet(read_gtf(genes), scoring.source.genome, str(genes)).overlapping(
        window.contig, window.start, window.end
    )  # fmt: skip
    return plot_variant(
        chunk.profiles["REF"][0], chunk.profiles["ALT"][0], scoring.table.columns, window.bin_size, window.start, chrom,
        int(pos), near, out, alleles=(ref, alt), zoom=zoom, max_tracks=max_tracks,
        title=", ".join(model["name"] for model in scoring.provenance["models"]),
    )  # fmt: skip


def _key(content: Mapping) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _chosen_scorers(names: Sequence[str] | None, with_genes: bool) -> tuple[tuple[Scorer, ...], tuple[Scorer, ...]]:
    """Scorers of alleles, and of genes."""
    if names is None:
        return choose(DEFAULT_SCORES, VARIANT_SCORERS), choose(DEFAULT_GENE_SCORES if with_genes else (), GENE_SCORERS)
    if isinstance(names, str):
        raise InputError(f"scores is the text {names!r}, expected a list: [{names!r}] for this one")
    if not names:
        raise InputError("no scorers are chosen; leave the choice out for the usual ones")
    of_alleles, of_genes = [], []
    for name in names:
        plain = name.removeprefix(_GENE_PREFIX)
        if plain in GENE_SCORERS and (plain != name or plain not in VARIANT_SCORERS or with_genes):
            of_genes.append(plain)
        if plain == name and (plain in VARIANT_SCORERS or plain not in GENE_SCORERS):
            of_alleles.append(name)
        elif plain not in GENE_SCORERS:
            choose([plain], GENE_SCORERS)
    if of_genes and not with_genes:
        raise InputError(f"{of_genes[0]} is a score per gene: give an annotation (genes, a GTF file)")
    known = {**VARIANT_SCORERS, **{name: scorer for name, scorer in GENE_SCORERS.items() if name not in VARIANT_SCORERS}}
    return choose(of_alleles, known), choose(of_genes, GENE_SCORERS)


def _contrasts_of(contrasts) -> tuple[Contrast, ...]:
    return read_contrasts(contrasts) if isinstance(contrasts, (str, os.PathLike)) else tuple(contrasts)


def _report(survey: Survey, vcf: str | os.PathLike) -> None:
    """Tell what is noteworthy about an input before the long part begins."""
    if not survey.total:
        logger.warning("%s: no variants in it%s", vcf, f" ({survey.outside} outside of the regions)" * bool(survey.outside))
    elif survey.outside:
        logger.info("%s: %d alleles are outside of the regions and left out", vcf, survey.outside)
    for code, count in survey.skipped.items():
        logger.warning("%s %d: %s (first: %s)", code, count, REASONS[code], survey.examples[code])
    if survey.duplicates:
        logger.warning("%s %d: alleles that came before; each is scored once and copied", DUPLICATE, survey.duplicates)


def _gene_set(genes, genome: Genome, polya, exon_bins: str) -> GeneSet:
    found = read_gtf(genes)
    return GeneSet(found, genome, str(genes), None if polya is None else read_sites(polya, found), exon_bins)
