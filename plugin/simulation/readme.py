"""The words that go with a simulation: the rule, written down so that anyone can compute its numbers by hand, and the list of files."""

from __future__ import annotations

from kipoi_borzoi.simulation import rule
from kipoi_borzoi.simulation.cells import LEVEL, PRETRAIN, TRANSFER
from kipoi_borzoi.simulation.coverage import FRAGMENT, STEP
from kipoi_borzoi.simulation.genome import MARGIN, MAX_GENES, WINDOW
from kipoi_borzoi.simulation.motifs import ACCEPTOR, CORE, DONOR, FACTORS, POLYA, STRONG, WEAK

RULE = f"""\
## The rule

All coverage follows from the sequence. Positions are 0-based; a minus-strand gene is read on the reverse complement.

**Motifs.** Each motif is a position weight matrix, written as its consensus: the consensus base has probability {STRONG} at
a position in upper case and {WEAK} at one in lower case; the three others share the rest. A base scores
round(100 log2(p / 0.25)), a stretch of DNA the sum over its positions. It is a site when it scores more than
best - slack (best: score of the consensus). Its occupancy is (score - best + slack) / slack: above 0, 1 for the consensus.
The slack is {CORE.slack} for the four motifs of genes, {FACTORS[0].slack} for those of factors (`truth/factors.tsv`).

| motif of genes | consensus |
|---|---|
| core promoter | {CORE.consensus} |
| splice donor | {DONOR.consensus} |
| splice acceptor | {ACCEPTOR.consensus} |
| polyadenylation | {POLYA.consensus} |

**Transcripts.** Every core promoter starts one transcript; its first base (the start) lies {rule.TSS_OFFSET} bp after the
first base of the motif. From there the strand is read base by base. An exon lasts until the first of: (a) the end of a
polyadenylation motif, which ends the transcript; (b) a donor that can be used: the exon ends {rule.DONOR_CUT} bp into the
donor's motif; (c) {rule.MAX_TRANSCRIPT} bp after the start, which ends the transcript. A donor can be used when
an acceptor's cut, {rule.ACCEPTOR_CUT} bp into its motif, lies {rule.MIN_INTRON} to {rule.MAX_INTRON} bp behind the donor's cut (and before (c)); the nearest one is
where the next exon begins. Polyadenylation motifs within introns are passed over.

**Expression.** The expected depth of coverage of a transcript in a state (a cell type under a condition) is 2^E with

    E = {rule.BASE:g} + {rule.CORE_GAIN:g} core + {rule.SATURATION:g} u / ({rule.SATURATION:g} + |u|)
    u = sum over sites of factors:  activity x occupancy x max(0, 1 - distance / {rule.REACH})

core is the occupancy of the core promoter, activity that of the factor in the state, and distance the one
between the middle of the site ((start + end) / 2, rounded down) and the start, on either side. Sites of either strand
count alike. A factor that is switched on has activity {LEVEL:g}, a repressor -{LEVEL:g}; a factor that is off has 0. E is rounded to
1/4096 before it is raised.

**Coverage.** Every exonic base of a transcript has its expected depth on its strand; introns have none. Active enhancers
are transcribed themselves: a site of a factor with activity above 0 adds {rule.ENHANCER_DEPTH:g} x activity x occupancy to the depth of
{rule.ENHANCER_FLANK} bp on each side of its middle, on both strands. All that covers a base adds up.
"""


