"""`kipoi-borzoi interpret ...`: what `kipoi interpret` would do, did it not die while parsing."""

import argparse

from kipoi_borzoi.cli.verbs import add_verb


def add_parser(nouns) -> None:
    """Add the noun and its verbs to the command."""
    noun = nouns.add_parser(
        "interpret",
        help="kipoi_interpret: gradients, gradient x input, in-silico mutagenesis",
        description="Run kipoi_interpret 0.1.2, which `kipoi interpret` cannot start.",
    )
    verbs = noun.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_passed_on(
        verbs,
        "grad",
        "gradient of an entry's output with respect to the sequence",
        "Write gradients (dataset grads, beside inputs and metadata). All options are kipoi_interpret's:\n"
        "`kipoi-borzoi interpret grad ENTRY --help` lists them. --filter_idx takes the index of a track, or a slice such as [0:4].",
        """
        kipoi-borzoi interpret grad Borzoi/human/rep0/logsum --source borzoi -f 1870 \\
            --dataloader_args intervals_file=regions.bed fasta_file=hg38.fa --batch_size 1 -o grads.h5
        """,
    )
    _add_gradient_x_input(verbs)
    _add_passed_on(
        verbs,
        "ism",
        "in-silico mutagenesis",
        "Predict every base at every position (dataset scores: windows x positions x 4 x scores x tracks). All options\n"
        "but --positions are kipoi_interpret's: `kipoi-borzoi interpret ism ENTRY --help` lists them.",
        """
        kipoi-borzoi interpret ism Borzoi/human/rep0/logsum --source borzoi --model_input seq --positions 262134 262154 \\
            --dataloader_args intervals_file=regions.bed fasta_file=hg38.fa --batch_size 4 -o ism.h5
        """,
    )


def _add_passed_on(verbs, name: str, summary: str, description: str, examples: str) -> None:
    parser = add_verb(verbs, name, _pass_on, summary, description, examples)
    parser.set_defaults(command=name)
    parser.add_argument("model", metavar="ENTRY", help="an entry of view sum or logsum")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="options of kipoi_interpret")


def _pass_on(args) -> None:
    from kipoi_borzoi.kipoi_tools.interpret import run

    ours = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    ours.add_argument("--positions", nargs=2, type=int)
    known, arguments = ours.parse_known_args(args.arguments) if args.command == "ism" else (None, args.arguments)
    run(args.command, [args.model, *arguments], tuple(known.positions) if known and known.positions else None)


def _add_gradient_x_input(verbs) -> None:
    parser = add_verb(
        verbs,
        "grad_input",
        _gradient_x_input,
        "gradient times input",
        "Write gradient times input (dataset importance_scores, beside inputs and metadata).",
        """
        kipoi-borzoi interpret grad_input Borzoi/human/rep0/logsum -f 1870 -o grad_input.h5 \\
            --dataloader_args intervals_file=regions.bed fasta_file=hg38.fa
        """,
    )
    parser.add_argument("model", metavar="ENTRY", help="an entry of view sum or logsum")
    parser.add_argument("--source", default="borzoi", help="its Kipoi source (default: %(default)s)")
    parser.add_argument(
        "--dataloader_args", nargs="+", required=True, metavar="NAME=VALUE", help="or a JSON text or file, as for Kipoi"
    )
    parser.add_argument("-f", "--filter_idx", metavar="I", help="index of a track, or a slice such as [0:4] (default: all)")
    parser.add_argument(
        "-a", "--avg_func", choices=["sum", "max", "min", "absmax"], default="sum", help="over the tracks (default: sum)"
    )
    parser.add_argument("--batch_size", type=int, default=4, help="windows in memory at a time (default: %(default)s)")
    parser.add_argument("-o", "--output", required=True, metavar="OUT.h5")


def _gradient_x_input(args) -> None:
    from kipoi_borzoi.kipoi_tools.interpret import gradient_x_input, parse_filter, parse_loader_args

    windows = gradient_x_input(
        args.model,
        args.source,
        parse_loader_args(args.dataloader_args),
        args.output,
        parse_filter(args.filter_idx),
        args.avg_func,
        args.batch_size,
    )
    print(f"{args.output}\t{windows} windows")
