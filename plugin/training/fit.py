"""The loop: steps, validation, early stopping, and a state on disk from which a killed run goes on as if nothing had been."""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from keras import ops

from kipoi_borzoi.errors import InputError, TrainingError
from kipoi_borzoi.training.accuracy import RunningAccuracy
from kipoi_borzoi.training.checkpoint import Checkpoints, Position
from kipoi_borzoi.training.config import RunConfig
from kipoi_borzoi.training.examples import Batch, Batches
from kipoi_borzoi.training.logs import RunLog, plot_curves, progress_bar
from kipoi_borzoi.training.optimizer import optimizer_tensors, restore_optimizer
from kipoi_borzoi.training.step import TrainingStep

logger = logging.getLogger("kipoi_borzoi")


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes
    ----------
    epochs, steps : int
        Done.
    best_epoch : int
        From 1; its weights are in the adapter now.
    valid_loss, valid_r, valid_r2 : float
        Of that epoch.
    seconds : float
        Of training, over all sittings.
    wait_fraction : float
        Part of this sitting's training time that steps waited for input.
    """

    epochs: int
    steps: int
    best_epoch: int
    valid_loss: float
    valid_r: float
    valid_r2: float
    seconds: float
    wait_fraction: float


class Trainer:
    """Trains one adapter.

    Parameters
    ----------
    step : TrainingStep
    optimizer : keras.optimizers.Optimizer
        Built for the step's variables.
    batches : Batches
    validate : callable
        Gives ``loss``, ``r`` and ``r2`` of the validation folds.
    config : RunConfig
        Resolved.
    checkpoints : Checkpoints
    folder : path
        For the logs.
    """

    def __init__(
        self,
        step: TrainingStep,
        optimizer,
        batches: Batches,
        validate: Callable[[], dict[str, float]],
        config: RunConfig,
        checkpoints: Checkpoints,
        folder: Path,
    ):
        self.step, self.optimizer, self.batches, self.validate = step, optimizer, batches, validate
        self.config, self.checkpoints, self.folder = config, checkpoints, Path(folder)
        self.weights = step.sites.variables
        self.names = list(step.variables)
        self.steps_per_epoch = steps_per_epoch(batches, config)
        self.position = Position()
        self._apply = compiled_apply(optimizer, list(step.variables.values()))

    def run(self) -> Outcome:
        """Train to the end from where the run stands, and leave the best weights in the adapter.

        Raises
        ------
        TrainingError
            The loss is not finite, or a checkpoint cannot be written.
        KeyboardInterrupt
            After SIGINT or SIGTERM; the state has been saved.
        """
        log = RunLog(self.folder, self.position.step)
        log.epochs(self.position.history)
        try:
            with stop_signals() as stopped:
                while not self._finished():
                    self._epoch(log, stopped)
        finally:
            log.close()
        plot_curves(self.position.history, self.folder / "steps.csv", self.folder / "curves.png")
        return self._outcome()

    def _finished(self) -> bool:
        at, config = self.position, self.config
        return at.epoch >= config.epochs_max or (at.epoch >= config.epochs_min and at.unimproved > config.patience)

    def _epoch(self, log: RunLog, stopped: threading.Event) -> None:
        at, config = self.position, self.config
        done = at.batch // config.accumulate
        saved = begun = time.monotonic()
        stop = self.steps_per_epoch * config.accumulate
        bar = progress_bar(self.steps_per_epoch, done, at.epoch, config.epochs_max)
        with bar:
            batches = self.batches(at.epoch, at.batch, stop)
            try:
                while at.batch < stop:
                    start, waited = time.monotonic(), self.batches.wait_s
                    loss, norm = self._optimize(islice(batches, config.accumulate))
                    at.batch += config.accumulate
                    at.step += 1
                    at.loss_sum, at.loss_count = at.loss_sum + loss, at.loss_count + 1
                    now = time.monotonic()
                    at.seconds += now - begun
                    begun = now
                    rate = float(self.optimizer.learning_rate_at(at.step - 1))
                    speed = config.accumulate * self.batches.batch_size / max(now - start, 1e-9)
                    log.step(
                        step=at.step, epoch=at.epoch + 1, loss=loss, learning_rate=rate, gradient_norm=norm,
                        examples_per_s=speed, wait_s=self.batches.wait_s - waited,
                    )  # fmt: skip
                    bar.update()
                    bar.set_postfix(loss=f"{at.loss_sum / at.loss_count:.4f}", lr=f"{rate:.2g}", ex_s=f"{speed:.2f}")
                    if stopped.is_set():
                        self._save()
                        logger.info("stopped after step %d; the same command goes on from there", at.step)
                        raise KeyboardInterrupt
                    if now - saved > 60 * config.save_minutes:
                        self._save()
                        saved = now
            finally:
                batches.close()
        self._end_epoch(log)
        if stopped.is_set():
            raise KeyboardInterrupt

    def _optimize(self, batches: Iterator[Batch]) -> tuple[float, float]:
        """One optimizer step over the mean gradient of some batches: (loss, norm of the gradient)."""
        total, losses = None, []
        for batch in batches:
            loss, gradients = self.step(batch.x, batch.y, (self.config.seed, batch.number), batch.indices)
            losses.append(float(loss))
            if not math.isfinite(losses[-1]):
                raise TrainingError(
                    f"the loss is {losses[-1]} at step {self.position.step + 1} (sequences"
                    f" {', '.join(map(str, batch.indices[:4]))} of the store): try a lower learning_rate, a global_clipnorm,"
                    " or precision float32; the checkpoints before it are kept"
                )
            total = gradients if total is None else [a + b for a, b in zip(total, gradients, strict=True)]
        if len(losses) > 1:
            total = [gradient / len(losses) for gradient in total]
        norm = float(self._apply(total))
        self.step.synchronize()
        if not math.isfinite(norm):
            raise TrainingError(f"the gradient is not finite at step {self.position.step + 1}: try a lower learning_rate")
        return float(np.mean(losses)), norm

    def _end_epoch(self, log: RunLog) -> None:
        at = self.position
        start = time.monotonic()
        result = self.validate()
        if not math.isfinite(result["loss"]):
            raise TrainingError(f"the validation loss is {result['loss']} after epoch {at.epoch + 1}")
        at.seconds += time.monotonic() - start
        score = result["r"] + result["r2"] / 4
        if not math.isfinite(score):
            raise TrainingError("the coverage of no track varies over the validation folds, so that nothing can be compared")
        best = at.best is None or score > at.best
        row = {
            "epoch": at.epoch + 1, "step": at.step, "train_loss": at.loss_sum / max(at.loss_count, 1),
            "valid_loss": result["loss"], "valid_r": result["r"], "valid_r2": result["r2"], "score": score,
            "best": int(best), "seconds": at.seconds,
        }  # fmt: skip
        at.history.append(row)
        at.best, at.unimproved = (score, 0) if best else (at.best, at.unimproved + 1)
        at.epoch, at.batch, at.loss_sum, at.loss_count = at.epoch + 1, 0, 0.0, 0
        # The best weights first: a kill in between repeats the validation, and finds them again.
        if best:
            self.checkpoints.save_best(self._weights(), at)
        self._save()
        log.epochs(at.history)
        logger.info(
            "epoch %d: training loss %.4f, validation loss %.4f, r %.4f, R2 %.4f%s", row["epoch"], row["train_loss"],
            row["valid_loss"], row["valid_r"], row["valid_r2"], " (best so far)" if best else "",
        )  # fmt: skip

    def _weights(self) -> dict[str, np.ndarray]:
        return {f"weights/{name}": np.array(ops.convert_to_numpy(v.value)) for name, v in self.weights.items()}

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return {f"weights/{name}": tuple(variable.shape) for name, variable in self.weights.items()}

    def _save(self) -> None:
        moments = optimizer_tensors(self.optimizer, self.names)
        moments.pop("iterations")  # float32 would not hold it; it is the number of steps
        self.checkpoints.save({**self._weights(), **moments}, self.position)

    def restore(self) -> None:
        """Take up the last checkpoint, where there is one.

        Raises
        ------
        TrainingError
            It belongs to another run, or none is whole.
        """
        moments = optimizer_tensors(self.optimizer, self.names)
        moments.pop("iterations")
        shapes = {**self._shapes(), **{name: value.shape for name, value in moments.items()}}
        found = self.checkpoints.load(shapes)
        if found is None:
            return
        tensors, self.position = found
        self._assign(tensors)
        restore_optimizer(self.optimizer, self.names, {**tensors, "iterations": np.int64(self.position.step)})
        logger.info("continuing after step %d (epoch %d)", self.position.step, self.position.epoch + 1)

    def _assign(self, tensors) -> None:
        for name, variable in self.weights.items():
            variable.assign(tensors[f"weights/{name}"])
        self.step.synchronize()

    def _outcome(self) -> Outcome:
        tensors, best = self.checkpoints.load_best(self._shapes())
        self._assign(tensors)
        at, row = self.position, best.history[-1]
        share = self.batches.wait_s / max(at.seconds, 1e-9)
        return Outcome(
            at.epoch, at.step, row["epoch"], row["valid_loss"], row["valid_r"], row["valid_r2"], at.seconds, share
        )


def steps_per_epoch(batches: Batches, config: RunConfig) -> int:
    """Optimizer steps of an epoch.

    Raises
    ------
    InputError
        There are fewer batches than one step accumulates.
    """
    steps = batches.per_epoch // config.accumulate
    if not steps:
        raise InputError(f"an epoch has {batches.per_epoch} batches, fewer than one step accumulates ({config.accumulate})")
    return steps


def validation(step: TrainingStep, store, indices: np.ndarray, precision: str) -> Callable[[], dict[str, float]]:
    """A function that measures the adapter on the examples ``indices``: loss, and mean r and R2 over tracks."""
    if not len(indices):
        raise InputError("the validation folds have no sequences")

    def validate() -> dict[str, float]:
        accuracy, losses = RunningAccuracy(len(store.tracks)), []
        for index in indices:
            y = store.targets(int(index)).astype(np.float32)[None]
            predicted = step.predict(store.sequence(int(index), np.float32)[None], int(index), precision)
            losses.append(float(step.loss(ops.convert_to_tensor(y), ops.convert_to_tensor(predicted))))
            accuracy.add(y, predicted)
        r, r2 = accuracy.mean()
        return {"loss": float(np.mean(losses)), "r": r, "r2": r2}

    return validate


def compiled_apply(optimizer, variables) -> Callable:
    """A function that applies gradients and gives their norm before clipping."""
    import tensorflow as tf

    @tf.function(autograph=False)
    def apply(gradients):
        norm = tf.linalg.global_norm(gradients)
        optimizer.apply(gradients, variables)
        return norm

    return apply


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """While the block runs, SIGINT and SIGTERM only set the event that is given; a second one interrupts at once."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return

    def stop(number, frame):
        if stopped.is_set():
            raise KeyboardInterrupt
        stopped.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
