"""One window predicted once, and sequences that differ from it at the price of what follows the stem.

This is how alleles are scored: the reference is run in full, and for each alternative only the part
of the stem that its bases reach is computed again (`kipoi_borzoi.inference.splice`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.inference.predictor import State
from kipoi_borzoi.inference.splice import Splicer, differences, nbytes, trimmed
from kipoi_borzoi.inference.together import Member, Stem, Together


class Reference:
    """One window predicted once, and any number of sequences of the same length that differ from it.

    Parameters
    ----------
    members : sequence of Member
        All on one network: the base, adapters. What they share is computed once.
    x : (seq_length, 4) float or bool
        One-hot.
    crop : int, optional
        Bins removed at each end, instead of the network's own crop.
    rc : bool
        Average with the prediction for the reverse complement.
    shifts : sequence of int
        bp by which the sequence is moved (right when positive); each is predicted by itself.
    precision : {'float32', 'mixed_bfloat16'}
    bins : sequence of int, optional
        Output bins to compute, such as those of exons, in the order wanted; None for all. With thousands of
        tracks the head is a tenth of what follows the stem.

    Raises
    ------
    InputError
        A wrong shape or option.

    Notes
    -----
    From the first prediction on, the object holds for every shift, strand and stem (one for the base and
    all adapters that leave the stem as it is, one more for each that does not) the stem's output and what
    later units add of its representations. With the published network that is 76 MB at 6,144 bins and
    160 MB at 16,352; 117 MB for squeeze-excite over the last four convolutions. Beside that it holds the
    sequence and the reference's coverage. `nbytes` says what it is. Further alternatives add nothing.
    """

    def __init__(
        self,
        members: Sequence[Member],
        x: np.ndarray,
        crop: int | None = None,
        rc: bool = False,
        shifts: Sequence[int] = (0,),
        precision: str = "float32",
        bins: Sequence[int] | None = None,
    ):
        self._together = Together(members)
        self._crop, self._precision = crop, precision
        self._options = self._together.prepared(crop, rc, shifts, precision, bins)
        self._x = self._checked(x).copy()
        self._states: list[list[tuple[Stem, State]]] | None = None
        self._coverage: list[np.ndarray] | None = None

    def coverage(self) -> list[np.ndarray]:
        """Coverage of the window itself, computed at the first call and kept.

        Returns
        -------
        list of (shifts, bins, tracks) float32
            One per member; strands averaged when ``rc``. Read-only, as the object keeps them.
        """
        if self._coverage is None:
            self._coverage = self._finished(self._reference_states())
            for coverage in self._coverage:
                coverage.flags.writeable = False
        return self._coverage

    def altered(self, x: np.ndarray) -> list[np.ndarray]:
        """Coverage of another sequence, as `coverage`.

        Whatever part of the stem is the same is taken from the reference, however the two differ: a base,
        several, half a window. Equal to predicting the sequence by itself, to float rounding.

        Parameters
        ----------
        x : (seq_length, 4) float or bool
        """
        x = self._checked(x)
        if np.array_equal(x, self._x):
            return [coverage.copy() for coverage in self.coverage()]
        held = self._reference_states()
        originals = self._options[0].passes(self._x)
        altered = self._options[0].passes(x)
        return self._finished(
            self._altered_states(moved, original, states)
            for (moved, _), (original, _), states in zip(altered, originals, held, strict=True)
        )

    @property
    def nbytes(self) -> int:
        """Bytes that the object holds: states, sequence and coverage."""
        states = sum(nbytes(state) for held in self._states or [] for _, state in held)
        return states + self._x.nbytes + sum(coverage.nbytes for coverage in self._coverage or [])

    def _checked(self, x) -> np.ndarray:
        """Check a sequence and give it the axis of windows."""
        x = np.asarray(x)
        if x.ndim != 2:
            raise InputError(f"the sequence has shape {x.shape}, expected (seq_length, 4): one window, one-hot")
        return self._together.members[0].predictor.checked(x[None])

    def _reference_states(self) -> list[list[tuple[Stem, State]]]:
        """For every pass the state after each stem, no larger than what follows needs."""
        if self._states is None:
            self._states = [
                [
                    (stem, trimmed(state, self._together.runs(stem, self._crop)))
                    for stem, state in self._together.stems(moved, self._crop, self._precision)
                ]
                for moved, _ in self._options[0].passes(self._x)
            ]
        return self._states

    def _altered_states(self, x: np.ndarray, original: np.ndarray, held) -> Iterator[tuple[Stem, State]]:
        """The states of ``x`` after each stem, from those that are held of ``original`` where that is cheaper."""
        changed = differences(x[0], original[0])
        plans = []
        for stem, _ in held:
            layout = stem.predictor.layout(self._crop)
            splicer = Splicer(stem.predictor, layout, stem.unit, self._precision)
            plans.append((splicer, splicer.plan(changed)))
        if any(tiles is None for _, tiles in plans):
            yield from self._together.stems(x, self._crop, self._precision)
            return
        for (stem, state), (splicer, tiles) in zip(held, plans, strict=True):
            yield stem, splicer.spliced(state, x, tiles)

    def _finished(self, passes: Iterable[Iterable[tuple[Stem, State]]]) -> list[np.ndarray]:
        """Coverage per member, (shifts, bins, tracks), from the states of every pass."""
        rows: list[list] = [[] for _ in self._options]
        strands = 2 if self._options[0].rc else 1
        for number, states in enumerate(passes):
            reverse = number % strands == 1
            for stem, state in states:
                for index, coverage in self._together.finished(stem, state, self._options, reverse):
                    if reverse:
                        rows[index][-1] = (rows[index][-1] + coverage[0]) / coverage.dtype.type(2)
                    else:
                        rows[index].append(coverage[0])
        return [row[0][None] if len(row) == 1 else np.stack(row) for row in rows]
