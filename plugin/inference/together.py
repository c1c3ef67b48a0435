"""Several adapters of one base in one call: what they share is computed once.

An adapter leaves the base as it is up to its first unit. The base is therefore run once, stopping
at each place where an adapter branches off; only from there on is each computed for itself. First come
the stems, one for all adapters that leave them as they are; then what follows each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.inference.predictor import Options, Predictor, State
from kipoi_borzoi.network.layout import Layout


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


@dataclass(frozen=True)
class Stem:
    """The local units at the beginning, as one or more members run them.

    Attributes
    ----------
    predictor : Predictor
        Runs them: the base where they are its own.
    unit : int
        They end before this unit.
    leaves : int
        The first unit that is not the base's, at most ``unit``.
    members : tuple of int
        Indices of the members whose stem this is, by the unit at which they leave the base.
    """

    predictor: Predictor
    unit: int
    leaves: int
    members: tuple[int, ...]


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
        self._bases: dict[str, Predictor] = {}
        # A member that is the base itself comes first: its programs serve both.
        for predictor in sorted((member.predictor for member in members), key=lambda one: one.base is not one):
            self._bases.setdefault(predictor.sites.gelu, predictor.base)
        self._stems = {gelu: self._stems_on(gelu) for gelu in self._bases}

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
        options = self.prepared(crop, rc, shifts, precision)
        step = self.members[0].predictor.micro_batch
        for start in range(0, len(x), step):
            totals: list = [None] * len(self.members)
            for moved, reverse in options[0].passes(x[start : start + step]):
                for stem, state in self.stems(moved, crop, precision):
                    for index, coverage in self.finished(stem, state, options, reverse):
                        totals[index] = coverage if totals[index] is None else totals[index] + coverage
            yield start, [chosen.mean(total) for chosen, total in zip(options, totals, strict=True)]

    def predict(self, x: np.ndarray, **options) -> list[np.ndarray]:
        """Predict windows: one (windows, bins, tracks) array per member; see `batches`."""
        parts = [coverage for _, coverage in self.batches(x, **options)]
        if not parts:
            raise InputError("there is no window to predict: the batch is empty")
        return [np.concatenate(member) for member in zip(*parts, strict=True)]

    def prepared(
        self, crop: int | None, rc: bool, shifts: Sequence[int], precision: str, bins: Sequence[int] | None = None
    ) -> list[Options]:
        """Check the options of `batches`, and the bins to compute, for every member."""
        return [
            member.predictor.prepared(member.head, member.tracks, crop, member.strand_pair, rc, shifts, precision, bins)
            for member in self.members
        ]

    def runs(self, stem: Stem, crop: int | None) -> list[tuple[Layout, int]]:
        """For each member whose stem this is, its layout and the unit at which it leaves the base."""
        predictors = [self.members[index].predictor for index in stem.members]
        return [(predictor.layout(crop), predictor.first_unit) for predictor in predictors]

    def stems(self, x: np.ndarray, crop: int | None, precision: str) -> Iterator[tuple[Stem, State]]:
        """Run the stems of all members on windows ``x``; yield each with the state after it."""
        for gelu, base in self._bases.items():
            layout, state = base.layout(crop), base.begin(x)
            for stem in self._stems[gelu]:
                state = base.advance(state, stem.leaves, layout, precision)
                own = stem.predictor
                yield stem, own.advance(state, stem.unit, own.layout(crop), precision)

    def finished(
        self, stem: Stem, state: State, options: Sequence[Options], reverse: bool
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Run what follows a stem for its members; yield (index of a member, its coverage), bins in order.

        Parameters
        ----------
        state : State
            After the stem.
        options : sequence of Options
            One per member, as `prepared` gives them.
        reverse : bool
            Whether the windows are reverse complements.
        """
        for index in stem.members:
            member, chosen = self.members[index].predictor, options[index]
            if member.first_unit > state.unit:
                layout = stem.predictor.layout(chosen.layout.crop)
                state = stem.predictor.advance(state, member.first_unit, layout, chosen.precision)
            yield index, chosen.restored(member.finish(state, chosen, reverse), reverse)

    def _stems_on(self, gelu: str) -> list[Stem]:
        """The stems of the members with that GELU, the earliest to leave the base first."""
        base, shared, stems = self._bases[gelu], {}, []
        chosen = [index for index, member in enumerate(self.members) if member.predictor.sites.gelu == gelu]
        for index in sorted(chosen, key=lambda index: self.members[index].predictor.first_unit):
            predictor = self.members[index].predictor
            unit = predictor.layout().stem
            if predictor.first_unit < unit:
                stems.append(Stem(predictor, unit, predictor.first_unit, (index,)))
            else:
                shared.setdefault(unit, []).append(index)
        stems += [Stem(base, unit, unit, tuple(indices)) for unit, indices in shared.items()]
        return sorted(stems, key=lambda stem: stem.leaves)
