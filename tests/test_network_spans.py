"""Any stretch of any unit's output, computed alone, equals that stretch of the whole run."""

import keras
import numpy as np
import pytest
from network_cases import EXACT, case_network, random_dna

from kipoi_borzoi.network.span import Span

pytestmark = pytest.mark.usefixtures("uncompiled")

LOCAL = ["conv_nac", "conv_dna with norm", "wide and dilated tower", "odd lengths", "default convolutions, factor",
         "crop between", "no transformer", "no upsample_conv"]  # fmt: skip
GLOBAL = ["as published", "even separable projections", "two towers", "no position features"]


class WholeRun:
    """Input, output and representation of every unit of a network, over the whole window."""

    def __init__(self, name, changed=None):
        self.network = case_network(name)
        self.layout = self.network.layout
        self.inputs, self.outputs, self.skips = [], [], {}
        x = random_dna(self.layout.seq_length)
        if changed:
            x[:, slice(*changed)] = 1 - x[:, slice(*changed)]
        x = keras.ops.convert_to_tensor(x, dtype="float64")
        for index, unit in enumerate(self.layout.units):
            self.inputs.append(x)
            out, keep = Span.whole(unit.out_length), {index: Span.whole(unit.skip_length)}
            given = Span.whole(unit.in_length)
            x = self.network.run_units(x, index, index + 1, out, self.skips, keep=keep, given=given)
            self.outputs.append(keras.ops.convert_to_numpy(x))
        self.representations = [keras.ops.convert_to_numpy(self.skips[index][0]) for index in range(len(self.outputs))]

    def check(self, first, last, out, keep=None, given=None):
        """Run units first..last for ``out`` alone and compare with the slices of the whole run."""
        plan = self.layout.spans(first, last, out, keep or {})
        held = given or plan[0].input
        x = self.inputs[first][:, held.start : held.end]
        skips = {index: skip for index, skip in self.skips.items() if index < first}
        y = self.network.run_units(x, first, last, out, skips, keep=keep, given=given)
        assert same(y, self.outputs[last - 1][:, out.start : out.end])
        for index, span in (keep or {}).items():
            value, kept = skips[index]
            begin = span.offset_in(kept)
            whole = self.representations[index][:, span.start : span.end]
            assert same(value[:, begin : begin + span.size], whole)


def same(x, y):
    x = keras.ops.convert_to_numpy(x)
    return x.shape == y.shape and np.allclose(x, y, rtol=1e-10 if EXACT else 1e-5, atol=1e-12 if EXACT else 1e-5)


def some_spans(length, random, count):
    """Spans at both ends of a level and at odd places inside."""
    spans = [Span(0, 1, length), Span(length - 1, length, length), Span(0, length, length)]
    for _ in range(count):
        start = int(random.integers(0, length))
        spans.append(Span(start, int(random.integers(start, length)) + 1, length))
    return spans


@pytest.mark.parametrize("name", LOCAL)
def test_any_stretch_of_local_units(name):
    run, random = WholeRun(name), np.random.default_rng(3)
    count = len(run.layout.units)
    for first, last in {(0, count), (0, count - 1), (1, count), (count - 1, count)}:
        for out in some_spans(run.layout.units[last - 1].out_length, random, 4):
            run.check(first, last, out)


@pytest.mark.parametrize("name", GLOBAL)
def test_any_stretch_behind_a_transformer(name):
    run, random = WholeRun(name), np.random.default_rng(4)
    count, stem = len(run.layout.units), run.layout.stem
    assert run.layout.units[stem].is_global and 0 < stem < count
    for first, last in [(0, count), (stem, stem + 1), (stem + 1, count)]:
        for out in some_spans(run.layout.units[last - 1].out_length, random, 2):
            run.check(first, last, out)


@pytest.mark.parametrize("name", ["as published", "wide and dilated tower", "odd lengths"])
def test_input_may_hold_more_than_is_needed(name):
    run = WholeRun(name)
    length = run.layout.units[0].in_length
    out = Span(2, 5, run.layout.units[0].out_length)
    run.check(0, 1, out, given=Span.whole(length))
    run.check(0, 1, out, given=Span(0, length - 1, length))


@pytest.mark.parametrize("name", ["as published", "three convolutions"])
@pytest.mark.parametrize("tiles", [2, 5])
def test_stem_tile_by_tile_with_the_representations_that_are_added_later(name, tiles):
    run = WholeRun(name)
    stem, length = run.layout.stem, run.layout.units[run.layout.stem - 1].out_length
    kept = run.layout.skips_out_of(0, stem)
    assert kept and all(run.layout.units[index].skip_length > length for index in kept)
    edges = np.linspace(0, length, tiles + 1).astype(int)
    for start, end in zip(edges[:-1], edges[1:], strict=True):
        keep = {}
        for index in kept:
            ratio = run.layout.units[index].skip_length // length
            keep[index] = Span(start * ratio, end * ratio, length * ratio)
        run.check(0, stem, Span(int(start), int(end), length), keep=keep)


