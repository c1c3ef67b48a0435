"""Scorers for kipoi_veff2's own command, which imports what ``-s`` names: ``-s kipoi_borzoi.veff2.diff -m GROUP/...``.

Importing this module makes the entries of the local Kipoi sources known to kipoi_veff2, where that is
installed (see `kipoi_borzoi.kipoi_tools.veff2`). ``-s`` must stand before ``-m`` on that command's line; with
``kipoi-borzoi veff2`` any order will do.

A scorer takes predictions for the reference and the alternative alleles, (variants, tracks) of a ``sum`` or
``logsum`` entry, and returns an array of that shape. `SUM` and `logSED` give the same numbers for both views;
predictions that do not come from our entries count as sums.
"""

import numpy as np

from kipoi_borzoi.kipoi_tools import veff2 as _bridge


def diff(ref_pred, alt_pred):
    """alt - ref, of what the entry predicts."""
    return alt_pred - ref_pred


def ref(ref_pred, alt_pred):
    """What the entry predicts for the reference allele."""
    return ref_pred


def alt(ref_pred, alt_pred):
    """What the entry predicts for the alternative allele."""
    return alt_pred


def SUM(ref_pred, alt_pred):
    """alt - ref of the unsquashed coverage summed over the bins."""
    if _bridge.view_of(ref_pred) == "logsum":
        return np.exp2(alt_pred) - np.exp2(ref_pred)
    return alt_pred - ref_pred


def logSED(ref_pred, alt_pred):
    """log2(1 + alt) - log2(1 + ref) of the unsquashed coverage summed over the bins."""
    if _bridge.view_of(ref_pred) == "logsum":
        return alt_pred - ref_pred
    return np.log2(1 + alt_pred) - np.log2(1 + ref_pred)


SCORERS = {scorer.__name__: scorer for scorer in (diff, ref, alt, SUM, logSED)}

GROUPS = _bridge.register(default=diff)
"""Groups of our entries that kipoi_veff2 knows now; empty where it is not installed."""
