"""From chunks of scores to one whole file: resumed after a kill, sharded and merged, and equal however it came about."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from kipoi_borzoi.errors import InputError, KipoiBorzoiError
from kipoi_borzoi.files import check_output_name, commit, create_temporary, refuse_existing, sweep_temporaries
from kipoi_borzoi.variants import shards
from kipoi_borzoi.variants.blocks import check_chunk, concatenate, reblock
from kipoi_borzoi.variants.header import Header, Summary, Survey, describe_scorers
from kipoi_borzoi.variants.parts import WorkFolder
from kipoi_borzoi.variants.results import Chunk, Column
from kipoi_borzoi.variants.writers import writer_for
from kipoi_borzoi.work_folder import work_folder

PART_ALLELES = 4096
PART_VALUES = 1 << 22  # numbers in a part: 16 MiB
PART_SECONDS = 30.0
_BLOCK_ALLELES = 4096
_BLOCK_VALUES = 1 << 18  # numbers handed to a writer at once

ChunksFrom = Callable[[int, "int | None"], Iterator[Chunk]]


def write_scores(
    chunks_from: ChunksFrom,
    out: str | os.PathLike,
    columns: Sequence[Column],
    scorers: Sequence,
    gene_scorers: Sequence,
    provenance: Mapping,
    key: str,
    shard: tuple[int, int] = (1, 1),
    n_alleles: int | None = None,
    progress: bool | None = None,
    *,
    profiles: Sequence[str] = (),
    contigs: Mapping[str, int] | None = None,
    inputs: Sequence[str | os.PathLike] = (),
    force: bool = False,
    align: int = 1,
    part_seconds: float = PART_SECONDS,
) -> Summary:
    """Write a table of scores, in the format that its suffix names.

    While it runs, finished chunks are kept in the folder ``OUT.parts``. A run that was killed goes on
    from there when it is started again, and its output is, byte by byte, that of a run without a
    break. The final name appears when the table is whole; the folder is removed then.

    Parameters
    ----------
    chunks_from : callable
        ``chunks_from(start, stop)`` yields the chunks of the alleles ``start`` to ``stop`` (excluded; None: to
        the end), numbered as in the whole input. ``start`` and ``stop`` are ends of the input, of a shard, or
        of a chunk that was yielded before. What an allele scores may not depend on where the stream begins: a
        window shared by several alleles, or a duplicate's first occurrence, is found from the whole input.
    out : path
        ``.tsv``, ``.tsv.gz``, ``.parquet``, ``.h5``, ``.h5ad`` or ``.vcf.gz``; of a shard, ``.shard``.
    columns : sequence of Column
        Of all score arrays.
    scorers, gene_scorers : sequence
        Objects with ``name, formula, signed, per_gene, description``, for alleles and for genes.
    provenance : dict
        What JSON can hold. The same for all shards, and free of what differs between equal runs (time, machine).
    key : str
        SHA-256 over everything that decides the result: input, weights, adapter, FASTA, options, code version.
        Where it differs from that of ``OUT.parts``, the differences in ``provenance`` are named as the reason.
    shard : (int, int)
        Which shard, from 1, of how many; see `kipoi_borzoi.variants.shards`.
    n_alleles : int, optional
        Alleles of the whole input; needed for shards, and held against what arrives.
    progress : bool, optional
        Whether to show alleles per second and the time left; by default, on a terminal.
    profiles : sequence of 'REF' or 'ALT'
        Predicted coverage that the chunks carry; only for ``.h5``.
    contigs : dict of str to int, optional
        Lengths of contigs by the input's names, for the header of a VCF.
    inputs : sequence of path
        Files that ``out`` must not be.
    force : bool
        Replace ``out`` if it exists, and throw away another run's ``OUT.parts``.
    align : int
        Shards begin at multiples of this many alleles: the size of a chunk, where rounding depends on which
        alleles are computed together.
    part_seconds : float
        Most work, in seconds, that a kill can lose (of a chunk that takes longer, all of it).

    Returns
    -------
    Summary

    Raises
    ------
    InputError
        When ``out`` exists, is an input, has no known suffix or cannot hold the table; or ``OUT.parts`` is of
        another run or in use.
    KipoiBorzoiError
        When the disk is full or cannot be written; what was done stays in ``OUT.parts``.
    ValueError
        When the chunks are not what was promised.
    """
    out = Path(out)
    header = Header(
        tuple(columns), describe_scorers(scorers), describe_scorers(gene_scorers), dict(provenance), tuple(profiles),
        dict(contigs or {}),
    )  # fmt: skip
    check_output(out, header, inputs, shard, force)
    span = shards.bounds(n_alleles, shard, align)
    work = WorkFolder(out, header, key, span, n_alleles, shard, fresh=force)
    return by_parts(work, chunks_from, lambda work: _finish(work, out), force, progress, part_seconds)


def by_parts(
    work: WorkFolder,
    chunks_from: ChunksFrom,
    make: Callable[[WorkFolder], Summary],
    force: bool = False,
    progress: bool | None = None,
    part_seconds: float = 30.0,
) -> Summary:
    """Bring the scores of a run into its work folder, as far as they are not there yet, and make its output of them.

    Parameters
    ----------
    work : WorkFolder
        Not entered yet.
    chunks_from, force, progress, part_seconds
        See `write_scores`.
    make : callable
        Writes the output of the parts; it calls ``work.finish`` just before that gets its name.

    Raises
    ------
    KipoiBorzoiError
        See `write_scores`.
    """
    out = work.out
    with explained(out):
        with work:
            sweep_temporaries(out.parent)
            done = work.finished()
            if done is None:
                refuse_existing(out, force)  # the folder may be older than the output
                work.verify()
                _fill(work, chunks_from, progress, part_seconds)
                done = make(work)
            work.clear()
    return done


def merge_shards(
    paths: Sequence[str | os.PathLike], out: str | os.PathLike, force: bool = False, progress: bool | None = None
) -> Summary:
    """Write the table that a run without shards would have written, byte by byte.

    Parameters
    ----------
    paths : sequence of path
        All shards of one run, in any order.
    out : path
        As `write_scores`.
    force : bool
        Replace ``out`` if it exists.
    progress : bool, optional
        As `write_scores`.

    Raises
    ------
    InputError
        When a shard is missing, twice, of another run, damaged or not a shard; or as `write_scores`.
    """
    out = Path(out)
    readers = shards.open_shards(paths)
    header = readers[0].header
    check_output(out, header, paths, force=force)
    writer_for(out)  # not a shard
    refuse_existing(out, force)
    total = sum(reader.alleles for reader in readers)

    def chunks() -> Iterator[Chunk]:
        for reader in readers:
            yield from reader.chunks()

    survey = Survey()
    for chunk in _counted(chunks(), 0, total, progress, "checking"):
        survey.add(chunk)
    if survey.alleles != total:
        raise InputError(f"the shards hold {survey.alleles} alleles, but say {total}")
    with explained(out):
        sweep_temporaries(out.parent)
        temporaries = write_table(out, header, survey, _counted(chunks(), 0, total, progress, "writing"))
        _publish(temporaries)
    return survey.summary


def check_name(
    out: str | os.PathLike,
    inputs: Sequence[str | os.PathLike] = (),
    shard: tuple[int, int] = (1, 1),
    force: bool = False,
) -> None:
    """Refuse, before anything is read or loaded, a name that nothing could be written to.

    Raises
    ------
    InputError
        When the suffix is unknown, the folder is missing, ``out`` is an input, or it exists and ``force`` is not given.
    KipoiBorzoiError
        When a package is missing that the format needs.
    """
    out = Path(out)
    check_place(out, inputs, force)
    if not out.name.endswith(shards.SUFFIX):
        if shard[1] > 1:
            raise InputError(
                f"{out}: a shard is written as {shards.SUFFIX} (give --out NAME{shards.SUFFIX}); `kipoi-borzoi merge` makes "
                "a table in any format of all of them"
            )
        writer_for(out)


def check_place(out: str | os.PathLike, inputs: Sequence[str | os.PathLike] = (), force: bool = False) -> None:
    """The part of `check_name` that does not depend on the format.

    Raises
    ------
    InputError
        When the folder is missing, ``out`` is an input, or it exists and ``force`` is not given.
    """
    out = Path(out)
    check_output_name(out, inputs)
    if not work_folder(out).exists():
        refuse_existing(out, force)


def check_output(
    out: str | os.PathLike,
    header: Header,
    inputs: Sequence[str | os.PathLike] = (),
    shard: tuple[int, int] = (1, 1),
    force: bool = False,
) -> None:
    """Refuse, before anything is computed, an output that could not be written.

    Raises
    ------
    InputError
        As `check_name`, or when the format cannot hold the table.
    KipoiBorzoiError
        As `check_name`.
    """
    out = Path(out)
    check_name(out, inputs, shard, force)
    if not out.name.endswith(shards.SUFFIX):
        check_format(out, header)


def check_format(out: Path, header: Header) -> None:
    """Refuse a format that cannot hold the table.

    Raises
    ------
    InputError
        The suffix is unknown, or the format cannot hold the table.
    """
    writer = writer_for(out)
    writer.check(header)
    if header.profiles and writer.suffix != ".h5":
        raise InputError(f"{out}: {' and '.join(header.profiles)} are coverage by bin, which only .h5 can hold")


def _fill(work: WorkFolder, chunks_from: ChunksFrom, progress: bool | None, part_seconds: float) -> None:
    """Bring all missing chunks into the work folder."""
    start, stop = work.span
    done = sum(part.stop - part.start for part in work.parts())
    with _bar(done, None if stop is None else stop - start, progress, "scoring") as bar:
        for first, last in work.missing():
            _fill_gap(work, _marked(chunks_from, first, last), first, last, bar, part_seconds)


def _fill_gap(work: WorkFolder, chunks: Iterable[Chunk], first: int, last: int | None, bar, part_seconds: float) -> None:
    waiting: list[Chunk] = []
    count = values = 0
    columns = len(work.header.columns)
    since = time.monotonic()

    def keep() -> None:
        nonlocal waiting, count, values, since
        if waiting:
            work.add(concatenate(waiting, columns))
        waiting, count, values, since = [], 0, 0, time.monotonic()

    place = first
    try:
        for chunk in chunks:
            if not chunk.alleles:
                continue
            check_chunk(chunk, work.header, place)
            place += len(chunk.alleles)
            if last is not None and place > last:
                raise ValueError(f"the chunks go on to allele {place}, asked for were {first} to {last}")
            waiting.append(chunk)
            count += len(chunk.alleles)
            values += _values(chunk)
            if count >= PART_ALLELES or values >= PART_VALUES or time.monotonic() - since >= part_seconds:
                keep()
            bar.update(len(chunk.alleles))
        if last is not None and place != last:
            raise ValueError(f"the chunks end at allele {place}, asked for were {first} to {last}")
    except BaseException:
        with contextlib.suppress(OSError):  # what was computed is kept where it can be; the cause is the other error
            keep()
        raise
    keep()


class _InChunks(Exception):
    """Carries an error of the operating system that is not the output's."""


