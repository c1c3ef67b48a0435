"""`kipoi-borzoi adapter ...`: count, merge and convert fine-tuned models."""

import json
import sys
from pathlib import Path

from kipoi_borzoi.cli.verbs import add_verb
from kipoi_borzoi.errors import InputError, KipoiBorzoiError

_BASE_HELP = "a file of weights (.h5 or .safetensors), an https URL, or the name of a zoo's entry"


def add_parser(nouns) -> None:
    """Add the noun and its verbs to the command."""
    noun = nouns.add_parser(
        "adapter",
        help="count, merge and convert fine-tuned models",
        description="Work with adapters: fine-tuned models.",
    )
    verbs = noun.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_plan(verbs)
    _add_merge(verbs)
    _add_convert(verbs)


def _add_ia3_rule(parser) -> None:
    parser.add_argument(
        "--ia3-rule",
        choices=("structure", "calico"),
        default="structure",
        help="which dense layers ia3 adapts: the transformer's down-projections, or, as Calico's code does, every"
        " one whose input is 1,536 wide (default: %(default)s)",
    )


def _add_plan(verbs) -> None:
    parser = add_verb(
        verbs,
        "plan",
        _plan,
        "count what fine-tuning would train",
        "Read the 'model' and 'transfer' sections of a Calico params file and print one JSON object:\n"
        "the method, the numbers of trainable and frozen weights (averages of batch norm are frozen),\n"
        "those of the new head (part of the trainable ones) and in total, and the bytes of the\n"
        "adapter's tensors. Nothing is built.",
        """
        kipoi-borzoi adapter plan --params params.json
        kipoi-borzoi adapter plan --params params.json --tracks 4
        """,
    )
    parser.add_argument("--params", metavar="FILE", required=True, help="Calico's params.json")
    parser.add_argument("--tracks", metavar="N", type=int, help="tracks of the new head, instead of the params' number")
    parser.add_argument("--head", metavar="NAME", help="which head of the params to go by (default: the first)")
    _add_ia3_rule(parser)


def _plan(args) -> None:
    from kipoi_borzoi.adapters.params import plan

    print(json.dumps(plan(args.params, args.tracks, args.ia3_rule, args.head)))


def _add_merge(verbs) -> None:
    parser = add_verb(
        verbs,
        "merge",
        _merge,
        "fold an adapter into its base",
        "Write the plain weights that compute what the base and the adapter compute together: as\n"
        "safetensors, or in Calico's h5 layout, which Calico's code loads.",
        """
        kipoi-borzoi adapter merge my_adapter --base model0_best.h5 --out merged.h5
        kipoi-borzoi adapter merge my_adapter --base base.safetensors --out merged.safetensors
        """,
    )
    parser.add_argument("directory", metavar="DIR", help="an adapter directory")
    parser.add_argument("--out", metavar="FILE", required=True, help="file to write, .h5 or .safetensors")
    parser.add_argument("--base", metavar="BASE", help=f"{_BASE_HELP} (default: the one that the adapter names)")


def _merge(args) -> None:
    from kipoi_borzoi.adapters.directory import load_adapter
    from kipoi_borzoi.adapters.export import merge_directory

    if args.base:
        base = _weights_of(args.base)
    else:
        name = load_adapter(args.directory).base_name
        try:
            base = _weights_of(name)
        except KipoiBorzoiError as error:
            raise InputError(
                f"{args.directory}: its base {name!r} was not found ({error}); name it with --base"
            ) from error
    print(json.dumps(merge_directory(args.directory, args.out, base)))


def _add_convert(verbs) -> None:
    parser = add_verb(
        verbs,
        "convert",
        _convert,
        "make an adapter of a checkpoint of Calico's code",
        "Read model_best.h5 (any method) or model_best.mergeW.h5 and write an adapter directory. From a\n"
        "merged file, the factors are recovered from its difference to the base; what is no such\n"
        "product is kept as a whole layer, and said so.",
        """
        kipoi-borzoi adapter convert --base model0_best.h5 --params params.json --checkpoint train/model_best.h5
          --targets targets.txt --out my_adapter
        """,
    )
    parser.add_argument("--base", metavar="BASE", required=True, help=f"the network that was fine-tuned: {_BASE_HELP}")
    parser.add_argument("--params", metavar="FILE", required=True, help="Calico's params.json, with a transfer section")
    parser.add_argument("--checkpoint", metavar="FILE", required=True, help="model_best.h5 or model_best.mergeW.h5")
    parser.add_argument("--targets", metavar="FILE", required=True, help="the table of the new tracks")
    parser.add_argument("--out", metavar="DIR", required=True, help="the directory to write")
    parser.add_argument(
        "--base-name", metavar="NAME", help="what the adapter calls its base (default: the entry's or the file's name)"
    )
    parser.add_argument("--head", metavar="NAME", help="which head of the params was trained (default: the first)")
    parser.add_argument(
        "--gelu",
        choices=("auto", "tanh", "erf"),
        default="auto",
        help="which GELU to use the adapter with; auto: the one that Calico's code uses with this file, exact (erf) for"
        " unmerged locon, ia3, houlsby and houlsby_se, else the tanh approximation",
    )
    parser.add_argument(
        "--transform",
        choices=("new", "old"),
        default="new",
        help="how the training data were squashed (default: %(default)s, as Calico's fine-tuning code does)",
    )
    _add_ia3_rule(parser)
    parser.add_argument("--replace", action="store_true", help="replace an adapter directory of the same name")


def _convert(args) -> None:
    from kipoi_borzoi.adapters.convert import convert

    base = _weights_of(args.base)
    name = args.base_name or (args.base if str(base) != args.base else None)
    conversion = convert(
        args.params, args.checkpoint, base, args.targets, args.out, name, args.gelu, args.ia3_rule, args.transform,
        args.head, args.replace,
    )  # fmt: skip
    whole = [site for site, found in conversion.recovered.items() if found.weights is None]
    if whole:
        print(
            f"kipoi-borzoi: {len(whole)} merged layers differ from the base by more than the method can express and are"
            f" kept whole: {', '.join(whole)}",
            file=sys.stderr,
        )
    print(json.dumps(conversion.report()))


def _weights_of(base: str) -> Path:
    """The file of a base's weights.

    Raises
    ------
    KipoiBorzoiError
        Neither a file nor an entry, or an entry of several replicates.
    """
    from kipoi_borzoi.zoo.load import base_weights, find_model
    from kipoi_borzoi.zoo.place import readable_zoo
    from kipoi_borzoi.zoo.sources import is_url, locate

    if is_url(base) or Path(base).suffix in (".h5", ".safetensors") or Path(base).is_file():
        return locate(base).path
    return base_weights(find_model(readable_zoo(None), base))
