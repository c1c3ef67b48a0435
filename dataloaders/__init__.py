"""Readers of genome files and the Kipoi loaders made of them; nothing here imports TensorFlow, and names load on first use (PEP 562)."""

import importlib

_EXPORTS = {
    "FastaReader": "kipoi_borzoi.dataloaders.fasta",
    "SeqCoverageDl": "kipoi_borzoi.dataloaders.kipoi_coverage",
    "SeqIntervalDl": "kipoi_borzoi.dataloaders.kipoi_loaders",
    "read_bed": "kipoi_borzoi.dataloaders.bed",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name):
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'kipoi_borzoi.dataloaders' has no attribute {name!r}")


def __dir__():
    return __all__
