"""`kipoi-borzoi logo`: pictures of attributions."""

from kipoi_borzoi.cli.verbs import add_verb


def add_parser(nouns) -> None:
    """Add the verb to the command."""
    parser = add_verb(
        nouns,
        "logo",
        _logo,
        "draw attributions as sequence logos",
        "Draw what explains a gene or region: an overview with gene models and motif hits, and the strongest places in\n"
        "letters; or, of 160 bp and less, all of it in letters. Positions are 1-based, as in genome browsers.",
        """
        kipoi-borzoi logo change.h5 --target GATA1 --genes genes.gtf --motifs jaspar.meme --out gata1.png
        kipoi-borzoi logo change.h5 --target GATA1 --region chrX:48786500-48786620 --out promoter.svg
        """,
    )
    parser.add_argument("attributions", metavar="FILE", nargs="+", help="what `kipoi-borzoi attribute` has written")
    parser.add_argument("--out", metavar="OUT", required=True, help="picture: .png, .svg or .pdf")
    parser.add_argument("--target", metavar="NAME", help="gene_id, gene name or region to draw (default: the only one)")
    parser.add_argument(
        "--region", metavar="CHROM:START-END", help="part to draw, 1-based (default: all that was explained)"
    )
    parser.add_argument("--genes", metavar="GTF", help="annotation, to draw gene models")
    parser.add_argument("--motifs", metavar="MEME", help="motifs, to mark their hits")
    parser.add_argument(
        "--hit-p-value", metavar="P", type=float, default=1e-4, help="what counts as a hit (default: %(default)g)"
    )
    parser.add_argument(
        "--zooms", metavar="N", type=int, default=3, help="strongest places to draw in letters (default: %(default)s)"
    )


def _logo(args) -> int:
    from kipoi_borzoi.interpret.portrait import draw_target

    found = draw_target(
        args.attributions, args.out, target=args.target, region=args.region, genes=args.genes, motifs=args.motifs,
        p_value=args.hit_p_value, zooms=args.zooms,
    )  # fmt: skip
    print(f"{args.out}: {found.title}, {found.chrom}:{found.start + 1}-{found.end}")
    return 0
