"""Every scorer gives the numbers of its formula, counted by hand; what it says of itself holds."""

import dataclasses
import math

import numpy as np
import pytest
from plain_scores import TRACK

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.variants.scores import GENE_SCORERS, VARIANT_SCORERS, choose, coverage_ratio, score_all

# Two tracks of four bins; log2(1 + x) and sqrt(x) come out even.
REF = np.array([[0.0, 1], [1, 4], [3, 9], [7, 1]])
ALT = np.array([[0.0, 4], [3, 4], [3, 4], [1, 1]])

BY_HAND = {
    "SUM": (-4, -2),
    "logSUM": (1 - 2, math.log2(5 / 2) + math.log2(5 / 10)),
    "sqrtSUM": (math.sqrt(3) + 1 - 1 - math.sqrt(7), 1 - 1),
    "logSED": (math.log2(8 / 12), math.log2(14 / 16)),
    "SAX": (-6, -5),
    "D1": (8, 8),
    "D2": (math.sqrt(40), math.sqrt(34)),
    "logD1": (3, math.log2(5 / 2) + 1),
    "logD2": (math.sqrt(5), math.hypot(math.log2(5 / 2), 1)),
    "sqrtD1": (math.sqrt(3) - 1 + math.sqrt(7) - 1, 2),
    "sqrtD2": (math.hypot(math.sqrt(3) - 1, math.sqrt(7) - 1), math.sqrt(2)),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_scores_counted_by_hand(name):
    np.testing.assert_allclose(VARIANT_SCORERS[name](REF, ALT), BY_HAND[name], rtol=1e-12, atol=1e-12)


def test_jensen_shannon_by_hand():
    # 25th percentile of 1, 4, 9, 1 is 1: p = (2, 5, 10, 2) / 19, q = (5, 5, 5, 2) / 17
    p, q = np.array([2, 5, 10, 2]) / 19, np.array([5, 5, 5, 2]) / 17
    expected = (sum(p * np.log(p / q)) + sum(q * np.log(q / p))) / 2
    assert VARIANT_SCORERS["JS"](REF, ALT)[1] == pytest.approx(expected, rel=1e-12)
    assert VARIANT_SCORERS["logJS"](REF, ALT)[1] > 0


def test_the_largest_change_is_the_first_of_equals():
    ref, alt = np.array([[0.0], [2], [5]]), np.array([[2.0], [0], [5]])
    assert VARIANT_SCORERS["SAX"](ref, alt).tolist() == [2]


def test_gene_scores_by_hand():
    assert GENE_SCORERS["nDi"](REF, ALT)[1] == pytest.approx(max(4 / 13 - 1 / 15, 9 / 15 - 4 / 13))
    # two splits of three sites: before | behind
    ref, alt = np.array([[1.0], [2], [4]]), np.array([[1.0], [4], [4]])
    first = math.log2(4 / 1) - math.log2(3 / 1)
    second = math.log2(4 / 2.5) - math.log2(4 / 1.5)
    assert coverage_ratio(ref, alt)[0] == pytest.approx(max(abs(first), abs(second)))
    assert np.isnan(coverage_ratio(np.zeros((2, 1)), np.ones((2, 1)))[0])


@pytest.mark.parametrize("name", [*(n for n, s in VARIANT_SCORERS.items() if not s.is_profile), "nDi"])
def test_scores_equal_the_plain_implementation(name):
    scorer = {**GENE_SCORERS, **VARIANT_SCORERS}[name]
    random = np.random.default_rng(4)
    ref = random.gamma(0.7, 3, (50, 6))
    alt = ref * random.lognormal(0, [0.3, 0.3, 1e-4, 1e-6, 0, 1], (50, 6))
    expected = [TRACK[name](ref[:, t], alt[:, t]) for t in range(6)]
    # a change of 1e-6 loses six of sixteen digits where two sums are subtracted
    np.testing.assert_allclose(scorer(ref, alt), expected, rtol=1e-6, atol=1e-13)
    np.testing.assert_allclose(score_all(ref, alt, [scorer])[name], scorer(ref, alt), rtol=0)


@pytest.mark.parametrize("name", [*(n for n, s in VARIANT_SCORERS.items() if not s.is_profile), *GENE_SCORERS])
def test_signs_are_what_the_scorer_says(name):
    scorer = {**VARIANT_SCORERS, **GENE_SCORERS}[name]
    random = np.random.default_rng(5)
    ref, alt = random.gamma(2, 1, (9, 40)), random.gamma(2, 1, (9, 40))
    scores = scorer(ref, alt)
    assert scores.shape == (40,) and scores.dtype == np.float64
    assert (scores.min() < 0 < scores.max()) == scorer.signed
    if scorer.signed:
        np.testing.assert_allclose(scorer(alt, ref), -scores, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(scorer(ref, ref), 0, atol=1e-12)


def test_empty_tracks_score_nothing():
    empty = np.zeros((4, 1))
    for scorer in VARIANT_SCORERS.values():
        if not scorer.is_profile:
            assert scorer(empty, empty).tolist() == [0], scorer.name


def test_scores_of_float32_coverage_keep_their_digits():
    ref = np.full((6144, 1), 5.0, np.float32)
    alt = ref.copy()
    alt[3000] += 0.001
    assert VARIANT_SCORERS["SUM"](ref, alt)[0] == pytest.approx(0.001, rel=1e-3)
    assert VARIANT_SCORERS["logSED"](ref, alt)[0] == pytest.approx(0.001 / 30721 / math.log(2), rel=1e-3)


def test_strands_are_put_together_by_the_scorers_rule():
    three, four = np.array([3.0]), np.array([-4.0])
    assert VARIANT_SCORERS["SUM"].combine(three, four) == -1
    for name in ("D2", "logD2", "sqrtD2"):
        assert VARIANT_SCORERS[name].combine(three, four) == 5


def test_scorers_describe_themselves_and_cannot_be_changed():
    for scorer in (*VARIANT_SCORERS.values(), *GENE_SCORERS.values()):
        assert scorer.formula and scorer.description and isinstance(scorer.signed, bool)
        with pytest.raises(dataclasses.FrozenInstanceError):
            scorer.name = "other"
    assert all(not scorer.per_gene for scorer in VARIANT_SCORERS.values())
    assert all(scorer.per_gene for scorer in GENE_SCORERS.values())


def test_unknown_scorers_are_named():
    with pytest.raises(InputError, match="unknown scorer 'logsed'; known: SUM, .*did you mean logSED"):
        choose(["SUM", "logsed"], VARIANT_SCORERS)
    with pytest.raises(InputError, match="twice"):
        choose(["SUM", "SUM"], VARIANT_SCORERS)
