"""Views by hand, and their gradients by finite differences."""

import numpy as np
import pytest

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.inference.views import view_gradient, view_of
from kipoi_borzoi.tracks import Tracks


def two_tracks(sum_stat="sum_sqrt"):
    """A squashed and a plain track, soft clip at 3."""
    return Tracks(
        [0, 1], ["a", "b"], ["", ""], ["", ""], [99, 99], [3, 3], [0.5, 1.0], [sum_stat, "sum"], [0, 1]
    )


COVERAGE = np.array([[[1.0, 2.0], [2.0, 4.0]]], dtype=np.float32)  # (1, 2 bins, 2 tracks)


def test_coverage_is_left_as_it_is():
    assert view_of(COVERAGE, "coverage", two_tracks(), "new") is COVERAGE


def test_sum_and_logsum_by_hand():
    # new transform: track a: (1+1)^2-1 = 3, (2+1)^2-1 = 8; track b: 2, and 4 > 3: 3-1+(4-3+1)^2 = 6
    sums = view_of(COVERAGE, "sum", two_tracks(), "new")
    assert sums.dtype == np.float64
    assert sums.tolist() == [[11.0, 8.0]]
    assert view_of(COVERAGE, "logsum", two_tracks(), "new").tolist() == [[np.log2(12), np.log2(9)]]


def test_old_transform_by_hand():
    # track a: /0.5: 2, then 4 > 3: 3+(4-3)^2 = 4; ^(4/3); *0.5. track b: 2, 3+1 = 4
    expected = 0.5 * (2 ** (4 / 3) + 4 ** (4 / 3))
    assert view_of(COVERAGE, "sum", two_tracks(), "old")[0] == pytest.approx([expected, 6.0], rel=1e-6)


@pytest.mark.parametrize("transform", ["new", "old"])
@pytest.mark.parametrize("view", ["coverage", "sum", "logsum"])
@pytest.mark.parametrize("avg_func", [None, "sum", "max", "min", "absmax"])
def test_gradient_equals_finite_differences(view, transform, avg_func):
    random = np.random.default_rng(7)
    coverage = random.uniform(0.2, 6, (1, 5, 2))
    gradient = view_gradient(coverage, view, two_tracks(), transform, filter_idx=[0, 1], avg_func=avg_func)

    def value(coverage):
        values = view_of(coverage, view, two_tracks(), transform)
        return {None: np.sum, "sum": np.sum, "max": np.max, "min": np.min}.get(avg_func, lambda v: np.abs(v).max())(values)

    step = 1e-2  # the views are computed in float32
    for index in np.ndindex(coverage.shape):
        if min(abs(coverage[index] - 3), abs(coverage[index] / 0.5 - 3)) < 2 * step:
            continue  # the soft clip has a kink there
        up, down = coverage.copy(), coverage.copy()
        up[index] += step
        down[index] -= step
        assert gradient[index] == pytest.approx((value(up) - value(down)) / (2 * step), rel=2e-3, abs=2e-3)


@pytest.mark.parametrize(
    ("filter_idx", "expected"),
    [
        (1, [[0, 1], [0, 1]]),
        (slice(0, 1), [[1, 0], [1, 0]]),
        ((1, 0), [[0, 0], [1, 0]]),
        ((slice(0, 1), slice(None)), [[1, 1], [0, 0]]),
        (None, [[1, 1], [1, 1]]),
    ],
)
def test_filter_index_selects(filter_idx, expected):
    assert view_gradient(COVERAGE, "coverage", two_tracks(), "new", filter_idx)[0].tolist() == expected


def test_bad_requests_are_refused():
    with pytest.raises(InputError, match="unknown view 'mean'; known: coverage, sum, logsum"):
        view_of(COVERAGE, "mean", two_tracks(), "new")
    with pytest.raises(InputError, match="unknown avg_func 'mean'"):
        view_gradient(COVERAGE, "sum", two_tracks(), "new", avg_func="mean")
    with pytest.raises(InputError, match="filter_idx 7 does not fit"):
        view_gradient(COVERAGE, "sum", two_tracks(), "new", filter_idx=7)
