"""Adam as Calico fine-tunes with it: a linear warm-up that begins at zero, and one bound on the norm of all gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras
import numpy as np
from keras import ops

from kipoi_borzoi.errors import WeightsError


class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate that grows linearly from 0 at step 0 to ``learning_rate`` at step ``warmup_steps``, and stays there."""

    def __init__(self, learning_rate: float, warmup_steps: int):
        super().__init__()
        self.learning_rate, self.warmup_steps = learning_rate, warmup_steps

    def __call__(self, step):
        """The learning rate of a step, counted from 0."""
        done = ops.minimum(ops.cast(step, "float32") / max(1, self.warmup_steps), 1.0)
        return self.learning_rate * (done if self.warmup_steps else ops.ones_like(done))

    def get_config(self):
        """What ``from_config`` needs to make another schedule of this kind."""
        return {"learning_rate": self.learning_rate, "warmup_steps": self.warmup_steps}


class Adam(keras.optimizers.Adam):
    """Adam that tells its learning rate at any step."""

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        return float(ops.convert_to_numpy(self._learning_rate(np.int64(step))))


def make_optimizer(
    variables: Sequence[keras.Variable],
    learning_rate: float,
    warmup_steps: int = 0,
    global_clipnorm: float | None = None,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
) -> Adam:
    """Make the optimizer of ``variables``, with its moments at zero.

    Parameters
    ----------
    learning_rate : float
        After the warm-up.
    warmup_steps : int
        0 for none.
    global_clipnorm : float, optional
        When the norm of all gradients together exceeds it, they are scaled down to it.
    beta_1, beta_2 : float
        Decay of the two moments.
    """
    optimizer = Adam(
        WarmUp(learning_rate, warmup_steps), beta_1=beta_1, beta_2=beta_2, global_clipnorm=global_clipnorm
    )
    optimizer.build(list(variables))
    return optimizer


def optimizer_tensors(optimizer, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The state of an optimizer by name: moments of the variables called ``names``, in their order, and the step."""
    return {name: np.array(ops.convert_to_numpy(value)) for name, value in _by_name(optimizer, names).items()}


def restore_optimizer(optimizer, names: Sequence[str], tensors: Mapping[str, np.ndarray]) -> None:
    """Put back what `optimizer_tensors` took.

    Raises
    ------
    WeightsError
        A tensor that is missing or of another shape.
    """
    for name, variable in _by_name(optimizer, names).items():
        if name not in tensors:
            raise WeightsError(f"the checkpoint has no {name}")
        if tuple(tensors[name].shape) != tuple(variable.shape):
            raise WeightsError(f"the checkpoint's {name} has shape {tensors[name].shape}, expected {tuple(variable.shape)}")
        variable.assign(tensors[name])


def _by_name(optimizer, names: Sequence[str]) -> dict[str, keras.Variable]:
    moments = {"momentum": optimizer._momentums, "velocity": optimizer._velocities}
    held = {f"{kind}/{name}": value for kind in moments for name, value in zip(names, moments[kind], strict=True)}
    return {**held, "iterations": optimizer.iterations}
