"""`kipoi-borzoi veff2`: kipoi_veff2 with entries of yours."""

from kipoi_borzoi.cli.verbs import add_verb


def add_parser(nouns) -> None:
    """Add the verb to the command."""
    parser = add_verb(
        nouns,
        "veff2",
        _veff2,
        "score variants with kipoi_veff2",
        "Score a VCF file through kipoi_veff2 with an entry of view sum or logsum of any local Kipoi source. Refuses,\n"
        "before it starts, what kipoi_veff2 would score wrongly: a REF that is not in the FASTA file, several ALTs\n"
        "in a record, alleles that are not of A, C, G and T. Scorers: diff, ref and alt (of what the entry\n"
        "predicts), SUM (alt - ref of summed coverage) and logSED (log2(1 + alt) - log2(1 + ref) of it).",
        """
        kipoi-borzoi veff2 in.vcf hg38.fa out.tsv -m Borzoi/human/rep0/sum -s logSED
        kipoi-borzoi veff2 -m lab/k562/logsum -s diff -s alt in.vcf.gz hg38.fa out.tsv
        """,
    )
    parser.add_argument("vcf", metavar="IN.vcf", help="variants: VCF, VCF.gz or BCF, one ALT per record")
    parser.add_argument("fasta", metavar="REF.fa", help="the genome, plain or bgzip")
    parser.add_argument("output", metavar="OUT.tsv", help="table of scores; replaced when it is there")
    parser.add_argument(
        "-m", "--model", required=True, metavar="GROUP/...", help="the entry; SOURCE:GROUP/... to say of which source"
    )
    parser.add_argument(
        "-s", "--scorer", action="append", metavar="SCORER", help="may be repeated (default: diff)"
    )


def _veff2(args) -> None:
    from kipoi_borzoi.kipoi_tools.veff2 import veff2

    columns = veff2(args.vcf, args.fasta, args.output, args.model, args.scorer or ["diff"])
    print(f"{args.output}\t{len(columns)} columns of scores")