def readme_text(simulation) -> str:
    """The README of a `kipoi_borzoi.simulation.simulate.Simulation`."""
    options, genome = simulation.options, simulation.genome
    folds = {fold: sum(gene.fold == fold for gene in genome.genes) for fold in ("train", "valid", "test")}
    cells = {group: [cell for cell, its in options.cells.items() if its == group] for group in (PRETRAIN, TRANSFER)}
    silent, housekeeping = simulation.factors[-1].name, simulation.factors[0].name
    repressors = [factor.name for factor in simulation.factors if factor.role == "repressor"]
    noise = _noise(options.noise, options.depth)
    return f"""\
# A simulated genome

Made by `kipoi-borzoi simulate` with the options in `options.json`. Nothing here was measured.

{options.windows} windows of {WINDOW} bp ({sum(simulation.lengths.values())} bp), {len(genome.genes)} genes (train {folds["train"]}, valid {folds["valid"]}, test {folds["test"]}),
{len(simulation.factors)} factors, {len(simulation.states)} states, {len(simulation.variants)} variants.

{RULE}
## What differs between cell types

Only the activities (`truth/activities.tsv`). {housekeeping} is on everywhere, {silent} nowhere: its sites are decoys.
Repressors: {", ".join(repressors) or "none"}. The others are on or off by cell type. Each treatment switches one factor, its
driver (`truth/contrasts.tsv`).
Cell types for pre-training: {", ".join(cells[PRETRAIN])}. Unseen ones: {", ".join(cells[TRANSFER])}.

## What was measured

{noise}
Coverage is not normalised; `scale` in the target tables is 1 / {FRAGMENT}, for fragments of {FRAGMENT} bp.

## Where things lie

Windows do not overlap; each has up to {MAX_GENES} genes with all that decides their expression: starts lie more than {rule.REACH} bp
from the window's ends, exons more than {MARGIN} bp, so that a crop of {MARGIN} bp loses none.
Of a site near an end only the RNA made at the site itself may lie in the next window, in the part that is cropped. Folds are dealt out over windows.
Exons are rich in A and G on their own strand, which has no effect in the rule but can be seen in the sequence.
Sites of factors are planted near starts and farther away, on both strands; some arise by chance, and count.
Weak sites (below the threshold, one or two strong positions wrong), sites in windows without genes and motifs of genes
outside of transcripts are decoys. Chance motifs of genes are removed.

## Files

| file | what |
|---|---|
| `genome.fa.gz` (`.fai`, `.gzi`) | the sequence |
| `genes.gtf` | the transcripts that the rule reads in it |
| `sequences.bed` | windows and folds |
| `targets_{PRETRAIN}.txt`, `targets_{TRANSFER}.txt` | target tables; files are relative to the table's folder |
| `coverage/*.bw` | coverage of each cell type, condition, replicate and strand |
| `params_{PRETRAIN}.json`, `params_{TRANSFER}.json` | a small network for each table |
| `variants.vcf` | variants; KIND says where one was drawn, not what it does |
| `truth/motifs.meme`, `truth/structure_motifs.meme` | matrices of the factors, and of the motifs of genes |
| `truth/factors.tsv`, `truth/activities.tsv` | roles; activity of each factor in each state |
| `truth/sites.tsv` | every site of a factor: planted (proximal, distal, orphan, weak: planted as decoy but a site after all) or chance |
| `truth/other_motifs.tsv` | everything else that was planted: motifs of genes, decoys |
| `truth/gene_sites.tsv` | sites within reach of each gene; distance is negative upstream |
| `truth/expression.tsv` | E of each gene in each state |
| `truth/contrasts.tsv` | contrasts with driver, change of its activity and tracks; replicates against each other, driver none |
| `truth/expression_changes.tsv` | E treated - E control of each gene |
| `truth/variant_gene_effects.tsv` | of each variant, for every gene of its window: log2(1 + sum) with the alternative - log2(1 + sum) with the reference allele; sum: expected coverage over the bases of the gene's exons (those of the reference, moved along by indels), on the gene's strand, at depth 1 |
| `truth/variant_window_effects.tsv` | the same of the whole window and both strands, read by itself |
"""


def _noise(noise: float, depth: float) -> str:
    if not noise:
        return f"The BigWig files hold the expected coverage times {depth:g}, without noise."
    return (
        f"Depth {depth:g} times the expected coverage. In each replicate, a gene's log2 expression is off by a random amount of\n"
        f"standard deviation {noise:g}; pieces of exons that end at multiples of {STEP} bp are whole numbers with variance\n"
        f"m + ({noise:g} m / 2)^2 around the mean m; single fragments of depth 1 lie between the genes."
    )
