"""Dropout by number: the masks of a step follow from the run's seed and the step, whatever came before."""

from __future__ import annotations

from contextlib import contextmanager

import keras
from keras import ops

from kipoi_borzoi.network.config import ConvDNA, ConvNAC, ResTower, TransformerTower, UnetConv
from kipoi_borzoi.network.layout import Unit
from kipoi_borzoi.network.network import Network

# Draws that one layer may make in a step: one per block of queries for attention, else one.
DRAWS = 1 << 12
# Dropout layers that a network may have.
LAYERS = 1 << 12


class DropoutSeeds:
    """The random states of a network's dropout layers, unit by unit.

    Setting them at the start of a unit makes its masks the same when it is computed again, and in a run
    that was resumed.
    """

    def __init__(self, network: Network):
        self.layers: list[list[keras.layers.Dropout]] = []
        for unit in network.units:
            layers = [layer for layer in unit._flatten_layers() if isinstance(layer, keras.layers.Dropout)]
            self.layers.append([layer for layer in layers if layer.rate])
        self._first = [sum(len(layers) for layers in self.layers[:index]) for index in range(len(self.layers))]

    def set(self, unit: int, seed) -> None:
        """Set the states of a unit from ``seed``, an int64 tensor (seed of the run, number of the batch)."""
        for offset, layer in enumerate(self.layers[unit]):
            state = layer.seed_generator.state
            key = seed[0] * LAYERS + self._first[unit] + offset
            state.assign(ops.cast(ops.stack([key, seed[1] * DRAWS]), state.dtype))

    @contextmanager
    def switched(self, on: bool):
        """While the block runs, dropout is as configured, or off."""
        layers = [layer for some in self.layers for layer in some]
        rates = [layer.rate for layer in layers]
        try:
            for layer, rate in zip(layers, rates, strict=True):
                layer.rate = rate if on else 0.0
            yield
        finally:
            for layer, rate in zip(layers, rates, strict=True):
                layer.rate = rate


def has_dropout(unit: Unit) -> bool:
    """Whether a unit drops anything in training."""
    block = unit.block
    if isinstance(block, TransformerTower):
        return bool(block.dropout or block.attention_dropout or block.position_dropout)
    return isinstance(block, ConvDNA | ConvNAC | ResTower | UnetConv) and bool(block.dropout)
