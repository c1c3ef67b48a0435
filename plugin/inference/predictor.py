"""Predictions of one network in bounded memory: the stem tile by tile, then the rest of one window at a time.

Memory does not grow with the number of windows, nor with what the stem's wide activations over a
whole window would take (1 GB each at full size). The tiles overlap by exactly what the convolutions
read beyond them, so that the result is that of the whole window, to float rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

import numpy as np
from keras import ops

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.inference.compiled import compiled
from kipoi_borzoi.network.layout import Layout
from kipoi_borzoi.network.network import Network, named_weights
from kipoi_borzoi.network.ops import activate
from kipoi_borzoi.network.sites import PLAIN, Sites
from kipoi_borzoi.network.span import Span
from kipoi_borzoi.sequence import reverse_complement, shift

# bp of a tile of the stem: its widest activation then fits the last-level cache of a server CPU,
# while the overlap with its neighbours (2 x 259 bp in Borzoi) costs 3 %.
TILE_BP = 16_384
# Deep levels would have few positions in such a tile, which convolutions over many channels run slowly:
# from this stride on (bp per position) tiles are as many times longer.
DEEP_STRIDE = 16
DEEP_FACTOR = 8
# bp that go through the network at a time; shorter windows are batched up to this.
MICRO_BATCH_BP = 524_288

PRECISIONS = ("float32", "mixed_bfloat16")


@dataclass(frozen=True)
class State:
    """How far a pass has come.

    Attributes
    ----------
    unit : int
        The next unit to run.
    y : (n, positions, channels) tensor
        Its input; an array before the first unit.
    skips : dict of unit index to (tensor, Span)
        Representations that later units add, each with the stretch of its level that is held (at least
        what they need of it; a pass itself holds the whole level).
    """

    unit: int
    y: object
    skips: dict

    @property
    def held(self) -> tuple[tuple[int, Span], ...]:
        """Which stretch of which representation is held."""
        return tuple((index, span) for index, (_, span) in self.skips.items())

    @property
    def tensors(self) -> list:
        """The representations, in the order of `held`."""
        return [tensor for tensor, _ in self.skips.values()]


@dataclass(frozen=True)
class Options:
    """The checked options of a prediction.

    Attributes
    ----------
    head : str or None
    tracks : (n,) int32 or None
        Columns to compute.
    other : (n,) int32 or None
        The columns that stand for them when the sequence is reversed.
    layout : Layout
    rc : bool
    shifts : tuple of int
    precision : str
    bins : (n,) int32 or None
        Bins that the head computes, in the order wanted; None for all.
    """

    head: str | None
    tracks: np.ndarray | None
    other: np.ndarray | None
    layout: Layout
    rc: bool
    shifts: tuple[int, ...]
    precision: str
    bins: np.ndarray | None = None

    def passes(self, x: np.ndarray) -> Iterator[tuple[np.ndarray, bool]]:
        """Yield the sequences of every pass that is averaged, and whether they are reverse complements."""
        for by in self.shifts:
            moved = shift(x, by)
            yield moved, False
            if self.rc:
                yield reverse_complement(moved), True

    def rows(self, reverse: bool) -> np.ndarray | None:
        """The bins that the head computes in one pass, filled up to a power of two, so that few programs serve all."""
        if self.bins is None:
            return None
        rows = self.layout.bins - 1 - self.bins if reverse else self.bins
        return np.pad(rows, (0, (1 << (len(rows) - 1).bit_length()) - len(rows)), mode="edge").astype(np.int32)

    def restored(self, coverage: np.ndarray, reverse: bool) -> np.ndarray:
        """Put the bins of a prediction in the order wanted."""
        if self.bins is not None:
            return coverage[:, : len(self.bins)]
        return coverage[:, ::-1] if reverse else coverage

    def mean(self, total: np.ndarray) -> np.ndarray:
        """The mean over all passes, from their sum."""
        passes = len(self.shifts) * (2 if self.rc else 1)
        return total if passes == 1 else total / total.dtype.type(passes)


class Stems(Protocol):
    """Gives the state of windows (n, seq_length, 4) after as many units as it knows."""

    def state(self, predictor: Predictor, x: np.ndarray, layout: Layout, precision: str) -> State:
        """The state to go on from."""


class Predictor:
    """Predicts coverage with one network.

    Parameters
    ----------
    network : Network
    sites : Sites
        Runs the leaf layers; adapters come in here.
    tile_bp : int or None
        Length of the stem's tiles in bp; None runs the stem over the whole window at once.
    """

    def __init__(self, network: Network, sites: Sites = PLAIN, tile_bp: int | None = TILE_BP):
        self.network = network
        self.config = network.config
        self.sites = sites
        self.tile_bp = tile_bp
        self.first_unit = getattr(sites, "first_unit", len(network.units))
        # Predictions are float32, and float64 where a float64 network serves as a check.
        self.dtype = np.dtype(network.variable_dtype)
        self._compiled: dict = {}

    def predict(
        self,
        x: np.ndarray,
        head: str | None = None,
        tracks: Sequence[int] | None = None,
        crop: int | None = None,
        strand_pair: Sequence[int] | None = None,
        rc: bool = False,
        shifts: Sequence[int] = (0,),
        precision: str = "float32",
    ) -> np.ndarray:
        """Predict coverage of several windows; see `batches` for the arguments.

        Returns
        -------
        (windows, bins, tracks) float32
        """
        result = None
        for start, coverage in self.batches(x, head, tracks, crop, strand_pair, rc, shifts, precision):
            if result is None:
                result = np.empty((len(x), *coverage.shape[1:]), dtype=self.dtype)
            result[start : start + len(coverage)] = coverage
        if result is None:
            n_tracks = self.units(head) if tracks is None else len(tracks)
            result = np.empty((0, self.layout(crop).bins, n_tracks), dtype=self.dtype)
        return result

    def batches(
        self,
        x: np.ndarray,
        head: str | None = None,
        tracks: Sequence[int] | None = None,
        crop: int | None = None,
        strand_pair: Sequence[int] | None = None,
        rc: bool = False,
        shifts: Sequence[int] = (0,),
        precision: str = "float32",
        stems: Stems | None = None,
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Predict coverage, a few windows at a time.

        Parameters
        ----------
        x : (windows, seq_length, 4) float or bool
            One-hot sequences.
        head : str, optional
            Which head; None for the only one.
        tracks : sequence of int, optional
            Columns of the head, in the order wanted; only these are computed.
        crop : int, optional
            Bins removed at each end instead of the network's own crop.
        strand_pair : sequence of int, optional
            For each track of the head the one on the other strand; needed by ``rc``.
        rc : bool
            Average with the prediction for the reverse complement, put back in place.
        shifts : sequence of int
            bp by which the sequence is moved (right when positive); predictions are averaged.
        precision : {'float32', 'mixed_bfloat16'}
        stems : Stems, optional
            Where the stem's states come from, such as `kipoi_borzoi.inference.recent`; None computes them.

        Yields
        ------
        start : int
            Index of the first window of this batch.
        coverage : (n, bins, tracks) float32

        Raises
        ------
        InputError
            A wrong shape, track, crop, shift or precision.
        """
        x = self.checked(x)
        options = self.prepared(head, tracks, crop, strand_pair, rc, shifts, precision)
        for start in range(0, len(x), self.micro_batch):
            total = None
            for moved, reverse in options.passes(x[start : start + self.micro_batch]):
                state = self.begin(moved) if stems is None else stems.state(self, moved, options.layout, precision)
                coverage = options.restored(self.finish(state, options, reverse), reverse)
                total = coverage if total is None else total + coverage
            yield start, options.mean(total)

    def prepared(self, head, tracks, crop, strand_pair, rc, shifts, precision, bins=None) -> Options:
        """Check the options of `batches`, see there, and of `Options`."""
        units = self.units(head)
        tracks = _checked_tracks(tracks, units)
        if precision not in PRECISIONS:
            raise InputError(f"precision {precision!r} is not known; known: {', '.join(PRECISIONS)}")
        if not len(shifts):
            raise InputError("shifts is empty; give at least one, such as 0")
        other = _other_strand(strand_pair, units, tracks) if rc else None
        layout = self.layout(crop)
        return Options(head, tracks, other, layout, rc, tuple(shifts), precision, _checked_bins(bins, layout.bins))

    @cached_property
    def base(self) -> Predictor:
        """The predictor of the network itself under the same GELU, with its compiled programs."""
        return self if type(self.sites) is Sites else Predictor(self.network, Sites(self.sites.gelu), self.tile_bp)

    @property
    def micro_batch(self) -> int:
        """Windows that go through the network at a time."""
        return max(1, MICRO_BATCH_BP // self.config.seq_length)

    def activation(self, x: np.ndarray, name: str, crop: int | None = None) -> np.ndarray:
        """What comes out of one unit of the network, for each window; see `Network.activation`.

        Returns
        -------
        (windows, positions, channels) float32
        """
        x = self.checked(x)
        layout = self.layout(crop)
        function = self.cached(
            ("activation", name, layout), lambda: lambda window: self.network.activation(window, name, self.sites, layout)
        )
        return np.concatenate([ops.convert_to_numpy(function(self.tensor(x[i : i + 1]))) for i in range(len(x))])

    def layout(self, crop: int | None = None) -> Layout:
        """The network's layout with ``crop`` bins removed at each end (None: as configured)."""
        layout = self.network.layout if crop is None else _layout_with_crop(self.config, crop)
        return layout.with_whole(self.sites.whole_units)

    def units(self, head: str | None = None) -> int:
        """Number of tracks of a head, or of the adapter's."""
        return (self.sites.head or self.network.head(head)).config.units

    def tensor(self, x: np.ndarray):
        """An array (which may be a view, or bool) as a tensor of the predictor's type."""
        return ops.convert_to_tensor(np.ascontiguousarray(x, dtype=self.dtype))

    def checked(self, x) -> np.ndarray:
        """Check the shape and type of one-hot sequences."""
        x = np.asarray(x)
        wanted = (self.config.seq_length, 4)
        if x.ndim != 3 or x.shape[1:] != wanted:
            raise InputError(
                f"sequences have shape {x.shape}, expected (windows, {wanted[0]}, {wanted[1]}):"
                f" one-hot DNA of {wanted[0]} bp, columns A C G T"
            )
        if x.dtype.kind not in "fbui":
            raise InputError(f"sequences are of type {x.dtype}, expected float or bool")
        return x

    def begin(self, x: np.ndarray) -> State:
        """The state before the first unit."""
        return State(0, x, {})

    def advance(self, state: State, unit: int, layout: Layout, precision: str) -> State:
        """Run the units from where ``state`` stands up to (not including) ``unit``, over the whole window.

        The local units before the first global one run tile by tile.
        """
        stem = min(unit, layout.stem)
        while state.unit < stem:
            deep = layout.stride(state.unit) >= DEEP_STRIDE
            shallow = (unit for unit in range(state.unit + 1, stem) if layout.stride(unit) >= DEEP_STRIDE)
            last = stem if deep else next(shallow, stem)
            state = self._through_tiles(state, last, layout, precision, DEEP_FACTOR if deep else 1)
        if state.unit < unit:
            key = ("units", layout, state.unit, unit, state.held, precision)
            function = self.cached(key, lambda: self._units_function(layout, state.unit, unit, state.held), precision)
            y, *kept = function(self._as_tensor(state.y), *state.tensors)
            state = State(unit, y, {**state.skips, **_whole_skips(layout, layout.skips_out_of(state.unit, unit), kept)})
        return state

    def finish(self, state: State, options: Options, reverse: bool = False) -> np.ndarray:
        """Run what is left after ``state``: the remaining units and the head, to (n, bins, tracks).

        ``reverse`` says that the sequence is the reverse complement, so that each track's partner on the
        other strand is computed.
        """
        layout, head, precision = options.layout, options.head, options.precision
        tracks, rows = options.other if reverse else options.tracks, options.rows(reverse)
        state = self.advance(state, max(state.unit, layout.stem), layout, precision)
        chosen = {name: index for name, index in (("tracks", tracks), ("rows", rows)) if index is not None}
        unit, held, names = state.unit, state.held, tuple(chosen)
        key = ("rest", layout, unit, held, head, names, precision)
        function = self.cached(key, lambda: self._rest_function(layout, unit, held, head, names), precision)
        indices = [ops.convert_to_tensor(index, dtype="int32") for index in chosen.values()]
        return ops.convert_to_numpy(function(self._as_tensor(state.y), *state.tensors, *indices))

    def _as_tensor(self, y):
        return self.tensor(y) if isinstance(y, np.ndarray) else y

    def _through_tiles(self, state: State, last: int, layout: Layout, precision: str, factor: int) -> State:
        """Run local units, tile by tile (``factor`` times as long as usual) of the output of unit ``last - 1``."""
        first, parts = state.unit, []
        for tile, like in self.tiles(layout, first, last, factor):
            parts.append(self.tile(state.y, layout, tile, like, precision, first, last))
        y, *skips = (ops.concatenate(part, axis=1) if len(part) > 1 else part[0] for part in zip(*parts, strict=True))
        return State(last, y, {**state.skips, **_whole_skips(layout, layout.skips_out_of(first, last), skips)})

    def tile(self, y, layout: Layout, tile: Span, like: Span, precision: str, first: int = 0, last: int | None = None):
        """Compute one tile of the output of unit ``last - 1`` by the compiled function of the tile ``like``.

        Parameters
        ----------
        y : (n, positions, channels) array or tensor
            The whole input of unit ``first``.
        like : Span
            As long as ``tile``; where one of them touches an end of the window, the same tile.

        Returns
        -------
        (output, representation, ...) : the representations over what `Layout.owned` gives, in that order
        """
        given = tile_input(layout, tile, first, last)
        key = ("tile", layout, first, last, like, precision)
        function = self.cached(key, lambda: self.tile_function(layout, like, first, last), precision)
        return function(self._as_tensor(y[:, given.start : given.end]))

    def tiles(self, layout: Layout, first: int = 0, last: int | None = None, factor: int = 1) -> Iterator[tuple[Span, Span]]:
        """Cut the output of the local units ``first`` to ``last`` (exclusive) into tiles.

        Beside each tile stands the one whose compiled function serves it: all tiles that touch neither
        end of the window run the same.
        """
        last = layout.stem if last is None else last
        length, stride = layout.units[last - 1].out_length, layout.stride(last)
        size = length if self.tile_bp is None else max(1, factor * self.tile_bp // stride)
        inner = Span(size, 2 * size, length) if 2 * size <= length else None
        reaches_in = inner is None or touches(layout, inner, first, last)[0]
        if layout.seq_length % stride or reaches_in or length <= 2 * size:
            yield Span.whole(length), Span.whole(length)
            return
        for start in range(0, length, size):
            tile = Span(start, min(start + size, length), length)
            yield tile, inner if 0 < start and not touches(layout, tile, first, last)[1] else tile

    def tile_function(self, layout: Layout, tile: Span, first: int = 0, last: int | None = None):
        """The function for one tile: input of unit ``first`` to (output, representation, representation, ...)."""
        last = layout.stem if last is None else last
        keep = layout.owned(first, last, tile)

        def run(x):
            skips: dict = {}
            y = self.network.run_units(x, first, last, tile, skips, self.sites, keep=keep, layout=layout)
            return (y, *(skips[index][0] for index in keep))

        return run

    def _units_function(self, layout: Layout, first: int, last: int, held: tuple[tuple[int, Span], ...]):
        """The function for whole units: (input, representations...) to (output, new representations...)."""
        kept = layout.skips_out_of(first, last)
        keep = {index: Span.whole(layout.units[index].skip_length) for index in kept}

        def run(y, *given_skips):
            skips = _held_skips(held, given_skips)
            out, given = Span.whole(layout.units[last - 1].out_length), Span.whole(layout.units[first].in_length)
            y = self.network.run_units(y, first, last, out, skips, self.sites, keep=keep, given=given, layout=layout)
            return (y, *(skips[index][0] for index in kept))

        return run

    def _rest_function(
        self, layout: Layout, first: int, held: tuple[tuple[int, Span], ...], head: str | None, names: tuple[str, ...]
    ):
        """The function for everything from unit ``first`` on: (input, representations..., indices...) to coverage.

        ``names`` says which indices are given: tracks, rows.
        """

        def run(y, *rest):
            skips = _held_skips(held, rest)
            indices = dict(zip(names, rest[len(held) :], strict=True))
            if first < len(layout.units):
                out, given = Span.whole(layout.bins), Span.whole(layout.units[first].in_length)
                y = self.network.run_units(
                    y, first, len(layout.units), out, skips, self.sites, given=given, layout=layout
                )
            return self.apply_head(y, head, **indices)

        return run

    def apply_head(self, y, head: str | None, tracks=None, rows=None):
        """The coverage that a head makes of the trunk's output before its last activation, for some tracks and bins."""
        if rows is not None:
            y = ops.take(y, rows, axis=1)
        y = activate(y, self.sites.activation(self.config.activation))
        return (self.sites.head or self.network.head(head)).forward(y, self.sites, tracks)

    def head_of(self, trunk, head: str | None = None, tracks: tuple[int, ...] | None = None):
        """`apply_head` compiled: (n, bins, width) to (n, bins, tracks)."""
        return self.cached(("head", head, tracks), lambda: self.head_function(head, tracks))(trunk)

    def head_function(self, head: str | None = None, tracks: tuple[int, ...] | None = None):
        """`apply_head` for one head and choice of columns, as a function of the trunk's output."""

        def run(y):
            columns = None if tracks is None else ops.convert_to_tensor(tracks, dtype="int32")
            return self.apply_head(y, head, columns)

        return run

    def cached(self, key, make, precision: str = "float32"):
        """The compiled function for ``key``, made on first use under the dtype policy ``precision``."""
        if key not in self._compiled:
            function, policy = make(), precision

            def under_policy(*args):
                with self.network.precision(policy):
                    return function(*args)

            variables = [*named_weights(self.network).values(), *getattr(self.sites, "variables", {}).values()]
            self._compiled[key] = compiled(under_policy if precision != "float32" else function, variables)
        return self._compiled[key]


@lru_cache(maxsize=64)
def _layout_with_crop(config, crop: int) -> Layout:
    return config.with_crop(crop).layout


def tile_input(layout: Layout, tile: Span, first: int = 0, last: int | None = None) -> Span:
    """The stretch of the input of unit ``first`` that a tile of the output of unit ``last - 1`` depends on."""
    last = layout.stem if last is None else last
    return layout.spans(first, last, tile, layout.owned(first, last, tile))[0].input


def touches(layout: Layout, tile: Span, first: int, last: int) -> tuple[bool, bool]:
    """Whether what a tile depends on reaches the start, and the end, of any level on the way."""
    inputs = [spans.input for spans in layout.spans(first, last, tile, layout.owned(first, last, tile))]
    return any(span.start == 0 for span in inputs), any(span.end == span.length for span in inputs)


def _held_skips(held: tuple[tuple[int, Span], ...], tensors) -> dict:
    """Representations and their spans, as `Network.run_units` takes them."""
    return {index: (tensor, span) for (index, span), tensor in zip(held, tensors, strict=False)}


def _whole_skips(layout: Layout, indices: list[int], tensors) -> dict:
    """Representations over their whole level."""
    return _held_skips(tuple((index, Span.whole(layout.units[index].skip_length)) for index in indices), tensors)


def _checked_tracks(tracks, units: int) -> np.ndarray | None:
    """Check a choice of columns."""
    if tracks is None:
        return None
    array = np.asarray(tracks)
    if array.ndim != 1 or array.dtype.kind not in "iu" or not array.size:
        raise InputError(f"tracks must be a list of one or more track indices, got {tracks!r}")
    outside = array[(array < 0) | (array >= units)]
    if outside.size:
        raise InputError(f"track {outside[0]} does not exist: the head has tracks 0 to {units - 1}")
    return array.astype(np.int32)


def _checked_bins(bins, count: int) -> np.ndarray | None:
    """Check a choice of bins."""
    if bins is None:
        return None
    array = np.asarray(bins)
    if array.ndim != 1 or array.dtype.kind not in "iu" or not array.size:
        raise InputError(f"bins must be a list of one or more indices of bins, got {bins!r}")
    outside = array[(array < 0) | (array >= count)]
    if outside.size:
        raise InputError(f"bin {outside[0]} does not exist: there are bins 0 to {count - 1}")
    return array.astype(np.int32)


def _other_strand(strand_pair, units: int, tracks: np.ndarray | None) -> np.ndarray:
    """The columns that stand for ``tracks`` when the sequence is reversed."""
    if strand_pair is None:
        raise InputError("averaging over both strands needs the tracks' strand pairs")
    pair = np.asarray(strand_pair)
    if pair.shape != (units,):
        raise InputError(f"strand_pair has shape {pair.shape}, expected one index for each of {units} tracks")
    return _checked_tracks(pair if tracks is None else pair[tracks], units)


