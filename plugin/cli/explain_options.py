"""Options that the commands of explanation share: models, the quantity, the ensemble."""

from kipoi_borzoi.cli.verbs import integers, names


def add_models(parser) -> None:
    """Add ``--model``, ``--fasta`` and ``--zoo``."""
    parser.add_argument(
        "--model", metavar="NAME[,NAME...]", required=True, type=names, action="extend",
        help="entries of the zoo without their view; those with the same tracks are an ensemble, unless the contrast names them",
    )  # fmt: skip
    parser.add_argument("--fasta", metavar="FA", required=True, help="the genome, plain or bgzip")
    parser.add_argument(
        "--zoo", metavar="DIR", help="the zoo's folder (default: the one registered as Kipoi source 'borzoi')"
    )


def add_quantity(group, contrast_required: bool = False) -> None:
    """Add the options that say which coverage is looked at."""
    if not contrast_required:
        group.add_argument(
            "--tracks", metavar="TRACK", action="append",
            help="an identifier, a file (one per line, or Calico's table), or a pattern found in descriptions; may be repeated;"
            " their coverage is averaged (default: all)",
        )  # fmt: skip
    group.add_argument(
        "--contrast", metavar="FILE", required=contrast_required,
        help="explain a difference: TSV of name, track (or MODEL:TRACK), weight; or a table with the columns contrast,"
        " treated_tracks, control_tracks",
    )  # fmt: skip
    group.add_argument("--contrast-name", metavar="NAME", help="which contrast, if the file holds several")
    group.add_argument(
        "--pseudocount",
        metavar="X",
        type=float,
        default=1.0,
        help="added to a sum before its logarithm (default: %(default)g)",
    )
    group.add_argument(
        "--exon-bins", choices=("overlap", "majority"), default="overlap",
        help="which bins belong to an exon: all that it overlaps, or those it covers for the most part (default: %(default)s)",
    )  # fmt: skip


def add_ensemble(group) -> None:
    """Add the options that say over what is averaged."""
    group.add_argument("--rc", action="store_true", help="average over both strands")
    group.add_argument(
        "--shifts", metavar="BP[,BP...]", type=integers, default=[0],
        help="bp by which the window is moved, such as --shifts=0,-1,1; averaged (default: 0)",
    )  # fmt: skip
    group.add_argument(
        "--precision", choices=("float32", "mixed_bfloat16"), default="float32",
        help="of predictions of altered sequences; gradients are float32 (default: %(default)s)",
    )  # fmt: skip


def explain_options(args) -> dict:
    """The arguments of `kipoi_borzoi.attributing.prepare_explaining` that all commands share."""
    return {
        "tracks": getattr(args, "tracks", None), "contrast": args.contrast, "contrast_name": args.contrast_name,
        "pseudocount": args.pseudocount, "exon_bins": args.exon_bins, "rc": args.rc, "shifts": args.shifts,
        "precision": args.precision, "zoo": args.zoo,
    }  # fmt: skip
