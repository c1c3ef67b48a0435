"""Turns the signals that ask a process to end into an exception, so that a command cleans up and its exit status says why."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_SIGNALS = ("SIGTERM", "SIGHUP")  # SIGINT is KeyboardInterrupt already; Windows has no SIGHUP


class Stopped(KeyboardInterrupt):
    """Raised where the process was when a signal arrived; a KeyboardInterrupt, since it asks for the same."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def stopping_in_order() -> Iterator[None]:
    """While the block runs, SIGTERM and SIGHUP raise `Stopped`. Signals that somebody else handles or ignores stay theirs."""
    numbers = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    owner = os.getpid()

    def stop(number, frame):
        if os.getpid() != owner:  # a forked worker, which has nothing to clean up
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        raise Stopped(number)

    taken = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
