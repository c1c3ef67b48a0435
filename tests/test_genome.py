"""Intervals: what is legal, and where the centre lands."""

import pytest

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.genome import Interval, Variant


@pytest.mark.parametrize(
    ("start", "end", "length", "expected"),
    [
        (10, 11, 4, (8, 12)),  # the one base at index 2 of 4
        (10, 11, 5, (8, 13)),
        (10, 12, 4, (9, 13)),  # of two bases the right one, 11, at index 2
        (0, 1, 4, (-2, 2)),  # may reach beyond the contig
        (0, 100, 10, (45, 55)),
    ],
)
def test_resize_keeps_the_centre(start, end, length, expected):
    resized = Interval("chr1", start, end, "-", "peak").resize(length)
    assert resized == Interval("chr1", *expected, "-", "peak")
    assert resized.length == length


@pytest.mark.parametrize(("start", "end"), [(5, 5), (6, 5)])
def test_empty_interval_is_refused(start, end):
    with pytest.raises(InputError, match=f"chr1:{start}-{end}: end must be greater"):
        Interval("chr1", start, end)


def test_unknown_strand_is_refused():
    with pytest.raises(InputError, match="strand is 'plus'"):
        Interval("chr1", 0, 1, "plus")


def test_text_of_an_interval():
    assert str(Interval("chr1", 3, 9)) == "chr1:3-9"
    assert str(Interval("chr1", 3, 9, "-")) == "chr1:3-9(-)"


def test_a_variant_knows_where_its_reference_bases_lie():
    variant = Variant("chr1", 10, "ACG", "A", "rs1")
    assert (variant.start, variant.end, str(variant)) == (9, 12, "chr1:10:ACG:A")


def test_a_variant_without_place_or_reference_is_refused():
    with pytest.raises(InputError, match="chr1:-1:A:C: the position is negative"):
        Variant("chr1", -1, "A", "C")
    with pytest.raises(InputError, match="REF is empty"):
        Variant("chr1", 1, "", "C")
