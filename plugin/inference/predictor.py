"""Predictions of one network in bounded memory: the stem tile by tile, then the rest of one window at a time.

Memory does not grow with the number of windows, nor with what the stem's wide activations over a
whole window would take (1 GB each at full size). The tiles overlap by exactly what the convolutions
read beyond them, so that the result is that of the whole window, to float rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

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
# bp that go through the network at a time; shorter windows are batched up to this.
MICRO_BATCH_BP = 524_288

PRECISIONS = ("float32", "mixed_bfloat16")


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
            n_tracks = self.config.head(head).units if tracks is None else len(tracks)
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
        units = self.config.head(head).units
        tracks = _checked_tracks(tracks, units)
        other = _other_strand(strand_pair, units, tracks) if rc else None
        if precision not in PRECISIONS:
            raise InputError(f"precision {precision!r} is not known; known: {', '.join(PRECISIONS)}")
        if not len(shifts):
            raise InputError("shifts is empty; give at least one, such as 0")
        layout = self.layout(crop)
        step = max(1, MICRO_BATCH_BP // self.config.seq_length)
        members = len(shifts) * (2 if rc else 1)
        for start in range(0, len(x), step):
            windows = x[start : start + step]
            total = None
            for by in shifts:
                moved = shift(windows, by)
                coverage = self._forward(moved, head, tracks, layout, precision)
                total = coverage if total is None else total + coverage
                if rc:
                    coverage = self._forward(reverse_complement(moved), head, other, layout, precision)
                    total = total + coverage[:, ::-1]
            yield start, total if members == 1 else total / self.dtype.type(members)

    def activation(self, x: np.ndarray, name: str) -> np.ndarray:
        """What comes out of one unit of the network, for each window; see `Network.activation`.

        Returns
        -------
        (windows, positions, channels) float32
        """
        x = self.checked(x)
        function = self.cached(
            ("activation", name), lambda: lambda window: self.network.activation(window, name, self.sites)
        )
        return np.concatenate([ops.convert_to_numpy(function(self.tensor(x[i : i + 1]))) for i in range(len(x))])

    def layout(self, crop: int | None = None) -> Layout:
        """The network's layout with ``crop`` bins removed at each end (None: as configured)."""
        return self.network.layout if crop is None else _layout_with_crop(self.config, crop)

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

    def _forward(self, x: np.ndarray, head, tracks, layout: Layout, precision: str) -> np.ndarray:
        """One pass: (n, seq_length, 4) to (n, bins, tracks)."""
        y, skips = self.stem(x, layout, precision)
        columns = [] if tracks is None else [ops.convert_to_tensor(tracks, dtype="int32")]
        key = ("rest", layout, head, tracks is None, precision)
        function = self.cached(key, lambda: self._rest_function(layout, head), precision)
        return ops.convert_to_numpy(function(y, *skips, *columns))

    def stem(self, x: np.ndarray, layout: Layout, precision: str):
        """The part of the network before the first global unit, tile by tile.

        Returns
        -------
        y : (n, positions, width) tensor
        skips : list of tensors, the representations that later units add
        """
        if layout.stem == 0:
            return self.tensor(x), []
        parts = []
        for tile, like in self.tiles(layout):
            given = self.tile_input(layout, tile)
            function = self.cached(("stem", layout, like, precision), lambda: self.stem_function(layout, like), precision)
            parts.append(function(self.tensor(x[:, given.start : given.end])))
        y, *skips = (ops.concatenate(part, axis=1) if len(part) > 1 else part[0] for part in zip(*parts, strict=True))
        return y, skips

    def tiles(self, layout: Layout) -> Iterator[tuple[Span, Span]]:
        """Cut the stem's output into tiles; beside each the tile whose compiled function serves it.

        All tiles that touch neither end of the window run the same function.
        """
        length = layout.units[layout.stem - 1].out_length
        size = length if self.tile_bp is None else max(1, self.tile_bp // layout.stem_stride)
        inner = Span(size, 2 * size, length) if 2 * size <= length else None
        reaches_in = inner is None or self.tile_input(layout, inner).start == 0
        if layout.seq_length % layout.stem_stride or reaches_in or length <= 2 * size:
            yield Span.whole(length), Span.whole(length)
            return
        for start in range(0, length, size):
            tile = Span(start, min(start + size, length), length)
            yield tile, inner if 0 < start and self.tile_input(layout, tile).end < layout.seq_length else tile

    @staticmethod
    def tile_input(layout: Layout, tile: Span) -> Span:
        """The stretch of the sequence that a tile of the stem's output depends on."""
        return layout.spans(0, layout.stem, tile, _tile_skips(layout, tile))[0].input

    def stem_function(self, layout: Layout, tile: Span):
        """The function for one tile: sequence to (output, representation, representation, ...)."""
        keep = _tile_skips(layout, tile)

        def run(x):
            skips: dict = {}
            y = self.network.run_units(x, 0, layout.stem, tile, skips, self.sites, keep=keep, layout=layout)
            return (y, *(skips[index][0] for index in keep))

        return run

    def _rest_function(self, layout: Layout, head: str | None):
        """The function for everything after the stem: (output of the stem, representations..., [tracks])."""
        indices = layout.skips_out_of_stem()
        first = layout.units[layout.stem]

        def run(y, *rest):
            skips = {
                index: (kept, Span.whole(layout.units[index].skip_length))
                for index, kept in zip(indices, rest, strict=False)
            }
            tracks = rest[len(indices)] if len(rest) > len(indices) else None
            out, given = Span.whole(layout.bins), Span.whole(first.in_length)
            y = self.network.run_units(
                y, layout.stem, len(layout.units), out, skips, self.sites, given=given, layout=layout
            )
            return self.network.head(head).forward(activate(y, self.config.activation), self.sites, tracks)

        return run

    def head_of(self, trunk, head: str | None = None):
        """The coverage (n, bins, tracks) that a head makes of the trunk's output before its last activation."""
        key = ("head", head)

        def run(y):
            return self.network.head(head).forward(activate(y, self.config.activation), self.sites)

        return self.cached(key, lambda: run)(trunk)

    def cached(self, key, make, precision: str = "float32"):
        """The compiled function for ``key``, made on first use under the dtype policy ``precision``."""
        if key not in self._compiled:
            function, policy = make(), precision

            def under_policy(*args):
                with self.network.precision(policy):
                    return function(*args)

            variables = list(named_weights(self.network).values())
            self._compiled[key] = compiled(under_policy if precision != "float32" else function, variables)
        return self._compiled[key]


@lru_cache(maxsize=64)
def _layout_with_crop(config, crop: int) -> Layout:
    return config.with_crop(crop).layout


def _tile_skips(layout: Layout, tile: Span) -> dict[int, Span]:
    """The stretch of each representation that belongs to a tile of the stem's output, by unit."""
    skips = {}
    for index in layout.skips_out_of_stem():
        length = layout.units[index].skip_length
        factor = length // tile.length
        whole = tile.size == tile.length
        skips[index] = Span.whole(length) if whole else Span(tile.start * factor, tile.end * factor, length)
    return skips


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


def _other_strand(strand_pair, units: int, tracks: np.ndarray | None) -> np.ndarray:
    """The columns that stand for ``tracks`` when the sequence is reversed."""
    if strand_pair is None:
        raise InputError("averaging over both strands needs the tracks' strand pairs")
    pair = np.asarray(strand_pair)
    if pair.shape != (units,):
        raise InputError(f"strand_pair has shape {pair.shape}, expected one index for each of {units} tracks")
    return _checked_tracks(pair if tracks is None else pair[tracks], units)


