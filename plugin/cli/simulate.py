"""`kipoi-borzoi simulate`: a genome in which the truth is known."""

from kipoi_borzoi.cli.verbs import add_verb

_OPTIONS = {
    "genes": (int, "N", "number of genes"),
    "genome_length": (int, "BP", "length of the genome, rounded up to windows of 4,096 bp"),
    "factors": (int, "N", "number of factors, 3 to 12"),
    "pretrain_cells": (int, "N", "cell types for pre-training a base network"),
    "transfer_cells": (int, "N", "unseen cell types, for fine-tuning"),
    "conditions": (int, "N", "conditions of each cell type: the control and treatments"),
    "replicates": (int, "N", "replicates of each cell type and condition"),
    "noise": (float, "SD", "spread of log2 expression between replicates; 0: no noise at all"),
    "depth": (float, "X", "factor on the coverage"),
    "variants": (int, "N", "about how many variants (shares of each kind are rounded)"),
}


def add_parser(nouns) -> None:
    """Add the verb to the command."""
    parser = add_verb(
        nouns,
        "simulate",
        _simulate,
        "make a simulated genome with coverage, variants and truth",
        "Write a folder with a genome, genes, stranded RNA-seq coverage of several cell types and\n"
        "conditions, variants, and tables of the truth, which follows from the sequence by a rule that\n"
        "the folder's README.md writes down. The same options and seed give the same files.",
        """
        kipoi-borzoi simulate --out sim
        kipoi-borzoi simulate --out small --seed 3 --genes 100 --genome-length 500000 --pretrain-cells 2
        """,
    )
    parser.add_argument("--out", metavar="DIR", required=True, help="folder to make; it must not exist, or be empty")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="0 or more (default: %(default)s)")
    for name, (kind, metavar, text) in _OPTIONS.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=kind,
            metavar=metavar,
            default=None,
            help=f"{text} (default: {_default(name)})",
        )


def _default(name: str) -> str:
    defaults = {
        "genes": 3200, "genome_length": 4194304, "factors": 6, "pretrain_cells": 4, "transfer_cells": 2,
        "conditions": 2, "replicates": 2, "noise": 0.1, "depth": 1, "variants": 400,
    }  # fmt: skip
    return f"{defaults[name]:,}" if isinstance(defaults[name], int) else str(defaults[name])


def _simulate(args) -> None:
    import sys

    from tqdm import tqdm

    from kipoi_borzoi.simulation.simulate import SimulationOptions, simulate

    given = {name: getattr(args, name) for name in _OPTIONS if getattr(args, name) is not None}
    options = SimulationOptions(seed=args.seed, **given)
    simulation = simulate(
        args.out, options, lambda tracks: tqdm(tracks, desc="coverage", disable=not sys.stderr.isatty())
    )
    print(
        f"{args.out}: {len(simulation.genome.genes)} genes in {options.windows} windows, {len(simulation.states)} states, "
        f"{len(simulation.variants)} variants; the rule is written down in README.md"
    )
