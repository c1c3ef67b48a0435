"""The stem of a sequence that differs little from one already run: only what the difference reaches is computed.

The units before the first global one are local. A changed base reaches a few positions of what they
give (5 of 4,096 in Borzoi), and these are computed straight from the sequence, as one short tile with
the neighbouring bases that it reads. Tiles of a given size may begin at any position, so that two
compiled programs serve all changes that keep away from the window's ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import keras
import numpy as np
from keras import ops

from kipoi_borzoi.inference.predictor import Predictor, State, tile_input, touches
from kipoi_borzoi.network.layout import Layout
from kipoi_borzoi.network.span import Span

# Positions of a short tile: one holds whatever a single base reaches (at most 6 in Borzoi).
SHORT = 8
# Positions of a long one, for changes such as half a window: 16,384 bp in Borzoi.
LONG = 128
# Differences that are fewer bp apart than this are one stretch.
GAP_BP = 256
# Beyond this part of the window, running the whole stem is as fast.
WORTHWHILE = 0.75


def differences(x: np.ndarray, other: np.ndarray) -> list[tuple[int, int]]:
    """The stretches in which two sequences differ.

    Parameters
    ----------
    x, other : (length, ...) arrays
        Anything to be compared position by position.

    Returns
    -------
    list of (start, end), 0-based and half-open, in order; equal positions within may separate differences
    that are less than `GAP_BP` apart.
    """
    unequal = x != other
    places = np.flatnonzero(unequal.reshape(len(unequal), -1).any(axis=1))
    if not places.size:
        return []
    breaks = np.flatnonzero(np.diff(places) > GAP_BP)
    starts, ends = places[np.r_[0, breaks + 1]], places[np.r_[breaks, places.size - 1]] + 1
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


class Splicer:
    """Puts the recomputed stretches of one predictor's stem into a state that holds the rest.

    Parameters
    ----------
    predictor : Predictor
    layout : Layout
    unit : int
        The stem ends before this unit; all before it are local.
    precision : str
    """

    def __init__(self, predictor: Predictor, layout: Layout, unit: int, precision: str):
        self.predictor, self.layout, self.unit, self.precision = predictor, layout, unit, precision

    def plan(self, changed: Sequence[tuple[int, int]]) -> list[tuple[Span, Span]] | None:
        """The tiles to compute for changed stretches of the sequence.

        Parameters
        ----------
        changed : sequence of (start, end)
            0-based, half-open, in order.

        Returns
        -------
        list of (tile, like) as `Predictor.tile` takes them, or None where running the whole stem is as good.
        """
        if not self.unit:
            return None
        reached = _reached_outputs(self.layout, self.unit, changed)
        if reached is None:
            return None
        tiles = list(self._tiles(reached))
        if None in tiles:
            return None
        read = sum(tile_input(self.layout, tile, 0, self.unit).size for tile, _ in tiles)
        return tiles if read <= WORTHWHILE * self.layout.seq_length else None

    def spliced(self, state: State, x: np.ndarray, tiles: Sequence[tuple[Span, Span]]) -> State:
        """The state of the sequence ``x``.

        Parameters
        ----------
        state : State
            Of a sequence that differs from ``x`` only where `plan` gave ``tiles`` for; it is left as it is.
        x : (1, seq_length, 4) array
        """
        if not tiles:
            return state
        parts = [self.predictor.tile(x, self.layout, tile, like, self.precision, 0, self.unit) for tile, like in tiles]
        pieces = [[] for _ in parts[0]]
        for (tile, _), part in zip(tiles, parts, strict=True):
            spans = [tile, *self.layout.owned(0, self.unit, tile).values()]
            for level, span, tensor in zip(pieces, spans, part, strict=True):
                level.append((span, tensor))
        y = _replaced(state.y, Span.whole(self.layout.units[self.unit - 1].out_length), pieces[0])
        added = dict(zip(self.layout.skips_out_of(0, self.unit), pieces[1:], strict=True))
        skips = {index: (_replaced(tensor, span, added[index]), span) for index, (tensor, span) in state.skips.items()}
        return State(state.unit, y, skips)

    def _tiles(self, reached: list[Span]) -> Iterator[tuple[Span, Span] | None]:
        """Cover the reached outputs with tiles; None where a tile does not fit the window."""
        done = 0
        for span in reached:
            at = max(span.start, done)
            while at < span.end:
                size = LONG if span.end - at > LONG // 2 and _inner(self.layout, self.unit, LONG) else SHORT
                inner = _inner(self.layout, self.unit, size)
                if inner is None:
                    yield None
                    return
                first, last = inner
                end = span.length - size
                begin = 0 if at < first else at if at <= last else last if at < end else end
                tile = Span(begin, begin + size, span.length)
                yield tile, Span(first, first + size, span.length) if first <= begin <= last else tile
                at = done = tile.end


def trimmed(state: State, runs: Sequence[tuple[Layout, int]]) -> State:
    """The state with no more of each representation than the units from ``state.unit`` on need.

    Parameters
    ----------
    state : State
    runs : sequence of (Layout, int)
        How the units that follow will be run: up to the given one over their whole level, then to the end.
    """
    needed: dict[int, Span] = {}
    for layout, stop in runs:
        for first, last in ((state.unit, stop), (max(state.unit, stop), len(layout.units))):
            if first < last:
                out = Span.whole(layout.units[last - 1].out_length)
                for unit, spans in zip(layout.units[first:], layout.spans(first, last, out, {}), strict=False):
                    if unit.skip_from is not None:
                        needed[unit.skip_from] = spans.skip_input.union(needed.get(unit.skip_from))
    skips = {}
    for index, (tensor, span) in state.skips.items():
        if index in needed:
            start, wanted = needed[index].offset_in(span), needed[index]
            # A copy: with PyTorch a slice would keep all of it.
            part = tensor if wanted == span else ops.copy(tensor[:, start : start + wanted.size])
            skips[index] = (part, wanted)
    return State(state.unit, state.y, skips)


def nbytes(state: State) -> int:
    """Bytes that a state's tensors take."""
    if isinstance(state.y, np.ndarray):  # before the first unit
        return state.y.nbytes
    total = 0
    for tensor in (state.y, *state.tensors):
        bits = "".join(filter(str.isdigit, keras.backend.standardize_dtype(tensor.dtype)))
        total += int(np.prod(tensor.shape)) * int(bits) // 8
    return total


