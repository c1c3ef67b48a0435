"""What is neither scored nor explained, on a cluster's workers: tracks of a store that are read, windows that are predicted."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kipoi_borzoi.cluster.run import Plan, check_same, enter, results
from kipoi_borzoi.provenance import describe_model


def run_jobs_on(client) -> Callable:
    """A stand-in for `kipoi_borzoi.training.workers.run_jobs` that runs the jobs on a Dask client's workers.

    They write into the same work folder, so it must lie where all of them see it.
    """

    def run(make: Callable, shared: Any, jobs: Sequence[Any], processes: int, total: int, unit: str, progress: bool) -> list:
        from tqdm import tqdm

        # The key is of this call alone: workers of a scheduler that runs on may hold what another command has shared.
        plan = Plan(_job_on_worker, {"folder": os.getcwd(), "make": make, "shared": shared}, f"jobs {secrets.token_hex(16)}")
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


def predict_on(client, loaded, model: str, adapter: str | None, zoo: str | None, store, crop: int, rc: bool) -> Callable:
    """From batches of a store's windows to their coverage (batch, bins, tracks), one after the other, by a client's workers.

    Parameters
    ----------
    client : distributed.Client
    loaded : BorzoiModel
        What ``model`` and ``adapter`` are here; workers refuse to predict with another one.
    model, adapter, zoo
        How workers find it.
    store : Store
    crop : int
        Bins.
    rc : bool
    """
    described = describe_model(model, loaded)
    arguments = {
        "folder": os.getcwd(), "model": model, "adapter": adapter, "zoo": zoo, "described": described, "store": Path(store.path),
        "key": store.key, "crop": crop, "rc": rc,
    }  # fmt: skip
    plan = Plan(_predictor_on_worker, arguments, json.dumps([described, store.key, str(Path(store.path).absolute()), crop, rc]))

    def predict(batches: Sequence[Sequence[int]]) -> Iterator[np.ndarray]:
        return results(client, plan, batches, lambda batch: f"windows {batch[0]} to {batch[-1]}")

    return predict


def _predictor_on_worker(
    folder: str, model: str, adapter: str | None, zoo: str | None, described: Mapping, store: Path, key: str, crop: int, rc: bool
) -> Callable:
    from kipoi_borzoi.errors import InputError
    from kipoi_borzoi.training.store import Store
    from kipoi_borzoi.zoo.load import load_model

    enter(folder)
    opened = Store.open(store)
    if opened.key != key:
        raise InputError(f"{store}: this worker sees another store than the one who asks")
    loaded = load_model(model, adapters=[adapter] if adapter else None, zoo=zoo)
    loaded = loaded.models[adapter] if adapter else loaded
    found = describe_model(model, loaded)
    check_same(json.dumps(described), json.dumps(found), described, found)

    def predict(batch: Sequence[int]) -> np.ndarray:
        x = np.stack([opened.sequence(number, bool) for number in batch])
        return np.asarray(loaded.predict_on_batch(x, crop=crop, rc=rc), dtype=np.float32)

    return predict
