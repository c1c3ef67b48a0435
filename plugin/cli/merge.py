"""`kipoi-borzoi merge`: one output of the shards of a run."""

from kipoi_borzoi.cli.verbs import add_verb


def add_parser(nouns) -> None:
    """Add the verb to the command."""
    parser = add_verb(
        nouns,
        "merge",
        _merge,
        "make one table of score's shards, or one attribution file of attribute's",
        "Join the shards that 'kipoi-borzoi score --shard I/N' or 'kipoi-borzoi attribute --shard I/N' wrote, in any\n"
        "order: the result is, byte by byte, what a run without shards would have written. All shards must be\n"
        "there, and of one run. Of scores, the suffix of --out names the format: .tsv, .tsv.gz, .parquet, .h5,\n"
        ".h5ad or .vcf.gz; attributions are written as .h5, with BigWig and .npz files beside it.",
        """
        kipoi-borzoi merge scores.*.shard --out scores.parquet
        kipoi-borzoi merge a.shard b.shard --out scores.vcf.gz
        kipoi-borzoi merge part.*.h5 --out attributions.h5
        """,
    )
    parser.add_argument("shards", metavar="SHARD", nargs="+", help="the shards of one run")
    parser.add_argument("--out", metavar="FILE", required=True, help="the table or attribution file to write")
    parser.add_argument("--no-bigwig", action="store_true", help="of attributions: write no BigWig file")
    parser.add_argument("--no-npz", action="store_true", help="of attributions: write no .npz files")
    parser.add_argument("--force", action="store_true", help="replace what exists")


def _merge(args) -> None:
    if any(path.endswith(".h5") for path in args.shards):
        from kipoi_borzoi.interpret.outputs import merge_attributions

        print(merge_attributions(args.shards, args.out, not args.no_bigwig, not args.no_npz, args.force))
        return
    from kipoi_borzoi.variants.output import merge_shards

    print(merge_shards(args.shards, args.out, force=args.force))
