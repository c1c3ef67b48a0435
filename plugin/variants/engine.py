"""Predicts the alleles of an input and scores them, a chunk at a time, in the input's order.

Within a chunk, alleles that share a window are predicted on one reference; each network's predictions are
turned into scores at once, so that what is held is one reference, one alternative and the numbers of one chunk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import numpy as np

from kipoi_borzoi.dataloaders.gtf import Gene
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.inference.predictor import PRECISIONS
from kipoi_borzoi.sequence import shift
from kipoi_borzoi.variants.alleles import Allele, Change, Genome
from kipoi_borzoi.variants.columns import Table, check_strands
from kipoi_borzoi.variants.genes import GeneBins, GeneSet
from kipoi_borzoi.variants.members import Group, Network, blocks, check_windows, linear, make_groups
from kipoi_borzoi.variants.options import Options
from kipoi_borzoi.variants.results import AlleleRow, Chunk, GeneRow, Measures
from kipoi_borzoi.variants.scores import Scorer, score_all
from kipoi_borzoi.variants.windows import (
    Window,
    alternative_sequence,
    clustered,
    reference_sequence,
    shared_window,
    stitched,
)

CLUSTER_FRACTION = 1 / 16
"""Part of the window within which variants may share it."""

_CHUNK_BYTES = 1 << 28  # of scores in a chunk, about
# A chunk is what a kill can lose, and within which alleles are looked for that share a window.
_CHUNK_ALLELES = {"variant": 8, "cluster": 64, "gene": 64}
_GENES_PER_ALLELE = 16  # assumed when the size of a chunk is chosen


@dataclass
class _Collected:
    """The numbers of one change, network by network: of each (ensemble, network) the scores by scorer."""

    padded: float = 0.0
    scores: dict[tuple[int, int], dict[str, np.ndarray]] = field(default_factory=dict)
    genes: dict[Gene, dict[tuple[int, int], dict[str, np.ndarray]]] = field(default_factory=dict)
    covered: dict[Gene, float] = field(default_factory=dict)
    profiles: dict[tuple[int, int], dict[str, np.ndarray]] = field(default_factory=dict)


class Engine:
    """Scores alleles.

    Parameters
    ----------
    table : Table
        The columns, and the models behind them.
    genome : Genome
    options : Options
    genes : GeneSet, optional
        Needed by gene scorers.

    Attributes
    ----------
    chunk_alleles : int
        Alleles per chunk. Chunks begin at multiples of it, counted in the whole input, so that scores do not
        depend on where a run was interrupted.

    Raises
    ------
    InputError
        Options that do not go together.
    """

    def __init__(self, table: Table, genome: Genome, options: Options, genes: GeneSet | None = None):
        self.table, self.genome, self.options, self.genes = table, genome, options, genes
        if options.precision not in PRECISIONS:
            raise InputError(f"precision is {options.precision!r}; known: {', '.join(PRECISIONS)}")
        if options.gene_scorers:
            if genes is None:
                raise InputError(f"{options.gene_scorers[0].name} is a score per gene: give an annotation (genes)")
            check_strands(table)
            if any(scorer.over == "sites" for scorer in options.gene_scorers) and not genes.sites:
                raise InputError("COVR needs annotated polyadenylation sites")
        self.groups = make_groups(table)
        self.length = check_windows(self.groups)
        self._blocks = [blocks(ensemble) for ensemble in table.ensembles]
        self._numbers = tuple(scorer for scorer in options.scorers if not scorer.is_profile)
        self._profiles = tuple(scorer for scorer in options.scorers if scorer.is_profile)
        if self._profiles and len({(group.bins, group.bin_size) for group in self.groups}) > 1:
            raise InputError("REF and ALT need models with the same bins; score these models one by one")
        self.chunk_alleles = self._chunk_size()

    def chunks(self, alleles: Iterable[Allele], first: int = 0, last: int | None = None) -> Iterator[Chunk]:
        """Score alleles, in their order.

        Parameters
        ----------
        alleles : iterable of Allele
            Of the whole input, numbered 0, 1, 2, ...
        first, last : int
            Only those with ``first <= number < last``; both multiples of `chunk_alleles`, ``last`` None for the end.

        Yields
        ------
        Chunk
        """
        yield from map(self.score, self.batches(alleles, first, last))

    def batches(self, alleles: Iterable[Allele], first: int = 0, last: int | None = None) -> Iterator[list[Allele]]:
        """The alleles of each chunk that `chunks` gives."""
        chosen = (one for one in alleles if one.row.number >= first and (last is None or one.row.number < last))
        for _, part in groupby(chosen, key=lambda one: one.row.number // self.chunk_alleles):
            yield list(part)

    def together(self, alleles: Sequence[Allele]) -> list[list[Allele]]:
        """The alleles of one chunk that can be scored, in groups of those that share a prediction; the groups share none.

        What a group costs does therefore not depend on the others. With ``window='gene'`` the chunk is one group.
        """
        scored = [allele for allele in alleles if allele.change is not None]
        if self.options.window == "gene":
            return [scored] if scored else []
        clusters = self._clusters({allele.change for allele in scored})
        cluster_of = {change: number for number, cluster in enumerate(clusters) for change in cluster}
        groups: list[list[Allele]] = [[] for _ in clusters]
        for allele in scored:
            groups[cluster_of[allele.change]].append(allele)
        return groups

    def gene_rows(self, change: Change) -> list[GeneRow]:
        """The genes that `score` gives an allele that is alone in its chunk; nothing is predicted."""
        covered: dict[Gene, float] = {}
        for group in self.groups if self.options.gene_scorers else ():
            if self.options.window == "gene":
                near = self.genes.centred_on(change.contig, change.pos - 1, self.length)
                found = [self._bins_around(group, change.contig, gene) for gene in near]
            else:
                found = self._genes_in(group, shared_window([change], group.length))
            for bins in found:
                if bins is not None:
                    covered[bins.gene] = min(covered.get(bins.gene, 1.0), bins.covered)
        return [_gene_row(0, gene, covered[gene]) for gene in _in_order(covered)]

    def score(self, alleles: Sequence[Allele]) -> Chunk:
        """Score the alleles of one chunk; those that do the same to the genome are predicted once."""
        collected = {allele.change: _Collected() for allele in alleles if allele.change is not None}
        if self._numbers or self._profiles or self.options.window != "gene":
            self._score_around_variants(list(collected), collected)
        if self.options.window == "gene":
            self._score_around_genes(list(collected), collected)
        return self._chunk(alleles, collected)

    def _chunk_size(self) -> int:
        columns = len(self.table.columns)
        statistics = 1 + 2 * self._uncertain() + self.options.specificity
        numbers = len(self._numbers) + _GENES_PER_ALLELE * len(self.options.gene_scorers)
        allele = 4 * columns * (statistics * numbers + len(self._profiles) * self.groups[0].bins)
        return max(1, min(_CHUNK_ALLELES[self.options.window], _CHUNK_BYTES // max(1, allele)))

    def _uncertain(self) -> bool:
        """Whether any column is of several networks."""
        return any(ensemble.members > 1 for ensemble in self.table.ensembles)

    # ------------------------------------------------------------------ prediction

    def _score_around_variants(self, changes: list[Change], collected: dict[Change, _Collected]) -> None:
        shared = self.options.window == "cluster"
        per_gene = bool(self.options.gene_scorers) and self.options.window != "gene"
        for cluster in self._clusters(changes):
            for group in self.groups:
                window = shared_window(cluster, group.length)
                genes = self._genes_in(group, window) if per_gene else []
                if not (self.options.scorers or genes):
                    continue
                for change, ref, alt in self._pairs(group, window, cluster, shared):
                    result = collected[change]
                    result.padded = max(result.padded, window.padded(self.genome.length(window.contig)))
                    self._collect(group, ref, alt, result, True, genes)

    def _clusters(self, changes: Iterable[Change]) -> list[list[Change]]:
        """The changes that are predicted in one window around them."""
        return clustered(changes, int(self.length * CLUSTER_FRACTION) if self.options.window == "cluster" else 0)

    def _score_around_genes(self, changes: list[Change], collected: dict[Change, _Collected]) -> None:
        by_gene: dict[tuple[str, Gene], list[Change]] = {}
        for change in changes:
            for gene in self.genes.centred_on(change.contig, change.pos - 1, self.length):
                by_gene.setdefault((change.contig, gene), []).append(change)
        for (contig, gene), members in by_gene.items():
            for group in self.groups:
                window = Window.around(contig, gene.midpoint, group.length)
                bins = self._bins_around(group, contig, gene)
                if bins is None:
                    continue
                for change, ref, alt in self._pairs(group, window, members, True):
                    result = collected[change]
                    result.padded = max(result.padded, window.padded(self.genome.length(contig)))
                    self._collect(group, ref, alt, result, False, [bins])

    def _bins_around(self, group: Group, contig: str, gene: Gene) -> GeneBins | None:
        """A gene's bins in the window that is centred on it."""
        window = Window.around(contig, gene.midpoint, group.length)
        return self.genes.bins(gene, window.output(group.crop, group.bins, group.bin_size))

    def _genes_in(self, group: Group, window: Window) -> list[GeneBins]:
        output = window.output(group.crop, group.bins, group.bin_size)
        found = (self.genes.bins(gene, output) for gene in self.genes.overlapping(window.contig, output.start, output.end))
        return [bins for bins in found if bins is not None]

    def _pairs(self, group: Group, window: Window, changes: Sequence[Change], shared: bool):
        """Yield each change with the predictions of both alleles: per network (shifts, bins, tracks), bins matched."""
        options = self.options
        x = reference_sequence(self.genome, window)
        reference = group.reference(x, options.rc, options.shifts, options.precision)
        plain = reference.coverage()
        moved: dict[int, list[np.ndarray]] = {}  # the reference, moved by the size of a deletion
        for change in changes:
            altered = alternative_sequence(self.genome, window, change)
            ref, alt = plain, reference.altered(altered)
            if change.size and options.indels == "align":
                last = (change.pos - 1 - window.start) // group.bin_size - group.crop
                if change.size < 0 and not shared:
                    if change.size not in moved:
                        moved[change.size] = reference.altered(shift(x, change.size))
                    ref = [stitched(*both, last) for both in zip(ref, moved[change.size], strict=True)]
                else:
                    behind = reference.altered(shift(altered, -change.size))
                    alt = [stitched(*both, last) for both in zip(alt, behind, strict=True)]
            yield change, ref, alt

    # ------------------------------------------------------------------ scores

    def _collect(self, group: Group, ref, alt, result: _Collected, per_variant: bool, genes: Sequence[GeneBins]) -> None:
        for network, ref_coverage, alt_coverage in zip(group.networks, ref, alt, strict=True):
            key = (network.ensemble, network.number)
            if per_variant and (self._numbers or self._profiles):
                scores, profiles = self._variant_scores(network, ref_coverage, alt_coverage)
                result.scores[key], result.profiles[key] = scores, profiles
            for bins in genes:
                result.genes.setdefault(bins.gene, {})[key] = self._gene_scores(network, ref_coverage, alt_coverage, bins)
                result.covered[bins.gene] = min(result.covered.get(bins.gene, 1.0), bins.covered)

    def _variant_scores(self, network: Network, ref: np.ndarray, alt: np.ndarray):
        """Scores (units,) by scorer, and profiles (bins, units)."""
        ensemble = self.table.ensembles[network.ensemble]
        scores = {scorer.name: np.empty(len(ensemble.tracks)) for scorer in self._numbers}
        profiles = {scorer.name: np.empty((ref.shape[1], len(ensemble.tracks)), np.float32) for scorer in self._profiles}
        for part, tracks in self._blocks[network.ensemble]:
            for name, values in self._mean_over_shifts(network, ref[..., part], alt[..., part], tracks, self._numbers).items():
                scores[name][part] = values
            for name, coverage in (("REF", ref), ("ALT", alt)):
                if name in profiles:
                    profiles[name][:, part] = linear(coverage[..., part], tracks, network.transform).mean(axis=0)
        return (
            {scorer.name: ensemble.combined(scorer, scores[scorer.name]) for scorer in self._numbers},
            {scorer.name: ensemble.combined(scorer, profiles[scorer.name]) for scorer in self._profiles},
        )

    def _gene_scores(self, network: Network, ref: np.ndarray, alt: np.ndarray, bins: GeneBins) -> dict[str, np.ndarray]:
        """Scores (units,) by scorer of one gene."""
        ensemble = self.table.ensembles[network.ensemble]
        scores = {scorer.name: np.full(len(ensemble.tracks), np.nan) for scorer in self.options.gene_scorers}
        for where, chosen in (("exons", bins.exons), ("span", bins.span), ("sites", bins.sites)):
            scorers = tuple(scorer for scorer in self.options.gene_scorers if scorer.over == where)
            if not scorers or (where == "sites" and len(chosen) < 2):
                continue
            ref_part, alt_part = ref[:, chosen], alt[:, chosen]
            for part, tracks in self._blocks[network.ensemble]:
                values = self._mean_over_shifts(network, ref_part[..., part], alt_part[..., part], tracks, scorers)
                for name, value in values.items():
                    scores[name][part] = value
        return {
            scorer.name: ensemble.of_strand(scorer, scores[scorer.name], bins.gene.strand)
            for scorer in self.options.gene_scorers
        }

    @staticmethod
    def _mean_over_shifts(network: Network, ref, alt, tracks, scorers) -> dict[str, np.ndarray]:
        if not scorers:
            return {}
        ref, alt = linear(ref, tracks, network.transform), linear(alt, tracks, network.transform)
        shifts = [score_all(one, other, scorers) for one, other in zip(ref, alt, strict=True)]
        return {scorer.name: sum(scores[scorer.name] for scores in shifts) / len(shifts) for scorer in scorers}

    # ------------------------------------------------------------------ tables

    def _chunk(self, alleles: Sequence[Allele], collected: dict[Change, _Collected]) -> Chunk:
        rows: list[AlleleRow] = []
        gene_rows: list[GeneRow] = []
        scores: list[dict | None] = []
        gene_scores: list[dict] = []
        profiles: list[dict | None] = []
        for allele in alleles:
            result = None if allele.change is None else collected[allele.change]
            row = allele.row if result is None else replace(allele.row, padded=result.padded)
            if result is not None and not self.options.scorers and not result.genes:
                row, result = replace(allele.row, status="NO_GENE"), None
            rows.append(row)
            scores.append(None if result is None else result.scores)
            profiles.append(None if result is None else result.profiles)
            if result is None:
                continue
            for gene in _in_order(result.genes):
                gene_rows.append(_gene_row(len(rows) - 1, gene, result.covered[gene]))
                gene_scores.append(result.genes[gene])
        return Chunk(
            tuple(rows),
            {scorer.name: self._measures(scorer, scores) for scorer in self._numbers},
            tuple(gene_rows),
            {scorer.name: self._measures(scorer, gene_scores) for scorer in self.options.gene_scorers},
            {scorer.name: self._profile(scorer, profiles) for scorer in self._profiles},
        )

    def _measures(self, scorer: Scorer, rows: Sequence[dict | None]) -> Measures:
        """One scorer's numbers for some rows, each the networks' scores (None: not scored)."""
        shape = (len(rows), len(self.table.columns))
        mean = np.full(shape, np.nan, np.float32)
        uncertain = self._uncertain()
        sd = np.full(shape, np.nan, np.float32) if uncertain else None
        agreement = np.full(shape, np.nan, np.float32) if uncertain and scorer.signed else None
        for number, networks in enumerate(rows):
            if networks is None:
                continue
            for columns, values in self._by_column(scorer, networks):
                average = values.mean(axis=0)
                mean[number, columns] = average
                if len(values) > 1:
                    sd[number, columns] = values.std(axis=0, ddof=1)
                    if agreement is not None:
                        same = (np.sign(values) == np.sign(average)).mean(axis=0)
                        agreement[number, columns] = np.where(np.isnan(average), np.nan, same)
        return Measures(mean, sd, agreement, None, self._specificity(mean) if self.options.specificity else None)

    def _by_column(self, scorer: Scorer, networks: dict[tuple[int, int], dict[str, np.ndarray]]):
        """Yield (columns, scores of each network (networks, columns)), ensemble by ensemble, then contrasts."""
        stacks, start = [], 0
        for number, ensemble in enumerate(self.table.ensembles):
            absent = {scorer.name: np.full(len(ensemble.units), np.nan)}
            stack = np.stack([networks.get((number, n), absent)[scorer.name] for n in range(ensemble.members)])
            stacks.append(stack)
            yield slice(start, start + ensemble.shown), stack[:, : ensemble.shown]
            start += ensemble.shown
        for number, terms in enumerate(self.table.contrasts):
            yield slice(start + number, start + number + 1), _contrast(terms, stacks)[:, None]

    def _specificity(self, mean: np.ndarray) -> np.ndarray:
        """Each score minus its mean over the other columns of the same models; NaN for contrasts and where there is no other."""
        result = np.full(mean.shape, np.nan, np.float32)
        start = 0
        for ensemble in self.table.ensembles:
            part = mean[:, start : start + ensemble.shown].astype(np.float64)
            known = ~np.isnan(part)
            others = known.sum(axis=1, keepdims=True) - known
            sums = np.nansum(part, axis=1, keepdims=True) - np.where(known, part, 0)
            with np.errstate(divide="ignore", invalid="ignore"):
                result[:, start : start + ensemble.shown] = np.where(others > 0, part - sums / others, np.nan)
            start += ensemble.shown
        return result

    def _profile(self, scorer: Scorer, rows: Sequence[dict | None]) -> np.ndarray:
        bins = self.groups[0].bins
        result = np.full((len(rows), bins, len(self.table.columns)), np.nan, np.float32)
        for number, networks in enumerate(rows):
            if networks is None:
                continue
            means, start = [], 0
            for index, ensemble in enumerate(self.table.ensembles):
                mean = sum(networks[index, n][scorer.name] for n in range(ensemble.members)) / ensemble.members
                means.append(mean)
                result[number, :, start : start + ensemble.shown] = mean[:, : ensemble.shown]
                start += ensemble.shown
            for place, terms in enumerate(self.table.contrasts):
                result[number, :, start + place] = sum(weight * means[e][:, unit] for e, unit, weight in terms)
        return result


def _contrast(terms: Sequence[tuple[int, int, float]], stacks: Sequence[np.ndarray]) -> np.ndarray:
    """A contrast of scores (networks, units) per ensemble: (networks,).

    Ensembles of equally many networks are contrasted network by network, so that what they share cancels;
    others by their means.
    """
    counts = {len(stacks[ensemble]) for ensemble, _, _ in terms}
    if len(counts) == 1:
        return sum(weight * stacks[ensemble][:, unit] for ensemble, unit, weight in terms)
    return np.array([sum(weight * stacks[ensemble][:, unit].mean() for ensemble, unit, weight in terms)])


def _in_order(genes: Iterable[Gene]) -> list[Gene]:
    """The order in which a table has the genes of an allele."""
    return sorted(genes, key=lambda gene: (gene.start, gene.end, gene.gene_id, gene.strand))


def _gene_row(allele: int, gene: Gene, covered: float) -> GeneRow:
    return GeneRow(allele, gene.gene_id, gene.name, gene.strand, covered)
