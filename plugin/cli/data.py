"""`kipoi-borzoi data ...`: make and check the data sets that networks are trained and evaluated on."""

import argparse
import json
import sys

from kipoi_borzoi.cli.cluster_option import add_cluster, client_of
from kipoi_borzoi.cli.verbs import add_verb


def add_parser(nouns) -> None:
    """Add the noun and its verbs to the command."""
    noun = nouns.add_parser(
        "data",
        help="make and check data sets for training and evaluation",
        description="Work with stores: data sets of DNA windows and binned coverage.",
    )
    verbs = noun.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_build(verbs)
    _add_import(verbs)
    _add_check(verbs)


def _add_sources(parser, required: bool) -> None:
    parser.add_argument(
        "--targets",
        metavar="FILE",
        required=required,
        help="target table; its column 'file' names BigWig or w5 files, relative to the table's folder",
    )
    parser.add_argument("--fasta", metavar="FILE", required=required, help="the genome, plain or bgzip")
    parser.add_argument(
        "--sequences",
        metavar="FILE",
        required=required,
        help="BED file with the fold in column 4: chrom, start, end, fold",
    )
    parser.add_argument("--blacklist", metavar="FILE", help="BED file of stretches whose coverage is an artefact")
    parser.add_argument(
        "--seq-length",
        metavar="BP",
        type=int,
        help="length of the windows; intervals may be of this length, or shorter by the crop at both ends, as in Calico's"
        " files (default: the intervals' length)",
    )
    parser.add_argument(
        "--crop-bp",
        metavar="BP",
        type=int,
        default=0,
        help="bp at each end of a window that have no targets; must be that of the network you train (default: %(default)s)",
    )
    parser.add_argument(
        "--pool-width", metavar="BP", type=int, default=32, help="bp of a bin (default: %(default)s, as Borzoi's)"
    )
    parser.add_argument(
        "--transform",
        choices=("new", "old"),
        default="new",
        help="how coverage is squashed: new, as Calico's current code does, or old, as for the released Borzoi weights,"
        " which is needed to train their heads on (default: %(default)s)",
    )
    parser.add_argument(
        "--abs",
        action="store_true",
        help="take the absolute value of negative coverage, as some tools write it for the minus strand",
    )


def _add_build(verbs) -> None:
    parser = add_verb(
        verbs,
        "build",
        _build,
        "make a store from BigWig or w5 files",
        "Read the coverage of every track and sequence, bin and squash it, and write it with the DNA into a\n"
        "store: one compressed file that training and evaluation read. Tracks that are finished are kept\n"
        "when the command is stopped in any way; run it again to continue.",
        """
        kipoi-borzoi data build --targets targets.txt --fasta hg38.fa --sequences sequences.bed --out store
        kipoi-borzoi data build --targets targets.txt --fasta hg38.fa --sequences sequences.bed --out store
          --blacklist blacklist.bed --seq-length 524288 --crop-bp 163840 --processes 4
        """,
    )
    _add_sources(parser, required=True)
    parser.add_argument("--out", metavar="STORE", required=True, help="folder to write")
    parser.add_argument(
        "--clip-extremes",
        action="store_true",
        help="clip each track at the 0.9999999 quantile of its targets, as Calico's code does",
    )
    parser.add_argument(
        "--processes", metavar="N", type=int, default=1, help="tracks read at the same time (default: %(default)s)"
    )
    add_cluster(parser)
    parser.add_argument("--restart", action="store_true", help="throw the parts of an unfinished build away")
    _add_output_options(parser)


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--replace", action="store_true", help="replace a complete store")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def _build(args) -> None:
    from kipoi_borzoi.training.build import CALICO_CLIP_QUANTILE, build

    with client_of(args) as client:
        run = {}
        if client is not None:
            from kipoi_borzoi.cluster.jobs import run_jobs_on

            run = {"run": run_jobs_on(client)}
        store = build(
            args.targets, args.fasta, args.sequences, args.out, blacklist=args.blacklist, transform=args.transform,
            crop_bp=args.crop_bp, pool_width=args.pool_width, seq_length=args.seq_length,
            negative="abs" if args.abs else "error", clip_quantile=CALICO_CLIP_QUANTILE if args.clip_extremes else None,
            processes=args.processes, restart=args.restart, replace=args.replace, progress=not args.quiet, **run,
        )  # fmt: skip
    print(json.dumps(describe(store)))


