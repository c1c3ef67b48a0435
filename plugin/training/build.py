"""Building a store from coverage files: track by track, in several processes, to be continued after any interruption.

Each track becomes a part, a file of its own in the folder ``building`` of the store, which holds all its
windows. A part that is there is whole. When all are there, their compressed chunks are copied, example by example, into
the store, which then takes its name. A part is used again only when it was made of the same plan, genome
and coverage file (by sha256), and its values have their checksum.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from kipoi_borzoi._version import __version__
from kipoi_borzoi.dataloaders.coverage import Blacklist, Recipe, bins_of, locate_coverage, open_coverage, read_target
from kipoi_borzoi.dataloaders.fasta import FastaReader
from kipoi_borzoi.errors import InputError, KipoiBorzoiError
from kipoi_borzoi.files import atomic_write, sha256_of_file, sweep_temporaries
from kipoi_borzoi.tracks import Tracks, check_transform, read_tracks
from kipoi_borzoi.training import store as stores
from kipoi_borzoi.training.h5_file import create_h5
from kipoi_borzoi.training.store import FILE_NAME, FILTERS, WORK_NAME, Layout, Store
from kipoi_borzoi.training.windows import Windows, fold_overlaps, read_windows
from kipoi_borzoi.training.workers import run_jobs

PLAN_VERSION = 1
CALICO_CLIP_QUANTILE = 0.9999999
_BLOCK_BYTES = 1 << 26  # of targets that are copied at a time
_LETTER_CODES = np.full(256, 4, dtype=np.uint8)
_LETTER_CODES[np.frombuffer(b"ACGT", dtype=np.uint8)] = range(4)

logger = logging.getLogger("kipoi_borzoi")


@dataclass(frozen=True)
class Sources:
    """The files of a build, as given by the user."""

    targets: Path
    fasta: Path
    sequences: Path
    blacklist: Path | None = None


@dataclass(frozen=True, eq=False)
class Job:
    """All that a worker needs to make the parts; handed to it once."""

    work: Path
    sources: Sources
    layout: Layout
    recipe: Recipe
    coverage: tuple[Path, ...]
    clip_quantile: float | None
    plan_key: str

    def part(self, row: int | None) -> Path:
        """Place of a track's part; None for the sequences."""
        return self.work / ("sequences.h5" if row is None else f"track{row:05d}.h5")


