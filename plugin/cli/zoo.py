"""`kipoi-borzoi zoo ...`: make, fill, list and verify a model zoo."""

import sys
from itertools import groupby

from kipoi_borzoi.cli.verbs import add_verb

_ZOO_HELP = "the zoo's folder (default: the one registered as Kipoi source 'borzoi'%s)"


def add_parser(nouns) -> None:
    """Add the noun and its verbs to the command."""
    noun = nouns.add_parser(
        "zoo", help="make, fill, list and verify a model zoo", description="Work with a Kipoi model zoo."
    )
    verbs = noun.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_init(verbs)
    _add_import(verbs)
    _add_publish(verbs)
    _add_ls(verbs)
    _add_verify(verbs)


def _add_init(verbs) -> None:
    parser = add_verb(
        verbs,
        "init",
        _init,
        "make a zoo of your own and register it with Kipoi",
        "Copy the packaged model groups into a folder of yours and register it as a Kipoi source.\n"
        "Safe to repeat: groups of an older version are refreshed; your own models, groups that you\n"
        "have edited, and the rest of Kipoi's configuration stay as they are.",
        """
        kipoi-borzoi zoo init
        kipoi-borzoi zoo init /data/zoo --name lab
        kipoi ls --source borzoi
        """,
    )
    parser.add_argument("directory", metavar="DIR", nargs="?", help="the zoo's folder (default: ~/.kipoi/borzoi_zoo)")
    parser.add_argument("--name", default="borzoi", help="name of the Kipoi source (default: %(default)s)")


def _init(args) -> None:
    from kipoi_borzoi.zoo import zoo_init

    report = zoo_init(args.directory, args.name)
    for group, state in report.groups.items():
        hint = (
            f": left alone; remove {report.directory / group} to have the packaged one again"
            if state == "edited"
            else ""
        )
        print(f"{group}\t{state}{hint}")
    state = "registered" if report.registered else "registered before"
    print(f"{report.directory}\t{state} as Kipoi source {report.name!r}: kipoi ls --source {report.name}")


def _add_import(verbs) -> None:
    parser = add_verb(
        verbs,
        "import",
        _import,
        "make Kipoi entries of a model in Calico's format",
        "Turn a network in Calico's format into the entries NAME/coverage, NAME/sum and NAME/logsum of\n"
        "your zoo. Params, weights and track table are each a file or an https URL.",
        """
        kipoi-borzoi zoo import mymodel --params params.json --weights model_best.h5 --targets targets.txt
        kipoi-borzoi zoo import lab/mouse --params p.json --weights model1_best.h5 --targets mouse.txt --head mouse
        kipoi predict mymodel/sum --source borzoi -o out.h5 --dataloader_args intervals_file=r.bed fasta_file=g.fa
        """,
    )
    parser.add_argument(
        "name", metavar="NAME", help="name of the model: parts of letters, digits, '_.-', joined by '/'"
    )
    parser.add_argument("--params", required=True, metavar="P.json", help="Calico's params.json")
    parser.add_argument(
        "--weights", required=True, metavar="W.h5", help="weights, .h5 (trunk and one head) or .safetensors"
    )
    parser.add_argument("--targets", required=True, metavar="T.txt", help="Calico's target table, one line per track")
    parser.add_argument("--head", help="the head that the weights hold, such as human (default: the only one)")
    parser.add_argument(
        "--crop", type=int, metavar="BINS", help="bins removed at each end (default: as the params say)"
    )
    parser.add_argument(
        "--transform",
        choices=["new", "old"],
        default="new",
        help="how the training data were squashed: by Calico's current code, or as for the published Borzoi "
        "(default: %(default)s)",
    )
    parser.add_argument("--zoo", metavar="DIR", help=_ZOO_HELP % "")
    parser.add_argument("--replace", action="store_true", help="replace an import of the same name")


def _import(args) -> None:
    from kipoi_borzoi.zoo import zoo_import

    names = zoo_import(
        args.name, args.params, args.weights, args.targets, args.head, args.crop, args.transform, args.zoo, args.replace
    )
    print("\n".join(names))


