"""From a store to batches: the order of an epoch, augmentation, and a thread that reads ahead of the step."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.sequence import reverse_complement, shift

# Parts of the run's seed: each kind of random number has a stream of its own.
_ORDER, _AUGMENT = 1, 2
_AHEAD = 3  # batches that are read ahead


@dataclass(frozen=True)
class Augmentation:
    """What is changed at random from batch to batch.

    Attributes
    ----------
    rc : bool
        Reverse complement every other batch, by a coin.
    shift : int
        Move the sequences by up to so many bp to either side; the targets stay.
    """

    rc: bool = True
    shift: int = 3

    def draw(self, seed: int, number: int) -> tuple[int, bool]:
        """The shift (bp, right when positive) and whether to reverse, of batch ``number``."""
        random = np.random.default_rng([seed, _AUGMENT, number])
        return int(random.integers(-self.shift, self.shift + 1)), bool(self.rc and random.integers(2))


def augmented(x: np.ndarray, y: np.ndarray, by: int, reverse: bool, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shift a batch and reverse it.

    Instead of the prediction for a reversed sequence, which Calico's code puts back in place, the targets are
    turned round: bins reversed, each track exchanged with its partner on the other strand. The loss is the same.

    Parameters
    ----------
    x : (batch, seq_length, 4)
    y : (batch, bins, tracks)
    by, reverse
        See `Augmentation.draw`.
    pairs : (tracks,) int
        Row of each track's partner.
    """
    x = shift(x, by)
    if not reverse:
        return x, y
    return reverse_complement(x), y[:, ::-1][:, :, pairs]


class SomeTracks:
    """A store of which only some tracks are looked at.

    Parameters
    ----------
    store : Store
    names : sequence of str
        Identifiers, in the order wanted.
    """

    def __init__(self, store, names):
        self._store = store
        self.tracks = store.tracks.select(names)
        row_of = {name: row for row, name in enumerate(store.tracks.identifiers)}
        self._rows = np.array([row_of[name] for name in self.tracks.identifiers])

    def targets(self, i: int) -> np.ndarray:
        """See `Store.targets`."""
        return self._store.targets(i, self._rows)

    def __getattr__(self, name):
        return getattr(self._store, name)


def epoch_order(indices: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """The examples ``indices`` in the order of an epoch."""
    return np.random.default_rng([seed, _ORDER, epoch]).permutation(indices)


@dataclass(frozen=True)
class Batch:
    """One batch: ``x`` (batch, seq_length, 4) float32, ``y`` (batch, bins, tracks) float32, its number in the run."""

    x: np.ndarray
    y: np.ndarray
    number: int
    indices: np.ndarray


class Batches:
    """Batches of a fold, epoch by epoch.

    Parameters
    ----------
    store : Store
        Anything with ``sequence(i, dtype)``, ``targets(i)`` and ``tracks``.
    indices : (n,) int
        The examples to use.
    batch_size : int
    seed : int
    augmentation : Augmentation

    Attributes
    ----------
    read_s, wait_s : float
        Seconds spent reading (beside the training step), and seconds that the step had to wait for a batch.
    """

    def __init__(self, store, indices: np.ndarray, batch_size: int, seed: int, augmentation: Augmentation):
        self.store, self.indices, self.batch_size = store, np.asarray(indices), batch_size
        self.seed, self.augmentation = seed, augmentation
        self.pairs = store.tracks.pair_rows() if augmentation.rc else np.arange(len(store.tracks))
        self.per_epoch = len(self.indices) // batch_size
        if not self.per_epoch:
            raise InputError(
                f"the training folds have {len(self.indices)} sequences, fewer than one batch of {batch_size};"
                " choose a smaller batch_size or other folds"
            )
        self.read_s = self.wait_s = 0.0

    def __call__(self, epoch: int, first: int = 0, stop: int | None = None) -> Iterator[Batch]:
        """The batches of an epoch, from number ``first`` within it up to ``stop`` (exclusive), read ahead in a thread.

        The examples that are left over when the number of batches does not divide them are left out, other ones
        each time.
        """
        order = epoch_order(self.indices, self.seed, epoch)
        numbers = range(first, self.per_epoch if stop is None else stop)
        yield from self._ahead(lambda: (self._read(order, epoch, number) for number in numbers))

    def _read(self, order: np.ndarray, epoch: int, number: int) -> Batch:
        chosen = order[number * self.batch_size : (number + 1) * self.batch_size]
        overall = epoch * self.per_epoch + number
        x = np.stack([self.store.sequence(int(i), np.float32) for i in chosen])
        y = np.stack([self.store.targets(int(i)) for i in chosen]).astype(np.float32)
        by, reverse = self.augmentation.draw(self.seed, overall)
        x, y = augmented(x, y, by, reverse, self.pairs)
        return Batch(np.ascontiguousarray(x), np.ascontiguousarray(y), overall, chosen)

    def _ahead(self, make) -> Iterator[Batch]:
        """Yield from the iterator that ``make`` gives, which runs a few items ahead in a thread of its own."""
        items: queue.Queue = queue.Queue(_AHEAD)
        stopped = threading.Event()

        def put(item) -> bool:
            while not stopped.is_set():
                try:
                    items.put(item, timeout=0.1)
                    return True
                except queue.Full:
                    continue
            return False

        def work():
            try:
                batches = make()
                while True:
                    start = time.perf_counter()
                    batch = next(batches, None)
                    self.read_s += time.perf_counter() - start
                    if not put((batch, None)) or batch is None:
                        return
            except BaseException as error:  # handed to the caller, who raises it
                put((None, error))

        thread = threading.Thread(target=work, name="read ahead", daemon=True)
        thread.start()
        try:
            while True:
                start = time.perf_counter()
                batch, error = items.get()
                self.wait_s += time.perf_counter() - start
                if error is not None:
                    raise error
                if batch is None:
                    return
                yield batch
        finally:
            stopped.set()
            thread.join()
