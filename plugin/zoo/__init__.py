"""The user's side of a Kipoi model zoo: make, fill, list and verify one; names load on first use (PEP 562)."""

import importlib

_FUNCTIONS = {
    "load_model": "kipoi_borzoi.zoo.load",
    "zoo_init": "kipoi_borzoi.zoo.init",
    "zoo_import": "kipoi_borzoi.zoo.make",
    "zoo_publish": "kipoi_borzoi.zoo.publish",
    "zoo_ls": "kipoi_borzoi.zoo.listing",
    "zoo_verify": "kipoi_borzoi.zoo.verify",
}

__all__ = sorted(_FUNCTIONS)


def __getattr__(name):
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(_FUNCTIONS[name]), name)
    raise AttributeError(f"module 'kipoi_borzoi.zoo' has no attribute {name!r}")


def __dir__():
    return __all__
