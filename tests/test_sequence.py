"""One-hot encoding, reverse complement and shift against the letters themselves."""

import numpy as np
import pytest
from genome_files import one_hot_by_letter, random_sequence, reverse_complement_text

from kipoi_borzoi.sequence import one_hot, reverse_complement, shift


@pytest.mark.parametrize(
    "length", [0, 1, 2, 7, 32768, 32769, 70001]
)  # around the pieces of two letters that it works in
def test_one_hot_equals_letter_by_letter(length):
    sequence = random_sequence(length, seed=length, letters="ACGTacgtNnRYKMXU-")
    np.testing.assert_array_equal(one_hot(sequence), one_hot_by_letter(sequence))


@pytest.mark.parametrize("dtype", [np.float32, "float16", np.float64, bool, np.uint8])
def test_one_hot_dtype(dtype):
    x = one_hot(b"CaN", dtype)
    assert x.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(x, [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]])


def test_letters_outside_ascii_are_zeros():
    np.testing.assert_array_equal(one_hot("AéT"), one_hot("ANT"))


def test_reverse_complement_equals_that_of_the_text():
    sequence = random_sequence(101, seed=1, letters="ACGTN")
    np.testing.assert_array_equal(reverse_complement(one_hot(sequence)), one_hot(reverse_complement_text(sequence)))


@pytest.mark.parametrize(("by", "expected"), [(2, "NNAC"), (-1, "CGTN"), (0, "ACGT"), (4, "NNNN"), (-4, "NNNN")])
def test_shift_fills_with_zeros(by, expected):
    np.testing.assert_array_equal(shift(one_hot("ACGT"), by), one_hot(expected))
