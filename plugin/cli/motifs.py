"""`kipoi-borzoi motifs`: motifs discovered in attributions, named, and tested in the model."""

from kipoi_borzoi.cli.explain_options import add_ensemble, add_quantity, explain_options
from kipoi_borzoi.cli.verbs import add_verb, names


def add_parser(nouns) -> None:
    """Add the verb to the command."""
    parser = add_verb(
        nouns,
        "motifs",
        _motifs,
        "discover motifs in attributions, and test them",
        "Run TF-MoDISco on an attribution file, compare what it finds with known motifs, and, given the model, take the\n"
        "motifs' instances out of its input and put them elsewhere. Writes OUT.tsv, OUT.meme and a page of pictures.\n"
        "Needs the extra: pip install 'kipoi-borzoi[motifs]'. More: docs/drivers.md.",
        """
        kipoi-borzoi motifs change.h5 --out found.tsv --motifs jaspar.meme
        kipoi-borzoi motifs change.h5 --out found.tsv --model lab/both --fasta hg38.fa --genes genes.gtf --contrast contrast.tsv
        """,
    )
    parser.add_argument(
        "attributions", metavar="FILE", nargs="+", help="what `kipoi-borzoi attribute` has written (all shards)"
    )
    parser.add_argument("--out", metavar="OUT.tsv", required=True, help="the table")
    parser.add_argument("--motifs", metavar="MEME", help="known motifs to compare with")
    parser.add_argument(
        "--min-seqlets",
        metavar="N",
        type=int,
        default=100,
        help="least number of stretches with signal (default: %(default)s)",
    )
    parser.add_argument(
        "--max-seqlets", metavar="N", type=int, default=20000, help="most to use, of each sign (default: %(default)s)"
    )
    parser.add_argument("--seed", metavar="S", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument(
        "--pictures", choices=("png", "svg", "pdf", "none"), default="png", help="(default: %(default)s)"
    )
    parser.add_argument("--force", action="store_true", help="replace existing output")
    test = parser.add_argument_group("to test the motifs in the model: the options that made the attribution file")
    test.add_argument(
        "--model", metavar="NAME[,NAME...]", type=names, action="extend", help="entries of the zoo without their view"
    )
    test.add_argument("--fasta", metavar="FA", help="the genome")
    test.add_argument("--genes", metavar="GTF", help="annotation, if genes were explained")
    test.add_argument("--regions", metavar="BED", help="regions, if these were explained")
    test.add_argument("--relative-to", metavar="BED", help="denominators, if ratios were explained")
    test.add_argument(
        "--sites",
        metavar="N",
        type=int,
        default=10,
        help="instances to take out, and to put in, per motif (default: %(default)s)",
    )
    test.add_argument("--zoo", metavar="DIR", help="the zoo's folder")
    add_quantity(test)
    add_ensemble(test)


def _motifs(args) -> int:
    from kipoi_borzoi.errors import InputError
    from kipoi_borzoi.interpret.discovery import check_installed
    from kipoi_borzoi.motif_discovery import find_motifs

    check_installed()
    explaining = None
    if args.model:
        if args.fasta is None:
            raise InputError("testing motifs in the model needs --fasta, and --genes or --regions")
        explaining = _explaining(args)
    tested = find_motifs(
        args.attributions, args.out, motifs=args.motifs, explaining=explaining, sites=args.sites, min_seqlets=args.min_seqlets,
        max_seqlets=args.max_seqlets, seed=args.seed, pictures=None if args.pictures == "none" else f".{args.pictures}", force=args.force,
    )  # fmt: skip
    print(f"{len(tested)} motifs")
    for one in tested[:10]:
        like = f", like {one.closest} ({one.similarity:.2f})" if one.closest else ""
        print(f"{one.pattern.name} ({one.pattern.sign})  {len(one.pattern.seqlets)} instances{like}")
    return 0


def _explaining(args):
    from kipoi_borzoi.attributing import prepare_explaining
    from kipoi_borzoi.interpret.attribution_file import AttributionFile

    with AttributionFile(args.attributions) as file:
        explained, span = list(file.names), file.provenance["quantity"]["span"]
    return prepare_explaining(
        args.model, args.fasta, genes=args.genes, gene_ids=explained if args.genes else None, regions=args.regions,
        relative_to=args.relative_to, span=span, **explain_options(args),
    )  # fmt: skip
