"""Items of work through a cluster's workers, in order: each worker prepares once, what fails is tried elsewhere, then named."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kipoi_borzoi._version import __version__
from kipoi_borzoi.errors import InputError, KipoiBorzoiError
from kipoi_borzoi.variants.header import differences

ATTEMPTS = 3
"""How often an item is computed before a failure is taken for its own."""
_AHEAD = 3  # items in flight per worker: none waits for the next, and little is lost by a kill

logger = logging.getLogger("kipoi_borzoi")


@dataclass(frozen=True)
class Plan:
    """What a worker prepares before its first item, and keeps.

    Attributes
    ----------
    prepare : callable
        A function of a module, which workers import: from ``arguments`` to a function of an item.
    arguments : mapping
        Keyword arguments that can be pickled; files by paths that every worker can read.
    key : str
        Says what is prepared: workers keep it by this.
    version : str
        Of the package on this side.
    """

    prepare: Callable[..., Callable[[Any], Any]]
    arguments: Mapping[str, Any]
    key: str
    version: str = field(default=__version__)


def results(client, plan: Plan, items: Iterable[Any], name: Callable[[Any], str]) -> Iterator[Any]:
    """Compute items on the workers of a Dask client, and yield their results in the order of the items.

    Only a few items per worker are under way at a time, so that memory does not grow with their number.

    Parameters
    ----------
    client : distributed.Client
    plan : Plan
    items : iterable
        What can be pickled.
    name : callable
        What an item is called in messages.

    Raises
    ------
    KipoiBorzoiError
        An error of a worker that is one of ours, as it is; of any other kind, or where workers die, when `ATTEMPTS`
        have failed, with the item's name. What came before has been yielded.
    """
    waiting: deque[_Task] = deque()
    # The plan may be large, so it does not travel with every item. It is the result of a task and not data that is scattered:
    # the scheduler knows how to make it again when the workers that hold it are gone.
    shared = client.submit(_itself, plan, pure=False)
    try:
        for item in items:
            waiting.append(_Task(client, shared, item, name(item)))
            while len(waiting) >= _AHEAD * max(1, len(client.nthreads())):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for task in waiting:
            task.cancel()
        shared.release()


def plan_for(prepare: Callable[..., Callable[[Any], Any]], arguments: Mapping[str, Any], key: str, provenance: Mapping) -> Plan:
    """A plan for ``prepare(folder, arguments, key, provenance)``.

    Raises
    ------
    InputError
        The arguments hold more than names and numbers, such as a model that is loaded: a worker cannot have it.
    """
    if not isinstance(arguments.get("models"), (str, list, tuple)):
        raise InputError("a cluster's workers load the models themselves: give names of entries, not loaded models")
    return Plan(prepare, {"folder": os.getcwd(), "arguments": dict(arguments), "key": key, "provenance": dict(provenance)}, key)


def enter(folder: str) -> None:
    """On a worker: make relative names of files mean what they mean to the one who asks.

    Raises
    ------
    InputError
        There is no such folder.
    """
    try:
        os.chdir(folder)
    except OSError as error:
        raise InputError(
            f"{socket.gethostname()}: this worker cannot enter {folder} ({error.strerror}); workers need the same files under the"
            " same names, as on a shared filesystem"
        ) from error


def check_same(expected: str, found: str, there: Mapping, here: Mapping) -> None:
    """On a worker: see that what was prepared is what the one who asks has prepared.

    Raises
    ------
    InputError
        The keys differ.
    """
    if expected != found:
        changed = "; ".join(differences(json.loads(json.dumps(there)), json.loads(json.dumps(here)))) or "the versions"
        raise InputError(f"{socket.gethostname()}: this worker sees other files or models than the one who asks: {changed}")


class _Task:
    """An item that is being computed."""

    def __init__(self, client, plan, item: Any, name: str):
        self._client, self._plan, self._item, self._name = client, plan, item, name
        self._attempts, self._failed_on = 0, set()
        self._submit()

    def _submit(self) -> None:
        self._attempts += 1
        others = [worker for worker in self._client.nthreads() if worker not in self._failed_on] if self._failed_on else []
        where = {"workers": others, "allow_other_workers": True} if others else {}  # others: they may be gone by then
        self._future = self._client.submit(work, self._plan, self._item, pure=False, **where)

    def result(self) -> Any:
        from distributed.scheduler import KilledWorker

        while True:
            try:
                result = self._future.result()
                self._future.release()
                return result
            except KilledWorker as error:
                raise KipoiBorzoiError(
                    f"{self._name}: every worker that began it died ({error.last_worker.address} was the last); is their memory "
                    "too small? What was finished is kept: the same command goes on"
                ) from error
            except KipoiBorzoiError:
                raise
            except Exception as error:
                said = f"{type(error).__name__}: {error}"
                if isinstance(error, _Failed):
                    worker, said = error.args
                    self._failed_on.add(worker)
                if self._attempts >= ATTEMPTS:
                    raise KipoiBorzoiError(
                        f"{self._name}: failed {ATTEMPTS} times on workers, at last with {said}. What was finished is kept: the same"
                        " command goes on"
                    ) from error
                logger.warning("%s: %s; trying again, on another worker if there is one", self._name, said)
                self._submit()

    def cancel(self) -> None:
        self._future.cancel()


class _Failed(Exception):
    """An error on a worker that is none of ours: the worker's address, and what it said."""


def _itself(plan: Plan) -> Plan:
    return plan


_PREPARED: dict[str, Callable[[Any], Any]] = {}
_LOCK = threading.Lock()


def work(plan: Plan, item: Any) -> Any:
    """What a worker does: prepare, unless it has, and compute an item."""
    from distributed import get_worker

    try:
        with _LOCK:  # TensorFlow uses all its threads for one item; a second one at a time would only cost memory
            return _prepared(plan)(item)
    except KipoiBorzoiError:
        raise
    except Exception as error:
        raise _Failed(get_worker().address, f"{type(error).__name__}: {error}").with_traceback(error.__traceback__) from None


def _prepared(plan: Plan) -> Callable[[Any], Any]:
    if plan.version != __version__:
        raise InputError(f"a worker has kipoi-borzoi {__version__}, this side {plan.version}; install the same on all machines")
    if plan.key not in _PREPARED:
        _PREPARED.clear()  # models of a run that is over
        logger.setLevel(logging.ERROR)  # what there is to say of the input has been said by the one who asks
        _PREPARED[plan.key] = plan.prepare(**plan.arguments)
    return _PREPARED[plan.key]