def _marked(chunks_from: ChunksFrom, first: int, last: int | None) -> Iterator[Chunk]:
    try:
        yield from chunks_from(first, last)
    except OSError as error:
        raise _InChunks from error


def _values(chunk: Chunk) -> int:
    arrays = [getattr(m, name) for m in (*chunk.scores.values(), *chunk.gene_scores.values()) for name in vars(m)]
    return sum(array.size for array in (*arrays, *chunk.profiles.values()) if array is not None)


def _finish(work: WorkFolder, out: Path) -> Summary:
    """Make the output of the work folder's parts."""
    survey = Survey()
    for chunk in work.texts():
        survey.add(chunk)
    start, stop = work.span
    if stop is not None and survey.alleles != stop - start:
        raise ValueError(f"{survey.alleles} alleles have arrived, of {stop - start}")
    if out.name.endswith(shards.SUFFIX):
        temporary = create_temporary(out)
        try:
            shards.write_shard(temporary, work, survey.statuses)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        temporaries = [(temporary, out)]
    else:
        temporaries = write_table(out, work.header, survey, work.chunks())
    _publish(temporaries, lambda temporary: work.finish(temporary, survey.statuses))
    return survey.summary


def write_table(out: Path, header: Header, survey: Survey, chunks: Iterable[Chunk]) -> list[tuple[Path, Path]]:
    """Write a table under temporary names; return them with the final ones, the table itself last."""
    writer = writer_for(out)
    temporary = create_temporary(out)
    temporaries = [(temporary, out)]
    try:
        if writer.suffix == ".vcf.gz":
            index = writer.module.index_name(out, survey)
            temporaries.insert(0, (temporary.with_name(temporary.name + index.suffix), index))
        columns = len(header.columns)
        blocks = reblock(chunks, block_alleles(header, survey), columns)
        writer.write(temporary, header, survey, blocks)
    except BaseException:
        for file, _ in temporaries:
            file.unlink(missing_ok=True)
        raise
    return temporaries


