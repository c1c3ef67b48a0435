"""`kipoi-borzoi edit`: a motif put into sites, or taken out."""

from kipoi_borzoi.cli.explain_options import add_ensemble, add_models, add_quantity, explain_options
from kipoi_borzoi.cli.verbs import add_verb


def add_parser(nouns) -> None:
    """Add the verb to the command."""
    parser = add_verb(
        nouns,
        "edit",
        _edit,
        "put a motif into sites, or take it out, and predict what changes",
        "Predict what a motif does at given sites, one at a time: the effect on a contrast, or on the mean of tracks, and\n"
        "on each track, of every gene or region whose window holds the site.",
        """
        kipoi-borzoi edit --model lab/both --fasta hg38.fa --genes genes.gtf --gene-ids ids.txt --motif TGACTCA --sites sites.bed --out e.tsv
        kipoi-borzoi edit --model lab/both --fasta hg38.fa --regions enhancer.bed --motif jaspar.meme:MA0139.1 --sites hits.bed --knock-out
          --contrast contrast.tsv --out e.tsv
        """,
    )
    add_models(parser)
    parser.add_argument("--motif", metavar="MOTIF", required=True, help="a sequence of A, C, G, T, or FILE.meme:NAME")
    parser.add_argument(
        "--sites",
        metavar="BED",
        required=True,
        help="where: the motif begins at a site's start, on its strand (column 6)",
    )
    parser.add_argument(
        "--knock-out", action="store_true", help="replace the sites by random bases without the motif, instead"
    )
    parser.add_argument("--out", metavar="OUT.tsv", required=True, help="the table")
    what = parser.add_argument_group("whose coverage is looked at")
    what.add_argument("--genes", metavar="GTF", help="annotation: genes")
    what.add_argument("--gene-ids", metavar="FILE", help="which genes: a gene_id or name per line (default: all)")
    what.add_argument("--regions", metavar="BED", help="regions")
    add_quantity(what)
    how = parser.add_argument_group("how to predict")
    add_ensemble(how)
    how.add_argument(
        "--replacements",
        metavar="N",
        type=int,
        default=3,
        help="random replacements per site that are averaged (default: %(default)s)",
    )
    how.add_argument(
        "--hit-p-value",
        metavar="P",
        type=float,
        default=1e-4,
        help="what counts as a hit of the motif (default: %(default)g)",
    )
    how.add_argument("--seed", metavar="S", type=int, default=0, help="of the replacements (default: %(default)s)")
    how.add_argument("--force", action="store_true", help="replace an existing table")


def _edit(args) -> int:
    from kipoi_borzoi.motif_editing import edit_motif

    rows = edit_motif(
        args.model, args.fasta, args.motif, args.sites, args.out, knocked_out=args.knock_out, replacements=args.replacements,
        p_value=args.hit_p_value, seed=args.seed, force=args.force, genes=args.genes, gene_ids=args.gene_ids, regions=args.regions,
        **explain_options(args),
    )  # fmt: skip
    sites = len({(row.target, row.start, row.strand, row.site) for row in rows})
    print(f"{args.out}: {sites} edits of {len({row.target for row in rows})} targets")
    return 0
