"""`kipoi-borzoi score`: the alleles of a VCF to a table of scores."""

import argparse

from kipoi_borzoi.cli.cluster_option import add_cluster, client_of
from kipoi_borzoi.cli.verbs import add_verb, integers, names


def add_parser(nouns) -> None:
    """Add the verb to the command."""
    parser = add_verb(
        nouns,
        "score",
        _score,
        "score the alleles of a VCF",
        "Predict the effect of every allele of a VCF and write one table. Each ALT is an allele of its own;\n"
        "none is lost: those that cannot be scored are in the table with a reason, and counted in the last\n"
        "line of output. `kipoi-borzoi scorers` lists the scores. More: docs/variants.md.",
        """
        kipoi-borzoi score --model Borzoi/human/rep0 --vcf my.vcf.gz --fasta hg38.fa --out scores.tsv.gz
        kipoi-borzoi score --model Borzoi/human/ensemble --vcf my.vcf.gz --fasta hg38.fa --out scores.parquet
          --tracks 'RNA:.*liver' --genes gencode.gtf.gz --scores logSED
        kipoi-borzoi score --model BorzoiDemo/base --vcf variants.vcf --fasta genome.fa.gz --out scores.tsv
        """,
    )
    parser.add_argument(
        "--model", metavar="NAME[,NAME...]", required=True, type=names, action="extend",
        help="entries of the zoo without their view; those with the same tracks are scored as an ensemble",
    )  # fmt: skip
    parser.add_argument("--vcf", metavar="IN", required=True, help="VCF, VCF.gz or BCF")
    parser.add_argument("--fasta", metavar="FA", required=True, help="the genome of its positions, plain or bgzip")
    parser.add_argument(
        "--out", metavar="OUT", required=True, help="the table; its suffix names the format (.tsv, .tsv.gz, .parquet, .h5, .h5ad, .vcf.gz)"
    )
    add_what(parser)
    add_how(parser)
    _add_run(parser)


def add_what(parser) -> None:
    """Add the options that say which scores of which tracks."""
    group = parser.add_argument_group("what to score")
    group.add_argument(
        "--scores", metavar="NAME[,NAME...]", type=names, action="extend",
        help="which scores (default: SUM,logSUM,logD2 and, with --genes, SED,logSED); with --genes, a name that exists"
        " for alleles and genes means both, gene:NAME genes alone",
    )  # fmt: skip
    group.add_argument("--genes", metavar="GTF", help="annotation, for scores per gene")
    group.add_argument("--polya", metavar="BED", help="polyadenylation sites (name: gene_id), for COVR")
    group.add_argument(
        "--tracks", metavar="TRACK", action="append",
        help="an identifier, a file (one per line, or Calico's table), or a pattern found in descriptions; may be"
        " repeated (default: all)",
    )  # fmt: skip
    group.add_argument("--contrast", metavar="FILE", help="TSV of name, track, weight: signed sums of tracks' scores")
    group.add_argument("--specificity", action="store_true", help="also give each score minus its mean over the other tracks")
    group.add_argument("--separate", action="store_true", help="no ensemble: each model has columns of its own")
    group.add_argument("--regions", metavar="BED", help="score only the alleles in these regions")


