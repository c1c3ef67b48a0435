"""A window and its alterations, each predicted by itself: the same numbers as the reusing predictor, without its savings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kipoi_borzoi.inference.together import Member, Together


class Reference:
    """Predictions for one window of DNA and for sequences that differ from it.

    Parameters
    ----------
    members : sequence of Member
        All on one network.
    x : (seq_length, 4) float or bool
    crop, rc, shifts, precision
        As for `Predictor.batches`; with ``rc`` the strands are averaged, shifts stay apart.
    """

    def __init__(self, members: Sequence[Member], x, crop=None, rc=False, shifts=(0,), precision="float32"):
        self.together, self.x, self.shifts = Together(members), np.asarray(x), tuple(shifts)
        self.options = {"crop": crop, "rc": rc, "precision": precision}

    def coverage(self) -> list[np.ndarray]:
        """The window's own prediction: per member (shifts, bins, tracks) float32."""
        return self.altered(self.x)

    def altered(self, x: np.ndarray) -> list[np.ndarray]:
        """The prediction for another sequence of the same length: per member (shifts, bins, tracks) float32."""
        parts = [self.together.predict(np.asarray(x)[None], shifts=(by,), **self.options) for by in self.shifts]
        return [np.concatenate(member) for member in zip(*parts, strict=True)]
