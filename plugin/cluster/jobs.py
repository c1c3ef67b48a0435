"""What is neither scored nor explained, on a cluster's workers: tracks of a store that are read, windows that are predicted."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kipoi_borzoi.cluster.run import Plan, enter, results


def run_jobs_on(client) -> Callable:
    """A stand-in for `kipoi_borzoi.training.workers.run_jobs` that runs the jobs on a Dask client's workers.

    They write into the same work folder, so it must lie where all of them see it.
    """

    def run(make: Callable, shared: Any, jobs: Sequence[Any], processes: int, total: int, unit: str, progress: bool) -> list:
        from tqdm import tqdm

        plan = Plan(_job_on_worker, {"folder": os.getcwd(), "make": make, "shared": shared}, f"jobs {os.getpid()} {id(shared)}")
        found = []
        with tqdm(total=len(jobs), unit=" tracks", disable=not progress) as bar:
            for result in results(client, plan, jobs, lambda job: "the sequences" if job is None else f"track {job}"):
                found.append(result)
                bar.update()
        return found

    return run


def _job_on_worker(folder: str, make: Callable, shared: Any) -> Callable:
    enter(folder)
    return lambda job: make(shared, job, lambda count: None)


def predict_on(client, model: str, adapter: str | None, zoo: str | None, store, crop: int, rc: bool) -> Callable:
    """From batches of a store's windows to their coverage (batch, bins, tracks), one after the other, by a client's workers."""
    arguments = {
        "folder": os.getcwd(), "model": model, "adapter": adapter, "zoo": zoo, "store": Path(store.path), "key": store.key,
        "crop": crop, "rc": rc,
    }  # fmt: skip
    plan = Plan(_predictor_on_worker, arguments, f"{model} {adapter} {store.key} {crop} {rc}")

    def predict(batches: Sequence[Sequence[int]]) -> Iterator[np.ndarray]:
        return results(client, plan, batches, lambda batch: f"windows {batch[0]} to {batch[-1]}")

    return predict


def _predictor_on_worker(folder: str, model: str, adapter: str | None, zoo: str | None, store: Path, key: str, crop: int, rc: bool):
    from kipoi_borzoi.errors import InputError
    from kipoi_borzoi.training.store import Store
    from kipoi_borzoi.zoo.load import load_model

    enter(folder)
    opened = Store.open(store)
    if opened.key != key:
        raise InputError(f"{store}: this worker sees another store than the one who asks")
    loaded = load_model(model, adapters=[adapter] if adapter else None, zoo=zoo)
    loaded = loaded.models[adapter] if adapter else loaded

    def predict(batch: Sequence[int]) -> np.ndarray:
        x = np.stack([opened.sequence(number, bool) for number in batch])
        return np.asarray(loaded.predict_on_batch(x, crop=crop, rc=rc), dtype=np.float32)

    return predict
