"""The files that explaining writes: refused beforehand where they could not be, published together, merged from shards."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from kipoi_borzoi.errors import InputError, KipoiBorzoiError
from kipoi_borzoi.files import check_output_name, commit, create_temporary, refuse_existing, sweep_temporaries
from kipoi_borzoi.interpret.attribution_file import AttributionFile, write_attributions
from kipoi_borzoi.interpret.exports import write_bigwig, write_modisco
from kipoi_borzoi.interpret.methods import Method
from kipoi_borzoi.interpret.parts import Explained
from kipoi_borzoi.interpret.targets import Skipped
from kipoi_borzoi.variants.header import differences


@dataclass(frozen=True)
class Summary:
    """What became of the targets.

    Attributes
    ----------
    explained : int
    skipped : dict of str to int
        By the reason's code.
    """

    explained: int
    skipped: Mapping[str, int]

    def __str__(self) -> str:
        total = sum(self.skipped.values())
        reasons = ", ".join(f"{code} {count}" for code, count in sorted(self.skipped.items()))
        targets = self.explained + total
        return f"{targets} target{'s' * (targets != 1)}: {self.explained} explained, {total} skipped{f' ({reasons})' * bool(total)}"


def outputs_beside(out: Path) -> dict[str, Path]:
    """The files that may be written beside an attribution file, by what they are."""
    stem = out.name.removesuffix(".h5")
    return {
        "bigwig": out.with_name(f"{stem}.bw"),
        "sequences": out.with_name(f"{stem}.sequences.npz"),
        "scores": out.with_name(f"{stem}.scores.npz"),
    }


def publish(
    out: Path,
    length: int,
    results: Iterable[Explained | Skipped],
    provenance: Mapping,
    contigs: Mapping[str, int],
    bigwig: bool,
    npz: bool,
) -> Summary:
    """Write all files under temporary names, and give them their own, the attribution file last.

    Parameters
    ----------
    out, length, results, provenance, contigs
        See `kipoi_borzoi.interpret.attribution_file.write_attributions`.
    bigwig, npz : bool
        Whether to write what `outputs_beside` names, where there is something to write.

    Raises
    ------
    OSError
        Something cannot be written; then nothing is left under any of the names.
    """
    temporary = create_temporary(out)
    waiting = [(temporary, out)]
    try:
        write_attributions(temporary, length, results, provenance, contigs)
        with AttributionFile(temporary) as written:
            summary = Summary(len(written), dict(Counter(one.code for one in written.skipped)))
            beside = outputs_beside(out)
            for path in beside.values():
                path.unlink(missing_ok=True)  # of an earlier run: they would not belong to the new file
            if bigwig and len(written):
                waiting.insert(0, (create_temporary(beside["bigwig"]), beside["bigwig"]))
                write_bigwig(waiting[0][0], written, contigs)
            if npz and len(written) and Method(**provenance["method"]).is_hypothetical:
                waiting = [(create_temporary(beside[name]), beside[name]) for name in ("sequences", "scores")] + waiting
                write_modisco(waiting[0][0], waiting[1][0], written)
        for file, path in waiting:
            commit(file, path)
    except BaseException:
        for file, _ in waiting:
            file.unlink(missing_ok=True)
        raise
    return summary


def merge_attributions(
    paths: Sequence[str | os.PathLike], out: str | os.PathLike, bigwig: bool = True, npz: bool = True, force: bool = False
) -> Summary:
    """Write the attribution file, and those beside it, that a run without shards would have written.

    Parameters
    ----------
    paths : sequence of path
        The files of all shards of one run, in any order.
    out : path
        An ``.h5`` file.
    bigwig, npz : bool
        See `kipoi_borzoi.attributing.attribute`.
    force : bool
        Replace ``out`` if it exists.

    Raises
    ------
    InputError
        A shard is missing, twice, of another run, damaged or no attribution file; or ``out`` could not be written.
    """
    out = Path(out)
    check_out(out, paths, force)
    with AttributionFile(paths) as file:
        provenances = file.provenances
    run = {**provenances[0], "shard": [1, 1]}
    _, of = provenances[0]["shard"]
    found = {}
    for path, other in zip(paths, provenances, strict=True):
        if changed := differences({**other, "shard": [1, 1]}, run):
            raise InputError(f"{path} and {paths[0]} are of different runs: {'; '.join(changed)}")
        number, its = other["shard"]
        if its != of:
            raise InputError(f"{path} is shard {number} of {its}, {paths[0]} one of {of}: give the shards of one run")
        found[number] = path
    missing = [number for number in range(1, of + 1) if number not in found]
    if missing:
        shown = ", ".join(f"{number}/{of}" for number in missing[:8]) + (", ..." if len(missing) > 8 else "")
        raise InputError(f"of {of} shards {len(missing)} are missing: {shown}")
    with explained_errors(out), AttributionFile([found[number] for number in sorted(found)]) as file:
        sweep_temporaries(out.parent)
        results = chain(file.skipped, map(file.result, file.rows()))
        return publish(out, file.length, results, run, file.contigs, bigwig, npz)


def check_out(out: str | os.PathLike, inputs: Sequence[str | os.PathLike], force: bool) -> None:
    """Refuse an attribution file that could not be written before anything is computed.

    Raises
    ------
    InputError
        Another suffix, no such folder, a file that exists, or is an input.
    """
    out = Path(out)
    if out.suffix != ".h5":
        raise InputError(f"{out}: attributions are written as .h5 (BigWig and npz files beside it); give --out NAME.h5")
    for path in [out, *outputs_beside(out).values()]:
        check_file(path, inputs, force)


def check_file(path: Path, inputs: Sequence[str | os.PathLike], force: bool) -> None:
    """Refuse an output that could not be written, exists (unless ``force``) or is an input."""
    check_output_name(path, inputs)
    refuse_existing(path, force)


@contextlib.contextmanager
def explained_errors(out: Path) -> Iterator[None]:
    """Turn an error of the operating system into one that says what to do."""
    try:
        yield
    except OSError as error:
        raise KipoiBorzoiError(
            f"{out}: cannot be written ({error.strerror or error}); no incomplete file is left under that name. Free space, or mend "
            f"its permissions, and run the same command again: what was done is kept, where it could be, in {out.name}.parts"
        ) from error
