"""The state of a run on disk: whole or not there, two of them at any time, and everything that the next step depends on.

Random numbers need no state of their own: the order of examples, augmentation and dropout all follow
from the seed and the position in the run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from kipoi_borzoi.errors import KipoiBorzoiError, TrainingError, WeightsError
from kipoi_borzoi.files import fsync_directory, sweep_temporaries
from kipoi_borzoi.network.weights import load_safetensors, save_safetensors

LAST, PREVIOUS, BEST = "last.safetensors", "previous.safetensors", "best.safetensors"
_META = "state"


@dataclass
class Position:
    """How far a run has come.

    Attributes
    ----------
    epoch : int
        The present one, from 0.
    batch : int
        Batches of it that are done.
    step : int
        Optimizer steps done in all.
    best : float or None
        Best validation score so far.
    unimproved : int
        Epochs since.
    loss_sum, loss_count : float, int
        Of the present epoch's training loss.
    seconds : float
        Spent training, over all sittings.
    history : list of dict
        One per finished epoch.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best: float | None = None
    unimproved: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)


class Checkpoints:
    """The checkpoints of one run.

    Parameters
    ----------
    folder : path
        Made when absent.
    identity : dict
        What the run depends on; a state that was saved under another identity is refused.
    """

    def __init__(self, folder: str | Path, identity: Mapping[str, Any]):
        self.folder, self.identity = Path(folder), json.loads(json.dumps(dict(identity)))
        self.folder.mkdir(parents=True, exist_ok=True)
        sweep_temporaries(self.folder)

    def save(self, tensors: Mapping[str, np.ndarray], position: Position) -> None:
        """Save the state; the one before stays as ``previous``."""
        last = self.folder / LAST
        self._write(self.folder / "next.safetensors", tensors, position)
        if last.exists():
            os.replace(last, self.folder / PREVIOUS)
        os.replace(self.folder / "next.safetensors", last)
        fsync_directory(self.folder)

    def save_best(self, tensors: Mapping[str, np.ndarray], position: Position) -> None:
        """Save the best weights."""
        self._write(self.folder / BEST, tensors, position)

    def load(self, shapes: Mapping[str, tuple[int, ...]]) -> tuple[dict[str, np.ndarray], Position] | None:
        """The latest whole state, or None when there is none.

        Raises
        ------
        TrainingError
            The state belongs to another run, or none of those there is whole.
        """
        problems = []
        for name in ("next.safetensors", LAST, PREVIOUS):  # "next" when a save was cut off before it got its name
            path = self.folder / name
            if not path.exists():
                continue
            try:
                return self._read(path, shapes)
            except TrainingError:
                raise
            except KipoiBorzoiError as error:
                problems.append(str(error))
        if problems:
            raise TrainingError(f"no checkpoint is whole: {'; '.join(problems)}; start again in another folder")
        return None

    def load_best(self, shapes: Mapping[str, tuple[int, ...]]) -> tuple[dict[str, np.ndarray], Position]:
        """The best weights.

        Raises
        ------
        TrainingError, WeightsError
            There are none, or they are damaged or belong to another run.
        """
        path = self.folder / BEST
        if not path.exists():
            raise TrainingError(f"{path}: no such file; the run has not finished an epoch")
        return self._read(path, shapes)

    def _write(self, path: Path, tensors: Mapping[str, np.ndarray], position: Position) -> None:
        meta = {"identity": self.identity, "position": asdict(position)}
        try:
            save_safetensors(path, tensors, {_META: json.dumps(meta)})
        except OSError as error:
            raise TrainingError(f"{path}: cannot be written ({error.strerror or error}); mend that and give the same command again") from error

    def _read(self, path: Path, shapes) -> tuple[dict[str, np.ndarray], Position]:
        try:
            with safe_open(path, framework="numpy") as file:
                meta = json.loads((file.metadata() or {})[_META])
            identity, position = meta["identity"], Position(**meta["position"])
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise WeightsError(f"{path}: not a whole checkpoint ({error})") from error
        for key in {**identity, **self.identity}:
            if identity.get(key) != self.identity.get(key):
                raise TrainingError(
                    f"{path}: was made with {key} {_short(identity.get(key))}, this run has {_short(self.identity.get(key))};"
                    " continue with what it was begun with, or choose another --out"
                )
        return dict(load_safetensors(path, shapes)), position


def _short(value) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
