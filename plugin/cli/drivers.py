"""`kipoi-borzoi drivers`: from differential genes to the motifs that drive the change."""

from kipoi_borzoi.cli.explain_options import add_ensemble, add_models, add_quantity, explain_options
from kipoi_borzoi.cli.verbs import add_verb


def add_parser(nouns) -> None:
    """Add the verb to the command."""
    parser = add_verb(
        nouns,
        "drivers",
        _drivers,
        "rank motifs that drive a change of expression",
        "Explain changed and unchanged genes, find motifs in them, and rank the motifs by how well the contributions at\n"
        "their hits explain the observed changes, with permutation p-values. Writes OUT.tsv, a page of motifs, a\n"
        "picture of the most telling gene, and the attributions. More: docs/drivers.md.",
        """
        kipoi-borzoi drivers --model lab/both --contrast contrast.tsv --de-genes deseq2.tsv --motifs jaspar.meme
          --fasta hg38.fa --genes genes.gtf --out drivers.tsv
        """,
    )
    add_models(parser)
    parser.add_argument("--genes", metavar="GTF", required=True, help="annotation")
    parser.add_argument(
        "--de-genes", metavar="TSV", required=True,
        help="differential expression with a header: gene, log2 fold change and, better, adjusted p-value (DESeq2, edgeR, limma)",
    )  # fmt: skip
    parser.add_argument(
        "--motifs", metavar="MEME", required=True, help="the motifs to rank, such as JASPAR's or your own"
    )
    parser.add_argument("--out", metavar="OUT.tsv", required=True, help="the table")
    what = parser.add_argument_group("what to explain")
    add_quantity(what, contrast_required=True)
    add_ensemble(what)
    what.add_argument(
        "--span", metavar="BP", type=int, help="look for motifs in so many bp around a gene's start (default: 16384)"
    )
    genes = parser.add_argument_group("which genes")
    genes.add_argument(
        "--min-change",
        metavar="LOG2",
        type=float,
        default=1.0,
        help="least log2 fold change of a changed gene (default: %(default)g)",
    )
    genes.add_argument(
        "--max-adjusted",
        metavar="P",
        type=float,
        default=0.05,
        help="largest adjusted p-value of one (default: %(default)g)",
    )
    genes.add_argument(
        "--change-column", metavar="NAME", help="column of the log2 fold change (default: by its usual names)"
    )
    genes.add_argument(
        "--adjusted-column", metavar="NAME", help="column of the adjusted p-value (default: by its usual names)"
    )
    genes.add_argument(
        "--max-genes",
        metavar="N",
        type=int,
        default=100,
        help="explain at most N changed and N unchanged genes (default: %(default)s)",
    )
    genes.add_argument(
        "--within", metavar="BED",
        help="only genes in these stretches, such as the windows of folds that the model was not trained on: it may have learned"
        " the noise of the others",
    )  # fmt: skip
    how = parser.add_argument_group("how to rank")
    how.add_argument(
        "--hit-p-value",
        metavar="P",
        type=float,
        default=1e-4,
        help="what counts as a hit of a motif (default: %(default)g)",
    )
    how.add_argument("--permutations", metavar="N", type=int, default=9999, help="(default: %(default)s)")
    how.add_argument(
        "--seed", metavar="S", type=int, default=0, help="of permutations and chosen genes (default: %(default)s)"
    )
    how.add_argument(
        "--test",
        metavar="N",
        type=int,
        default=3,
        help="knock out the first N drivers in the model (default: %(default)s)",
    )
    how.add_argument(
        "--test-genes", metavar="N", type=int, default=5, help="each in N changed genes (default: %(default)s)"
    )
    how.add_argument("--pictures", choices=("png", "svg", "pdf", "none"), default="png", help="(default: %(default)s)")
    how.add_argument("--force", action="store_true", help="replace existing output, and start over")


def _drivers(args) -> int:
    from kipoi_borzoi.drivers import direction_of, find_drivers

    options = explain_options(args)
    del options["tracks"]
    found = find_drivers(
        args.model, args.fasta, args.genes, options.pop("contrast"), args.de_genes, args.motifs, args.out,
        min_change=args.min_change, max_adjusted=args.max_adjusted, change_column=args.change_column,
        adjusted_column=args.adjusted_column, max_genes=args.max_genes, within=args.within, span=args.span, p_value=args.hit_p_value,
        permutations=args.permutations, seed=args.seed, test=args.test, test_genes=args.test_genes,
        pictures=None if args.pictures == "none" else f".{args.pictures}", force=args.force, **options,
    )  # fmt: skip
    print(f"{found.changed} changed and {found.unchanged} unchanged genes, {len(found.ranked)} motifs")
    for rank, driver in enumerate(found.ranked[:5], start=1):
        print(
            f"{rank}. {driver.motif} ({direction_of(driver)})  z {driver.z:.2f}  p {driver.p:.2g}  adjusted {driver.p_adjusted:.2g}"
        )
    print("written: " + ", ".join(map(str, found.files)))
    return 0
