"""One way to compile a function of the network, whichever backend Keras runs on."""

from __future__ import annotations

from collections.abc import Callable

import keras

from kipoi_borzoi.network.ops import by_shape


def compiled(function: Callable, variables: list[keras.Variable]) -> Callable:
    """Compile ``function`` for repeated calls with tensors of the same shapes, without gradients.

    Parameters
    ----------
    function : callable
        Takes and returns tensors (or tuples of them); reads ``variables``.
    variables : list of keras.Variable
        What it reads; their values are looked up at each call.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return by_shape(tf.function(function, autograph=False))
    if backend == "jax":
        import jax

        # Variables enter as arguments: captured, they would become constants of the program.
        def stateless(values, *args):
            with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
                return function(*args)

        jitted = jax.jit(stateless)
        return lambda *args: jitted([variable.value for variable in variables], *args)
    import torch

    def without_gradients(*args):
        with torch.no_grad():
            return function(*args)

    return without_gradients
