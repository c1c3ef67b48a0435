"""`kipoi-borzoi scorers`: the scores that variants can be given, with their formulas."""

from kipoi_borzoi.cli.verbs import add_verb


def add_parser(nouns) -> None:
    """Add the verb to the command."""
    add_verb(
        nouns,
        "scorers",
        _scorers,
        "list the scores with their formulas",
        "List every score: name, what it is given per, whether its sign has a meaning, how the two strands of\n"
        "a track are put together, formula, use. r and a are the bins of the predicted coverage of the\n"
        "reference and the alternative, unsquashed; with several shifts, scores are means over them.",
        """
        kipoi-borzoi scorers
        """,
    )


def _scorers(args) -> None:
    from kipoi_borzoi.variants.scores import GENE_SCORERS, VARIANT_SCORERS

    print("scorer\tper\tsigned\tstrands\tformula\tdescription")
    for scorer in (*VARIANT_SCORERS.values(), *GENE_SCORERS.values()):
        per = "allele, gene and track" if scorer.per_gene else "bin" if scorer.is_profile else "allele and track"
        print(scorer.name, per, "yes" if scorer.signed else "no", scorer.strands, scorer.formula, scorer.description, sep="\t")
