"""The means by which the fixes replace attributes of Kipoi's modules, once, and of no other."""

import functools
import importlib
import sys
import types

import numpy as np

_MARK = "__kipoi_borzoi_fix__"


def wrap(owner, name, wrapper):
    """Replace ``owner.name`` by ``wrapper(original, ...)``, once; a static method stays one."""
    original = getattr(owner, name)
    applied = getattr(original, _MARK, frozenset())
    if wrapper.__name__ in applied:
        return

    @functools.wraps(original)
    def replacement(*args, **kwargs):
        return wrapper(original, *args, **kwargs)

    setattr(replacement, _MARK, applied | {wrapper.__name__})
    static = isinstance(owner, type) and isinstance(vars(owner).get(name), staticmethod)
    setattr(owner, name, staticmethod(replacement) if static else replacement)


def is_wrapped(function) -> bool:
    """Whether `wrap` has replaced this function."""
    return bool(getattr(function, _MARK, None))


class NumpyWith(types.ModuleType):
    """numpy, plus the names that a module written for another numpy asks for.

    Parameters
    ----------
    **names
        What they stand for.
    """

    def __init__(self, **names):
        super().__init__("numpy")
        vars(self).update(names)

    def __getattr__(self, name):
        return getattr(np, name)


def import_with_numpy(name: str, numpy: NumpyWith, after: tuple[str, ...]):
    """Import a module that finds ``numpy`` where it says ``import numpy``.

    Parameters
    ----------
    name : str
        Dotted name of a module that is not imported yet.
    after : tuple of str
        What that module imports from elsewhere: imported first, so that it finds the real numpy.
    """
    for needed in after:
        importlib.import_module(needed)
    real = sys.modules["numpy"]
    sys.modules["numpy"] = numpy
    try:
        return importlib.import_module(name)
    finally:
        sys.modules["numpy"] = real
