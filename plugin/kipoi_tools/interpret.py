"""kipoi_interpret's commands, which die under ``kipoi interpret`` before a model is imported, and gradient times input.

The scores are computed by kipoi_interpret's own classes. In-silico mutagenesis there knows only the whole window
(2.1 million predictions at 524,288 bp): here it takes a stretch of it.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from kipoi_borzoi import kipoi_compat
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.files import atomic_write
from kipoi_borzoi.kipoi_tools.checks import check_output
from kipoi_borzoi.kipoi_tools.entries import get_model, unknown_entries

INSTALL = "pip install --no-deps kipoi_interpret==0.1.2"


def kipoi_interpret():
    """Import kipoi_interpret, mended.

    Raises
    ------
    InputError
        When it is not installed.
    """
    try:
        import kipoi_interpret
    except ImportError as error:
        raise InputError(f"kipoi_interpret cannot be imported ({error}): {INSTALL}") from error
    kipoi_compat.mend_loaded_tools()
    return kipoi_interpret


def run(command: str, arguments: Sequence[str], positions: tuple[int, int] | None = None) -> None:
    """Run a command of kipoi_interpret.

    Parameters
    ----------
    command : {'grad', 'ism'}
    arguments : sequence of str
        Its options, as `kipoi interpret COMMAND --help` would list them.
    positions : (start, end), optional
        For ``ism``: only these positions of each window are mutated, 0-based half-open, and written.

    Raises
    ------
    InputError
        kipoi_interpret is missing, or the positions are none.
    """
    kipoi_interpret()
    from kipoi_interpret import cli

    arguments = list(arguments)
    asks_for_help = {"-h", "--help"} & set(arguments)
    if command == "grad" and not asks_for_help and not {"-l", "--layer", "--final_layer"} & set(arguments):
        arguments.append("--final_layer")  # the entries have no other
    with unknown_entries(), limited_to(positions), _shown_log(), _whole_outputs(arguments) as arguments:
        cli.command_functions[command](command, arguments)


@contextlib.contextmanager
def _whole_outputs(arguments: list[str]) -> Iterator[list[str]]:
    """Let the files of ``-o`` be written under other names, and get theirs when all are whole."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-o", "--output", nargs="+", default=[])
    known, others = parser.parse_known_args(arguments)
    for path in known.output:
        check_output(path)
    with contextlib.ExitStack() as stack:
        temporaries = [stack.enter_context(atomic_write(path)) for path in known.output]
        for temporary in temporaries:
            temporary.unlink()  # Kipoi's writers open for appending, which an empty file is not fit for
        yield [*others, *(["-o", *map(str, temporaries)] if temporaries else [])]


@contextlib.contextmanager
def _shown_log():
    """Show what kipoi_interpret logs before it exits: it gives its loggers no handler that would."""
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    logger = logging.getLogger("kipoi_interpret")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@contextlib.contextmanager
def limited_to(positions: tuple[int, int] | None):
    """Let kipoi_interpret's ``Mutation`` mutate and return only these positions, 0-based half-open; None for all."""
    if positions is None:
        yield
        return
    start, end = positions
    if not 0 <= start < end:
        raise InputError(f"positions {start} {end}: expected 0 <= START < END (0-based, half-open, in the window)")
    from kipoi_interpret.importance_scores.ism import Mutation

    mutate, score = Mutation._mutate_sample, Mutation.score

    def mutate_there(self, onehot_input):
        if end > len(onehot_input):
            raise InputError(f"positions {start} {end}: the window has {len(onehot_input)} bp")
        for position, base in np.ndindex(end - start, 4):
            place = (start + position, base)
            if self.test_ref_ref or onehot_input[place] != 1:
                mutant = onehot_input.copy()
                mutant[place[0]] = 0
                mutant[place] = 1
                yield mutant, place

    def score_there(self, input_batch):
        return [sample[start:end] for sample in score(self, input_batch)]

    Mutation._mutate_sample, Mutation.score = mutate_there, score_there
    try:
        yield
    finally:
        Mutation._mutate_sample, Mutation.score = mutate, score


def gradient_x_input(
    entry: str,
    source: str,
    dataloader_args: dict,
    output: str | os.PathLike,
    filter_idx: int | slice | None = None,
    avg_func: str = "sum",
    batch_size: int = 4,
) -> int:
    """Write gradient times input of every window to a file.

    Parameters
    ----------
    entry, source : str
    dataloader_args : dict
        Of the entry's dataloader.
    output : path
        ``.h5``, with the datasets ``importance_scores`` and ``inputs`` (windows, seq_length, 4) and ``metadata``.
    filter_idx : int or slice, optional
        Tracks whose sum is explained; None for all.
    avg_func : {'sum', 'max', 'min', 'absmax'}
    batch_size : int
        Windows held in memory at a time.

    Returns
    -------
    int
        The number of windows.
    """
    kipoi_interpret()
    from kipoi.writers import HDF5BatchWriter
    from kipoi_interpret.importance_scores import get_importance_score

    if Path(output).suffix not in (".h5", ".hdf5"):
        raise InputError(f"{output}: expected a name that ends in .h5")
    check_output(output)
    model = get_model(entry, source)
    loader = model.default_dataloader(**dataloader_args)
    method = get_importance_score("grad*input")(model, filter_idx=filter_idx, avg_func=avg_func)
    with atomic_write(output) as temporary:
        temporary.unlink()  # as above
        writer = HDF5BatchWriter(str(temporary))
        for batch in loader.batch_iter(batch_size=batch_size):
            writer.batch_write({**batch, "importance_scores": method.score(batch["inputs"])})
        writer.close()
    return len(loader)


def parse_filter(text: str | None):
    """Tracks as kipoi_interpret's commands write them: ``3`` or ``[0:4]``; None for all."""
    if text is None:
        return None
    kipoi_interpret()
    from kipoi_interpret.cli import parse_filter_slice

    try:
        parsed = parse_filter_slice(text)
    except Exception as error:  # it raises bare Exception
        raise InputError(f"filter_idx {text!r}: expected the index of a track, or a slice such as [0:4]") from error
    return parsed[0] if isinstance(parsed, tuple) and len(parsed) == 1 else parsed


def parse_loader_args(texts: Sequence[str]) -> dict:
    """Arguments of a dataloader as Kipoi's commands take them: ``NAME=VALUE ...``, JSON text or a JSON file."""
    from kipoi_utils.utils import parse_json_file_str_or_arglist

    try:
        return dict(parse_json_file_str_or_arglist(list(texts)))
    except (ValueError, RuntimeError, TypeError) as error:
        raise InputError(f"--dataloader_args: {error}; expected NAME=VALUE ..., JSON text or a JSON file") from error
