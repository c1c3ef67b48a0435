"""`kipoi-borzoi attribute`: which bases explain the expression of genes, or its change."""

from kipoi_borzoi.cli.cluster_option import add_cluster, client_of
from kipoi_borzoi.cli.explain_options import add_ensemble, add_models, add_quantity, explain_options
from kipoi_borzoi.cli.verbs import add_verb

_METHODS = ("input_x_gradient", "gradient", "smoothgrad", "ism", "shuffle")


def add_parser(nouns) -> None:
    """Add the verb to the command."""
    parser = add_verb(
        nouns,
        "attribute",
        _attribute,
        "explain which bases a prediction, or its change, depends on",
        "Explain genes or regions: how much each base contributes to log2(pseudocount + coverage summed over the\n"
        "gene's exons and averaged over tracks), or to the difference of two such logarithms. Writes OUT.h5 and,\n"
        "beside it, a BigWig file and the two .npz files that `modisco motifs` reads. More: docs/drivers.md.",
        """
        kipoi-borzoi attribute --model lab/treated --fasta hg38.fa --genes genes.gtf --gene-ids ids.txt --out treated.h5
        kipoi-borzoi attribute --model lab/both --fasta hg38.fa --genes genes.gtf --contrast contrast.tsv --rc --out change.h5
        kipoi-borzoi attribute --model lab/treated --fasta hg38.fa --regions peaks.bed --method ism --span 400 --out ism.h5
        """,
    )
    add_models(parser)
    parser.add_argument("--out", metavar="OUT.h5", required=True, help="the attribution file")
    what = parser.add_argument_group("what to explain")
    what.add_argument("--genes", metavar="GTF", help="annotation: explain genes")
    what.add_argument("--gene-ids", metavar="FILE", help="which genes: a gene_id or name per line (default: all)")
    what.add_argument(
        "--regions", metavar="BED", help="explain regions; a strand (column 6) restricts the tracks to its own"
    )
    what.add_argument(
        "--relative-to", metavar="BED",
        help="explain ratios: divide by the coverage of these stretches, named (column 4) as the genes or regions are",
    )  # fmt: skip
    add_quantity(what)
    how = parser.add_argument_group("how to explain")
    how.add_argument("--method", choices=_METHODS, default="input_x_gradient", help="(default: %(default)s)")
    add_ensemble(how)
    how.add_argument(
        "--span", metavar="BP", type=int,
        help="explain so many bp around the start of the gene or the centre of the region (default: the whole window for"
        " gradients, 200 for ism, 2000 for shuffle)",
    )  # fmt: skip
    how.add_argument(
        "--block",
        metavar="BP",
        type=int,
        help="ism: replace stretches of BP by N; shuffle: length of a stretch (default: 20)",
    )
    how.add_argument(
        "--stride", metavar="BP", type=int, help="from the start of a stretch to that of the next (default: --block)"
    )
    how.add_argument(
        "--shuffles", metavar="N", type=int, default=3, help="shufflings of each stretch (default: %(default)s)"
    )
    how.add_argument(
        "--samples", metavar="N", type=int, default=10, help="smoothgrad: noisy copies (default: %(default)s)"
    )
    how.add_argument(
        "--noise", metavar="SD", type=float, default=0.1, help="smoothgrad: standard deviation (default: %(default)s)"
    )
    how.add_argument("--seed", metavar="S", type=int, default=0, help="of noise and shuffles (default: %(default)s)")
    run = parser.add_argument_group("the run")
    run.add_argument("--no-bigwig", action="store_true", help="write no BigWig file")
    run.add_argument("--no-npz", action="store_true", help="write no .npz files")
    run.add_argument(
        "--shard", metavar="I/N", type=shard, default=(1, 1), help="explain the I-th of N parts of the targets"
    )
    add_cluster(run)
    run.add_argument("--force", action="store_true", help="replace existing output, and start over")


def _attribute(args) -> int:
    from kipoi_borzoi.attributing import attribute
    from kipoi_borzoi.errors import InputError
    from kipoi_borzoi.interpret.methods import Method

    default = 20 if args.method == "shuffle" else 1
    block = default if args.block is None else args.block
    method = Method(
        args.method,
        block,
        block if args.stride is None else args.stride,
        args.shuffles,
        args.samples,
        args.noise,
        args.seed,
    )
    with client_of(args) as client:
        summary = attribute(
            args.model, args.fasta, args.out, genes=args.genes, gene_ids=args.gene_ids, regions=args.regions,
            relative_to=args.relative_to, method=method, span=args.span, shard=args.shard, bigwig=not args.no_bigwig,
            npz=not args.no_npz, force=args.force, client=client, **explain_options(args),
        )  # fmt: skip
    print(summary)
    if not summary.explained and summary.skipped:
        raise InputError(f"none of the {sum(summary.skipped.values())} targets could be explained; {args.out} says why")
    return 0


def shard(text: str) -> tuple[int, int]:
    """``I/N`` as two numbers."""
    import argparse

    part, _, of = text.partition("/")
    if not (part.isdigit() and of.isdigit() and 1 <= int(part) <= int(of)):
        raise argparse.ArgumentTypeError(f"{text!r}: expected I/N with 1 <= I <= N, such as 2/10")
    return int(part), int(of)
