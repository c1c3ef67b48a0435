"""`kipoi-borzoi evaluate`: how well a model predicts held-out windows, genes and their changes."""

from kipoi_borzoi.cli.cluster_option import add_cluster, client_of
from kipoi_borzoi.cli.verbs import add_verb


def add_parser(nouns) -> None:
    """Add the verb to the command."""
    parser = add_verb(
        nouns,
        "evaluate",
        _evaluate,
        "compare a model's predictions with measured coverage",
        "Predict every window of one split of a data store and compare: Pearson r, R2 and Spearman rho\n"
        "over bins for each track; with --genes, r of log2 expression over genes for each track, and of\n"
        "the differences between tracks; with --contrast, r of log fold changes. Writes tables, a summary\n"
        "(text and JSON) and pictures.",
        """
        kipoi-borzoi evaluate --model lab/mine --data store --split test --out evaluation
        kipoi-borzoi evaluate --model lab/mine --data store --split test --genes genes.gtf --contrast treated-control --out evaluation
        kipoi-borzoi evaluate --model Borzoi/human/rep0 --adapter run/adapter --data store --split fold3 --out evaluation
        """,
    )
    parser.add_argument("--model", metavar="NAME", required=True, help="a model of your zoo, such as Borzoi/human/rep0")
    parser.add_argument("--zoo", metavar="DIR", help="zoo (default: the registered one)")
    parser.add_argument("--adapter", metavar="DIR", help="an adapter directory, not published, on that model")
    parser.add_argument(
        "--data", metavar="STORE", required=True, help="a data store, made by 'kipoi-borzoi data build'"
    )
    parser.add_argument("--split", metavar="FOLD", default="test", help="a fold of the store (default: %(default)s)")
    parser.add_argument("--genes", metavar="GTF", help="genes, for accuracy over genes")
    parser.add_argument(
        "--contrast",
        metavar="A-B",
        help="words in the tracks' identifiers, such as treated-control; or a TSV file with columns contrast,"
        " treated_tracks, control_tracks. Needs --genes",
    )
    parser.add_argument("--rc", action="store_true", help="average with the prediction for the reverse complement")
    parser.add_argument(
        "--batch-size", metavar="N", type=int, default=8, help="windows at a time (default: %(default)s)"
    )
    add_cluster(parser)
    parser.add_argument("--no-pictures", dest="pictures", action="store_false", help="leave out the pictures")
    parser.add_argument("--out", metavar="DIR", required=True, help="folder for the results")


def _evaluate(args) -> None:
    import os
    import sys
    from pathlib import Path

    from kipoi_borzoi.errors import InputError

    if args.contrast and not args.genes:
        raise InputError("--contrast compares the expression of genes: give them with --genes")
    if args.batch_size < 1:
        raise InputError(f"--batch-size is {args.batch_size}, expected 1 or more")
    from tqdm import tqdm

    from kipoi_borzoi.evaluation.contrasts import find_contrasts, read_contrasts
    from kipoi_borzoi.evaluation.evaluate import evaluate
    from kipoi_borzoi.evaluation.report import prepare, summary, summary_text, write_report
    from kipoi_borzoi.training.store import Store

    store = Store.open(args.data)
    store.indices(args.split)
    genes = contrasts = None
    if args.genes:
        from kipoi_borzoi.dataloaders.gtf import read_gtf

        genes = read_gtf(args.genes)
    if args.contrast and Path(args.contrast).is_file():
        contrasts = lambda tracks, columns: read_contrasts(args.contrast, tracks, columns)  # noqa: E731
    elif args.contrast:
        contrasts = lambda tracks, columns: find_contrasts(args.contrast, columns)  # noqa: E731
    prepare(args.out)
    os.environ.setdefault(
        "TF_CPP_MIN_LOG_LEVEL", "2"
    )  # before TensorFlow is imported: its notes on the machine hide ours
    from kipoi_borzoi.zoo.load import load_model

    model = load_model(args.model, adapters=[args.adapter] if args.adapter else None, zoo=args.zoo)
    if args.adapter:
        model = model.models[args.adapter]
    with client_of(args) as client:
        predict = None
        if client is not None:
            from kipoi_borzoi.cluster.jobs import predict_on

            predict = predict_on(client, model, args.model, args.adapter, args.zoo, store, store.crop_bp // store.bin_size, args.rc)
        result = evaluate(
            model, store, args.split, genes, contrasts, args.batch_size, args.rc, base_name(args.model, args.zoo),
            lambda batches: tqdm(batches, desc="windows", unit="batch", disable=not sys.stderr.isatty()), predict,
        )  # fmt: skip
    about = {"model": args.model, "adapter": args.adapter or "", "store": str(args.data), "store_key": store.key}
    write_report(args.out, result, about, args.pictures)
    print(summary_text(summary(result, about)), end="")
    print(f"{'results':<22}{args.out}")


def base_name(name: str, zoo: str | None = None) -> str:
    """Name of the model that an entry is an adapter of; of others, their own."""
    import json

    from kipoi_borzoi.zoo.load import find_model
    from kipoi_borzoi.zoo.place import readable_zoo

    entry = find_model(readable_zoo(zoo), name)
    if not entry.is_adapter:
        return entry.model
    config = entry.directory / entry.args["adapter"] / "adapter_config.json"
    return json.loads(config.read_text(encoding="utf-8"))["base_model_name_or_path"]