def _publish(temporaries: list[tuple[Path, Path]], note: Callable[[Path], None] | None = None) -> None:
    """Give files their final names, the table last, so that an index is never beside a table it does not belong to."""
    try:
        if note:
            note(temporaries[-1][0])
        if len(temporaries) > 1:
            temporaries[-1][1].unlink(missing_ok=True)
        for temporary, path in temporaries:
            commit(temporary, path)
    except BaseException:
        for temporary, _ in temporaries:
            temporary.unlink(missing_ok=True)
        raise


def block_alleles(header: Header, survey: Survey) -> int:
    """Alleles per block: what a writer holds at once, the same for the same table however it was computed."""
    genes = -(-survey.genes // max(1, survey.alleles))
    arrays = len(header.scorers) * max(1, len(survey.measures)) + genes * len(header.gene_scorers) * max(
        1, len(survey.gene_measures)
    )
    values = len(header.columns) * max(1, arrays + len(header.profiles) * survey.bins)
    return max(1, min(_BLOCK_ALLELES, _BLOCK_VALUES // values))


def _bar(done: int, total: int | None, progress: bool | None, what: str):
    from tqdm import tqdm

    disable = None if progress is None else not progress
    return tqdm(
        initial=done, total=total, desc=what, unit=" alleles", disable=disable, file=sys.stderr, dynamic_ncols=True
    )


def _counted(chunks: Iterable[Chunk], done: int, total: int, progress: bool | None, what: str) -> Iterator[Chunk]:
    with _bar(done, total, progress, what) as bar:
        for chunk in chunks:
            yield chunk
            bar.update(len(chunk.alleles))


@contextlib.contextmanager
def explained(out: Path) -> Iterator[None]:
    """Turn an error of the operating system, in writing ``out``, into one that says what to do."""
    try:
        yield
    except _InChunks as error:
        raise error.__cause__ from None
    except OSError as error:
        raise KipoiBorzoiError(
            f"{out}: cannot be written ({error.strerror or error}); no incomplete file is left under that name. Free space, or "
            "mend its permissions, and run the same command again: what was done is kept where it could be, in "
            f"{out.name}.parts"
        ) from error
