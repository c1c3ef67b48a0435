"""What a run leaves to look at: tables, TensorBoard's files, a progress bar, and its curves as a picture."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

from kipoi_borzoi.files import atomic_write

STEP_COLUMNS = ("step", "epoch", "loss", "learning_rate", "gradient_norm", "examples_per_s", "wait_s")
EPOCH_COLUMNS = ("epoch", "step", "train_loss", "valid_loss", "valid_r", "valid_r2", "score", "best", "seconds")


class RunLog:
    """Writes ``steps.csv``, ``epochs.csv`` and TensorBoard's event files of a run.

    Parameters
    ----------
    folder : path
    step : int
        Where the run stands; later rows, of a sitting that was killed after its last checkpoint, are dropped.
    """

    def __init__(self, folder: str | Path, step: int = 0):
        self.folder = Path(folder)
        steps = self.folder / "steps.csv"
        kept = []
        if steps.exists():
            with open(steps, newline="", encoding="utf-8") as file:
                kept = [row for row in csv.DictReader(file) if (row["step"] or "").isdecimal() and int(row["step"]) <= step]
        with atomic_write(steps) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, STEP_COLUMNS, restval="", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(kept)
        self._steps = open(steps, "a", newline="", encoding="utf-8")
        self._writer = csv.DictWriter(self._steps, STEP_COLUMNS)
        self._board = _Board(self.folder / "tensorboard")

    def step(self, **values: Any) -> None:
        """Add a row to ``steps.csv``; all of `STEP_COLUMNS`."""
        self._writer.writerow({key: _rounded(value) for key, value in values.items()})
        self._steps.flush()
        self._board.write(values["step"], {f"train/{key}": values[key] for key in STEP_COLUMNS[2:]})

    def epochs(self, history: list[dict[str, Any]]) -> None:
        """Write ``epochs.csv`` anew."""
        with atomic_write(self.folder / "epochs.csv") as temporary:
            with open(temporary, "w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, EPOCH_COLUMNS)
                writer.writeheader()
                writer.writerows({key: _rounded(row[key]) for key in EPOCH_COLUMNS} for row in history)
        if history:
            latest = history[-1]
            self._board.write(latest["step"], {f"epoch/{key}": latest[key] for key in EPOCH_COLUMNS[2:7]})

    def close(self) -> None:
        """Close the files."""
        self._steps.close()
        self._board.close()


class _Board:
    """Scalars for TensorBoard, written with TensorFlow alone."""

    def __init__(self, folder: Path):
        import tensorflow as tf

        self._writer = tf.summary.create_file_writer(str(folder))
        self._metadata = tf.compat.v1.SummaryMetadata(
            plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars")
        )

    def write(self, step: int, values: dict[str, float]) -> None:
        import tensorflow as tf

        with self._writer.as_default():
            for name, value in values.items():
                tf.summary.write(name, tf.constant(float(value)), step=step, metadata=self._metadata)

    def close(self) -> None:
        self._writer.close()


def _rounded(value):
    return f"{value:.7g}" if isinstance(value, float) else value


def progress_bar(total: int, done: int, epoch: int, epochs: int):
    """A bar over the steps of an epoch, shown on terminals only."""
    from tqdm import tqdm

    return tqdm(total=total, initial=done, desc=f"epoch {epoch + 1}/{epochs}", unit="step", disable=not sys.stderr.isatty())


def plot_curves(history: list[dict[str, Any]], steps: str | Path, path: str | Path) -> bool:
    """Draw loss, accuracy and learning rate of a run.

    Parameters
    ----------
    history : list of dict
        The rows of ``epochs.csv``.
    steps : path
        ``steps.csv``.
    path : path
        PNG to write.

    Returns
    -------
    bool
        False when matplotlib (the extra ``plot``) is not installed; nothing is written then.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    with open(steps, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    losses, accuracy, rates = figure.subplots(1, 3)
    at = [row["epoch"] for row in history]
    losses.plot(at, [row["train_loss"] for row in history], "o-", ms=3, label="training")
    losses.plot(at, [row["valid_loss"] for row in history], "o-", ms=3, label="validation")
    losses.set(xlabel="epoch", title="loss")
    accuracy.plot(at, [row["valid_r"] for row in history], "o-", ms=3, label="Pearson r")
    accuracy.plot(at, [row["valid_r2"] for row in history], "o-", ms=3, label="R2")
    accuracy.set(xlabel="epoch", title="validation, mean over tracks")
    if accuracy.get_ylim()[0] < -1:  # R2 has no lower end, and a new head begins far down
        accuracy.set_ylim(-1, 1)
    best = [row["epoch"] for row in history if row["best"]]
    for axes in (losses, accuracy):
        if best:
            axes.axvline(best[-1], color="0.7", lw=1, zorder=0, label="kept")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False)
    rates.plot([int(row["step"]) for row in rows], [float(row["learning_rate"]) for row in rows], color="C2")
    rates.set(xlabel="step", title="learning rate")
    for axes in (losses, accuracy, rates):
        axes.spines[["top", "right"]].set_visible(False)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=130, format="png")
    return True
