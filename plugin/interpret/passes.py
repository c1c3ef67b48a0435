"""The passes of an ensemble over strands and shifts: one sequence in several guises, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.sequence import reverse_complement, shift


@dataclass(frozen=True)
class Pass:
    """One guise of a sequence.

    Attributes
    ----------
    shift : int
        bp by which it is moved (right when positive); zeros enter.
    reverse : bool
        Whether it is reverse-complemented then.
    """

    shift: int = 0
    reverse: bool = False

    def there(self, x: np.ndarray) -> np.ndarray:
        """The sequence as the network is to see it, (length, 4)."""
        x = shift(x, self.shift)
        return reverse_complement(x) if self.reverse else x

    def back(self, gradient: np.ndarray) -> np.ndarray:
        """The gradient with respect to the original sequence from that with respect to what the network saw, (length, 4).

        Bases that the shift moved out of the window get 0: the prediction did not depend on them.
        """
        return shift(reverse_complement(gradient) if self.reverse else gradient, -self.shift)

    def bins(self, coverage: np.ndarray) -> np.ndarray:
        """Bins of (bins, tracks) in the order of the genome, or in the network's order again. A view."""
        return coverage[::-1] if self.reverse else coverage


def make_passes(rc: bool = False, shifts: Sequence[int] = (0,)) -> tuple[Pass, ...]:
    """All passes of an ensemble.

    Parameters
    ----------
    rc : bool
        Whether each shift is also run as the reverse complement.
    shifts : sequence of int
        bp, each once.

    Raises
    ------
    InputError
        No shift, or one twice.
    """
    if not len(shifts) or len(set(shifts)) < len(shifts):
        raise InputError(f"shifts is {list(shifts)}, expected one or more different numbers of bp")
    return tuple(Pass(int(by), reverse) for by in shifts for reverse in ((False, True) if rc else (False,)))
