"""Cell types, conditions and which factor is active where: all the states differ only in the activities of the factors."""

from __future__ import annotations

from dataclasses import dataclass

from kipoi_borzoi.simulation.draw import Draw

LEVEL = 4.0
"""log2 units that one full site at the start adds where its factor is active, before saturation."""
_ACTIVE = 0.15  # chance that a factor which is neither housekeeping nor silent is active in a cell type's control
_TRIALS = 200  # after so many, cell types may be alike: there are more of them than ways to differ
CONTROL = "control"
PRETRAIN, TRANSFER = "pretrain", "transfer"


@dataclass(frozen=True)
class Factor:
    """A factor's role.

    Attributes
    ----------
    name : str
        That of its motif.
    role : {'housekeeping', 'activator', 'repressor', 'silent'}
        Housekeeping: active everywhere; silent: active nowhere, so that its sites are decoys.
    """

    name: str
    role: str

    @property
    def active(self) -> float:
        """Activity where it is switched on."""
        return -LEVEL if self.role == "repressor" else LEVEL


@dataclass(frozen=True)
class State:
    """One cell type under one condition.

    Attributes
    ----------
    cell, condition, group : str
        ``group`` is `PRETRAIN` or `TRANSFER`.
    activity : tuple of float
        Of each factor.
    """

    cell: str
    condition: str
    group: str
    activity: tuple[float, ...]

    @property
    def name(self) -> str:
        """``cell.condition``."""
        return f"{self.cell}.{self.condition}"


@dataclass(frozen=True)
class Contrast:
    """Treated against control, in one cell type.

    Attributes
    ----------
    treated, control : State
    driver : int or None
        The one factor whose activity differs; None where the two are the same state.
    """

    treated: State
    control: State
    driver: int | None

    @property
    def name(self) -> str:
        """``cell.treated-cell.control``."""
        return f"{self.treated.name}-{self.control.name}"

    @property
    def change(self) -> float:
        """Activity of the driver in the treated less that in the control: positive where its sites raise expression."""
        return 0.0 if self.driver is None else self.treated.activity[self.driver] - self.control.activity[self.driver]


def make_factors(names: list[str]) -> tuple[Factor, ...]:
    """Roles by place: the first is housekeeping, the last silent, every fourth of the others a repressor."""
    roles = ["repressor" if number % 4 == 3 else "activator" for number in range(len(names))]
    roles[0], roles[-1] = "housekeeping", "silent"
    return tuple(Factor(name, role) for name, role in zip(names, roles, strict=True))


def make_states(
    factors: tuple[Factor, ...], cells: dict[str, str], conditions: tuple[str, ...], draw: Draw
) -> tuple[list[State], list[Contrast]]:
    """Draw which factors are active in each cell type, and which one each treatment switches.

    In the control, a factor that is neither housekeeping nor silent is active in a cell type by
    chance (`_ACTIVE`); for every such factor one pre-training cell type is chosen where it is active
    for certain, so that each can be learned from those. No control is like another state drawn before, as
    long as there are other choices. Each treatment switches one factor, on or
    off, and within a cell type no two treatments the same one.

    Parameters
    ----------
    factors : tuple of Factor
    cells : dict of str to str
        Group by name.
    conditions : tuple of str
        The first is the control.
    draw : Draw

    Returns
    -------
    list of State
        By cell type, then condition.
    list of Contrast
        Each treatment against the control, by cell type.
    """
    free = [index for index, factor in enumerate(factors) if factor.role in ("activator", "repressor")]
    first = [cell for cell, group in cells.items() if group == PRETRAIN]
    certain = {index: first[number % len(first)] for number, index in enumerate(draw.shuffled(free))}
    # A deck for all treatments, so that drivers repeat as late as they can.
    deck = [index for _ in cells for index in draw.shuffled(free)]
    states, contrasts = [], []
    for cell, group in cells.items():
        for _ in range(_TRIALS):
            control = [factor.active if factor.role == "housekeeping" else 0.0 for factor in factors]
            for index in free:
                if draw.chance(_ACTIVE) or certain[index] == cell:
                    control[index] = factors[index].active
            if tuple(control) not in {state.activity for state in states}:
                break
        base = State(cell, conditions[0], group, tuple(control))
        states.append(base)
        used: list[int] = []
        for condition in conditions[1:]:
            driver = next(index for index in deck if index not in used)
            deck.remove(driver)
            used.append(driver)
            treated = list(control)
            treated[driver] = factors[driver].active if control[driver] == 0 else 0.0
            states.append(State(cell, condition, group, tuple(treated)))
            contrasts.append(Contrast(states[-1], base, driver))
    return states, contrasts
