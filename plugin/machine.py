"""What a process uses of the machine it runs on."""

from __future__ import annotations

import os
import re
import sys


def peak_memory() -> int | None:
    """The most bytes that this process has had resident so far; None where the system does not tell."""
    try:  # Linux: unlike getrusage, without what the process that started this one had before
        with open("/proc/self/status", encoding="utf-8") as file:
            if found := re.search(r"^VmHWM:\s*(\d+) kB$", file.read(), re.MULTILINE):
                return int(found[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def cores() -> int:
    """The processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