def build(
    targets: str | os.PathLike,
    fasta: str | os.PathLike,
    sequences: str | os.PathLike,
    out: str | os.PathLike,
    *,
    blacklist: str | os.PathLike | None = None,
    transform: str = "new",
    crop_bp: int = 0,
    pool_width: int = 32,
    seq_length: int | None = None,
    negative: str = "error",
    clip_quantile: float | None = None,
    processes: int = 1,
    run: Callable = run_jobs,
    restart: bool = False,
    replace: bool = False,
    progress: bool = False,
) -> Store:
    """Build a store of binned targets, or continue one.

    Memory is bounded by one window of coverage for each process, and one example with all tracks.

    Parameters
    ----------
    targets : path
        Target table; its column ``file`` names BigWig or w5 files, relative to the table's folder.
    fasta, sequences, blacklist : path
        Genome; BED file of ``chrom, start, end, fold``; BED file of black-listed stretches.
    out : path
        Folder of the store.
    transform : {'new', 'old'}
    crop_bp, pool_width : int
        bp without targets at each end of a window; bp of a bin.
    seq_length : int, optional
        bp of a window, see `read_windows`; by default that of the intervals.
    negative : {'error', 'abs'}
        What to do with negative coverage.
    clip_quantile : float, optional
        Clip each track at this quantile of all its targets, as Calico's code does at 0.9999999.
    processes : int
        Tracks that are read at the same time.
    run : callable
        What runs the jobs; see `kipoi_borzoi.training.workers.run_jobs`.
    restart : bool
        Throw away the parts of an unfinished build.
    replace : bool
        Replace a complete store. Without it, a complete store of the same inputs is returned as it is.
    progress : bool
        Show a progress bar on standard error.

    Returns
    -------
    Store

    Raises
    ------
    InputError
        When an input cannot be used, differs from that of the build to be continued, or the folder cannot be written.
    """
    if processes < 1:
        raise InputError(f"processes is {processes}, expected 1 or more")
    if clip_quantile is not None and not 0 < clip_quantile < 1:
        raise InputError(f"the quantile to clip at is {clip_quantile}, expected a number between 0 and 1")
    out = Path(out)
    sources = Sources(Path(targets), Path(fasta), Path(sequences), Path(blacklist) if blacklist else None)
    recipe = Recipe(transform, crop_bp, pool_width, negative)
    tracks, windows, coverage, aliases = read_sources(sources, recipe, seq_length)
    layout = Layout(tracks, transform, windows.seq_length, crop_bp, pool_width, windows.intervals, windows.folds)
    _warn(sources, layout, windows, aliases)
    plan = _plan(sources, layout, recipe, clip_quantile)
    if (out / FILE_NAME).exists() and not replace:
        return _same_store(out, plan, coverage)
    with _writing(out):
        target = stores.begin(out, replace)
        work = out / WORK_NAME
        work.mkdir(exist_ok=True)
        with _lock(work):
            if restart:
                _remove_parts(work)
            _check_plan(work, out, plan)
            sweep_temporaries(work)
            plan_key = _digest(plan)
            job = Job(work, sources, layout, recipe, tuple(coverage), clip_quantile, plan_key)
            parts = _make_parts(job, processes, progress, run)
            source = {
                "made_by": f"kipoi-borzoi {__version__}, data build",
                "plan": plan,
                "coverage": [{"file": str(place), "sha256": part["coverage"]} for place, part in zip(coverage, parts[1:], strict=True)],
                "aliases": aliases,
                "padded": {str(number): beyond for number, beyond in windows.padded.items()},
            }  # fmt: skip
            _pack(job, target, parts, source, progress)
            shutil.rmtree(work, ignore_errors=True)
    empty = [name for name, part in zip(tracks.identifiers, parts[1:], strict=True) if not part["maximum"]]
    if empty:
        logger.warning(
            "%s: %d of %d tracks have no coverage in any sequence: %s; 'kipoi-borzoi data check' says more",
            out, len(empty), len(tracks), ", ".join(empty[:5]) + (", ..." if len(empty) > 5 else ""),
        )  # fmt: skip
    return Store.open(out)


def read_sources(
    sources: Sources, recipe: Recipe, seq_length: int | None
) -> tuple[Tracks, Windows, list[Path], dict[str, str]]:
    """Read the tables of a build and open each file once, so that what is wrong is said before the work begins.

    Returns
    -------
    Tracks, Windows, list of Path, dict
        The last two: each track's coverage file, and contig names of the sequences that coverage files write otherwise.

    Raises
    ------
    InputError
        As `build`.
    """
    check_transform(recipe.transform)
    tracks = read_target_table(sources.targets)
    fasta = FastaReader(sources.fasta)
    windows = read_windows(sources.sequences, fasta, seq_length, recipe.crop_bp)
    bins_of(windows.seq_length, recipe.crop_bp, recipe.pool_width)
    if sources.blacklist:
        Blacklist(sources.blacklist).check_contigs(fasta.contigs)
    lengths = {name: fasta.contigs[fasta.resolve(name)] for name in dict.fromkeys(i.chrom for i in windows.intervals)}
    coverage, problems, aliases = [], [], {}
    for file in tracks.files:
        try:
            place = locate_coverage(file, sources.targets)
            with open_coverage(place) as reader:
                for name, length in lengths.items():
                    reader.resolve(name, length, f"{sources.sequences}: ")
                aliases.update(reader.aliases)
            coverage.append(place)
        except InputError as error:
            problems.append(str(error))
    if problems:
        more = f" (and {len(problems) - 1} more of {len(tracks)} coverage files cannot be used)" if problems[1:] else ""
        raise InputError(problems[0] + more)
    return tracks, windows, coverage, aliases