def test_kept_representation_may_reach_beyond_what_the_output_needs():
    run = WholeRun("as published")
    keep = {1: Span(0, 128, 128), 2: Span(60, 64, 64)}
    run.check(0, run.layout.stem, Span(3, 4, 32), keep=keep)


def test_a_bin_of_the_published_order_of_blocks_needs_a_few_positions_of_what_is_added():
    layout = case_network("as published").layout
    names = [unit.name for unit in layout.units]
    spans = dict(zip(names, layout.spans(0, len(names), Span(10, 11, 122), {}), strict=True))
    # Bin 10 is position 13 before cropping; a kernel of 3 reads 12 to 14 there, which come from 6 and 7
    # (repeated twice); the kernel of 3 before reads 5 to 8, from 2 to 4. The transformer reads everything.
    assert spans["cropping1d"].input == Span(13, 14, 128)
    assert spans["unet_conv_1"].skip_input == Span(12, 15, 128)
    assert spans["unet_conv_1"].input == Span(6, 8, 64)
    assert spans["unet_conv_0"].skip_input == Span(5, 9, 64)
    assert spans["unet_conv_0"].input == Span(2, 5, 32)
    assert spans["transformer_tower.0"].input == Span.whole(32)
    assert spans["res_tower.1"].skip_out == Span(5, 9, 64)
    assert spans["res_tower.0"].skip_out == Span(12, 15, 128)
    assert layout.skips_out_of(0, layout.stem) == [1, 2]
    assert (layout.bins, layout.bin_size, layout.crop, layout.stem, layout.stem_stride) == (122, 2, 3, 3, 8)


@pytest.mark.parametrize(("name", "size"), [("odd lengths", 8), ("conv_nac", 12), ("crop between", 2)])
def test_bin_size_is_the_product_of_the_pooling(name, size):
    layout = case_network(name).layout
    assert (layout.bin_size, layout.stem_stride) == (size, 1)


@pytest.mark.parametrize("name", [*LOCAL, *GLOBAL, "three convolutions"])
def test_a_changed_stretch_of_the_sequence_changes_nothing_beyond_what_it_reaches(name):
    run, random = WholeRun(name), np.random.default_rng(5)
    layout, count = run.layout, len(run.layout.units)
    changes = 0
    for start in (0, layout.seq_length - 1, *random.integers(1, layout.seq_length - 6, 3)):
        end = min(layout.seq_length, int(start) + int(random.integers(1, 6)))
        other = WholeRun(name, changed=(int(start), end))
        for index, reached in enumerate(layout.reached(0, count, Span(int(start), end, layout.seq_length))):
            for before, after, span in (
                (run.outputs[index], other.outputs[index], reached.out),
                (run.representations[index], other.representations[index], reached.skip),
            ):
                differs = np.flatnonzero((before != after).any(axis=(0, 2)))
                changes += differs.size
                inside = set() if span is None else set(range(span.start, span.end))
                assert set(differs.tolist()) <= inside
    assert changes > 20


def test_what_a_base_reaches_in_the_published_order_of_blocks():
    layout = case_network("as published").layout
    # Base 100 of 256: a kernel of 5 gives 98 to 102, bins 49 to 51; a kernel of 3, 48 to 52, bins 24 to 26;
    # once more, 23 to 27, bins 11 to 13.
    reached = layout.reached(0, layout.stem, Span(100, 101, 256))
    assert [one.out for one in reached] == [Span(49, 52, 128), Span(24, 27, 64), Span(11, 14, 32)]
    assert [one.skip for one in reached] == [Span(49, 52, 128), Span(48, 53, 128), Span(23, 28, 64)]
    assert layout.reached(0, layout.stem + 1, Span(100, 101, 256))[-1].out == Span.whole(32)
    # The places that tiles of the output own: neighbours of neighbours.
    assert layout.owned(0, layout.stem, Span(11, 14, 32)) == {1: Span(44, 56, 128), 2: Span(22, 28, 64)}


def test_a_change_that_is_cropped_away_reaches_nothing():
    layout = case_network("crop between").layout  # conv_dna to 64 positions, 3 cropped at each end, ...
    assert [one.out for one in layout.reached(0, 2, Span(0, 1, 128))] == [Span(0, 2, 64), None]
    assert layout.reached(0, 2, Span(6, 7, 128))[-1].out == Span(0, 2, 58)
