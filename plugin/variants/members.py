"""The networks behind a table of scores, grouped so that those on one base are predicted in one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.inference.reuse import Reference
from kipoi_borzoi.inference.together import Member
from kipoi_borzoi.tracks import Tracks, unsquash
from kipoi_borzoi.variants.columns import Ensemble, Table

_BLOCK_TRACKS = 256  # scored at a time: bounds the memory of what scorers make of coverage


@dataclass(frozen=True, eq=False)
class Network:
    """One network of an ensemble.

    Attributes
    ----------
    ensemble : int
        Number of the ensemble in the table.
    number : int
        Of the network within its ensemble.
    transform : {'new', 'old'}
    member : Member
    """

    ensemble: int
    number: int
    transform: str
    member: Member


@dataclass(frozen=True, eq=False)
class Group:
    """Networks that are predicted in one call: they stand on one base and have the same window.

    Attributes
    ----------
    networks : tuple of Network
    length : int
        bp of the window.
    crop, bins, bin_size : int
        Bins removed at each end and left, bp of a bin.
    """

    networks: tuple[Network, ...]
    length: int
    crop: int
    bins: int
    bin_size: int

    def reference(self, x: np.ndarray, rc: bool, shifts: Sequence[int], precision: str) -> Reference:
        """The predictor of a window (length, 4) and of its alterations."""
        members = [network.member for network in self.networks]
        return Reference(members, x, crop=self.crop, rc=rc, shifts=shifts, precision=precision)


def make_groups(table: Table) -> tuple[Group, ...]:
    """Group the networks of all models of a table."""
    parts: dict[tuple, list[Network]] = {}
    configs = {}
    for number, ensemble in enumerate(table.ensembles):
        count = 0
        for model in ensemble.models:
            for predictor in model.predictors:
                member = Member(
                    predictor, getattr(model.head, "name", None), _columns(ensemble.tracks, model.tracks), model.tracks.strand_pair
                )
                key = (id(predictor.network), model.config.crop)
                parts.setdefault(key, []).append(Network(number, count, model.transform, member))
                configs[key] = model.config
                count += 1
    return tuple(_group(tuple(networks), configs[key]) for key, networks in parts.items())


def _group(networks: tuple[Network, ...], config) -> Group:
    layout = config.layout
    return Group(networks, config.seq_length, config.crop, layout.bins, layout.bin_size)


def _columns(chosen: Tracks, head: Tracks) -> np.ndarray | None:
    return None if np.array_equal(chosen.index, head.index) else chosen.index


def blocks(ensemble: Ensemble) -> list[tuple[slice, Tracks]]:
    """The tracks of an ensemble, a few at a time: columns of its predictions, and their table."""
    index = ensemble.tracks.index.tolist()
    starts = range(0, len(index), _BLOCK_TRACKS)
    slices = [slice(start, start + _BLOCK_TRACKS) for start in starts]
    return [(part, ensemble.tracks.select(index[part])) for part in slices]


def linear(coverage: np.ndarray, tracks: Tracks, transform: str) -> np.ndarray:
    """Unsquashed coverage in float64, in which small differences of large sums keep their digits."""
    return unsquash(coverage, tracks, transform, dtype=np.float64)


def check_windows(groups: Sequence[Group]) -> int:
    """The shortest window of all groups, in bp.

    Raises
    ------
    InputError
        A network whose output is empty.
    """
    for group in groups:
        if group.bins < 1:
            raise InputError(f"a network has {group.bins} bins after cropping {group.crop} at each end")
    return min(group.length for group in groups)