def read_target_table(path: str | os.PathLike) -> Tracks:
    """Read the target table of a data set, in which each stranded track has its partner.

    Raises
    ------
    InputError
        As `read_tracks`, or when a partner is not in the table.
    """
    tracks = read_tracks(path)
    try:
        tracks.pair_rows()
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return tracks


def _warn(sources: Sources, layout: Layout, windows: Windows, aliases: dict[str, str]) -> None:
    if aliases:
        name, other = next(iter(aliases.items()))
        logger.warning("contig names differ by the prefix 'chr': %r is read as %r of coverage files", name, other)
    if windows.padded:
        first = min(windows.padded)
        logger.warning(
            "%s: %d of %d sequences reach beyond the end of their contig, where zeros stand (first: %s, %d bp)",
            sources.sequences, len(windows.padded), len(windows.intervals), windows.intervals[first],
            windows.padded[first],
        )  # fmt: skip
    for overlap in fold_overlaps(layout.intervals, layout.example_folds, layout.folds, layout.crop_bp):
        if overlap.target_bp:
            logger.warning(
                "%s: folds %s and %s overlap: both have targets on %d bp (such as %s), so one does not test the other",
                sources.sequences, *overlap.folds, overlap.target_bp, overlap.example,
            )  # fmt: skip


def _plan(sources: Sources, layout: Layout, recipe: Recipe, clip_quantile: float | None) -> dict:
    tracks = layout.tracks
    places = [(i.chrom, i.start, fold) for i, fold in zip(layout.intervals, layout.example_folds, strict=True)]
    return {
        "version": PLAN_VERSION,
        "transform": layout.transform,
        "seq_length": layout.seq_length,
        "crop_bp": layout.crop_bp,
        "pool_width": layout.bin_size,
        "negative": recipe.negative,
        "blacklist_quantile": recipe.blacklist_quantile,
        "clip_quantile": clip_quantile,
        "genome": sha256_of_file(sources.fasta),
        "sequences": _digest(places),
        "blacklist": sha256_of_file(sources.blacklist) if sources.blacklist else None,
        "tracks": [
            [int(tracks.index[row]), name, tracks.files[row], float(tracks.clip[row]), float(tracks.clip_soft[row]),
             float(tracks.scale[row]), tracks.sum_stat[row], int(tracks.strand_pair[row])]
            for row, name in enumerate(tracks.identifiers)
        ],
    }  # fmt: skip


def _differences(old: dict, new: dict) -> list[str]:
    words = {"genome": "the FASTA file", "sequences": "the sequences or their folds", "blacklist": "the black list"}
    reasons = []
    for name in new:
        if old.get(name) == new[name]:
            continue
        if name == "tracks":
            changed = [row[1] for row in new["tracks"] if row not in old.get("tracks", [])]
            reasons.append(f"the target table ({', '.join(changed[:3]) or 'fewer tracks'})")
        else:
            reasons.append(words.get(name) or f"{name} (was {old.get(name)}, now {new[name]})")
    return reasons


def _check_plan(work: Path, out: Path, plan: dict) -> None:
    """Write the plan of a new build; refuse to continue one with another plan."""
    path = work / "plan.json"
    if path.exists():
        try:
            old = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{path}: damaged ({error}); start over with --restart") from error
        reasons = _differences(old, json.loads(json.dumps(plan)))
        if reasons:
            raise InputError(
                f"{out}: an unfinished build of other inputs is here; changed: {'; '.join(reasons)}. Continue with the "
                "inputs as they were, throw the finished parts away (--restart), or name another folder"
            )
    else:
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(plan), encoding="utf-8")


def _same_store(out: Path, plan: dict, coverage: list[Path]) -> Store:
    store = Store.open(out)
    reasons = _differences(store.source.get("plan", {}), json.loads(json.dumps(plan)))
    if not reasons:
        known = [entry["sha256"] for entry in store.source["coverage"]]
        reasons = [str(place) for place, sha256 in zip(coverage, known, strict=True) if sha256_of_file(place) != sha256]
    if reasons:
        raise InputError(
            f"{out}: a complete store of other inputs is here; changed: {'; '.join(reasons[:5])}. "
            "Name another folder, or replace it (--replace)"
        )
    logger.info("%s: complete already, of the same inputs", out)
    if (out / WORK_NAME).exists():  # a build was killed between its last two steps
        with _lock(out / WORK_NAME):
            shutil.rmtree(out / WORK_NAME, ignore_errors=True)
    return store


