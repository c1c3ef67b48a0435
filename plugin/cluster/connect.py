"""From ``--cluster WHERE`` to a Dask client: processes of this machine, a running scheduler, or jobs of a queue."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kipoi_borzoi.errors import InputError

QUEUES = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "sge": "SGECluster", "lsf": "LSFCluster"}
_ADDRESS = re.compile(r"(tcp|tls)://\S+")
_EXAMPLE = "local, local:4, tcp://host:8786, or a .yaml file"
_FIRST_WORKER_S = 60.0
_ANSWER_S = 20.0

logger = logging.getLogger("kipoi_borzoi")


@dataclass(frozen=True)
class Local:
    """Processes of this machine: ``workers``, or None for one per GPU (without any: one)."""

    workers: int | None = None


@dataclass(frozen=True)
class Scheduler:
    """A scheduler that runs already, by its address."""

    address: str


@dataclass(frozen=True)
class Queue:
    """Jobs of a batch system.

    Attributes
    ----------
    system : str
        One of `QUEUES`.
    jobs : int
        How many.
    options : dict
        Of dask-jobqueue's cluster.
    """

    system: str
    jobs: int
    options: dict[str, Any]


def parse_where(text: str) -> Local | Scheduler | Queue:
    """Read ``--cluster``.

    Raises
    ------
    InputError
        It names nothing that is known, or the file is malformed.
    """
    if text == "local":
        return Local()
    if match := re.fullmatch(r"local:([1-9]\d*)", text):
        return Local(int(match[1]))
    if _ADDRESS.fullmatch(text):
        return Scheduler(text)
    if text.endswith((".yaml", ".yml")):
        return _read_queue(Path(text))
    raise InputError(f"--cluster {text}: expected {_EXAMPLE}")


def _read_queue(path: Path) -> Queue:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML ({str(error).splitlines()[0]})") from error
    if not isinstance(found, dict) or set(found) != {"system", "jobs", "options"}:
        raise InputError(f"{path}: expected the keys system ({', '.join(QUEUES)}), jobs and options; see docs/cluster.md")
    system, jobs, options = found["system"], found["jobs"], found["options"]
    if system not in QUEUES:
        raise InputError(f"{path}: system is {system!r}, expected one of {', '.join(QUEUES)}")
    if type(jobs) is not int or jobs < 1:
        raise InputError(f"{path}: jobs is {jobs!r}, expected a whole number of 1 or more")
    if not isinstance(options, dict) or not all(isinstance(name, str) for name in options):
        raise InputError(f"{path}: options is {options!r}, expected the arguments of dask_jobqueue.{QUEUES[system]}")
    return Queue(system, jobs, options)


@contextlib.contextmanager
def connect(text: str) -> Iterator[Any]:
    """A Dask client for ``--cluster WHERE``; processes and jobs that it started end with the block.

    Raises
    ------
    InputError
        See `parse_where`; Dask is not installed, the scheduler does not answer, or has no worker, or the
        queue's options are not its own.
    """
    where = parse_where(text)
    client_type = _require("distributed", "dask").Client
    with contextlib.ExitStack() as stack:
        if isinstance(where, Scheduler):
            try:
                client = stack.enter_context(client_type(where.address, timeout=_ANSWER_S))
            except OSError as error:
                raise InputError(f"--cluster {text}: the scheduler does not answer ({error})") from error
            _wait_for_workers(client, 1, _FIRST_WORKER_S, text)
        else:
            cluster = stack.enter_context(_local(where) if isinstance(where, Local) else _queue(where, text))
            client = stack.enter_context(client_type(cluster))
            if isinstance(where, Local):
                _wait_for_workers(client, len(cluster.worker_spec), _FIRST_WORKER_S, text)
            else:
                logger.info("%d jobs asked for; work begins with the first that starts", where.jobs)
        yield client


def _local(where: Local):
    distributed = _require("distributed", "dask")
    gpus = visible_gpus()
    count = where.workers or max(1, len(gpus))
    threads = os.environ.get("TF_NUM_INTRAOP_THREADS") or str(max(1, (os.cpu_count() or 1) // count))
    # Memory is the scoring's own to bound: Dask must not pause or kill a worker for what TensorFlow holds.
    common = {"nthreads": 1, "memory_limit": 0, "dashboard": False, "silence_logs": logging.ERROR}
    spec = {}
    for number in range(count):
        environment = {"TF_NUM_INTRAOP_THREADS": threads, "TF_NUM_INTEROP_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        if gpus:
            environment["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
        spec[number] = {"cls": distributed.Nanny, "options": {**common, "env": environment}}
    scheduler = {"cls": distributed.Scheduler, "options": {"dashboard": False, "host": "127.0.0.1", "port": 0}}
    return distributed.SpecCluster(workers=spec, scheduler=scheduler, silence_logs=logging.ERROR)


def visible_gpus() -> list[str]:
    """Names of the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` takes them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name for name in given.split(",") if name and name != "-1"]
    folder = Path("/proc/driver/nvidia/gpus")
    return [str(number) for number, _ in enumerate(folder.iterdir())] if folder.is_dir() else []


def _queue(where: Queue, text: str):
    module = _require("dask_jobqueue", "dask")
    options = {"processes": 1, **where.options}
    # As for local workers. The batch system bounds a job's memory; a worker that Dask has paused would not go on.
    options["worker_extra_args"] = [*options.get("worker_extra_args", []), "--memory-limit", "0"]
    try:
        cluster = getattr(module, QUEUES[where.system])(**options)
    except (TypeError, ValueError) as error:
        raise InputError(f"{text}: {error}; options are the arguments of dask_jobqueue.{QUEUES[where.system]}") from error
    cluster.scale(jobs=where.jobs)
    return cluster


def _wait_for_workers(client, count: int, seconds: float, text: str) -> None:
    import asyncio

    try:
        client.wait_for_workers(count, timeout=seconds)
    except (TimeoutError, asyncio.TimeoutError) as error:
        raise InputError(f"--cluster {text}: no worker after {seconds:.0f} s; start some with `dask worker ADDRESS`") from error


def _require(module: str, extra: str):
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(f"--cluster needs {module}: pip install 'kipoi-borzoi[{extra}]'") from error
