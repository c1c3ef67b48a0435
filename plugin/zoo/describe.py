"""Builds the YAML descriptions by which Kipoi knows an entry and its dataloader."""

from kipoi_borzoi._version import __version__
from kipoi_borzoi.zoo.entries import MODEL_CLASS

DATALOADER_CLASS = "kipoi_borzoi.dataloaders.SeqIntervalDl"

_AUTHORS = [{"name": "kipoi-borzoi"}]
# Decimal places, absolute, to which `kipoi test -e` compares. Float32 values differ by some 1e-6 of
# their size between batch sizes and machines; Kipoi's 7 places would fail any coverage above 1.
_PRECISION = {"coverage": 3, "sum": 0, "logsum": 4}
_DEPENDENCIES = {"conda": ["python>=3.10,<3.13"], "pip": ["kipoi-borzoi"]}


def describe_model(
    args: dict, seq_length: int, bins: int, bin_size: int, labels: list[str], doc: str, license: str, tags: list[str]
) -> dict:
    """Description of one view of a model, for its ``model.yaml``.

    Parameters
    ----------
    args : dict
        Arguments of ``BorzoiModel``, with ``view``.
    seq_length : int
        Window in bp.
    bins : int
        Output length in bins of ``bin_size`` bp.
    labels : list of str
        One per track.
    doc : str
        What the model is; what the view is follows it.
    """
    tracks = len(labels)
    views = {
        "coverage": f"Predicted coverage, {bins:,} bins of {bin_size} bp x {tracks:,} tracks, as the network gives it.",
        "sum": "Sum over the bins of the predicted coverage, in the units of the data (squashing undone), per track.",
        "logsum": "log2(1 + sum over the bins of the predicted coverage, squashing undone), per track.",
    }
    # Kipoi compares the number of labels with the first axis, whatever it is. Leaving the bins open
    # there is what keeps it from printing a mismatch at every use of the entry.
    shape = f"(None, {tracks})" if args["view"] == "coverage" else f"({tracks},)"
    return {
        "defined_as": MODEL_CLASS,
        "args": args,
        "default_dataloader": "..",
        "info": {
            "authors": _AUTHORS,
            "doc": f"{doc} {views[args['view']]}",
            "version": __version__,
            "license": license,
            "tags": tags,
        },
        "dependencies": _DEPENDENCIES,
        "test": {"precision_decimal": _PRECISION[args["view"]]},
        "schema": {
            "inputs": {
                "name": "seq",
                "shape": f"({seq_length}, 4)",
                "special_type": "DNASeq",
                "doc": "One-hot DNA, order A, C, G, T; all zeros for N and beyond the contig's ends.",
                "associated_metadata": ["ranges"],
            },
            "targets": {
                "name": args["view"],
                "shape": shape,
                "doc": views[args["view"]],
                "column_labels": labels,
            },
        },
    }


def describe_dataloader(seq_length: int, fasta: str, regions: str) -> dict:
    """Description of the dataloader for windows of ``seq_length`` bp, for a ``dataloader.yaml``.

    Parameters
    ----------
    fasta, regions : str
        Example files, relative to the ``dataloader.yaml``.
    """
    from kipoi_borzoi.dataloaders import SeqIntervalDl

    args = {
        name: {"doc": argument.doc.strip(), "type": argument.type, "optional": argument.optional}
        for name, argument in SeqIntervalDl.args.items()
    }
    args["intervals_file"]["example"] = regions
    args["fasta_file"]["example"] = fasta
    # A default in the description also makes Kipoi use a subclass of its own for this entry. Without
    # one it would write the description onto the class that all entries share.
    args["auto_resize_len"]["default"] = seq_length
    return {
        "defined_as": DATALOADER_CLASS,
        "args": args,
        "info": {
            "authors": _AUTHORS,
            "doc": f"One-hot windows of {seq_length:,} bp around the intervals of a BED file",
            "version": __version__,
            "license": "Apache-2.0",
        },
        "dependencies": _DEPENDENCIES,
        "output_schema": {
            "inputs": {
                "name": "seq",
                "shape": f"({seq_length}, 4)",
                "special_type": "DNASeq",
                "doc": "One-hot DNA, order A, C, G, T; all zeros for N and beyond the contig's ends",
                "associated_metadata": ["ranges"],
            },
            "metadata": {"ranges": {"type": "GenomicRanges", "doc": "The window, in 0-based half-open coordinates"}},
        },
    }
