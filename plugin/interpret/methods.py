"""The ways of explaining one window: gradients, smoothed gradients, mutagenesis, shuffled stretches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.interpret.attribution import Attribution, Members, centred
from kipoi_borzoi.interpret.edits import Edit, base_edits, blocks, shuffled
from kipoi_borzoi.interpret.explainer import Explainer
from kipoi_borzoi.interpret.quantity import Quantity

METHODS = {
    "input_x_gradient": "gradient less its mean over the four bases, of the observed base",
    "gradient": "gradient as it is, of the observed base",
    "smoothgrad": "mean of input_x_gradient over noisy copies of the sequence",
    "ism": "every base mutated: minus the mean effect; or stretches replaced by N",
    "shuffle": "stretches shuffled: minus the mean effect, spread evenly over the stretch",
}
GRADIENTS = ("input_x_gradient", "gradient", "smoothgrad")


@dataclass(frozen=True)
class Method:
    """How to explain.

    Attributes
    ----------
    name : str
        One of `METHODS`.
    block, stride : int
        bp of a stretch that is altered at once, and from the start of one to that of the next; for ``ism`` (1: base
        by base) and ``shuffle``.
    shuffles : int
        Shufflings of each stretch, whose effects are averaged.
    samples : int
        Noisy copies for ``smoothgrad``.
    noise : float
        Standard deviation of the normal noise added to every number of the one-hot sequence.
    seed : int
        Of noise and shuffles.

    Raises
    ------
    InputError
        An unknown method, or a number out of range.
    """

    name: str = "input_x_gradient"
    block: int = 1
    stride: int = 1
    shuffles: int = 3
    samples: int = 10
    noise: float = 0.1
    seed: int = 0

    def __post_init__(self):
        if self.name not in METHODS:
            raise InputError(f"method is {self.name!r}; known: {', '.join(METHODS)}")
        next(blocks(0, self.block, self.block, self.stride))
        for name in ("shuffles", "samples"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}, expected 1 or more")
        if not (np.isfinite(self.noise) and self.noise > 0):
            raise InputError(f"noise is {self.noise}, expected a number above 0")
        if self.name == "shuffle" and self.block < 2:
            raise InputError(f"shuffle of stretches of {self.block} bp: expected 2 or more")

    @property
    def is_gradient(self) -> bool:
        """Whether one backward pass explains the whole window."""
        return self.name in GRADIENTS

    @property
    def is_hypothetical(self) -> bool:
        """Whether contributions of bases that are not in the sequence are known too."""
        return self.is_gradient or (self.name == "ism" and self.block == 1)


def explain(
    explainer: Explainer,
    x: np.ndarray,
    quantity: Quantity,
    span: tuple[int, int],
    method: Method = Method(),  # noqa: B008  frozen
    salt: int = 0,
    tick: Callable[[], None] | None = None,
) -> Attribution:
    """Explain a quantity of one window.

    Parameters
    ----------
    explainer : Explainer
    x : (length, 4) one-hot float32
    quantity : Quantity
    span : (int, int)
        The stretch of the window to explain, 0-based, half-open. The prediction is always that of the whole window.
    method : Method
    salt : int
        Added to the seed, so that windows get noise of their own wherever a run begins.
    tick : callable, optional
        Called after each altered prediction; see `predictions`.

    Returns
    -------
    Attribution
        Of the span. For stretches, the sum over a stretch's bases is minus its mean effect, means are taken
        where stretches overlap, and ``hypothetical`` holds 0 for the bases that are not in the sequence.

    Raises
    ------
    InputError
        No base (A, C, G or T) in the span.
    """
    start, end = span
    if not x[start:end].any():
        raise InputError("no A, C, G or T in the stretch to explain")
    if method.is_gradient:
        return _by_gradient(explainer, x, quantity, span, method, salt)
    if method.name == "ism" and method.block == 1:
        return _by_base(explainer, x, quantity, span, tick)
    return _by_block(explainer, x, quantity, span, method, salt, tick)


def predictions(explainer: Explainer, x: np.ndarray, span: tuple[int, int], method: Method) -> int:
    """How many altered predictions `explain` makes per pass; 0 for gradients."""
    if method.is_gradient:
        return 0
    if method.name == "ism" and method.block == 1:
        return 3 * int(x[span[0] : span[1]].any(axis=1).sum())
    return len(_block_edits(x, span, method, 0)[1])


def _by_gradient(explainer, x, quantity, span, method, salt) -> Attribution:
    members, noise = Members(x[span[0] : span[1]]), []
    values = None
    if method.name == "smoothgrad":
        random = np.random.default_rng([method.seed, salt])
        noise = [random.normal(0, method.noise, x.shape).astype(np.float32) for _ in range(method.samples)]
        values = explainer.effects(x, [quantity], [])[0][0]
    for number, (value, gradient) in enumerate(explainer.gradients(x, quantity, noise)):
        gradient = gradient[span[0] : span[1]]
        members.add(
            value if values is None else values[number], gradient if method.name == "gradient" else centred(gradient)
        )
    return members.finished()


def _by_base(explainer, x, quantity, span, tick) -> Attribution:
    edits = base_edits(x, *span)
    values, effects = explainer.effects(x, [quantity], [edit for _, _, edit in edits], tick)
    members = Members(x[span[0] : span[1]])
    rows = np.array([position - span[0] for position, _, _ in edits])
    columns = np.array([base for _, base, _ in edits])
    for member in range(explainer.members):
        scores = np.zeros((span[1] - span[0], 4))
        scores[rows, columns] = effects[:, 0, member]
        members.add(values[0, member], centred(scores))
    return members.finished()


def _by_block(explainer, x, quantity, span, method, salt, tick) -> Attribution:
    stretches, edits = _block_edits(x, span, method, salt)
    values, effects = explainer.effects(x, [quantity], edits, tick)
    members = Members(x[span[0] : span[1]])
    for member in range(explainer.members):
        total, count = np.zeros(span[1] - span[0]), np.zeros(span[1] - span[0])
        for stretch, effect in zip(stretches, effects[:, 0, member].reshape(len(stretches), -1), strict=True):
            part = slice(stretch[0] - span[0], stretch[1] - span[0])
            bases = x[stretch[0] : stretch[1]].any(axis=1)
            total[part] -= bases * effect.mean() / max(1, bases.sum())
            count[part] += 1
        members.add(values[0, member], (total / count)[:, None] * x[span[0] : span[1]])
    return members.finished()


def _block_edits(x, span, method, salt) -> tuple[list[tuple[int, int]], list[Edit]]:
    """The stretches, and for each as many edits."""
    stretches = list(blocks(*span, method.block, method.stride))
    if method.name == "ism":
        return stretches, [Edit(start, np.zeros((end - start, 4), x.dtype)) for start, end in stretches]
    random = np.random.default_rng([method.seed, salt])
    return stretches, [
        Edit(start, shuffled(x[start:end], random)) for start, end in stretches for _ in range(method.shuffles)
    ]
