"""`kipoi-borzoi veff ...`: mutation maps over a region, and kipoi_veff's own commands."""

import argparse

from kipoi_borzoi.cli.verbs import add_verb


def add_parser(nouns) -> None:
    """Add the noun and its verbs to the command."""
    noun = nouns.add_parser(
        "veff", help="kipoi_veff: mutation maps of a region, and its commands", description="Work with kipoi_veff 0.3.1."
    )
    verbs = noun.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_map(verbs)
    _add_run(verbs)


def _add_map(verbs) -> None:
    parser = add_verb(
        verbs,
        "map",
        _map,
        "map the effect of every substitution in a region",
        "Predict every substitution in a region, the window centred on it, and write the map as kipoi_veff does\n"
        "for whole windows (its MutationMapPlotter reads it), and draw it with kipoi_veff's plot.",
        """
        kipoi-borzoi veff map Borzoi/human/rep0/logsum --fasta hg38.fa --region chr7:5,530,600-5,530,640 \\
            --tracks ENCFF929YYD+ --out map.h5 --plot map.png
        """,
    )
    parser.add_argument("model", metavar="ENTRY", help="an entry of view sum or logsum")
    parser.add_argument("--source", default="borzoi", help="its Kipoi source (default: %(default)s)")
    parser.add_argument("--fasta", required=True, metavar="FA", help="the genome, plain or bgzip")
    parser.add_argument(
        "--region", required=True, metavar="CHROM:START-END", help="1-based, both ends included; 3 predictions per base"
    )
    parser.add_argument("--score", default="diff", help="diff, ref, alt, or logSED for view sum (default: %(default)s)")
    parser.add_argument("--tracks", nargs="+", metavar="TRACK", help="identifiers of tracks (default: all)")
    parser.add_argument("--rc", action="store_true", help="average with the reverse complement")
    parser.add_argument("--out", metavar="MAP.h5", help="file for the map")
    parser.add_argument("--plot", metavar="PICTURE", help="picture of the first track, .png, .svg or .pdf")


def _map(args) -> None:
    from kipoi_borzoi.errors import InputError
    from kipoi_borzoi.kipoi_tools import veff
    from kipoi_borzoi.kipoi_tools.checks import check_output

    if not args.out and not args.plot:
        raise InputError("nothing to write: give --out, --plot or both")
    for path in filter(None, (args.out, args.plot)):
        check_output(path, (args.fasta,))
    if args.plot and not args.plot.endswith(veff.PICTURES):
        raise InputError(f"{args.plot}: expected a name that ends in one of {' '.join(veff.PICTURES)}")
    region = veff.parse_region(args.region)
    model = veff.load_entry(args.model, args.source, args.rc)
    tracks = args.tracks
    plotter = veff.mutation_map(model, args.fasta, region, [args.score], tracks)
    if args.out:
        veff.write_map(plotter, args.out)
        print(args.out)
    if args.plot:
        veff.draw_map(plotter, args.plot, args.score, (tracks or model.tracks.identifiers)[0])
        print(args.plot)


def _add_run(verbs) -> None:
    parser = add_verb(
        verbs,
        "run",
        _run,
        "run a command of kipoi_veff, mended from the start",
        "Hand everything to `python -m kipoi_veff`. Needed for plot_mutation_map, which loads no model and\n"
        "so fails on current numpy; the other commands also work without it.",
        """
        kipoi-borzoi veff run plot_mutation_map -f map.h5 -o map.png --input_entry 0 --model_seq_input seq \\
            --scoring_key diff --model_output ENCFF929YYD+
        """,
    )
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="command and options of kipoi_veff")


def _run(args) -> None:
    from kipoi_borzoi.kipoi_tools.veff import run

    run(args.arguments)
