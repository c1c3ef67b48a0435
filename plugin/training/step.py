"""One training step that computes no more than it has to.

Everything below the first unit that an adapter changes is frozen: it runs as inference, the stem
tile by tile, and leaves nothing behind but what the next unit reads. Only from there on are
activations kept and gradients taken.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from kipoi_borzoi.adapters.sites import AdapterSites
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.inference.predictor import TILE_BP, Predictor, State
from kipoi_borzoi.network.network import Network
from kipoi_borzoi.network.span import Span
from kipoi_borzoi.training.dropout import DropoutSeeds, has_dropout


class TrainingStep:
    """Computes the loss of a batch and its gradient with respect to an adapter's trainable weights.

    Parameters
    ----------
    network : Network
        The base; left as it is, but for the random state of its dropout layers.
    sites : AdapterSites
    loss : callable
        From (y_true, y_pred) tensors, (batch, bins, tracks) each, to a scalar.
    precision : {'float32', 'mixed_bfloat16'}
        Weights, loss and gradients stay float32.
    recompute : bool
        Gradient checkpointing: keep only what goes into each unit and compute it again on the way back.
    dropout : bool
        False trains without, and so runs the frozen part as plain inference.
    tile_bp : int or None
        See `Predictor`.

    Attributes
    ----------
    variables : dict
        The trainable weights by name; gradients come in this order.
    first_unit : int
        The first unit that is differentiated.
    """

    def __init__(
        self,
        network: Network,
        sites: AdapterSites,
        loss: Callable,
        precision: str = "float32",
        recompute: bool = False,
        dropout: bool = True,
        tile_bp: int | None = TILE_BP,
    ):
        if keras.backend.backend() != "tensorflow":
            raise InputError(f"training needs the TensorFlow backend of Keras, this is {keras.backend.backend()}")
        self.network, self.sites, self.loss = network, sites, loss
        self.precision, self.recompute, self.dropout = precision, recompute, dropout
        self.training = dropout
        self.predictor = Predictor(network, sites, tile_bp)
        self.layout = self.predictor.layout()
        self.variables = {name: variable for name, variable in sites.variables.items() if variable.trainable}
        self.first_unit = sites.first_unit
        noisy = (index for index, unit in enumerate(self.layout.units) if dropout and has_dropout(unit))
        self.quiet = min(self.first_unit, next(noisy, self.first_unit))
        self.seeds = DropoutSeeds(network)

    def __call__(self, x: np.ndarray, y: np.ndarray, seed: tuple[int, int]):
        """Compute one batch.

        Parameters
        ----------
        x : (batch, seq_length, 4)
            One-hot.
        y : (batch, bins, tracks)
        seed : (int, int)
            Of dropout: the run's, and the number of the step.

        Returns
        -------
        loss : scalar tensor
        gradients : list of tensors, in the order of ``variables``
        """
        seed = ops.convert_to_tensor(np.asarray(seed, dtype=np.int64))
        return self.finish(self.frozen(x, seed), ops.convert_to_tensor(y), seed)

    def frozen(self, x: np.ndarray, seed) -> State:
        """Run everything that is not differentiated."""
        state = self.predictor.advance(self.predictor.begin(x), self.quiet, self.layout, self.precision)
        if self.quiet == self.first_unit:
            return state
        indices = list(state.skips)
        kept = self.layout.skips_out_of(self.quiet, self.first_unit)

        def make():
            def run(seed, y, *given):
                skips = self._whole(indices, given)
                y = self.run_frozen(seed, y, skips)
                return (y, *given, *(skips[index][0] for index in kept))

            return run

        y, *skips = self._cached("frozen", make)(seed, self._tensor(state.y), *state.skips.values())
        return State(self.first_unit, y, dict(zip([*indices, *kept], skips, strict=True)))

    def finish(self, state: State, y, seed):
        """The loss and gradients from what `frozen` gave."""
        indices, skips = list(state.skips), list(state.skips.values())
        x = self._tensor(state.y)
        if self.recompute:
            return self._by_units(x, self._whole(indices, skips), y, seed)

        def make():
            return lambda seed, x, y, *given: self.loss_and_gradients(seed, x, self._whole(indices, given), y)

        loss, *gradients = self._cached("step", make)(seed, x, y, *skips)
        return loss, gradients

    def run_frozen(self, seed, x, skips: dict):
        """Run the units from the first that drops anything up to the first trained one. For tracing."""
        first, last = self.quiet, self.first_unit
        for index in range(first, last):
            self.seeds.set(index, seed)
        keep = {index: Span.whole(self.layout.units[index].skip_length) for index in self.layout.skips_out_of(first, last)}
        out, given = (Span.whole(n) for n in (self.layout.units[last - 1].out_length, self.layout.units[first].in_length))
        run = self.network.run_units
        return run(x, first, last, out, skips, self.sites, self.dropout, keep=keep, given=given, layout=self.layout)

    def loss_and_gradients(self, seed, x, skips: dict, y):
        """Run the units from the first trained one on, the head and the loss: (loss, gradient, ...). For tracing."""
        import tensorflow as tf

        first, last = self.first_unit, len(self.layout.units)
        for index in range(first, last):
            self.seeds.set(index, seed)
        values = [variable.value for variable in self.variables.values()]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            if first < last:
                out, given = Span.whole(self.layout.bins), Span.whole(self.layout.units[first].in_length)
                run = self.network.run_units
                x = run(x, first, last, out, skips, self.sites, self.training, given=given, layout=self.layout)
            loss = self.loss(y, self.predictor.apply_head(x, None))
        return loss, *tape.gradient(loss, values)

    def _whole(self, indices: list[int], tensors) -> dict:
        """Representations over their whole level, as `Network.run_units` takes them."""
        lengths = [self.layout.units[index].skip_length for index in indices]
        return {i: (t, Span.whole(n)) for i, t, n in zip(indices, tensors, lengths, strict=True)}

    def _cached(self, key, make):
        return self.predictor.cached(("training", key), make, self.precision)

    def _tensor(self, y):
        return self.predictor.tensor(y) if isinstance(y, np.ndarray) else y
