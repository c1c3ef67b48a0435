"""The files that no real experiment has: the motifs, the activities, and what every gene and variant truly does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kipoi_borzoi.simulation.cells import Contrast, State
from kipoi_borzoi.simulation.coverage import make_tracks
from kipoi_borzoi.simulation.motifs import STRUCTURE, meme_text
from kipoi_borzoi.simulation.rule import Site, Transcript, log2_expression, weight
from kipoi_borzoi.simulation.tables import write_table


def write_truth(folder: Path, simulation) -> None:
    """Write all truth tables of a `kipoi_borzoi.simulation.simulate.Simulation` into ``folder``."""
    (folder / "motifs.meme").write_text(meme_text(simulation.motifs), encoding="ascii")
    (folder / "structure_motifs.meme").write_text(meme_text(STRUCTURE), encoding="ascii")
    _write_factors(folder, simulation)
    _write_sites(folder, simulation)
    _write_genes(folder, simulation)
    _write_contrasts(folder, simulation)
    _write_variants(folder, simulation)


def _number(value: float) -> str:
    """Four decimals, and no minus before a zero."""
    return f"{value + 0.0:.4f}" if abs(value) >= 0.00005 else "0.0000"


def _write_factors(folder: Path, simulation) -> None:
    names = [factor.name for factor in simulation.factors]
    rows = [
        (factor.name, factor.role, motif.consensus, motif.best, motif.threshold)
        for factor, motif in zip(simulation.factors, simulation.motifs, strict=True)
    ]
    write_table(folder / "factors.tsv", ["factor", "role", "consensus", "best_score", "threshold"], rows)
    write_table(
        folder / "activities.tsv",
        ["cell_type", "condition", "group", *names],
        [(state.cell, state.condition, state.group, *map(_number, state.activity)) for state in simulation.states],
    )


def _write_sites(folder: Path, simulation) -> None:
    genome, names = simulation.genome, [factor.name for factor in simulation.factors]
    planted = {(item.chrom, item.start, item.strand, item.motif.name): item.kind for item in genome.planted}
    used: set[tuple] = set()
    rows = []
    for chrom, sites in genome.sites.items():
        for site in sites:
            key = (chrom, site.start, site.strand, names[site.factor])
            used.add(key)
            kind = planted.get(key, "chance")
            rows.append((chrom, site.start, site.end, site.strand, key[3], site.score, _number(site.occupancy), kind))
    columns = ["chrom", "start", "end", "strand", "motif", "score", "occupancy", "kind"]
    write_table(folder / "sites.tsv", columns, rows)
    others = sorted(
        (item.chrom, item.start, item.end, item.strand, item.motif.name, item.kind)
        for item in genome.planted
        if (item.chrom, item.start, item.strand, item.motif.name) not in used
    )
    write_table(folder / "other_motifs.tsv", ["chrom", "start", "end", "strand", "motif", "kind"], others)


def _write_genes(folder: Path, simulation) -> None:
    genes, states, names = simulation.genome.genes, simulation.states, [factor.name for factor in simulation.factors]
    rows, links = [], []
    for gene in genes:
        transcript = gene.transcript
        expressed = [_number(log2_expression(transcript, gene.sites, state.activity)) for state in states]
        rows.append(
            (gene.gene_id, gene.chrom, transcript.strand, transcript.tss, gene.fold, len(transcript.exons),
             _number(transcript.core), *expressed)
        )  # fmt: skip
        links += [_link(gene.gene_id, transcript, site, names[site.factor]) for site in gene.sites]
    columns = ["gene_id", "chrom", "strand", "tss", "fold", "exons", "core", *(state.name for state in states)]
    write_table(folder / "expression.tsv", columns, rows)
    columns = ["gene_id", "motif", "start", "end", "strand", "distance", "occupancy", "weight"]
    write_table(folder / "gene_sites.tsv", columns, links)


def _link(gene_id: str, transcript: Transcript, site: Site, name: str) -> tuple:
    """A site's row for one gene; distance on the gene's strand, negative upstream."""
    distance = site.center - transcript.tss if transcript.strand == "+" else transcript.tss - site.center
    share = _number(weight(site, transcript.tss))
    return gene_id, name, site.start, site.end, site.strand, distance, _number(site.occupancy), share


def _write_contrasts(folder: Path, simulation) -> None:
    names, replicates = [factor.name for factor in simulation.factors], simulation.options.replicates

    def identifiers(state: State, wanted: Callable[[int], bool] = lambda replicate: True) -> str:
        tracks = make_tracks([state], replicates)
        return ",".join(track.identifier for track in tracks if wanted(track.replicate))

    columns = ["contrast", "group", "cell_type", "driver", "activity_change", "treated_tracks", "control_tracks"]
    rows = []
    for contrast in simulation.contrasts:
        change = _number(contrast.change)
        rows.append(
            (contrast.name, contrast.treated.group, contrast.treated.cell, names[contrast.driver], change,
             identifiers(contrast.treated), identifiers(contrast.control))
        )  # fmt: skip
    if replicates > 1:  # two halves of one state: nothing drives their difference
        for state in simulation.states:
            first, second = identifiers(state, lambda n: n % 2 == 1), identifiers(state, lambda n: n % 2 == 0)
            name = f"{state.name}.odd-{state.name}.even"
            rows.append((name, state.group, state.cell, "none", _number(0.0), first, second))
    write_table(folder / "contrasts.tsv", columns, rows)

    def change(contrast: Contrast, gene) -> str:
        treated, control = contrast.treated.activity, contrast.control.activity
        both = [log2_expression(gene.transcript, gene.sites, activity) for activity in (treated, control)]
        return _number(both[0] - both[1])

    changes = [
        (gene.gene_id, gene.fold, *(change(contrast, gene) for contrast in simulation.contrasts))
        for gene in simulation.genome.genes
    ]
    names = [contrast.name for contrast in simulation.contrasts]
    write_table(folder / "expression_changes.tsv", ["gene_id", "fold", *names], changes)


def _write_variants(folder: Path, simulation) -> None:
    per_gene, per_window = [], []
    for number, variant in enumerate(simulation.variants, start=1):
        effect = simulation.effect(variant)
        head = (f"sim{number:05d}", variant.chrom, variant.pos, variant.ref, variant.alt, variant.kind,
                variant.target or "none", variant.window.fold)  # fmt: skip
        per_gene += [(*head, gene_id, *map(_number, values)) for gene_id, values in effect.genes.items()]
        per_window.append((*head, *map(_number, effect.total)))
    states = [state.name for state in simulation.states]
    columns = ["id", "chrom", "pos", "ref", "alt", "kind", "motif", "fold"]
    write_table(folder / "variant_gene_effects.tsv", [*columns, "gene_id", *states], per_gene)
    write_table(folder / "variant_window_effects.tsv", [*columns, *states], per_window)