def _digest(value) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@contextlib.contextmanager
def _writing(out: Path):
    """Turn what the operating system says about ``out`` into an error that names it."""
    try:
        yield
    except KipoiBorzoiError:
        raise
    except OSError as error:
        raise InputError(
            f"{error.filename or out}: cannot be written or read ({error.strerror or error}); is the disk full or read-only? "
            "Mend that and run the same command again: finished parts are kept"
        ) from error


@contextlib.contextmanager
def _lock(work: Path):
    with open(work / "lock", "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{work.parent}: another process is building this store; wait for it") from None
        except OSError:
            logger.info("%s: this filesystem has no locks; see that no other process builds this store", work)
        yield


def _remove_parts(work: Path) -> None:
    for path in work.iterdir():
        if path.name != "lock":
            path.unlink()


def _make_parts(job: Job, processes: int, progress: bool, run: Callable) -> list[dict]:
    """Make or verify the parts of the sequences and all tracks; their descriptions, that of the sequences first."""
    rows = [None, *range(len(job.layout.tracks))]
    total = len(rows) * len(job.layout.intervals)
    done = sum(job.part(row).exists() for row in rows)
    if done:
        logger.info("%s: continuing, %d of %d parts are there", job.work.parent, done, len(rows))
    return run(make_part, job, rows, processes, total, "windows of tracks", progress)


def make_part(job: Job, row: int | None, tick: Callable[[int], None]) -> dict:
    """Make the part of one track (None: the sequences), unless it is there; return its description.

    ``tick`` is called with the number of windows done, and raises `Stopped` when the work is to end.
    """
    place = job.part(row)
    what = "sequences" if row is None else job.layout.tracks.identifiers[row]
    source = None if row is None else job.coverage[row]
    sha256 = None if source is None else sha256_of_file(source)
    key = _digest([job.plan_key, row, sha256])
    found = _read_part(place, source, sha256, key)
    if found is not None:
        tick(len(job.layout.intervals))
        return found
    before = None if source is None else os.stat(source)
    with atomic_write(place) as temporary:
        with create_h5(temporary) as (file, check):

            def step() -> None:
                check()
                tick(1)

            described = _write_sequences(file, job, step) if row is None else _write_track(file, job, row, step)
            described.update({"key": key, "coverage": sha256, "what": what})
            file.attrs["part"] = json.dumps(described)
        if source is not None:
            after = os.stat(source)
            if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
                raise InputError(f"{source}: the file changed while it was read; run again when it is finished")
    return described


def _read_part(place: Path, source: Path | None, sha256: str | None, key: str) -> dict | None:
    """Description of a part that is there and whole; None when there is none or it is damaged.

    Raises
    ------
    InputError
        When it was made of another coverage file.
    """
    if not place.exists():
        return None
    try:
        with h5py.File(place, "r", locking=False) as file:
            described = json.loads(file.attrs["part"])
            digest = hashlib.sha256()
            if source is None:
                for bases, known in zip(file["bases"], file["known"], strict=True):
                    digest.update(bases.tobytes() + known.tobytes())
            else:
                for values in file["targets"]:
                    digest.update(values)
        whole = digest.hexdigest() == described["digest"]
    except (OSError, KeyError, ValueError) as error:
        logger.warning("%s: a damaged part, made again (%s)", place, error)
        return None
    if described["coverage"] != sha256:
        raise InputError(
            f"{source}: the file has changed since its part of the store was made (sha256 {described['coverage'][:12]}..., "
            f"now {sha256[:12]}...); bring the old file back, or start over (--restart)"
        )
    if not whole or described["key"] != key:
        logger.warning("%s: a damaged part, made again (its values do not have their checksum)", place)
        return None
    return described


