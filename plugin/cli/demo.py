"""`kipoi-borzoi demo`: see it work, offline."""

from kipoi_borzoi.cli.verbs import add_verb


def add_parser(nouns) -> None:
    """Add the verb to the command."""
    parser = add_verb(
        nouns,
        "demo",
        _demo,
        "run the packaged demonstration model through Kipoi",
        "Register the packaged zoo, predict the demo's regions with `kipoi predict`, and print and draw the\n"
        "result. Needs no network. Everything, Kipoi's configuration of the demo included, goes to one folder.",
        """
        kipoi-borzoi demo
        kipoi-borzoi demo --out results/demo
        """,
    )
    parser.add_argument("--out", default="demo_output", metavar="DIR", help="folder for the results (default: %(default)s)")


def _demo(args) -> None:
    from kipoi_borzoi.demo import RANDOM, format_table, run_demo

    result = run_demo(args.out)
    print(format_table(result.table))
    print(f"\npredictions  {result.predictions}\npicture      {result.picture}\n{RANDOM}")
