"""`kipoi-borzoi demo`: see it work, offline."""

from kipoi_borzoi.cli.verbs import add_verb


def add_parser(nouns) -> None:
    """Add the verb to the command."""
    parser = add_verb(
        nouns,
        "demo",
        _demo,
        "run the packaged, trained demonstration models",
        "Register the packaged zoo, predict coverage in two cell types of a simulated genome with `kipoi predict`,\n"
        "score variants, and print and draw the results beside the truth. Needs no network. Everything, Kipoi's\n"
        "configuration of the demo included, goes to one folder.",
        """
        kipoi-borzoi demo
        kipoi-borzoi demo --out results/demo
        """,
    )
    parser.add_argument("--out", default="demo_output", metavar="DIR", help="folder for the results (default: %(default)s)")


def _demo(args) -> None:
    from kipoi_borzoi.demo.run import SIMULATED, run_demo
    from kipoi_borzoi.demo.tables import effects_table, expression_table

    result = run_demo(args.out)
    print(f"\nExpression, log2 ({' / '.join(result.expression.cells)}), largest predicted changes:")
    print(expression_table(result.expression))
    print("\nVariants, log2 fold change of a gene, largest predicted effects:")
    print(effects_table(result.effects))
    files = [*result.predictions.values(), result.scores, *result.pictures]
    print("\n" + "\n".join(map(str, files)) + f"\n{SIMULATED}")
