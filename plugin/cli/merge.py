"""`kipoi-borzoi merge`: one table of the shards of a run."""

from kipoi_borzoi.cli.verbs import add_verb


def add_parser(nouns) -> None:
    """Add the verb to the command."""
    parser = add_verb(
        nouns,
        "merge",
        _merge,
        "make one table of score's shards",
        "Join the shards that 'kipoi-borzoi score --shard I/N' wrote, in any order: the result is, byte by byte, the\n"
        "table that a run without shards would have written. All shards must be there, of one run, and hold\n"
        "every allele of the input once. The suffix of --out names the format: .tsv, .tsv.gz, .parquet, .h5,\n"
        ".h5ad or .vcf.gz.",
        """
        kipoi-borzoi merge scores.*.shard --out scores.parquet
        kipoi-borzoi merge a.shard b.shard --out scores.vcf.gz
        """,
    )
    parser.add_argument("shards", metavar="SHARD", nargs="+", help="the shards of one run")
    parser.add_argument("--out", metavar="FILE", required=True, help="the table to write")
    parser.add_argument("--force", action="store_true", help="replace the table if it exists")


def _merge(args) -> None:
    from kipoi_borzoi.variants.output import merge_shards

    print(merge_shards(args.shards, args.out, force=args.force))
