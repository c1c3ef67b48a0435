"""One training step that computes no more than it has to.

Everything below the first unit that an adapter changes is frozen: it runs as inference, the stem
tile by tile, and leaves nothing behind but what the next unit reads. Only from there on are
activations kept and gradients taken.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence

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
    cache : mutable mapping, optional
        From the number of an example to the trunk's output: with it, that is computed once per example. Only
        where nothing but the head trains, and without dropout.

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
        cache: MutableMapping[int, np.ndarray] | None = None,
    ):
        if keras.backend.backend() != "tensorflow":
            raise InputError(f"training needs the TensorFlow backend of Keras, this is {keras.backend.backend()}")
        self.network, self.sites, self.loss = network, sites, loss
        self.precision, self.recompute, self.dropout, self.cache = precision, recompute, dropout, cache
        self.predictor = Predictor(network, sites, tile_bp)
        self.layout = self.predictor.layout()
        self.variables = {name: variable for name, variable in sites.variables.items() if variable.trainable}
        self.first_unit = sites.first_unit
        noisy = (index for index, unit in enumerate(self.layout.units) if dropout and has_dropout(unit))
        self.quiet = min(self.first_unit, next(noisy, self.first_unit))
        self.seeds = DropoutSeeds(network)

    def __call__(self, x: np.ndarray, y: np.ndarray, seed: tuple[int, int], indices: Sequence[int] = ()):
        """Compute one batch.

        Parameters
        ----------
        x : (batch, seq_length, 4)
            One-hot.
        y : (batch, bins, tracks)
        seed : (int, int)
            Of dropout: the run's, and the number of the batch.
        indices : sequence of int
            Which examples these are, for the cache of the trunk's outputs.

        Returns
        -------
        loss : scalar tensor
        gradients : list of tensors, in the order of ``variables``
        """
        seed = ops.convert_to_tensor(np.asarray(seed, dtype=np.int64))
        state = self.frozen(x, seed) if self.cache is None else self._remembered(x, indices)
        return self.finish(state, ops.convert_to_tensor(y), seed)

    def synchronize(self) -> None:
        """After the weights have changed: nothing to do with one device."""

    def predict(self, x: np.ndarray, index: int, precision: str = "float32") -> np.ndarray:
        """The coverage that the adapter predicts for one window (1, seq_length, 4), as in inference."""
        if self.cache is None:
            return self.predictor.predict(x, precision=precision)
        return ops.convert_to_numpy(self.predictor.head_of(self._remembered(x, [index]).y))

    def _remembered(self, x: np.ndarray, indices: Sequence[int]) -> State:
        """`frozen` for examples whose trunk output is kept from the first time on."""
        for row, index in enumerate(indices):
            if index not in self.cache:
                seed = ops.convert_to_tensor(np.zeros(2, dtype=np.int64))
                self.cache[index] = ops.convert_to_numpy(self.frozen(x[row : row + 1], seed).y)
        y = np.concatenate([self.cache[index] for index in indices])
        return State(self.first_unit, ops.convert_to_tensor(y), {})

    def frozen(self, x: np.ndarray, seed) -> State:
        """Run everything that is not differentiated."""
        state = self.predictor.advance(self.predictor.begin(x), self.quiet, self.layout, self.precision)
        if self.quiet == self.first_unit:
            return state
        held, kept = state.held, self.layout.skips_out_of(self.quiet, self.first_unit)

        def make():
            def run(seed, y, *given):
                skips = _held(held, given)
                y = self.run_frozen(seed, y, skips)
                return (y, *(skips[index][0] for index in kept))

            return run

        y, *found = self._cached("frozen", make)(seed, self._tensor(state.y), *state.tensors)
        whole = tuple((index, Span.whole(self.layout.units[index].skip_length)) for index in kept)
        return State(self.first_unit, y, {**state.skips, **_held(whole, found)})

    def finish(self, state: State, y, seed):
        """The loss and gradients from what `frozen` gave."""
        x, held = self._tensor(state.y), state.held
        if self.recompute and self.first_unit < len(self.layout.units):
            return self._by_units(x, dict(state.skips), y, seed)

        def make():
            return lambda seed, x, y, *given: self.loss_and_gradients(seed, x, _held(held, given), y)

        loss, *gradients = self._cached("step", make)(seed, x, y, *state.tensors)
        return loss, gradients

    def run_frozen(self, seed, x, skips: dict):
        """Run the units from the first that drops anything up to the first trained one. For tracing."""
        first, last = self.quiet, self.first_unit
        for index in range(first, last):
            self.seeds.set(index, seed)
        keep = {index: Span.whole(self.layout.units[index].skip_length) for index in self.layout.skips_out_of(first, last)}
        out, given = (Span.whole(n) for n in (self.layout.units[last - 1].out_length, self.layout.units[first].in_length))
        run = self.network.run_units
        return run(x, first, last, out, skips, self.sites, True, keep=keep, given=given, layout=self.layout)

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
                x = run(x, first, last, out, skips, self.sites, True, given=given, layout=self.layout)
            loss = self.loss(y, self.predictor.apply_head(x, None))
        return loss, *tape.gradient(loss, values)

    def _by_units(self, x, skips: dict, y, seed):
        """`loss_and_gradients` unit by unit, each computed a second time on the way back."""
        first, last = self.first_unit, len(self.layout.units)
        plan = dict(enumerate(self.layout.spans(first, last, Span.whole(self.layout.bins), {}), first))
        given = {index: plan[index - 1].out for index in range(first + 1, last)}
        given[first] = Span.whole(self.layout.units[first].in_length)
        sources = {index: self.layout.units[index].skip_from for index in plan}
        spans = {index: span for index, (_, span) in skips.items()}
        spans |= {index: plan[index].skip_out for index in plan if plan[index].skip_out is not None}
        skips = {index: tensor for index, (tensor, _) in skips.items()}
        functions = {
            index: self._unit(index, plan[index], given[index], sources[index], spans.get(sources[index])) for index in plan
        }
        inputs = {}
        for index, function in functions.items():
            inputs[index] = [x] if sources[index] is None else [x, skips[sources[index]]]
            x, *kept = self._cached(("unit", index), lambda function=function: function)(seed, *inputs[index])
            if kept:
                skips[index] = kept[0]
        head = self._names(f"{self.sites.adapter.scheme.head.name}.")
        loss, to_x, *found = self._cached("head", lambda: self._head_pull(head))(x, y)
        gradients, to_skips = dict(zip(head, found, strict=True)), {}
        for index in reversed(range(first, last)):
            source, upstream = sources[index], [to_x]
            if plan[index].skip_out is not None:
                upstream.append(to_skips.pop(index))
            names = self._names(f"{self.layout.units[index].name}.")
            wanted = [index > first, source is not None and source >= first]
            pull = self._cached(
                ("pull", index), lambda i=index, n=names, w=wanted: self._unit_pull(i, functions[i], n, w)
            )
            found = list(pull(seed, *inputs.pop(index), *upstream))
            to_x = found.pop(0) if wanted[0] else None
            if wanted[1]:
                before, added = to_skips.get(source), found.pop(0)
                to_skips[source] = added if before is None else before + added
            gradients |= dict(zip(names, found, strict=True))
        return loss, [gradients[name] for name in self.variables]

    def _unit(self, index: int, spans, given: Span, source: int | None, skip_span: Span | None):
        """The function of one unit: (seed, input, [representation]) to (output, [representation])."""
        keep = {} if spans.skip_out is None else {index: spans.skip_out}

        def run(seed, x, *skip):
            self.seeds.set(index, seed)
            skips = {source: (skip[0], skip_span)} if skip else {}
            x = self.network.run_units(
                x, index, index + 1, spans.out, skips, self.sites, True, keep=keep, given=given, layout=self.layout
            )
            return (x, *(skips[kept][0] for kept in keep))

        return run

    def _unit_pull(self, index: int, function, names: list[str], wanted: list[bool]):
        """Gradients of one unit: (seed, input, [representation], upstream...) to those of its inputs and weights."""
        import tensorflow as tf

        values = [self.variables[name].value for name in names]
        unit = f"{self.layout.units[index].name}."
        averages = [v for name, v in self.sites.variables.items() if name.startswith(unit) and not v.trainable]
        count = 1 if self.layout.units[index].skip_from is None else 2

        def pull(seed, *args):
            before = [tf.identity(average.value) for average in averages]
            inputs = list(args[:count])
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch([*values, *inputs])
                outputs = function(seed, *inputs)
            # The first time, the moving averages of batch norm took their step; this second time must not count.
            for average, value in zip(averages, before, strict=True):
                average.assign(value)
            asked = [x for x, needed in zip(inputs, wanted, strict=False) if needed]
            zero = tf.UnconnectedGradients.ZERO
            return tape.gradient(outputs, [*asked, *values], list(args[count:]), unconnected_gradients=zero)

        return pull

    def _head_pull(self, names: list[str]):
        """The loss and its gradients: (trunk's output, targets) to (loss, gradient of the output, of the head...)."""
        import tensorflow as tf

        values = [self.variables[name].value for name in names]

        def pull(x, y):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch([x, *values])
                loss = self.loss(y, self.predictor.apply_head(x, None))
            return loss, *tape.gradient(loss, [x, *values])

        return pull

    def _names(self, prefix: str) -> list[str]:
        return [name for name in self.variables if name.startswith(prefix)]

    def _cached(self, key, make):
        def switched():
            function = make()

            def run(*args):
                with self.seeds.switched(self.dropout):
                    return function(*args)

            return run

        return self.predictor.cached(("training", key), switched, self.precision)

    def _tensor(self, y):
        return self.predictor.tensor(y) if isinstance(y, np.ndarray) else y


def _held(held: Sequence[tuple[int, Span]], tensors) -> dict:
    """Representations as `Network.run_units` takes them: unit index to (tensor, what it covers)."""
    return {index: (tensor, span) for (index, span), tensor in zip(held, tensors, strict=True)}
