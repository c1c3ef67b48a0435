"""Runs the networks of an ensemble for gradients and for altered sequences, pass by pass, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.inference.gradients import Part, summed_gradient
from kipoi_borzoi.inference.predictor import PRECISIONS
from kipoi_borzoi.inference.reuse import Reference
from kipoi_borzoi.inference.together import Member
from kipoi_borzoi.interpret.edits import Edit
from kipoi_borzoi.interpret.passes import Pass
from kipoi_borzoi.interpret.quantity import Quantity
from kipoi_borzoi.variants.columns import Table
from kipoi_borzoi.variants.members import Group, Network, check_windows, make_groups


class Explainer:
    """The networks behind a table of tracks.

    Parameters
    ----------
    table : Table
        Its ensembles are the sources of quantities.
    passes : sequence of Pass
    precision : {'float32', 'mixed_bfloat16'}
        Of predictions of altered sequences; gradients are always float32.

    Attributes
    ----------
    groups : tuple of Group
    replicates : int
        Networks per ensemble. The first of each are explained together, then the second of each, and so on.
    members : int
        Size of the ensemble: replicates times passes.
    length, crop, bins, bin_size : int
        The networks' window in bp, bins removed at each end and left, bp of a bin.

    Raises
    ------
    InputError
        Ensembles of different size, or networks with different windows.
    """

    def __init__(self, table: Table, passes: Sequence[Pass], precision: str = "float32"):
        if precision not in PRECISIONS:
            raise InputError(f"precision {precision!r} is not known; known: {', '.join(PRECISIONS)}")
        self.table, self.passes, self.precision = table, tuple(passes), precision
        self.groups = make_groups(table)
        check_windows(self.groups)
        sizes = {ensemble.name: ensemble.members for ensemble in table.ensembles}
        if len(set(sizes.values())) > 1:
            said = ", ".join(f"{name} {size}" for name, size in sizes.items())
            raise InputError(
                f"the models that are compared have different numbers of networks: {said}; give as many of each"
            )
        self.replicates = next(iter(sizes.values()))
        self.members = self.replicates * len(self.passes)
        shapes = {(group.length, group.crop, group.bins, group.bin_size) for group in self.groups}
        if len(shapes) > 1:
            said = "; ".join(
                f"{length} bp, crop {crop}, {bins} bins of {size} bp" for length, crop, bins, size in shapes
            )
            raise InputError(f"the models that are compared have different windows: {said}")
        self.length, self.crop, self.bins, self.bin_size = shapes.pop()

    def gradients(
        self, x: np.ndarray, quantity: Quantity, noise: Sequence[np.ndarray] = ()
    ) -> Iterator[tuple[float, np.ndarray]]:
        """Gradient of a quantity with respect to a sequence, for each member of the ensemble.

        Parameters
        ----------
        x : (length, 4) one-hot
        quantity : Quantity
        noise : sequence of (length, 4)
            Added to the sequence one after the other; value and gradient are means over them. None by default.

        Yields
        ------
        value : float
        gradient : (length, 4) float64
            In the order of the passes, and within a pass of the replicates.
        """
        guises = [x + part for part in noise] if len(noise) else [x]
        for one in self.passes:
            for number in range(self.replicates):
                value, total = 0.0, np.zeros(x.shape)
                for guise in guises:
                    for group in self.groups:
                        part, gradient = self._gradient(group, number, one, guise, quantity)
                        value, total = value + part, total + gradient
                yield value / len(guises), one.back(total / len(guises))

    def effects(
        self,
        x: np.ndarray,
        quantities: Sequence[Quantity],
        edits: Sequence[Edit],
        tick: Callable[[], None] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """What edits of a sequence do to quantities.

        The sequence is predicted once per member; of each edited one only what its edit reaches is computed again.

        Parameters
        ----------
        x : (length, 4) one-hot
        quantities : sequence of Quantity
        edits : sequence of Edit
        tick : callable, optional
            Called after each prediction of an edited sequence: ``len(edits)`` times per pass.

        Returns
        -------
        values : (quantities, members) float64
            Of the sequence as it is.
        effects : (edits, quantities, members) float64
            Values of the edited sequences less those of the sequence as it is.
        """
        values = np.zeros((len(quantities), len(self.passes), self.replicates))
        effects = np.zeros((len(edits), *values.shape))
        for place, one in enumerate(self.passes):
            references = [(group, self._reference(group, one, x)) for group in self.groups]
            for group, reference in references:
                _add_values(values[:, place], group, one, reference.coverage(), quantities)
            for row, edit in enumerate(edits):
                altered = one.there(edit.applied(x))
                for group, reference in references:
                    _add_values(effects[row, :, place], group, one, reference.altered(altered), quantities)
                if tick is not None:
                    tick()
        effects -= values
        shape = (len(quantities), self.members)
        return values.reshape(shape), effects.reshape(len(edits), *shape)

    def _gradient(self, group: Group, number: int, one: Pass, x: np.ndarray, quantity: Quantity) -> tuple[float, np.ndarray]:
        """Value and gradient of what a group's networks contribute, the latter with respect to what they saw."""
        values, parts = [], []
        for network in group.networks:
            if network.number == number and network.ensemble in quantity.sources:
                member = _member(network.member, one)
                pull = _coverage_gradient(network, one, quantity, values)
                parts.append(Part(member.predictor, pull, member.head, member.tracks))
        if not parts:
            return 0.0, np.zeros(x.shape)
        gradient = summed_gradient(parts, one.there(x)[None], group.crop)[0]  # fills the values
        return sum(values), gradient

    def _reference(self, group: Group, one: Pass, x: np.ndarray) -> Reference:
        members = [_member(network.member, one) for network in group.networks]
        return Reference(members, one.there(x), crop=group.crop, precision=self.precision)


def _coverage_gradient(network: Network, one: Pass, quantity: Quantity, values: list[float]):
    """The function that a gradient starts from; it notes the quantity's value."""

    def pull(coverage: np.ndarray) -> np.ndarray:
        value, slope = quantity.part_and_gradient(network.ensemble, one.bins(coverage[0]), network.transform)
        values.append(value)
        return one.bins(slope)[None]

    return pull


def _member(member: Member, one: Pass) -> Member:
    """A member that predicts, of a reversed sequence, the partners of its tracks on the other strand."""
    if not one.reverse:
        return member
    pair = np.asarray(member.strand_pair)
    return replace(member, tracks=pair if member.tracks is None else pair[member.tracks])


def _add_values(values: np.ndarray, group: Group, one: Pass, coverages: Sequence[np.ndarray], quantities) -> None:
    """Add what each network of a group contributes: ``values`` is (quantities, replicates)."""
    for network, coverage in zip(group.networks, coverages, strict=True):
        for row, quantity in enumerate(quantities):
            if network.ensemble in quantity.sources:
                values[row, network.number] += quantity.part(network.ensemble, one.bins(coverage[0]), network.transform)
