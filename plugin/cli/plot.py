"""`kipoi-borzoi plot ...`: pictures of predictions."""

from kipoi_borzoi.cli.score import add_zoo
from kipoi_borzoi.cli.verbs import add_verb, names


def add_parser(nouns) -> None:
    """Add the noun and its verbs to the command."""
    noun = nouns.add_parser("plot", help="draw predictions", description="Draw predictions.")
    verbs = noun.add_subparsers(title="commands", metavar="COMMAND", required=True)
    parser = add_verb(
        verbs,
        "variant",
        _variant,
        "draw a variant's predicted effect",
        "Draw the predicted coverage of both alleles, their difference, genes and the variant's place, for the\n"
        "tracks that change most. The suffix of --out names the format: .png, .svg or .pdf.",
        """
        kipoi-borzoi plot variant --model Borzoi/human/rep0 --variant chr1:54490:G:A --fasta hg38.fa --out effect.png
          --tracks 'RNA:.*liver' --genes gencode.gtf.gz --zoom 20000
        """,
    )
    parser.add_argument(
        "--model", metavar="NAME[,NAME...]", required=True, type=names, action="extend", help="as for `kipoi-borzoi score`"
    )
    parser.add_argument("--variant", metavar="CHR:POS:REF:ALT", required=True, help="POS 1-based")
    parser.add_argument("--fasta", metavar="FA", required=True, help="the genome, plain or bgzip")
    parser.add_argument("--out", metavar="FILE", required=True, help="the picture")
    parser.add_argument("--tracks", metavar="TRACK", action="append", help="as for `kipoi-borzoi score`")
    parser.add_argument("--genes", metavar="GTF", help="annotation to draw below")
    parser.add_argument("--zoom", metavar="BP", type=int, help="bp around the variant (default: all that is predicted)")
    parser.add_argument("--max-tracks", metavar="N", type=int, default=6, help="tracks to draw (default: %(default)s)")
    parser.add_argument("--rc", action="store_true", help="average the predictions of both strands")
    add_zoo(parser)


def _variant(args) -> None:
    from kipoi_borzoi.scoring import draw_variant

    drawn = draw_variant(
        args.model, args.variant, args.fasta, args.out, args.genes, args.zoom, args.max_tracks, tracks=args.tracks, rc=args.rc,
        zoo=args.zoo,
    )  # fmt: skip
    print(f"{args.out}: {', '.join(drawn)}")
