"""Gradients with respect to the sequence, in bounded memory.

The forward pass keeps only what goes into each unit; the backward pass computes one unit (and one
tile of the stem) again at a time. That costs one more forward pass and saves the tens of gigabytes
that plain backpropagation through a full window would hold.
"""

from __future__ import annotations

from collections.abc import Callable

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

    Returns
    -------
    (1, seq_length, 4), of the predictor's type
    """
    x = predictor.checked(x)
    layout = predictor.layout(crop)
    backward = _Backward(predictor, layout, head)
    state = predictor.advance(predictor.begin(x), layout.stem, layout, "float32")
    inputs, kept, trunk = backward.forward(predictor.tensor(x) if layout.stem == 0 else state.y, state.skips)
    coverage = ops.convert_to_numpy(predictor.head_of(trunk, head))
    upstream = predictor.tensor(coverage_gradient(coverage))
    y_gradient, skip_gradients = backward.through_units(inputs, kept, backward.through_head(trunk, upstream))
    return backward.through_stem(x, y_gradient, skip_gradients)


class _Backward:
    """The backward pass of one predictor, layout and head."""

    def __init__(self, predictor: Predictor, layout: Layout, head: str | None):
        self.predictor, self.layout, self.head = predictor, layout, head
        self.network, self.sites = predictor.network, predictor.sites
        first, last = layout.stem, len(layout.units)
        self.plan = dict(zip(range(first, last), layout.spans(first, last, Span.whole(layout.bins), {}), strict=True))

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
            ("head gradient", self.head),
            lambda: _vjp(lambda y: (self.predictor.apply_head(y, self.head),)),
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