def add_how(parser) -> None:
    """Add the options that say how alleles are predicted."""
    group = parser.add_argument_group("how to predict")
    group.add_argument("--rc", action="store_true", help="average the predictions of both strands")
    group.add_argument(
        "--shifts", metavar="BP[,BP...]", type=integers, default=[0],
        help="bp by which the window is moved, such as --shifts=0,-1,1; scores are averaged (default: 0)",
    )  # fmt: skip
    group.add_argument(
        "--indels", choices=("align", "none"), default="align",
        help="compare the bins behind an indel with those of the same sequence, at the price of a third prediction"
        " (default: %(default)s)",
    )  # fmt: skip
    group.add_argument("--max-indel", metavar="BP", type=int, default=1000, help="longest allele to score (default: %(default)s)")
    group.add_argument(
        "--window", choices=("variant", "cluster", "gene"), default="variant",
        help="centre the window on each variant, share it between neighbours (several times faster), or centre it on each"
        " gene (gene scores alone) (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--exon-bins", choices=("overlap", "majority"), default="overlap",
        help="which bins belong to an exon: all that it overlaps, or those it covers for the most part (default: %(default)s)",
    )  # fmt: skip
    group.add_argument("--precision", choices=("float32", "mixed_bfloat16"), default="float32", help="(default: %(default)s)")
    group.add_argument(
        "--max-mismatch", metavar="FRACTION", type=float, default=0.05,
        help="stop when more REF alleles than this differ from the FASTA: the genome is another (default: %(default)s)",
    )  # fmt: skip


def add_zoo(group) -> None:
    """Add the option that says where models are looked up."""
    group.add_argument("--zoo", metavar="DIR", help="the zoo's folder (default: the one registered as Kipoi source 'borzoi')")


def _add_run(parser) -> None:
    group = parser.add_argument_group("the run")
    group.add_argument("--shard", metavar="I/N", type=_shard, default=(1, 1), help="score the I-th of N parts, for `merge`")
    group.add_argument("--background", metavar="B", help="give quantiles from what `kipoi-borzoi background` has written")
    group.add_argument("--force", action="store_true", help="replace an existing table, and start over")
    add_cluster(group)
    add_zoo(group)


def _score(args) -> int:
    from kipoi_borzoi.errors import InputError
    from kipoi_borzoi.scoring import prepare_scoring
    from kipoi_borzoi.variants.output import check_name

    inputs = [path for path in (args.vcf, args.fasta, args.genes, args.polya, args.contrast, args.regions, args.background) if path]
    check_name(args.out, inputs, args.shard, args.force)
    scoring = prepare_scoring(args.model, args.vcf, args.fasta, background=args.background, **scoring_options(args))
    with client_of(args) as client:
        summary = _write(scoring, client, args, inputs)
    print(summary)
    # A shard may happen to hold nothing that can be scored; the run that it belongs to fails only if all do.
    if summary.alleles and not summary.scored and (args.shard[1] == 1 or not scoring.survey.scored):
        raise InputError(f"{args.vcf}: none of its {summary.alleles} alleles could be scored; {args.out} says why")
    return 0


def _write(scoring, client, args, inputs):
    from functools import partial

    from kipoi_borzoi.variants.output import write_scores

    return write_scores(
        scoring.chunks if client is None else partial(scoring.chunks_on, client), args.out, scoring.table.columns,
        scoring.scorers, scoring.gene_scorers, scoring.provenance, scoring.key, args.shard, scoring.survey.total, profiles=scoring.profiles, inputs=inputs, force=args.force,
        align=scoring.engine.chunk_alleles, contigs=scoring.contigs,
    )  # fmt: skip


def scoring_options(args) -> dict:
    """The arguments of `kipoi_borzoi.scoring.prepare_scoring` that `add_what` and `add_how` have read."""
    return {
        "scores": args.scores, "genes": args.genes, "polya": args.polya, "tracks": args.tracks, "contrasts": args.contrast,
        "separate": args.separate, "specificity": args.specificity, "rc": args.rc, "shifts": args.shifts,
        "indels": args.indels, "max_indel": args.max_indel, "window": args.window, "exon_bins": args.exon_bins,
        "precision": args.precision, "regions": args.regions, "max_mismatch": args.max_mismatch, "zoo": args.zoo,
    }  # fmt: skip


def _shard(text: str) -> tuple[int, int]:
    part, _, of = text.partition("/")
    if not (part.isdigit() and of.isdigit() and 1 <= int(part) <= int(of)):
        raise argparse.ArgumentTypeError(f"{text!r}: expected I/N with 1 <= I <= N, such as 2/10")
    return int(part), int(of)