def _add_publish(verbs) -> None:
    parser = add_verb(
        verbs,
        "publish",
        _publish,
        "make Kipoi entries of an adapter directory",
        "Turn an adapter directory (of `adapter convert`, say) into the entries NAME/coverage, NAME/sum and\n"
        "NAME/logsum of your zoo. The adapter is copied; its base must be a model of the same zoo, whose\n"
        "weights the entries share.",
        """
        kipoi-borzoi zoo publish my_adapter lab/treated
        kipoi-borzoi zoo publish my_adapter lab/treated --base Borzoi/human/rep0 --replace
        kipoi predict lab/treated/sum --source borzoi -o out.h5 --dataloader_args intervals_file=r.bed fasta_file=g.fa
        """,
    )
    parser.add_argument("directory", metavar="DIR", help="the adapter directory")
    parser.add_argument(
        "name", metavar="NAME", help="name of the model: parts of letters, digits, '_.-', joined by '/'"
    )
    parser.add_argument(
        "--base", metavar="NAME", help="the base's entry without its view (default: the one that the adapter names)"
    )
    parser.add_argument(
        "--merge", action="store_true", help="let the entries fold the adapter into copies of the kernels it changes"
    )
    parser.add_argument("--zoo", metavar="DIR", help=_ZOO_HELP % "")
    parser.add_argument("--replace", action="store_true", help="replace a published adapter of the same name")


def _publish(args) -> None:
    from kipoi_borzoi.zoo import zoo_publish

    print("\n".join(zoo_publish(args.directory, args.name, args.zoo, args.base, args.merge, args.replace)))


def _add_ls(verbs) -> None:
    parser = add_verb(
        verbs,
        "ls",
        _ls,
        "list the entries of a zoo",
        "List models with their views, method, window in bp, tracks, and whether their weights are here.",
        """
        kipoi-borzoi zoo ls
        kipoi-borzoi zoo ls --zoo /data/zoo
        """,
    )
    parser.add_argument("--zoo", metavar="DIR", help=_ZOO_HELP % ", else the packaged one")


def _ls(args) -> None:
    from kipoi_borzoi.zoo import zoo_ls

    def facts(entry):
        number = ["?" if value is None else f"{value:,}" for value in (entry.window, entry.tracks)]
        return entry.name.rpartition("/")[0], entry.method, *number, entry.problem or entry.weights

    rows = [("model", "views", "method", "window", "tracks", "weights")]
    for (model, *others), entries in groupby(zoo_ls(args.zoo), key=facts):
        rows.append((model, ",".join(entry.name.rpartition("/")[2] for entry in entries), *others))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        print("  ".join([cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)] + [row[-1]]))


def _add_verify(verbs) -> None:
    parser = add_verb(
        verbs,
        "verify",
        _verify,
        "check the entries of a zoo",
        "Check descriptions, files, checksums and tables, load the models and predict a generated sequence.\n"
        "Entries whose files are not in the cache are reported as not downloaded. The exit status is 1\n"
        "when an entry fails.",
        """
        kipoi-borzoi zoo verify
        kipoi-borzoi zoo verify BorzoiDemo
        kipoi-borzoi zoo verify BorzoiMini/k562_rna/f0/sum --download
        """,
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="an entry or a folder of entries (default: all)")
    parser.add_argument("--zoo", metavar="DIR", help=_ZOO_HELP % ", else the packaged one")
    parser.add_argument("--download", action="store_true", help="download what is missing")
    parser.add_argument("--no-predict", action="store_true", help="do not load the models")


def _verify(args) -> int:
    from kipoi_borzoi.zoo.verify import verify_one_by_one

    statuses = []
    for entry in verify_one_by_one(args.name, args.zoo, download=args.download, predict=not args.no_predict):
        print(f"{entry.status}\t{entry.name}\t{entry.detail}", flush=True)
        statuses.append(entry.status)
    failed = statuses.count("failed")
    if failed:
        print(f"kipoi-borzoi: error: {failed} of {len(statuses)} entries failed", file=sys.stderr)
    return 1 if failed else 0
