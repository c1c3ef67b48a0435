"""The means by which the fixes replace attributes of Kipoi's modules, once, and of no other."""

import builtins
import functools
import importlib.util
import sys

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


class NumpyWith:
    """numpy, plus the names that a module written for another numpy asks for.

    Parameters
    ----------
    **names
        What they stand for.
    """

    def __init__(self, **names):
        vars(self).update(names)

    def __getattr__(self, name):
        return getattr(np, name)


def import_with_numpy(name: str, numpy: NumpyWith):
    """Import a module that finds ``numpy`` where it says ``import numpy``; no other module sees it.

    Parameters
    ----------
    name : str
        Dotted name of a module that is not imported yet.
    """

    def import_for_it(asked, *args, **kwargs):
        return numpy if asked == "numpy" else builtins.__import__(asked, *args, **kwargs)

    spec = importlib.util.find_spec(name)
    module = importlib.util.module_from_spec(spec)
    vars(module)["__builtins__"] = {**vars(builtins), "__import__": import_for_it}
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    parent, _, child = name.rpartition(".")
    setattr(sys.modules[parent], child, module)
    return module
