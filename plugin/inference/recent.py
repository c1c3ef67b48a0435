"""The stems of recently predicted windows, kept for windows that differ from them in a short stretch.

Tools that score variants or mutate a sequence call ``predict_on_batch`` with reference and alternative
in separate calls or rows, and know nothing of `kipoi_borzoi.inference.reuse`. Here each window is compared with
those that were run lately; where one is nearly the same, only what their difference reaches is computed.
"""

from __future__ import annotations

import os
import threading
import weakref
from dataclasses import dataclass

import numpy as np
from keras import ops

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.inference.predictor import Predictor, State
from kipoi_borzoi.inference.splice import WORTHWHILE, Splicer, differences, nbytes, trimmed
from kipoi_borzoi.network.layout import Layout
from kipoi_borzoi.network.span import Span

# Environment variables: 0 switches reuse off; megabytes that may be kept in one process.
SWITCH, LIMIT = "KIPOI_BORZOI_REUSE", "KIPOI_BORZOI_REUSE_MB"
LIMIT_MB = 1024
# Shorter windows take too little time for the comparison to pay.
LEAST_BP = 65_536


@dataclass
class _Kept:
    """The stem of one window.

    Attributes
    ----------
    letters : (seq_length / 2,) uint8
        The one-hot sequence, a bit per number.
    state : State
    size : int
        Bytes of both.
    used : bool
        Whether a later window has been made from it.
    call : int
        The last call that stored or used it.
    """

    letters: np.ndarray
    state: State
    size: int
    call: int
    used: bool = False


class RecentStems:
    """Stem states by predictor, in bounded memory; may be used from several threads.

    A window that finds no room is not kept, rather than pushing out another of the same call that still
    waits for its counterpart: of a batch of references as many are kept as fit.
    """

    def __init__(self):
        self._kept: weakref.WeakKeyDictionary[Predictor, dict[tuple, list[_Kept]]] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()
        self._calls = 0

    def call(self, limit: int) -> StemsOfCall:
        """Begin a call of ``predict_on_batch`` that may keep ``limit`` bytes."""
        with self._lock:
            self._calls += 1
            return StemsOfCall(self, self._calls, limit)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._kept.clear()

    @property
    def nbytes(self) -> int:
        """Bytes that are kept."""
        with self._lock:
            return sum(kept.size for _, kept in self._all())

    def candidates(self, predictor: Predictor, kind: tuple) -> list[_Kept]:
        """What is kept of a predictor's windows of one layout and precision, the latest first."""
        with self._lock:
            return self._kept.get(predictor, {}).get(kind, [])[::-1]

    def use(self, kept: _Kept, call: int) -> None:
        """Note that a window was made from ``kept``."""
        with self._lock:
            kept.used, kept.call = True, call

    def keep(self, predictor: Predictor, kind: tuple, kept: _Kept, limit: int) -> None:
        """Keep a state if there is, or can be made, room for it."""
        with self._lock:
            total, removable = 0, []
            for group, other in self._all():
                total += other.size
                if other.used or other.call != kept.call:
                    removable.append((group, other))
            # First what nothing has asked for in the last two calls, then what has served already.
            removable.sort(key=lambda one: (one[1].call >= kept.call - 1, not one[1].used, one[1].call))
            if total - sum(other.size for _, other in removable) + kept.size > limit:
                return
            for group, other in removable:
                if total + kept.size <= limit:
                    break
                group[:] = [one for one in group if one is not other]
                total -= other.size
            self._kept.setdefault(predictor, {}).setdefault(kind, []).append(kept)

    def _all(self):
        """Everything that is kept, each with the list it is in."""
        return [(group, kept) for kinds in self._kept.values() for group in kinds.values() for kept in group]


class StemsOfCall:
    """Where the stem states of one call of ``predict_on_batch`` come from.

    Parameters
    ----------
    recent : RecentStems
    number : int
        Of the call.
    limit : int
        Bytes that ``recent`` may hold.
    """

    def __init__(self, recent: RecentStems, number: int, limit: int):
        self.recent, self.number, self.limit = recent, number, limit

    def state(self, predictor: Predictor, x: np.ndarray, layout: Layout, precision: str) -> State:
        """The state of windows ``x`` (n, seq_length, 4) after the stem, or before it where reuse cannot pay."""
        if not layout.stem or layout.seq_length < LEAST_BP:
            return predictor.begin(x)
        states = [self._one(predictor, x[i : i + 1], layout, precision) for i in range(len(x))]
        return states[0] if len(states) == 1 else _stacked(states)

    def _one(self, predictor: Predictor, x: np.ndarray, layout: Layout, precision: str) -> State:
        """The state of one window."""
        letters, kind = _letters(x), (layout, precision)
        splicer = Splicer(predictor, layout, layout.stem, precision)
        if letters is not None:
            found = _nearest(self.recent.candidates(predictor, kind), letters, splicer)
            if found is not None:
                kept, tiles = found
                self.recent.use(kept, self.number)
                return splicer.spliced(kept.state, x, tiles)
        state = trimmed(predictor.advance(predictor.begin(x), layout.stem, layout, precision), [(layout, layout.stem)])
        if letters is not None:
            size = nbytes(state) + letters.nbytes
            self.recent.keep(predictor, kind, _Kept(letters, state, size, self.number), self.limit)
        return state


RECENT = RecentStems()


def recent_stems(reuse: bool = True) -> StemsOfCall | None:
    """The stems for one call of ``predict_on_batch``; None where reuse is switched off.

    Raises
    ------
    InputError
        An environment variable with a value that means nothing.
    """
    switch, limit = os.environ.get(SWITCH, "1"), os.environ.get(LIMIT, str(LIMIT_MB))
    if switch not in ("0", "1"):
        raise InputError(f"the environment variable {SWITCH} is {switch!r}; give 0 (off) or 1 (on)")
    if not limit.isdecimal():
        raise InputError(f"the environment variable {LIMIT} is {limit!r}; give a whole number of megabytes")
    if not reuse or switch == "0" or limit == "0":
        return None
    return RECENT.call(int(limit) * 1_000_000)


def _letters(x: np.ndarray) -> np.ndarray | None:
    """A window's one-hot sequence in bits, two positions to a byte; None if it holds other numbers than 0 and 1."""
    if x.dtype != bool and not ((x == 0) | (x == 1)).all():
        return None
    return np.packbits(x.astype(bool))


def _nearest(candidates: list[_Kept], letters: np.ndarray, splicer: Splicer) -> tuple[_Kept, list] | None:
    """The kept window from which least is to be recomputed, and the tiles; None where none is near enough."""
    best = None
    for kept in candidates:
        if np.count_nonzero(kept.letters != letters) > WORTHWHILE * len(letters):
            continue
        length = splicer.layout.seq_length
        changed = [(2 * start, min(2 * end, length)) for start, end in differences(kept.letters, letters)]
        tiles = splicer.plan(changed)
        if tiles is not None:
            cost = sum(tile.size for tile, _ in tiles)
            if best is None or cost < best[0]:
                best = cost, kept, tiles
    return None if best is None else best[1:]


def _stacked(states: list[State]) -> State:
    """Several states of one window each as one state."""
    first = states[0]

    def along_windows(tensors):
        return ops.concatenate(tensors, axis=0)

    held: dict[int, tuple[object, Span]] = {}
    for index, (_, span) in first.skips.items():
        held[index] = (along_windows([state.skips[index][0] for state in states]), span)
    return State(first.unit, along_windows([state.y for state in states]), held)
