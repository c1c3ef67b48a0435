"""`kipoi-borzoi finetune`: train an adapter, or a whole network, on a store."""

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from kipoi_borzoi.cli.verbs import add_verb
from kipoi_borzoi.errors import InputError

# Options that are settings of the run, with what argparse should make of their text.
_OPTIONS = {
    "method": (str, "how to fine-tune: full, linear, lora, lora_full, lora_conv, ia3, locon, houlsby, houlsby_se"),
    "seed": (int, "of everything random"),
    "batch_size": (int, "sequences that go through the network together"),
    "accumulate": (int, "batches whose gradients are averaged in one step"),
    "learning_rate": (float, "after the warm-up"),
    "warmup_steps": (int, "steps over which the learning rate grows from 0"),
    "epochs_min": (int, "epochs before training may stop early"),
    "epochs_max": (int, "epochs at most"),
    "patience": (int, "epochs without improvement before training stops"),
    "precision": (str, "float32 or mixed_bfloat16"),
    "devices": (int, "GPUs to share a batch between"),
    "head": (str, "which of the base's heads the new one is named after"),
}


def add_parser(nouns) -> None:
    """Add the verb to the command."""
    parser = add_verb(
        nouns,
        "finetune",
        _run,
        "train a model on your own tracks",
        "Train an adapter for a base network on a store (made by 'kipoi-borzoi data build'), and write the\n"
        "folder RUN: adapter/ (ready for 'kipoi-borzoi zoo publish'), run.yaml (every setting), steps.csv,\n"
        "epochs.csv, curves.png, tensorboard/ and checkpoints/. A run that was stopped or killed goes on\n"
        "where it was when the same command is given again.\n\n"
        "Settings come from Calico's params.json (--params), then from a YAML file (--config), then from the\n"
        "options; what none of them says has Calico's value.",
        """
        kipoi-borzoi finetune --base Borzoi/human/rep0 --data store --method locon --out run
        kipoi-borzoi finetune --base trunk.h5 --params params.json --data store --out run
        kipoi-borzoi finetune --from-scratch --params params.json --data store --out run
        kipoi-borzoi zoo publish run/adapter lab/mine
        """,
    )
    parser.add_argument(
        "--base", metavar="BASE", help="the network to start from: a zoo entry's name, or a file of weights (with --params)"
    )
    parser.add_argument("--params", metavar="FILE", help="Calico's params.json: the network of a base given as a file, and settings")
    parser.add_argument(
        "--base-transform", choices=("new", "old"), help="how the training data of a base given as a file were squashed"
    )
    parser.add_argument("--base-name", metavar="NAME", help="what the adapter calls its base (default: the entry's or file's name)")
    parser.add_argument("--data", metavar="STORE", required=True, help="the store's folder")
    parser.add_argument("--out", metavar="RUN", required=True, help="folder of the run; the same again continues it")
    parser.add_argument("--config", metavar="YAML", help="settings (run.yaml of any run shows all of them)")
    parser.add_argument(
        "--from-scratch", action="store_true", help="draw new weights for the network of --params and train all of it: a new base"
    )
    parser.add_argument(
        "--save-base", action="store_true", help="with method full: write RUN/base, a network of its own, not an adapter"
    )
    for name in ("train", "valid", "test"):
        parser.add_argument(f"--{name}", metavar="FOLD", nargs="+", help=f"folds of the store to {_PURPOSE[name]}")
    parser.add_argument("--tracks", metavar="ID", nargs="+", help="only these tracks of the store")
    for name, (kind, text) in _OPTIONS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar="N" if kind is not str else name.upper(), help=text)
    for name, text in _SWITCHES.items():
        parser.add_argument(f"--{name.replace('_', '-')}", action="store_const", const=True, help=text)
    parser.add_argument("--no-augment", action="store_true", help="neither reverse complements nor shifts")
    parser.add_argument("--no-dropout", action="store_true", help="without the network's dropout")


_PURPOSE = {"train": "train on", "valid": "stop by", "test": "keep away from"}
_SWITCHES = {
    "recompute": "gradient checkpointing: less memory, about a third more time",
    "cache_trunk": "for linear, without augmentation and dropout: run the trunk once per sequence",
}


def _run(args) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # its notes would break the progress bar
    from kipoi_borzoi.training.config import RunConfig, read_config
    from kipoi_borzoi.training.finetune import Base, finetune, train_base
    from kipoi_borzoi.training.store import Store

    names = {field.name for field in fields(RunConfig)}
    given = {key: value for key, value in vars(args).items() if key in names}
    if args.no_augment:
        given |= {"augment_rc": False, "augment_shift": 0}
    if args.no_dropout:
        given["dropout"] = False
    if args.from_scratch:
        given["method"] = given["method"] or "full"
    config = read_config(args.config, given, args.params if _has_train(args.params) else None)
    if args.from_scratch == bool(args.base):
        raise InputError("give one of --base and --from-scratch")
    store = Store.open(args.data)
    base = None if args.from_scratch else _base(args, Base)
    if args.from_scratch:
        if not args.params:
            raise InputError("--from-scratch needs the network's --params")
        summary = train_base(_model(args.params), store, args.out, config)
    elif args.save_base:
        summary = train_base(base.config, store, args.out, config, base)
    else:
        summary = finetune(base, store, args.out, config)
    print(_in_words(summary))
    if args.from_scratch or args.save_base:
        print(f"{args.out}/base is a network of its own: kipoi-borzoi zoo import --help")
    else:
        print(f"{args.out}/adapter is ready: kipoi-borzoi zoo publish {args.out}/adapter NAME")


def _in_words(summary: Mapping) -> str:
    """What the run's ``summary.json`` says of its end."""
    return (
        f"epoch {summary['best_epoch']} of {summary['epochs']} was the best: validation loss {summary['valid_loss']:.4f}, "
        f"r {summary['valid_r']:.4f}, R2 {summary['valid_r2']:.4f}\n"
        f"{summary['trainable']:,} of {summary['total']:,} weights trained on {summary['tracks']} tracks, "
        f"{summary['steps']:,} steps in {summary['seconds']:.0f} s"
    )


def _has_train(params: str | None) -> bool:
    from kipoi_borzoi.network.config import read_params

    return params is not None and "train" in read_params(params)


def _model(params: str):
    from kipoi_borzoi.training.config import read_model

    return read_model(params)


def _base(args, make):
    """The base: an entry says everything itself; a file needs params."""
    from kipoi_borzoi.network.config import NetworkConfig
    from kipoi_borzoi.zoo.load import find_model, located_args
    from kipoi_borzoi.zoo.place import readable_zoo
    from kipoi_borzoi.zoo.sources import is_url, locate

    if is_url(args.base) or Path(args.base).suffix in (".h5", ".safetensors") or Path(args.base).is_file():
        if not args.params:
            raise InputError(f"{args.base}: a base that is a file needs its network: give Calico's params.json with --params")
        return make(args.base_name or Path(args.base).name, _model(args.params), locate(args.base).path, args.base_transform)
    entry = find_model(readable_zoo(None), args.base)
    if entry.is_adapter:
        raise InputError(f"{args.base}: is itself an adapter; name its base")
    found = located_args(entry)
    if not isinstance(found["weights"], str):
        raise InputError(f"{args.base}: has {len(found['weights'])} files of weights; an adapter has one base, name it")
    config = NetworkConfig.from_params(found["params"])
    if found.get("head"):
        config = config.with_heads(config.head(found["head"]).name)
    return make(args.base_name or entry.model, config, Path(found["weights"]), found.get("transform", "new"))
