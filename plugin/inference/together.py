"""Several adapters of one base in one call: what they share is computed once.

An adapter leaves the base as it is up to its first unit. The base is therefore run once, stopping
at each place where an adapter branches off; only from there on is each computed for itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.inference.predictor import Predictor, State
from kipoi_borzoi.network.sites import Sites


@dataclass(frozen=True)
class Member:
    """One of the predictions that are made together.

    Attributes
    ----------
    predictor : Predictor
    head : str or None
        Of the base; an adapter has its own.
    tracks : sequence of int or None
        Columns, None for all.
    strand_pair : sequence of int or None
        For each track of the head the one on the other strand; needed by ``rc``.
    """

    predictor: Predictor
    head: str | None = None
    tracks: Sequence[int] | None = None
    strand_pair: Sequence[int] | None = None


class Together:
    """Predicts with several adapters (and the base itself) of one network in one call.

    Parameters
    ----------
    members : sequence of Member
        All on the same network.

    Raises
    ------
    InputError
        No member, or members on different networks.
    """

    def __init__(self, members: Sequence[Member]):
        if not members:
            raise InputError("there is nothing to predict with: give one adapter or more")
        networks = {id(member.predictor.network) for member in members}
        if len(networks) > 1:
            raise InputError(f"the {len(members)} adapters stand on {len(networks)} different bases; call each by itself")
        self.members = tuple(members)
        first = members[0].predictor
        self._bases = {
            gelu: Predictor(first.network, Sites(gelu), first.tile_bp)
            for gelu in {member.predictor.sites.gelu for member in members}
        }

    def batches(
        self,
        x: np.ndarray,
        crop: int | None = None,
        rc: bool = False,
        shifts: Sequence[int] = (0,),
        precision: str = "float32",
    ) -> Iterator[tuple[int, list[np.ndarray]]]:
        """Predict windows, a few at a time; for the arguments see `Predictor.batches`.

        Yields
        ------
        start : int
            Index of the first window of this batch.
        coverage : list of (n, bins, tracks) float32
            One per member: what its predictor gives by itself, to float rounding.
        """
        x = self.members[0].predictor.checked(x)
        options = [
            member.predictor.prepared(member.head, member.tracks, crop, member.strand_pair, rc, shifts, precision)
            for member in self.members
        ]
        step = self.members[0].predictor.micro_batch
        for start in range(0, len(x), step):
            totals: list = [None] * len(self.members)
            for moved, reverse in options[0].passes(x[start : start + step]):
                for index, state in self._branches(moved, crop, precision):
                    coverage = self.members[index].predictor.finish(state, options[index], reverse)
                    coverage = options[index].restored(coverage, reverse)
                    totals[index] = coverage if totals[index] is None else totals[index] + coverage
            yield start, [chosen.mean(total) for chosen, total in zip(options, totals, strict=True)]

    def predict(self, x: np.ndarray, **options) -> list[np.ndarray]:
        """Predict windows: one (windows, bins, tracks) array per member; see `batches`."""
        parts = [coverage for _, coverage in self.batches(x, **options)]
        if not parts:
            raise InputError("there is no window to predict: the batch is empty")
        return [np.concatenate(member) for member in zip(*parts, strict=True)]

    def _branches(self, x: np.ndarray, crop: int | None, precision: str) -> Iterator[tuple[int, State]]:
        """Yield (index of a member, the state where it leaves the base), the earliest branch first."""
        for gelu, base in self._bases.items():
            layout, state = base.layout(crop), base.begin(x)
            indices = [i for i, member in enumerate(self.members) if member.predictor.sites.gelu == gelu]
            for index in sorted(indices, key=lambda index: self.members[index].predictor.first_unit):
                state = base.advance(state, self.members[index].predictor.first_unit, layout, precision)
                yield index, state
