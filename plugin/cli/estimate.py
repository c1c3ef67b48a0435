"""`kipoi-borzoi estimate`: what a scoring will take, from a few alleles scored here."""

import argparse

from kipoi_borzoi.cli.score import add_how, add_what, add_zoo, scoring_options
from kipoi_borzoi.cli.verbs import add_verb, names


def add_parser(nouns) -> None:
    """Add the verb to the command."""
    parser = add_verb(
        nouns,
        "estimate",
        _estimate,
        "say what scoring a VCF will take: time, memory, disk, workers",
        "Check the input as `kipoi-borzoi score` does, score a few of its alleles on this machine, and print what all\n"
        "of them will take, how many workers end in time, and how to start them. More: docs/cluster.md.",
        """
        kipoi-borzoi estimate --model Borzoi/human/rep0 --vcf my.vcf.gz --fasta hg38.fa
        kipoi-borzoi estimate --model Borzoi/human/ensemble --vcf my.vcf.gz --fasta hg38.fa --window cluster
          --variants 1000000 --within 48 --out .parquet
        """,
    )
    parser.add_argument(
        "--model", metavar="NAME[,NAME...]", required=True, type=names, action="extend", help="as for `kipoi-borzoi score`"
    )
    parser.add_argument("--vcf", metavar="IN", required=True, help="VCF, VCF.gz or BCF: what will be scored, or a part like it")
    parser.add_argument("--fasta", metavar="FA", required=True, help="the genome of its positions, plain or bgzip")
    group = parser.add_argument_group("what to estimate")
    group.add_argument("--alleles", metavar="K", type=int, default=8, help="alleles to time, about (default: %(default)s)")
    group.add_argument("--variants", metavar="N", type=int, help="alleles of the run to be (default: those of --vcf)")
    group.add_argument("--within", metavar="HOURS", type=float, default=24.0, help="when it shall have ended (default: 24)")
    group.add_argument(
        "--out",
        metavar="OUT",
        default=".tsv.gz",
        help="the table to be, or its suffix; nothing is written there (default: %(default)s)",
    )
    add_zoo(group)
    add_what(parser)
    add_how(parser)


def _estimate(args) -> None:
    import time

    from kipoi_borzoi.estimating import Request, estimate_scoring
    from kipoi_borzoi.variants.writers import SUFFIXES

    # Of a name, the suffix of the format that it ends with; else what is given, for the error to name.
    request = Request(
        args.alleles, args.variants, args.within, next((one for one in SUFFIXES if args.out.endswith(one)), args.out)
    )
    begin = time.perf_counter()
    from kipoi_borzoi.scoring import prepare_scoring

    scoring = prepare_scoring(args.model, args.vcf, args.fasta, **scoring_options(args))
    estimate = estimate_scoring(scoring, request, time.perf_counter() - begin)
    print("\n".join([*_table(estimate, request.format), "", *_how_to_run(estimate, args, request.format)]))


def _table(estimate, suffix: str) -> list[str]:
    low, high = estimate.range_s
    groups, timed = len(estimate.timed), sum(one.alleles for one in estimate.timed)
    workers = estimate.workers
    prepare, compiling = _time(estimate.prepare_s), _time(estimate.compile_s)
    rows = [
        ("alleles", f"{estimate.alleles:,}, of which {estimate.scored:,} can be scored"),
        ("networks", f"{estimate.networks}"),
        ("start-up", f"{_time(estimate.start_s)} of every worker ({prepare} for input and models, {compiling} to compile)"),
        (
            "per allele",
            f"{_time(estimate.per_allele_s)} ({_time(low)} to {_time(high)}; timed: {timed} alleles in {groups} groups)",
        ),
        ("writing the table", _time(estimate.writing_s)),
        ("one process", _time(estimate.one_process_s)),
        ("peak memory", "not told by this system" if estimate.memory is None else f"{_size(estimate.memory)} of every worker"),
        ("disk", f"{_size(estimate.table)} as {suffix}, and {_size(estimate.parts)} in OUT.parts until it is whole"),
        (f"workers for {estimate.within_h:g} h", _workers(estimate) if workers is None else f"{workers:,}"),
    ]  # fmt: skip
    width = max(len(name) for name, _ in rows) + 2
    return [f"{name:<{width}}{text}" for name, text in rows] + ["", "assumed:", *(f"- {text}" for text in estimate.assumptions)]


def _workers(estimate) -> str:
    least = estimate.start_s + estimate.chunk_s + estimate.writing_s
    return (
        f"no number is enough: start-up, one piece of {min(estimate.chunk, estimate.alleles)} alleles and writing the table "
        f"take {_time(least)}"
    )


def _how_to_run(estimate, args, suffix: str) -> list[str]:
    import shlex

    score = shlex.join(["kipoi-borzoi", "score", *_given(args)])
    out = shlex.quote(f"scores{suffix}" if args.out == suffix else args.out)
    workers = estimate.workers
    if workers is None or workers == 1:
        return ["to run it:", f"  {score} --out {out}"]
    return [
        f"to run it with {workers} workers, as jobs (I from 1 to {workers}), then merged:",
        f"  {score} --shard I/{workers} --out part.I.shard",
        f"  kipoi-borzoi merge part.*.shard --out {out}",
        "or by Dask, here where there are cores or GPUs for all, else with a .yaml file (docs/cluster.md):",
        f"  {score} --out {out} --cluster local:{workers}",
    ]


def _given(args) -> list[str]:
    """The options of `score` that are not the defaults, as they are typed."""
    parser = argparse.ArgumentParser(add_help=False)
    add_what(parser)
    add_how(parser)
    add_zoo(parser)
    given = ["--model", ",".join(args.model), "--vcf", args.vcf, "--fasta", args.fasta]
    for action in parser._actions:
        value, option = getattr(args, action.dest), action.option_strings[-1]
        if value == action.default:
            continue
        if value is True:
            given.append(option)
        elif action.dest == "tracks":
            given += [text for one in value for text in (option, one)]
        elif isinstance(value, list):  # --shifts=-1,0: joined, since a number may begin with a sign
            given.append(f"{option}={','.join(map(str, value))}")
        else:
            given += [option, str(value)]
    return given


def _time(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds:.2g} s"


def _size(number: float) -> str:
    for size, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.0f} bytes"
