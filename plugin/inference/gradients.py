"""Gradients with respect to the sequence, in bounded memory.

The forward pass keeps only what goes into each unit; the backward pass computes one unit (and one
tile of the stem) again at a time. That costs one more forward pass and saves the tens of gigabytes
that plain backpropagation through a full window would hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from kipoi_borzoi.inference.predictor import Predictor, tile_input
from kipoi_borzoi.network.layout import Layout
from kipoi_borzoi.network.span import Span


def input_gradient(
    predictor: Predictor,
    x: np.ndarray,
    coverage_gradient: Callable[[np.ndarray], np.ndarray],
    head: str | None = None,
    crop: int | None = None,
    tracks: Sequence[int] | None = None,
) -> np.ndarray:
    """Gradient of a quantity with respect to one one-hot sequence.

    Parameters
    ----------
    predictor : Predictor
    x : (1, seq_length, 4) float or bool
    coverage_gradient : callable
        From the predicted coverage (1, bins, tracks) to the gradient of the quantity with respect to it,
        of the same shape.
    head : str, optional
    crop : int, optional
    tracks : sequence of int, optional
        Columns of the head that the quantity depends on; only their coverage is computed.

    Returns
    -------
    (1, seq_length, 4), of the predictor's type
    """
    return summed_gradient([Part(predictor, coverage_gradient, head, tracks)], x, crop)


@dataclass(frozen=True)
class Part:
    """What one network contributes to a quantity; for the fields see `input_gradient`."""

    predictor: Predictor
    coverage_gradient: Callable[[np.ndarray], np.ndarray]
    head: str | None = None
    tracks: Sequence[int] | None = None


def summed_gradient(parts: Sequence[Part], x: np.ndarray, crop: int | None = None) -> np.ndarray:
    """Gradient of a sum of quantities of several networks on the same sequence.

    Adapters that leave their base's stem as it is, and the base itself, share the way through it, forward and back: most
    of what a gradient costs.

    Parameters
    ----------
    parts : sequence of Part
    x : (1, seq_length, 4) float or bool
    crop : int, optional

    Returns
    -------
    (1, seq_length, 4), of the first predictor's type
    """
    total = None
    for stem, layout, members in _by_stem(parts, crop):
        x = stem.checked(x)
        state = stem.advance(stem.begin(x), layout.stem, layout, "float32")
        y_total, skip_totals = None, {}
        for part in members:
            tracks = None if part.tracks is None else tuple(int(track) for track in part.tracks)
            backward = _Backward(part.predictor, layout, part.head, tracks)
            y_gradient, skip_gradients = backward.after_stem(
                stem.tensor(x) if layout.stem == 0 else state.y, state.skips, part.coverage_gradient
            )
            y_total = y_gradient if y_total is None else y_total + y_gradient
            for index, gradient in skip_gradients.items():
                skip_totals[index] = skip_totals[index] + gradient if index in skip_totals else gradient
        gradient = _Backward(stem, layout, None, None).through_stem(x, y_total, skip_totals)
        total = gradient if total is None else total + gradient
    return total


def _by_stem(parts: Sequence[Part], crop: int | None) -> Iterator[tuple[Predictor, Layout, list[Part]]]:
    """Parts that share a stem, with the predictor that runs it, and their layout."""
    groups: dict[tuple, tuple[Predictor, Layout, list[Part]]] = {}
    for part in parts:
        predictor = part.predictor
        layout, base = predictor.layout(crop), predictor.base
        if predictor.first_unit >= layout.stem and base.layout(crop) == layout:
            key, stem = (id(predictor.network), predictor.sites.gelu, layout), base
        else:
            key, stem = (id(predictor),), predictor
        groups.setdefault(key, (stem, layout, []))[2].append(part)
    yield from groups.values()


class _Backward:
    """The backward pass of one predictor, layout, head and choice of tracks."""

    def __init__(self, predictor: Predictor, layout: Layout, head: str | None, tracks: tuple[int, ...] | None):
        self.predictor, self.layout, self.head, self.tracks = predictor, layout, head, tracks
        self.network, self.sites = predictor.network, predictor.sites
        first, last = layout.stem, len(layout.units)
        self.plan = dict(zip(range(first, last), layout.spans(first, last, Span.whole(layout.bins), {}), strict=True))

    def after_stem(self, y, skips, coverage_gradient: Callable[[np.ndarray], np.ndarray]):
        """Gradients with respect to the stem's output ``y`` and the representations ``skips`` that came out of it."""
        inputs, kept, trunk = self.forward(y, skips)
        coverage = ops.convert_to_numpy(self.predictor.head_of(trunk, self.head, self.tracks))
        upstream = self.predictor.tensor(coverage_gradient(coverage))
        return self.through_units(inputs, kept, self.through_head(trunk, upstream))

    def forward(self, y, skips):
        """Run the units after the stem one by one, keeping what goes into each.

        Parameters
        ----------
        y : (1, positions, channels) tensor
        skips : dict of unit index to (representation, span)

        Returns
        -------
        inputs : dict of unit index to tensor
        kept : dict of unit index to (representation, span)
        trunk : (1, bins, width) tensor, before the last activation
        """
        kept = dict(skips)
        if self.layout.stem in self.plan:
            unit = self.layout.units[self.layout.stem]
            span = self.plan[self.layout.stem].input
            y = y if span.size == unit.in_length else y[:, span.start : span.end]
        inputs = {}
        for index, spans in self.plan.items():
            inputs[index] = y
            outputs = self._unit(index)(y, *self._skip(index, kept))
            y = outputs[0]
            if spans.skip_out is not None:
                kept[index] = (outputs[1], spans.skip_out)
        return inputs, kept, y

    def through_head(self, trunk, upstream):
        """Gradient with respect to the trunk's output."""
        function = self.predictor.cached(
            ("head gradient", self.head, self.tracks),
            lambda: _vjp(lambda y: (self.predictor.head_function(self.head, self.tracks)(y),)),
        )
        return function((trunk,), (upstream,))[0]

    def through_units(self, inputs, kept, gradient):
        """Gradients with respect to the stem's output and the representations that came out of it."""
        skip_gradients: dict = {}
        for index in reversed(self.plan):
            skip = self._skip(index, kept)
            upstream = [gradient]
            if self.plan[index].skip_out is not None:
                upstream.append(skip_gradients.pop(index))
            key = ("unit gradient", self.layout, index)
            function = self.predictor.cached(key, lambda index=index: _vjp(self._unit(index)))
            gradient, *others = function((inputs[index], *skip), tuple(upstream))
            source = self.layout.units[index].skip_from
            if source is not None:
                before = skip_gradients.get(source)
                skip_gradients[source] = others[0] if before is None else before + others[0]
        first = self.layout.units[self.layout.stem]
        span = self.plan[self.layout.stem].input
        if span.size != first.in_length:
            gradient = ops.pad(gradient, [[0, 0], [span.start, first.in_length - span.end], [0, 0]])
        return gradient, skip_gradients

    def through_stem(self, x: np.ndarray, gradient, skip_gradients: dict) -> np.ndarray:
        """Gradient with respect to the sequence, summed over the tiles of the stem."""
        layout = self.layout
        if layout.stem == 0:
            return ops.convert_to_numpy(gradient)
        result = np.zeros(x.shape, dtype=self.predictor.dtype)
        for tile, like in self.predictor.tiles(layout):
            given = tile_input(layout, tile)
            upstream = [gradient[:, tile.start : tile.end]]
            for index, owned in layout.owned(0, layout.stem, tile).items():
                upstream.append(skip_gradients[index][:, owned.start : owned.end])
            function = self.predictor.cached(
                ("stem gradient", layout, like),
                lambda like=like: _vjp(self.predictor.tile_function(layout, like)),
            )
            part = function((self.predictor.tensor(x[:, given.start : given.end]),), tuple(upstream))[0]
            result[:, given.start : given.end] += ops.convert_to_numpy(part)
        return result

    def _skip(self, index: int, kept: dict) -> list:
        source = self.layout.units[index].skip_from
        return [] if source is None else [kept[source][0]]

    def _unit(self, index: int):
        """The function of one unit: (input, [representation]) to (output, [representation])."""
        spans, source = self.plan[index], self.layout.units[index].skip_from
        span = None
        if source is not None:
            inside = source >= self.layout.stem
            span = self.plan[source].skip_out if inside else Span.whole(self.layout.units[source].skip_length)

        def run(y, *skip):
            out, kept = self.network.units[index].forward(y, spans, self.sites, False, *skip, *([span] if skip else []))
            return (out,) if kept is None else (out, kept)

        return run


def _vjp(function: Callable) -> Callable:
    """From ``function(*inputs) -> outputs`` to ``(inputs, upstream gradients) -> gradients of the inputs``."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        def pull(inputs, upstream):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(inputs)
                outputs = function(*inputs)
            return tape.gradient(outputs, inputs, upstream, unconnected_gradients=tf.UnconnectedGradients.ZERO)

        return pull
    if backend == "jax":
        import jax

        return lambda inputs, upstream: jax.vjp(lambda *values: tuple(function(*values)), *inputs)[1](tuple(upstream))
    import torch

    def pull_torch(inputs, upstream):
        with torch.enable_grad():
            leaves = [value.detach().requires_grad_(True) for value in inputs]
            return torch.autograd.grad(function(*leaves), leaves, upstream, allow_unused=False)

    return pull_torch