def _write_sequences(file: h5py.File, job: Job, step: Callable[[], None]) -> dict:
    layout = job.layout
    n, length = len(layout.intervals), layout.seq_length
    stores.create_sequence_arrays(file, n, length)
    digest = hashlib.sha256()
    with FastaReader(job.sources.fasta) as fasta:
        for number, interval in enumerate(layout.intervals):
            letters = np.frombuffer(fasta.fetch(interval).encode(), dtype=np.uint8)
            digest.update(stores.write_sequence(file, number, _LETTER_CODES[letters], length, str(interval)))
            step()
    return {"digest": digest.hexdigest()}


def _write_track(file: h5py.File, job: Job, row: int, step: Callable[[], None]) -> dict:
    layout = job.layout
    track = layout.tracks.select([int(layout.tracks.index[row])])
    shape = (len(layout.intervals), layout.bins)
    data = file.create_dataset("targets", shape, np.float16, chunks=(1, layout.bins), **FILTERS)
    blacklist = Blacklist(job.sources.blacklist) if job.sources.blacklist else None
    # How often each float16 number occurs: it gives exact quantiles without keeping the values.
    counts = np.zeros(1 << 16, dtype=np.int64)
    digest = hashlib.sha256()
    with open_coverage(job.coverage[row]) as reader:
        for number, window in enumerate(layout.intervals):
            values = read_target(reader, window, track, job.recipe, blacklist)
            data[number] = values
            digest.update(values)
            counts += np.bincount(values.view(np.uint16), minlength=1 << 16)
            step()
    if job.clip_quantile is not None:
        limit = np.float16(_quantile(counts, job.clip_quantile))
        digest = hashlib.sha256()
        for number in range(len(data)):
            values = data[number]
            if values.max() > limit:
                values = np.minimum(values, limit)
                data[number] = values
            digest.update(values)
    return {"digest": digest.hexdigest(), "maximum": float(_quantile(counts, 1.0))}


def _quantile(counts: np.ndarray, q: float) -> float:
    """Quantile of numbers of 0 or more, of which ``counts`` tells how often each float16 occurs; as `numpy.quantile`."""
    ends = np.cumsum(counts)
    place = q * (ends[-1] - 1)
    below, above = (
        # The bits of positive float16 numbers are in the order of the numbers.
        float(np.uint16(np.searchsorted(ends, rank, side="right")).view(np.float16))
        for rank in (np.floor(place), np.ceil(place))
    )
    return below + (above - below) * (place - np.floor(place))


def _pack(job: Job, target: Path, parts: list[dict], source: dict, progress: bool) -> None:
    """Copy the parts' chunks, compressed as they are, into the store, example by example."""
    from tqdm import tqdm

    layout = job.layout
    n, rows = len(layout.intervals), len(layout.tracks)
    block = max(1, _BLOCK_BYTES // (2 * rows * layout.bins))
    with atomic_write(target) as temporary:
        with (
            create_h5(temporary) as (file, check),
            tqdm(total=n, unit="example", desc="packing", disable=not progress) as bar,
        ):
            stores.create_arrays(file, layout)
            with h5py.File(job.part(None), "r", locking=False) as part:
                for name in ("bases", "known"):
                    _copy(part[name], file[name], range(n))
            for first in range(0, n, block):
                numbers = range(first, min(first + block, n))
                chunks = []
                for row in range(rows):
                    with h5py.File(job.part(row), "r", locking=False) as part:
                        data = part["targets"].id
                        chunks.append([data.read_direct_chunk((number, 0)) for number in numbers])
                for place, number in enumerate(numbers):
                    for row in range(rows):
                        mask, chunk = chunks[row][place]
                        file["targets"].id.write_direct_chunk((number, row, 0), chunk, mask)
                check()
                bar.update(len(numbers))
            digests = [part["digest"] for part in parts]
            stores.finish(file, layout, digests[1:], digests[0], source)


def _copy(source: h5py.Dataset, target: h5py.Dataset, numbers: range) -> None:
    for number in numbers:
        mask, chunk = source.id.read_direct_chunk((number, 0))
        target.id.write_direct_chunk((number, 0), chunk, mask)