def _reached_outputs(layout: Layout, unit: int, changed: Sequence[tuple[int, int]]) -> list[Span] | None:
    """The outputs of the stem to compute again, in order and apart; None where tiles cannot hold all that changes."""
    result: list[Span] = []
    for start, end in changed:
        reached = layout.reached(0, unit, Span(start, end, layout.seq_length))
        out = reached[-1].out
        kept = {index: reached[index].skip for index in layout.skips_out_of(0, unit)}
        if out is None:
            if any(span is not None for span in kept.values()):
                return None
            continue
        owned = layout.owned(0, unit, out)
        if not all(span is None or owned[index].holds(span) for index, span in kept.items()):
            return None
        if result and out.start <= result[-1].end:
            out = out.union(result.pop())
        result.append(out)
    return result


@lru_cache(maxsize=256)
def _inner(layout: Layout, unit: int, size: int) -> tuple[int, int] | None:
    """First and last position at which a tile of ``size`` may begin without touching an end of the window.

    None where there is none, or where tiles at the ends and tiles within could not meet.
    """
    length = layout.units[unit - 1].out_length
    starts = range(length - size + 1)

    def touched(at: int) -> tuple[bool, bool]:
        return touches(layout, Span(at, at + size, length), 0, unit)

    first = next((at for at in starts if not touched(at)[0]), None)
    last = next((at for at in reversed(starts) if not touched(at)[1]), None)
    if first is None or last is None or first > last or first > size or length - size > last + size:
        return None
    return first, last


def _replaced(tensor, held: Span, pieces: list[tuple[Span, object]]):
    """``tensor`` over ``held`` with ``pieces`` (their spans in order of their starts) put in where they overlap it."""
    parts, at = [], held.start
    for span, piece in pieces:
        start, end = max(span.start, at), min(span.end, held.end)
        if start >= end:
            continue
        parts += [tensor[:, at - held.start : start - held.start], piece[:, start - span.start : end - span.start]]
        at = end
    if not parts:
        return tensor
    parts = [*parts, tensor[:, at - held.start :]]
    return ops.concatenate([part for part in parts if part.shape[1]], axis=1)
