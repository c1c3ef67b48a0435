"""What the workers of tests of clusters do; a module of its own, so that they import no more than this."""

import os
import signal
import time
from pathlib import Path

from kipoi_borzoi.errors import InputError


def prepare_numbers(factor, marks):
    """What the workers prepare; each time leaves a mark."""
    Path(marks, f"prepared-{os.getpid()}-{time.time_ns()}").touch()

    def compute(item):
        if item == "bad input":
            raise InputError("that is no number")
        if item == "poison":
            os.kill(os.getpid(), signal.SIGKILL)
        if item == "flaky":
            tried = Path(marks, "flaky")
            if not tried.exists():
                tried.touch()
                raise OSError("disk hiccup")
            return "well"
        if item == "picky":
            tried = Path(marks, f"picky-{os.getpid()}")
            if not any(tried.parent.glob("picky-*")):
                tried.touch()
                raise OSError("not here")
            return not tried.exists()
        if item == "broken":
            raise ValueError("never works")
        time.sleep(0.02)
        return item * factor, os.getpid()

    return compute


class Unpacked:
    """Leaves a mark each time it arrives somewhere."""

    def __init__(self, marks):
        self.marks = marks

    def __setstate__(self, state):
        self.__dict__.update(state)
        Path(self.marks, f"unpacked-{os.getpid()}-{time.time_ns()}").touch()


def prepare_unpacked(factor, marks, load):
    return prepare_numbers(factor, marks)
