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
    try:
        for item in items:
            waiting.append(_Task(client, plan, item, name(item)))
            while len(waiting) >= _AHEAD * max(1, len(client.nthreads())):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for task in waiting:
            task.cancel()


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

    def __init__(self, client, plan: Plan, item: Any, name: str):
        self._client, self._plan, self._item, self._name = client, plan, item, name
        self._attempts = 0
        self._submit()

    def _submit(self) -> None:
        self._attempts += 1
        self._future = self._client.submit(work, self._plan, self._item, pure=False)

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
                if self._attempts >= ATTEMPTS:
                    raise KipoiBorzoiError(
                        f"{self._name}: failed {ATTEMPTS} times on workers, at last with {type(error).__name__}: {error}. What was"
                        " finished is kept: the same command goes on"
                    ) from error
                logger.warning("%s: %s: %s; trying again", self._name, type(error).__name__, error)
                self._submit()

    def cancel(self) -> None:
        self._future.cancel()


_PREPARED: dict[str, Callable[[Any], Any]] = {}
_LOCK = threading.Lock()


def work(plan: Plan, item: Any) -> Any:
    """What a worker does: prepare, unless it has, and compute an item."""
    with _LOCK:  # TensorFlow uses all its threads for one item; a second one at a time would only cost memory
        if plan.version != __version__:
            raise InputError(f"a worker has kipoi-borzoi {__version__}, this side {plan.version}; install the same on all machines")
        if plan.key not in _PREPARED:
            _PREPARED.clear()  # models of a run that is over
            logger.setLevel(logging.ERROR)  # what there is to say of the input has been said by the one who asks
            _PREPARED[plan.key] = plan.prepare(**plan.arguments)
        return _PREPARED[plan.key](item)
