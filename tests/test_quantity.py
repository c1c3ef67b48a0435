"""The quantity to be explained: countable cases, and its gradient against finite differences."""

import math

import numpy as np
import pytest
from explain_cases import make_tracks

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.interpret.quantity import LogSum, Quantity
from kipoi_borzoi.tracks import Tracks, unsquash


def plain_tracks(n):
    """Tracks whose coverage is not squashed."""
    names = tuple(f"t{i}" for i in range(n))
    infinite = np.full(n, np.inf)
    return Tracks(np.arange(n), names, names, names, infinite, infinite, np.ones(n), ("sum",) * n, np.arange(n))


def test_a_countable_case():
    coverage = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    tracks = plain_tracks(2)
    both = LogSum(0, 1.0, [0, 2], [0, 1], [1, 1], tracks, pseudocount=1.0)
    assert both.value(coverage, "new") == pytest.approx(math.log2(1 + (1 + 2 + 5 + 6) / 2))
    weighted = LogSum(0, -1.0, [1], [0, 1], [3, 1], tracks, pseudocount=0.0)
    assert weighted.value(coverage, "new") == pytest.approx(-math.log2(0.75 * 3 + 0.25 * 4))
    value, gradient = both.value_and_gradient(coverage, "new")
    assert value == both.value(coverage, "new")
    expected = 0.5 / (8 * math.log(2))
    np.testing.assert_allclose(gradient, [[expected] * 2, [0, 0], [expected] * 2])
    quantity = Quantity((both, weighted))
    assert quantity.sources == (0,)
    assert quantity.part(0, coverage, "new") == pytest.approx(3 - math.log2(3.25))
    assert quantity.part(1, coverage, "new") == 0


@pytest.mark.parametrize("transform", ["new", "old"])
def test_values_follow_from_unsquashed_coverage_and_gradients_from_finite_differences(transform):
    tracks, random = make_tracks(), np.random.default_rng(3)
    coverage = random.gamma(2, 2, (6, 5))  # on both sides of the soft clip of 3
    assert (coverage > 3).any() and (coverage < 3).any()
    columns, bins, weights = [0, 3, 4], [1, 2, 5], [1.0, 2.0, 0.5]
    terms = (
        LogSum(0, 1.0, bins, columns, weights, tracks.select(columns), 0.5),
        LogSum(0, -1.0, [0, 1], [2], [1.0], tracks.select([2]), 0.5),
    )
    quantity = Quantity(terms)
    linear = unsquash(coverage, tracks, transform, dtype=np.float64)
    mean = sum(w * linear[:, c] for w, c in zip(weights, columns, strict=True)) / sum(weights)
    expected = math.log2(0.5 + mean[bins].sum()) - math.log2(0.5 + linear[[0, 1], 2].sum())
    value, gradient = quantity.part_and_gradient(0, coverage, transform)
    assert value == pytest.approx(expected, rel=1e-12)
    step = 1e-6
    for place in np.ndindex(coverage.shape):
        up, down = coverage.copy(), coverage.copy()
        up[place] += step
        down[place] -= step
        slope = (quantity.part(0, up, transform) - quantity.part(0, down, transform)) / (2 * step)
        assert gradient[place] == pytest.approx(slope, rel=1e-6, abs=2e-8)  # rounding of the logarithm over the step


@pytest.mark.parametrize(
    "change, message",
    [
        ({"bins": []}, "no bins"),
        ({"columns": [], "weights": []}, "no tracks"),
        ({"weights": [1.0, -1.0]}, "weight above 0"),
        ({"weights": [1.0]}, "one weight above 0 each"),
        ({"pseudocount": -1.0}, "pseudocount is -1.0"),
        ({"pseudocount": math.nan}, "pseudocount is nan"),
    ],
)
def test_senseless_quantities_are_refused(change, message):
    settings = {"source": 0, "sign": 1.0, "bins": [0], "columns": [0, 1], "weights": [1, 1], "tracks": plain_tracks(2)}
    with pytest.raises(InputError, match=message):
        LogSum(**{**settings, **change})


def test_no_coverage_has_no_logarithm():
    nothing = LogSum(0, 1.0, [0], [0], [1], plain_tracks(1), pseudocount=0.0)
    for call in (nothing.value, nothing.value_and_gradient):
        with pytest.raises(InputError, match="give a pseudocount above 0"):
            call(np.zeros((2, 1)), "new")
