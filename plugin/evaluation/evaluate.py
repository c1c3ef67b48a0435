"""Predict the windows of one split and compare with what was measured: over bins, over genes, over contrasts."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.evaluation.contrasts import Contrast, changes
from kipoi_borzoi.evaluation.correlation import Moments, Sample, pearson, spearman
from kipoi_borzoi.evaluation.genes import (
    Column,
    GeneLike,
    Placement,
    checked_genes,
    difference_pearson,
    expression_columns,
    gene_sums,
    place_genes,
)
from kipoi_borzoi.tracks import Tracks, unsquash

RELEASED = "Borzoi/"
"""How names of the released networks begin."""
TEST_FOLD, VALID_FOLD = "fold3", "fold4"
"""The folds of Calico's sequences that the released networks were tested on, and whose loss stopped their training."""

_FOLD = re.compile(r"fold\d+")

SAMPLE_ROWS, SAMPLE_VALUES = 200_000, 50_000_000
"""Most bins from which Spearman's rho of a track is computed, and most values of all tracks (400 MB); with more, a random
sample of so many."""

logger = logging.getLogger("kipoi_borzoi")


@dataclass(frozen=True, eq=False)
class TrackAccuracy:
    """Agreement over the bins of all windows, on the squashed scale that networks are trained on.

    Attributes
    ----------
    pearson, r2, spearman : (tracks,) float64
        NaN where it is not defined.
    bins : int
        Bins compared.
    spearman_bins : int
        Bins that ``spearman`` was computed from: all, or a random sample.
    folds : tuple of str
        In which they lie.
    """

    pearson: np.ndarray
    r2: np.ndarray
    spearman: np.ndarray
    bins: int
    spearman_bins: int
    folds: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class GeneAccuracy:
    """Agreement over genes.

    Attributes
    ----------
    columns : tuple of Column
    placement : Placement
    measured, predicted : (genes, columns) float64
        log2(1 + sum of unsquashed coverage over exon bins).
    pearson, difference_pearson : (columns,) float64
        r across genes; the same after quantile normalisation and less each gene's mean over columns.
    contrasts : tuple of Contrast
    measured_changes, predicted_changes : (genes, contrasts) float64
    change_pearson : (contrasts,) float64
    """

    columns: tuple[Column, ...]
    placement: Placement
    measured: np.ndarray
    predicted: np.ndarray
    pearson: np.ndarray
    difference_pearson: np.ndarray
    contrasts: tuple[Contrast, ...] = ()
    measured_changes: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    predicted_changes: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    change_pearson: np.ndarray = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The result of `evaluate`.

    Attributes
    ----------
    tracks : Tracks
    split : str
    windows : int
    track_accuracy : TrackAccuracy
    gene_accuracy : GeneAccuracy or None
    warnings : tuple of str
    """

    tracks: Tracks
    split: str
    windows: int
    track_accuracy: TrackAccuracy
    gene_accuracy: GeneAccuracy | None
    warnings: tuple[str, ...] = ()


def evaluate(
    model,
    store,
    split: str,
    genes: Sequence[GeneLike] | None = None,
    contrasts=None,
    batch: int = 8,
    rc: bool = False,
    base: str = "",
    progress=None,
    predict=None,
) -> Evaluation:
    """Compare a model's predictions with a store's targets.

    Parameters
    ----------
    model
        Has ``config``, ``tracks``, ``transform``, ``view`` and ``predict_on_batch``, as
        `kipoi_borzoi.model.BorzoiModel`; its view must be ``coverage``.
    store
        A data store, see `kipoi_borzoi.training.store.Store`.
    split : str
        A fold of the store.
    genes : sequence of GeneLike, optional
        For accuracy over genes.
    contrasts : callable, optional
        From (tracks, columns) to contrasts, for log fold changes.
    batch : int
        Windows predicted at a time.
    rc : bool
        Average with the prediction for the reverse complement.
    base : str
        Name of the model, or of the one that it is an adapter of: for a warning about folds that the
        released networks were trained on.
    progress : callable, optional
        Wraps the sequence of batches, such as `tqdm.tqdm`.
    predict : callable, optional
        From the batches, lists of numbers of windows, to their coverage (batch, bins, tracks), in order; by default
        the model does it here.

    Raises
    ------
    InputError
        When model and store do not fit together, the split has no window, or no gene lies in one.
    """
    rows = _match(model, store)
    numbers = store.indices(split).tolist()
    if not numbers:
        raise InputError(f"fold {split!r} of the store has no window")
    tracks, placement, columns = model.tracks, None, ()
    if genes is not None:
        genes, columns = list(genes), expression_columns(tracks)
        windows = {number: (store.interval(number), store.fold(number)) for number in numbers}
        placement = place_genes(genes, windows, store.crop_bp, store.bins, store.bin_size)
        checked_genes(genes, placement, {interval.chrom for interval, _ in windows.values()})
    chosen = contrasts(tracks, columns) if contrasts is not None and genes is not None else ()
    warnings = _warnings(store, numbers, base)
    for warning in warnings:
        logger.warning("%s", warning)
    rows_kept = min(SAMPLE_ROWS, SAMPLE_VALUES // len(tracks), len(numbers) * store.bins)
    moments, sample = Moments(len(tracks)), Sample(rows_kept, len(tracks))
    by_example: dict[int, list[int]] = {}
    for place, item in enumerate(placement.placed if placement else ()):
        by_example.setdefault(item.example, []).append(place)
    sums = np.empty((2, len(placement.placed) if placement else 0, len(columns)))
    batches = [numbers[start : start + batch] for start in range(0, len(numbers), batch)]
    predictions = predict(batches) if predict else _predictions(model, store, batches, rc)
    for some, predicted in zip(progress(batches) if progress else batches, predictions, strict=True):
        for number, coverage in zip(some, predicted, strict=True):
            target = store.targets(number)[:, rows].astype(np.float32)
            if coverage.shape != target.shape:
                raise InputError(
                    f"the model predicts {coverage.shape} (bins, tracks) for a window, the store holds {target.shape}"
                )
            if not np.isfinite(coverage).all():
                raise InputError(
                    f"the model's prediction for {store.interval(number)} is not finite; its weights are damaged"
                )
            moments.add(target, coverage)
            sample.add(target, coverage)
            for place in by_example.get(number, ()):
                item = placement.placed[place]
                for side, values in enumerate((target, coverage)):
                    unsquashed = unsquash(values[item.bins], tracks, model.transform)
                    sums[side, place] = gene_sums(unsquashed, item.gene.strand, columns)
    over_bins = TrackAccuracy(
        moments.pearson(), moments.r2(), spearman(sample.measured, sample.predicted), moments.count, len(sample.measured),
        tuple(sorted({store.fold(number) for number in numbers})),
    )  # fmt: skip
    over_genes = None
    if placement is not None:
        measured, predicted = np.log2(1 + sums)
        over_genes = _gene_accuracy(columns, placement, measured, predicted, tuple(chosen))
    return Evaluation(tracks, split, len(numbers), over_bins, over_genes, tuple(warnings))


def _predictions(model, store, batches, rc: bool):
    """The coverage of each batch of windows."""
    for some in batches:
        x = np.stack([store.sequence(number, bool) for number in some])
        yield np.asarray(model.predict_on_batch(x, crop=store.crop_bp // store.bin_size, rc=rc), dtype=np.float32)


def _gene_accuracy(columns, placement, measured, predicted, contrasts) -> GeneAccuracy:
    both = [changes(values, contrasts) for values in (measured, predicted)]
    return GeneAccuracy(
        columns, placement, measured, predicted, pearson(measured, predicted), difference_pearson(measured, predicted),
        contrasts, *both, pearson(*both),
    )  # fmt: skip


def _match(model, store) -> np.ndarray:
    """Columns of the store's targets in the order of the model's tracks, after checking that the two fit."""
    if getattr(model, "view", "coverage") != "coverage":
        raise InputError(f"the model's view is {model.view!r}; evaluation needs its coverage, such as ENTRY/coverage")
    if model.transform != store.transform:
        raise InputError(
            f"the model predicts coverage of the transform {model.transform!r}, the store was built with"
            f" {store.transform!r}; build a store with --transform {model.transform}"
        )
    for what, its, the_store in (
        ("window", model.config.seq_length, store.seq_length),
        ("bin", model.config.bin_size, store.bin_size),
    ):
        if its != the_store:
            raise InputError(f"the model's {what} is {its} bp, the store's {the_store} bp")
    if store.crop_bp % store.bin_size:
        raise InputError(f"the store's crop of {store.crop_bp} bp is not a whole number of bins of {store.bin_size} bp")
    row_of = {name: row for row, name in enumerate(store.tracks.identifiers)}
    missing = [name for name in model.tracks.identifiers if name not in row_of]
    if missing:
        raise InputError(
            f"{len(missing)} of the model's {len(model.tracks)} tracks are not in the store, the first is {missing[0]!r};"
            " evaluate on a store of the model's own tracks"
        )
    rows = np.array([row_of[name] for name in model.tracks.identifiers])
    for name in ("scale", "clip", "clip_soft"):
        differ = np.flatnonzero(getattr(model.tracks, name) != getattr(store.tracks, name)[rows])
        if len(differ):
            raise InputError(
                f"track {model.tracks.identifiers[differ[0]]!r}: {name} is {getattr(model.tracks, name)[differ[0]]} in the"
                f" model and {getattr(store.tracks, name)[rows[differ[0]]]} in the store; use one table for both"
            )
    stats = [(store.tracks.sum_stat[row], mine) for row, mine in zip(rows, model.tracks.sum_stat, strict=True)]
    if any(its != mine for its, mine in stats):
        raise InputError("model and store differ in sum_stat of their tracks; use one table for both")
    return rows


def _warnings(store, numbers: list[int], base: str) -> list[str]:
    folds = {store.fold(number) for number in numbers}
    if not base.startswith(RELEASED):
        return []
    if not all(_FOLD.fullmatch(fold) for fold in folds):
        return [
            f"{base} is, or stands on, the released Borzoi, which was trained on all of Calico's folds but {TEST_FOLD} (test)"
            f" and {VALID_FOLD} (validation); the store's fold {', '.join(sorted(folds))} does not say in which of them its windows lie"
        ]
    found = []
    if trained := sorted(folds - {TEST_FOLD, VALID_FOLD}):
        found.append(
            f"{base} is, or stands on, the released Borzoi, which was trained on {', '.join(trained)}:"
            f" the accuracy there is not that on new sequences; only {TEST_FOLD} was held out"
        )
    if VALID_FOLD in folds:
        found.append(
            f"{base} is, or stands on, the released Borzoi, whose training was stopped by its loss on {VALID_FOLD}"
        )
    return found
