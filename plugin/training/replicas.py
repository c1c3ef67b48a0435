"""Several devices at once: a copy of base and adapter on each, a share of every batch for each, one mean gradient.

Only the adapter's weights travel between devices, after each optimizer step. (Copies rather than
``tf.distribute``'s mirrored variables, because the frozen part runs as many small programs.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from keras import ops

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.training.step import TrainingStep


class Replicas:
    """A training step shared between devices; stands in for a `TrainingStep`.

    Parameters
    ----------
    make : callable
        Makes a `TrainingStep` with a network of its own, on the device that is current when it is called.
    devices : sequence of str
        TensorFlow's names, two or more; the first holds what is saved.
    """

    def __init__(self, make: Callable[[], TrainingStep], devices: Sequence[str]):
        import tensorflow as tf

        self.devices = tuple(devices)
        self.steps = []
        for device in self.devices:
            with tf.device(device):
                self.steps.append(make())
        first = self.steps[0]
        self.sites, self.variables, self.loss, self.predict = first.sites, first.variables, first.loss, first.predict
        self._threads = ThreadPoolExecutor(len(self.devices))

    def __call__(self, x: np.ndarray, y: np.ndarray, seed: tuple[int, int], indices: Sequence[int] = ()):
        """See `TrainingStep.__call__`; ``x`` and ``y`` are cut into equal shares."""
        import tensorflow as tf

        count = len(self.devices)
        if len(x) % count:
            raise InputError(f"a batch of {len(x)} cannot be shared between {count} devices")

        def compute(number):
            with tf.device(self.devices[number]):
                share = slice(number * len(x) // count, (number + 1) * len(x) // count)
                return self.steps[number](x[share], y[share], (seed[0], seed[1] * count + number), indices[share])

        results = list(self._threads.map(compute, range(count)))
        with tf.device(self.devices[0]):
            loss = sum(tf.identity(loss) for loss, _ in results) / count
            gradients = [
                sum(tf.identity(part) for part in parts) / count
                for parts in zip(*(gradients for _, gradients in results), strict=True)
            ]
        return loss, gradients

    def synchronize(self) -> None:
        """Give every device the first one's weights, and the mean of all moving averages of batch norm."""
        for name, variable in self.sites.variables.items():
            copies = [step.sites.variables[name] for step in self.steps]
            if not variable.trainable:
                variable.assign(np.mean([ops.convert_to_numpy(copy.value) for copy in copies], axis=0))
            for copy in copies[1:]:
                copy.assign(ops.convert_to_numpy(variable.value))


def pick_devices(count: int) -> list[str]:
    """Names of ``count`` GPUs.

    Raises
    ------
    InputError
        There are fewer.
    """
    import tensorflow as tf

    found = [device.name for device in tf.config.list_logical_devices("GPU")]
    if len(found) < count:
        raise InputError(f"devices is {count}, but TensorFlow sees {len(found)} GPUs")
    return found[:count]
