"""kipoi-borzoi: Borzoi and its fine-tuned variants as Kipoi models.

Importing this package is light: no TensorFlow, no Kipoi, no file is touched. Submodules and the
public functions below are imported when they are first asked for (PEP 562), which also lets
Kipoi's ``defined_as`` loader walk from the top-level name down to a class.
"""

import importlib

from kipoi_borzoi._version import __version__ as __version__

_SUBMODULES = frozenset(
    [
        "adapters", "attributing", "cluster", "dataloaders", "demo", "drivers", "errors", "estimating", "evaluation", "genome", "inference",
        "interpret", "kipoi_compat", "kipoi_tools", "model", "model_group", "motif_discovery", "motif_editing", "network", "provenance",
        "scoring", "sequence", "simulation", "tracks", "training", "variants", "veff2", "zoo",
    ]  # fmt: skip
)
_FUNCTIONS = {
    "attribute": "kipoi_borzoi.attributing",
    "edit_motif": "kipoi_borzoi.motif_editing",
    "find_drivers": "kipoi_borzoi.drivers",
    "find_motifs": "kipoi_borzoi.motif_discovery",
    "load_model": "kipoi_borzoi.zoo",
    "score_variants": "kipoi_borzoi.scoring",
    "zoo_init": "kipoi_borzoi.zoo",
    "zoo_import": "kipoi_borzoi.zoo",
    "zoo_publish": "kipoi_borzoi.zoo",
    "zoo_ls": "kipoi_borzoi.zoo",
    "zoo_verify": "kipoi_borzoi.zoo",
}

__all__ = sorted(["__version__", *_SUBMODULES, *_FUNCTIONS])


def __getattr__(name):
    if name in _SUBMODULES:
        return importlib.import_module(f"kipoi_borzoi.{name}")
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(_FUNCTIONS[name]), name)
    raise AttributeError(f"module 'kipoi_borzoi' has no attribute {name!r}")


def __dir__():
    return __all__
