"""Scores that kipoi_veff loads by this file's path; it makes an instance and calls it with predictions of both alleles."""

import numpy as np


class LogSED:
    """log2(1 + alt) - log2(1 + ref) of unsquashed coverage summed over the bins: for ``sum`` entries.

    Parameters
    ----------
    rc_merging : {'mean', 'min', 'max', 'median', 'absmax'}
        How the scores of the two strands become one.
    """

    def __init__(self, rc_merging="mean"):
        if rc_merging not in ("mean", "min", "max", "median", "absmax"):
            raise ValueError(f"rc_merging is {rc_merging!r}, expected mean, min, max, median or absmax")
        self.rc_merging = rc_merging

    def __call__(self, ref, alt, ref_rc=None, alt_rc=None):
        """Score (variants, tracks) predictions; the pairs of the reversed strand are optional."""
        score = np.log2(1 + alt) - np.log2(1 + ref)
        if ref_rc is None or alt_rc is None:
            return score
        reverse = np.log2(1 + alt_rc) - np.log2(1 + ref_rc)
        if self.rc_merging == "absmax":
            return np.where(np.abs(score) < np.abs(reverse), reverse, score)
        return getattr(np, self.rc_merging)([score, reverse], axis=0)
