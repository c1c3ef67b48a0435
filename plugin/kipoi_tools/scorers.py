"""Scores of two predictions, as kipoi_veff2 calls them: (variants, tracks) of both alleles, of a ``sum`` or ``logsum`` entry.

`SUM` and `logSED` give the same numbers for both views; predictions that do not come from our entries count as sums.
"""

import numpy as np


class Predictions(np.ndarray):
    """An array that knows which view of a model it is.

    Attributes
    ----------
    view : str or None
    """

    view = None

    def __array_finalize__(self, other):
        self.view = getattr(other, "view", None)


def view_of(predictions) -> str | None:
    """View that the predictions are of; None when they do not come from our entries."""
    return getattr(predictions, "view", None)


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
    if view_of(ref_pred) == "logsum":
        return np.exp2(alt_pred) - np.exp2(ref_pred)
    return alt_pred - ref_pred


def logSED(ref_pred, alt_pred):
    """log2(1 + alt) - log2(1 + ref) of the unsquashed coverage summed over the bins."""
    if view_of(ref_pred) == "logsum":
        return alt_pred - ref_pred
    return np.log2(1 + alt_pred) - np.log2(1 + ref_pred)


SCORERS = {scorer.__name__: scorer for scorer in (diff, ref, alt, SUM, logSED)}
"""All scorers by name."""
