"""What becomes of a quantity when a motif's hits are taken out of the model's input, or the motif is put into it."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kipoi_borzoi.interpret.explainer import Explainer
from kipoi_borzoi.interpret.motif_edits import insertion, knock_outs
from kipoi_borzoi.interpret.pwm import HIT_P_VALUE, Motif
from kipoi_borzoi.interpret.quantity import Quantity


@dataclass(frozen=True)
class Place:
    """Where a motif is put in or taken out: 0-based position in the window, and strand."""

    start: int
    strand: str = "+"


@dataclass(frozen=True, eq=False)
class MotifEffect:
    """What an edit of one place does.

    Attributes
    ----------
    place : Place
    effects : (quantities,) float64
        Values with the edit less those without, the mean over the ensemble (and over replacements).
    sd : (quantities,) float64
        Standard deviation over the ensemble's members (n - 1); NaN for one member.
    """

    place: Place
    effects: np.ndarray
    sd: np.ndarray


def knock_out(
    explainer: Explainer,
    x: np.ndarray,
    quantities: Sequence[Quantity],
    motif: Motif,
    places: Sequence[Place],
    replacements: int = 3,
    seed: int = 0,
    p_value: float = HIT_P_VALUE,
    tick: Callable[[], None] | None = None,
) -> list[MotifEffect]:
    """Take a motif out of each of ``places``, one at a time: random bases take its place, without a hit of it.

    Parameters
    ----------
    explainer : Explainer
    x : (length, 4) one-hot
    quantities : sequence of Quantity
    motif : Motif
    places : sequence of Place
    replacements : int
        How many are averaged per place.
    seed : int
        Of the replacements, which depend on the place and the motif besides, and on nothing else.
    p_value : float
        What counts as a hit.
    tick : callable, optional
        Called after each altered prediction.
    """
    edits = []
    for place in places:
        random = np.random.default_rng([seed, place.start, zlib.crc32(motif.name.encode())])
        edits += knock_outs(x, motif, place.start, replacements, random, p_value)
    _, effects = explainer.effects(x, quantities, edits, tick)
    return _summarised(places, effects.reshape(len(places), replacements, len(quantities), -1).mean(1))


def insert(
    explainer: Explainer,
    x: np.ndarray,
    quantities: Sequence[Quantity],
    motif: Motif,
    places: Sequence[Place],
    tick: Callable[[], None] | None = None,
) -> list[MotifEffect]:
    """Put a motif's most probable sequence into each of ``places``, one at a time; see `knock_out`."""
    edits = [insertion(motif, place.start, place.strand) for place in places]
    _, effects = explainer.effects(x, quantities, edits, tick)
    return _summarised(places, effects)


def _summarised(places: Sequence[Place], effects: np.ndarray) -> list[MotifEffect]:
    """From (places, quantities, members)."""
    sd = effects.std(-1, ddof=1) if effects.shape[-1] > 1 else np.full(effects.shape[:-1], np.nan)
    return [MotifEffect(place, mean, spread) for place, mean, spread in zip(places, effects.mean(-1), sd, strict=True)]