def describe(store) -> dict:
    """What a store is, in one JSON object."""
    return {
        "store": str(store.path.parent),
        "key": store.key,
        "examples": {fold: len(store.indices(fold)) for fold in store.folds},
        "tracks": len(store.tracks),
        "seq_length": store.seq_length,
        "crop_bp": store.crop_bp,
        "pool_width": store.bin_size,
        "bins": store.bins,
        "transform": store.transform,
        "bytes": store.path.stat().st_size,
    }


def _add_import(verbs) -> None:
    parser = add_verb(
        verbs,
        "import-tfrecords",
        _import,
        "make a store from a data folder of Calico's",
        "Read statistics.json, sequences.bed, targets.txt and tfrecords/FOLD-N.tfr, as hound_data.py and\n"
        "basenji_data.py write them.",
        """
        kipoi-borzoi data import-tfrecords data/hg38 --out store
        """,
    )
    parser.add_argument("directory", metavar="DIR", help="the folder with statistics.json")
    parser.add_argument("--out", metavar="STORE", required=True, help="folder to write")
    parser.add_argument("--targets", metavar="FILE", help="another target table (default: DIR/targets.txt)")
    parser.add_argument(
        "--transform",
        choices=("new", "old"),
        default="new",
        help="how the coverage was squashed, which the files do not say: old for the data of the released Borzoi weights"
        " (default: %(default)s)",
    )
    _add_output_options(parser)


def _import(args) -> None:
    from kipoi_borzoi.training.tfrecords import import_tfrecords

    store = import_tfrecords(
        args.directory, args.out, args.transform, args.targets, args.replace, progress=not args.quiet
    )
    print(json.dumps(describe(store)))


def _add_check(verbs) -> None:
    parser = add_verb(
        verbs,
        "check",
        _check,
        "look for what goes wrong in practice",
        "Look at a store, or at the files that one is to be built of (with --targets, --fasta and --sequences):\n"
        "contig names and lengths, negative coverage, tracks with almost no coverage, a scale that does not\n"
        "fit the depth (one is proposed), strands that look swapped (with --genes), folds that overlap.\n"
        "Exit status 1 when something is wrong.",
        """
        kipoi-borzoi data check store --genes genes.gtf
        kipoi-borzoi data check --targets targets.txt --fasta hg38.fa --sequences sequences.bed --genes genes.gtf
        kipoi-borzoi data check store --format tsv > findings.tsv
        """,
    )
    parser.add_argument("store", metavar="STORE", nargs="?", help="a complete store")
    _add_sources(parser, required=False)
    parser.add_argument("--genes", metavar="FILE", help="GTF, or BED with strands (.bed), for the check of strands")
    parser.add_argument(
        "--sample",
        metavar="N",
        type=int,
        help="sequences to read, evenly spaced (default: 200 of a store, 40 of files)",
    )
    parser.add_argument(
        "--format",
        choices=("text", "tsv", "json"),
        default="text",
        help="text for people, tsv with one finding a line, or json with numbers for each track, too (default: %(default)s)",
    )


def _check(args) -> int:
    from kipoi_borzoi.dataloaders.coverage import Recipe
    from kipoi_borzoi.errors import InputError
    from kipoi_borzoi.training import check

    given = [args.targets, args.fasta, args.sequences]
    if bool(args.store) == any(given) or (any(given) and not all(given)):
        raise InputError("give either a store, or --targets, --fasta and --sequences together")
    if args.store:
        report = check.check_store(args.store, args.genes, 200 if args.sample is None else args.sample)
    else:
        from pathlib import Path

        from kipoi_borzoi.training.build import Sources

        sources = Sources(*map(Path, given), Path(args.blacklist) if args.blacklist else None)
        recipe = Recipe(args.transform, args.crop_bp, args.pool_width, "abs" if args.abs else "error")
        sample = 40 if args.sample is None else args.sample
        report = check.check_sources(sources, recipe, args.seq_length, args.genes, sample)
    if args.format == "json":
        print(json.dumps(report.as_dict()))
    else:
        write = check.write_text if args.format == "text" else check.write_tsv
        write(report, lambda line: print(line, file=sys.stdout))
    return 1 if report.problems else 0
