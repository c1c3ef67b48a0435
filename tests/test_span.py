"""Spans: every stretch of input that an operation needs, and no more."""

import itertools

import pytest

from kipoi_borzoi.network.span import (
    Span,
    conv_input,
    conv_reach,
    conv_reached,
    pool_input,
    pool_offset,
    pool_reached,
    upsample_input,
    upsample_reached,
)


def test_span_refuses_what_does_not_lie_on_the_level():
    for start, end, length in ((-1, 2, 5), (2, 2, 5), (3, 2, 5), (4, 6, 5)):
        with pytest.raises(ValueError, match=f"span {start}-{end} does not lie within 0-{length}"):
            Span(start, end, length)


def test_span_arithmetic():
    span = Span(3, 7, 10)
    assert span.size == 4
    assert Span.whole(10) == Span(0, 10, 10)
    assert span.union(Span(9, 10, 10)) == Span(3, 10, 10)
    assert span.union(None) is span
    assert span.clipped(-2, 4) == Span(0, 4, 10)
    assert span.clipped(8, 99, 12) == Span(8, 12, 12)
    assert span.offset_in(Span(1, 7, 10)) == 2


@pytest.mark.parametrize("outer", [Span(4, 9, 10), Span(0, 6, 10), Span(0, 11, 11)])
def test_offset_needs_a_span_that_holds_it(outer):
    with pytest.raises(ValueError, match="does not lie within"):
        Span(3, 7, 10).offset_in(outer)


@pytest.mark.parametrize(
    ("kernel_size", "dilation", "reach"),
    [(1, 1, (0, 0)), (5, 1, (2, 2)), (4, 1, (1, 2)), (3, 3, (3, 3)), (2, 3, (1, 2))],
)
def test_reach_of_a_same_convolution_is_longer_on_the_right(kernel_size, dilation, reach):
    assert conv_reach(kernel_size, dilation) == reach


def test_convolution_reads_its_kernel_within_the_level():
    assert conv_input(Span(10, 12, 100), 5) == Span(8, 14, 100)
    assert conv_input(Span(1, 12, 100), 5) == Span(0, 14, 100)
    assert conv_input(Span(10, 99, 100), 5) == Span(8, 100, 100)
    assert conv_input(Span(10, 12, 100), 4) == Span(9, 14, 100)
    assert conv_input(Span(10, 12, 100), 3, 4) == Span(6, 16, 100)


def test_pooling_reads_its_bins_and_the_first_bin_is_the_short_one_only_by_half():
    # 10 positions in 4 bins of 3: 2 are missing, one at each end: 0-1, 2-4, 5-7, 8-9
    assert pool_offset(10, 3) == 1
    assert pool_input(Span(0, 1, 4), 3, 10) == Span(0, 2, 10)
    assert pool_input(Span(1, 3, 4), 3, 10) == Span(2, 8, 10)
    assert pool_input(Span(3, 4, 4), 3, 10) == Span(8, 10, 10)
    # 9 positions in 5 bins of 2: the missing one is at the end
    assert pool_offset(9, 2) == 0
    assert pool_input(Span(4, 5, 5), 2, 9) == Span(8, 9, 9)


def test_repeating_reads_half_of_the_positions():
    assert upsample_input(Span(0, 1, 8)) == Span(0, 1, 4)
    assert upsample_input(Span(3, 6, 8)) == Span(1, 3, 4)
    assert upsample_input(Span(2, 4, 8)) == Span(1, 2, 4)


def taps_of(kernel_size, dilation, at):
    """The positions that a "same" convolution multiplies for position ``at``, existing or not."""
    left = (kernel_size - 1) * dilation // 2
    return [at - left + tap * dilation for tap in range(kernel_size)]


def bin_of(pool_size, in_length, at):
    """The positions that "same" pooling takes the maximum of for bin ``at``, existing or not."""
    padded_left = (-in_length % pool_size) // 2
    return [at * pool_size - padded_left + tap for tap in range(pool_size)]


def existing(places, length):
    return [place for place in places if 0 <= place < length]


@pytest.mark.parametrize("length", [1, 2, 5, 12])
def test_every_span_equals_the_positions_counted_one_by_one(length):
    for start, end in itertools.combinations(range(length + 1), 2):
        out = Span(start, end, length)
        for kernel, dilation in itertools.product(range(1, 6), (1, 2, 3)):
            read = existing([place for at in range(start, end) for place in taps_of(kernel, dilation, at)], length)
            needed = conv_input(out, kernel, dilation)
            if dilation == 1:
                assert (needed.start, needed.end) == (min(read), max(read) + 1)
            else:  # the outermost positions within reach may be skipped
                assert all(needed.start <= place < needed.end for place in read)
        for pool, missing in [(1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2), (5, 4)]:
            in_length = length * pool - missing
            read = existing([place for at in range(start, end) for place in bin_of(pool, in_length, at)], in_length)
            assert pool_input(out, pool, in_length) == Span(min(read), max(read) + 1, in_length)


@pytest.mark.parametrize("length", [1, 2, 5, 12])
def test_what_a_stretch_reaches_equals_the_positions_counted_one_by_one(length):
    def outputs(reads, out_length, given):
        """First and last output that reads any position of ``given``, as a half-open pair."""
        reached = [at for at in range(out_length) if any(given.start <= place < given.end for place in reads(at))]
        return min(reached), max(reached) + 1

    for start, end in itertools.combinations(range(length + 1), 2):
        given = Span(start, end, length)
        for kernel in range(1, 6):
            reached = conv_reached(given, kernel)
            assert (reached.start, reached.end) == outputs(lambda at, k=kernel: taps_of(k, 1, at), length, given)
        for kernel, dilation in itertools.product((2, 3, 4), (2, 3)):  # what reads it lies within
            reading = [at for at in range(length) for place in taps_of(kernel, dilation, at) if start <= place < end]
            reached = conv_reached(given, kernel, dilation)
            assert all(reached.start <= at < reached.end for at in reading)
        for pool in (1, 2, 3, 5):
            bins = -(-length // pool)
            first, last = outputs(lambda at, p=pool: bin_of(p, length, at), bins, given)
            assert pool_reached(given, pool) == Span(first, last, bins)
        assert upsample_reached(given) == Span(2 * start, 2 * end, 2 * length)


def test_a_span_holds_what_lies_within():
    assert Span(2, 6, 8).holds(Span(2, 6, 8)) and Span(2, 6, 8).holds(Span(3, 4, 8))
    assert not Span(2, 6, 8).holds(Span(1, 4, 8)) and not Span(2, 6, 8).holds(Span(4, 7, 8))
    assert not Span(2, 6, 8).holds(Span(3, 4, 9))
