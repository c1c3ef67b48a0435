"""Running independent jobs in this process or in several: errors come back, nothing outlives its parent, progress is shown."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for
from typing import Any

from tqdm import tqdm

from kipoi_borzoi.errors import KipoiBorzoiError

_POLL_S = 0.2


class Stopped(Exception):
    """Raised in a worker when another one has failed or the user has interrupted."""


def run_jobs(
    run: Callable[[Any, Any, Callable[[int], None]], Any],
    shared: Any,
    jobs: Sequence[Any],
    processes: int,
    total: int,
    unit: str,
    progress: bool = False,
) -> list:
    """Call ``run(shared, job, tick)`` for each job and return the results in order.

    Parameters
    ----------
    run : callable
        A function of a module. It calls ``tick(count)`` as it goes, which may raise `Stopped`.
    shared : object
        Handed to each process once; picklable.
    jobs : sequence
    processes : int
        1 runs all in this process.
    total : int
        Sum of all counts, for the progress bar.
    unit : str
        What is counted.
    progress : bool
        Show a bar with the time left on standard error.

    Raises
    ------
    KipoiBorzoiError
        When a worker died. What ``run`` raises comes as it is; no further job is begun, running ones are stopped.
    """
    interval = 0.5 if sys.stderr.isatty() else 30.0
    with tqdm(total=total, unit=f" {unit}", mininterval=interval, disable=not progress) as bar:
        if processes == 1 or len(jobs) == 1:
            return [run(shared, job, bar.update) for job in jobs]
        return _run_in_pool(run, shared, jobs, min(processes, len(jobs)), bar)


def _run_in_pool(run, shared, jobs, processes: int, bar: tqdm) -> list:
    context = multiprocessing.get_context("spawn")  # a fork would share open files and locks of libraries
    count, stop = context.Value("q", 0), context.Event()
    pool = ProcessPoolExecutor(processes, context, _begin, (run, shared, count, stop))
    try:
        futures = [pool.submit(_work, job) for job in jobs]
        waiting = set(futures)
        while waiting:
            done, waiting = wait(waiting, timeout=_POLL_S, return_when=FIRST_EXCEPTION)
            bar.update(count.value - bar.n)
            for future in done:
                future.result()
        return [future.result() for future in futures]
    except BrokenProcessPool as error:
        raise KipoiBorzoiError(
            "a worker process died, killed or out of memory; run the same command again to continue, perhaps with fewer "
            "processes (a script that asks for several must do so under: if __name__ == '__main__')"
        ) from error
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


_STATE: tuple = ()


def _begin(run, shared, count, stop) -> None:
    global _STATE
    _STATE = (run, shared, count, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted, and stops its workers
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    wait_for([multiprocessing.parent_process().sentinel])
    os._exit(1)


def _work(job):
    run, shared, count, stop = _STATE

    def tick(done: int) -> None:
        if stop.is_set():
            raise Stopped
        with count.get_lock():
            count.value += done

    return run(shared, job, tick)
