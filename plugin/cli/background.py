"""`kipoi-borzoi background`: what scores are usual, track by track."""

from kipoi_borzoi.cli.cluster_option import add_cluster, client_of
from kipoi_borzoi.cli.score import add_how, add_what, add_zoo, scoring_options
from kipoi_borzoi.cli.verbs import add_verb, names


def add_parser(nouns) -> None:
    """Add the verb to the command."""
    parser = add_verb(
        nouns,
        "background",
        _background,
        "collect the usual scores, for quantiles",
        "Score common variants, or simulated ones near genes, and write the distribution of each score per track.\n"
        "`kipoi-borzoi score --background` then gives quantiles; models and options must be the same.",
        """
        kipoi-borzoi background --model lab/k562 --vcf common.vcf.gz --fasta hg38.fa --out k562.background.h5
        kipoi-borzoi background --model lab/k562 --simulate 20000 --genes gencode.gtf.gz --fasta hg38.fa --out b.h5
        """,
    )
    parser.add_argument(
        "--model", metavar="NAME[,NAME...]", required=True, type=names, action="extend", help="as for `kipoi-borzoi score`"
    )
    parser.add_argument("--fasta", metavar="FA", required=True, help="the genome, plain or bgzip")
    parser.add_argument("--out", metavar="B", required=True, help="the file to write (HDF5)")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--vcf", metavar="IN", help="common variants: VCF, VCF.gz or BCF")
    source.add_argument("--simulate", metavar="N", type=int, help="draw N single-base variants within 10 kb of --genes")
    parser.add_argument("--seed", type=int, default=0, help="of --simulate (default: %(default)s)")
    parser.add_argument("--force", action="store_true", help="replace an existing file, and an unfinished run of other input or options")
    add_cluster(parser)
    add_zoo(parser)
    add_what(parser)
    add_how(parser)


def _background(args) -> None:
    from kipoi_borzoi.scoring import write_background

    with client_of(args) as client:
        summary = write_background(
            args.model, args.fasta, args.out, args.vcf, args.simulate, args.seed, args.force, client, **scoring_options(args)
        )
    print(summary)
