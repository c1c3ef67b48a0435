"""A sequence that differs in part from one already run costs only what the difference reaches, and predicts the same."""

import numpy as np
import pytest
from network_cases import CONV_DNA, CONV_NAC, CROP, TOWER, TRANSFORMER, UNET, borzoi_like, make_network, make_params

from kipoi_borzoi.adapters.registry import make_method
from kipoi_borzoi.adapters.sites import make_adapter
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.inference import splice
from kipoi_borzoi.inference.predictor import Predictor
from kipoi_borzoi.inference.reuse import Reference
from kipoi_borzoi.inference.splice import Splicer, differences
from kipoi_borzoi.inference.together import Member
from kipoi_borzoi.sequence import reverse_complement, shift

TOLERANCE = 1e-5  # of the largest output: float32 rounding over a dozen layers

HEAD = {"name": "final", "units": 4, "activation": "softplus"}
PAIR = [1, 0, 2, 3]
NETWORKS = {
    "as published": borzoi_like(seq_length=1024, head=HEAD),
    "odd length": make_params(CONV_DNA, TOWER, TRANSFORMER, CROP, seq_length=1021),
    "pooling by 3, dilated, even kernel": make_params(
        CONV_DNA,
        {**TOWER, "kernel_size": 4, "pool_size": 3, "dilation_rate": 2, "num_convs": 2},
        TRANSFORMER,
        seq_length=2005,
    ),
    "single convolutions": make_params(
        {**CONV_DNA, "kernel_size": 4, "pool_size": 3, "norm_type": "layer"},
        {**CONV_NAC, "kernel_size": 3, "pool_size": 2},
        {**CONV_NAC, "kernel_size": 3, "residual": True},
        TRANSFORMER,
        seq_length=1000,
    ),
    "U-net step before the transformer": make_params(CONV_DNA, TOWER, UNET, TRANSFORMER, UNET, seq_length=512),
    "cropped before the transformer": make_params(CONV_DNA, {**CROP, "cropping": 40}, TOWER, TRANSFORMER, seq_length=672),
}


def random_window(length, seed=0):
    """A random one-hot window, bool, with an unknown stretch."""
    x = np.eye(4, dtype=bool)[np.random.default_rng(seed).integers(0, 4, length)]
    x[length // 3 : length // 3 + 7] = False
    return x


def changed(x, start, count=1):
    """The window with ``count`` bases from ``start`` on replaced by others."""
    y = x.copy()
    y[start : start + count] = np.roll(y[start : start + count], 1, axis=1)
    return y


def close(got, expected):
    """Whether two arrays agree to float rounding."""
    return got.shape == expected.shape and np.abs(got - expected).max() <= TOLERANCE * np.abs(expected).max()


@pytest.fixture
def stems(monkeypatch):
    """Records every run of a stem, whole or in part, as (first unit, last unit) and of every tile as its size."""
    runs = {"advanced": [], "tiles": []}
    advance, tile = Predictor.advance, Predictor.tile

    def counted_advance(self, state, unit, layout, precision):
        if state.unit < min(unit, layout.stem):
            runs["advanced"].append((state.unit, unit))
        return advance(self, state, unit, layout, precision)

    def counted_tile(self, y, layout, tile_span, *others):
        runs["tiles"].append(tile_span.size)
        return tile(self, y, layout, tile_span, *others)

    monkeypatch.setattr(Predictor, "advance", counted_advance)
    monkeypatch.setattr(Predictor, "tile", counted_tile)
    return runs


@pytest.mark.parametrize("name", NETWORKS)
def test_whatever_differs_the_prediction_is_that_of_a_plain_pass(name, uncompiled, stems):
    network = make_network(NETWORKS[name], dtype="float32")
    predictor, whole = Predictor(network, tile_bp=128), Predictor(network, tile_bp=None)
    length = network.config.seq_length
    x = random_window(length)
    reference = Reference([Member(predictor)], x)
    assert close(reference.coverage()[0][0], whole.predict(x[None])[0])
    grid = network.layout.stem_stride
    middle = length // 2
    stretches = [(middle + phase, 1) for phase in range(grid)]  # every phase of the pooling grid
    stretches += [(0, 1), (1, 1), (grid, 1), (length - 1, 1), (length - grid - 1, 1), (length - 3, 3)]
    stretches += [(middle - 1, 2), (middle - 20, 40), (0, middle), (middle, length - middle), (5, length - 9), (0, length)]
    for start, count in stretches:
        stems["advanced"].clear()
        alternative = changed(x, start, count)
        got = reference.altered(alternative)[0][0]
        if count <= middle // 8:
            assert not stems["advanced"], f"the stem was run whole for {count} bases from {start} on"
        expected = whole.predict(alternative[None])[0]
        assert close(got, expected), f"{count} bases from {start} on"
        if count < 3 and name == "as published":
            assert np.abs(got - reference.coverage()[0][0]).max() > 1e-3 * np.abs(got).max()


def test_the_same_holds_at_the_borders_of_the_tiles_that_the_reference_ran_in(uncompiled):
    network = make_network(NETWORKS["as published"], dtype="float32")
    predictor = Predictor(network, tile_bp=128)
    assert len(list(predictor.tiles(network.layout))) == 8
    x = random_window(1024)
    reference = Reference([Member(predictor)], x)
    for border in (128, 512, 896):
        for start in (border - 9, border - 1, border, border + 1, border + 8):
            alternative = changed(x, start)
            assert close(reference.altered(alternative)[0][0], predictor.predict(alternative[None])[0])


def test_the_same_holds_in_compiled_programs_of_which_there_are_few():
    network = make_network(NETWORKS["as published"], dtype="float32")
    predictor = Predictor(network, tile_bp=128)
    x = random_window(1024)
    reference = Reference([Member(predictor)], x)
    places = [0, 3, 300, *range(512, 520), 601, 1020, 1023]
    got = [reference.altered(changed(x, place))[0][0] for place in places]
    programs = set(predictor._compiled)
    assert sum(key[0] == "tile" for key in programs) <= 6  # at the start, at the end and between: in the reference and here
    expected = predictor.predict(np.stack([changed(x, place) for place in places]))
    assert all(close(one, other) for one, other in zip(got, expected, strict=True))
    reference.altered(changed(x, 702, 5))
    assert set(predictor._compiled) >= programs and sum(key[0] == "tile" for key in predictor._compiled) <= 6


def test_an_equal_sequence_and_two_distant_changes(uncompiled, stems):
    network = make_network(borzoi_like(seq_length=4096, head=HEAD), dtype="float32")
    predictor = Predictor(network)
    x = random_window(4096)
    reference = Reference([Member(predictor)], x)
    equal = reference.altered(x.astype(np.float32))[0]
    assert np.array_equal(equal, reference.coverage()[0])
    equal += 1  # a copy, which may be written to
    assert np.array_equal(equal, reference.coverage()[0] + 1)
    stems["tiles"].clear()
    alternative = changed(changed(x, 700), 3000)
    got = reference.altered(alternative)[0][0]
    assert stems["tiles"] == [8, 8]
    assert close(got, predictor.predict(alternative[None])[0])


def test_half_a_window_is_recomputed_in_long_tiles(uncompiled, stems, monkeypatch):
    monkeypatch.setattr(splice, "LONG", 64)
    splice._inner.cache_clear()
    network = make_network(borzoi_like(seq_length=4096, head=HEAD), dtype="float32")
    predictor = Predictor(network)
    x = random_window(4096)
    reference = Reference([Member(predictor)], x)
    reference.coverage()
    for alternative in (changed(x, 2048, 2048), changed(x, 0, 2048), changed(x, 1000, 1500)):
        stems["advanced"].clear(), stems["tiles"].clear()
        got = reference.altered(alternative)[0][0]
        assert not stems["advanced"] and stems["tiles"].count(64) >= 3 and len(stems["tiles"]) <= 6
        assert close(got, predictor.predict(alternative[None])[0])
    splice._inner.cache_clear()


@pytest.fixture(scope="module")
def members():
    """The base and adapters that leave it before, within and after the stem, away from the identity."""
    base = make_network(borzoi_like(seq_length=1024, head=HEAD), dtype="float32")
    predictors = [Predictor(base, tile_bp=256)]
    random = np.random.default_rng(5)
    for number, (name, settings, gelu) in enumerate(
        [
            ("linear", {}, "tanh"),
            ("lora", {}, "tanh"),
            ("lora", {}, "erf"),
            ("locon", {"conv_select": 3}, "tanh"),
            ("locon", {"conv_select": 2}, "erf"),
            ("houlsby_se", {"conv_select": 2}, "tanh"),
            ("houlsby_se", {"conv_select": 1}, "tanh"),
            ("full", {}, "tanh"),
        ]
    ):
        sites = make_adapter(base, make_method(name, settings), tracks=4, seed=number, gelu=gelu)
        for variable in sites.trainable_variables:
            variable.assign(np.asarray(variable) + 0.1 * random.standard_normal(variable.shape).astype(np.float32))
        predictors.append(Predictor(base, sites, tile_bp=256))
    return [Member(predictor, strand_pair=PAIR) for predictor in predictors]


def test_adapters_strands_and_shifts_each_equal_their_plain_pass(members, uncompiled, stems):
    stem, shifts = members[0].predictor.layout().stem, (-3,)
    units = [member.predictor.layout().stem for member in members]
    leaves = [member.predictor.first_unit for member in members]
    assert any(unit < stem for unit in units) and any(leave < unit for leave, unit in zip(leaves, units, strict=True))
    x = random_window(1024, seed=6)
    reference = Reference(members, x, rc=True, shifts=shifts)
    reference.coverage()
    alternatives = [changed(x, 511), changed(x, 512, 512)]
    for sequence, results in [(x, reference.coverage()), *((y, reference.altered(y)) for y in alternatives)]:
        for member, result in zip(members, results, strict=True):
            assert result.shape == (1, 506, 4) and result.dtype == np.float32
            assert close(result, member.predictor.predict(sequence[None], strand_pair=PAIR, rc=True, shifts=shifts))
    stems["advanced"].clear()
    reference.altered(changed(x, 511))
    assert not stems["advanced"]


def test_a_pass_is_what_the_network_makes_of_the_moved_and_reversed_sequence(uncompiled):
    network = make_network(NETWORKS["as published"], dtype="float32")
    x = random_window(1024)
    y = changed(x, 700, 2)
    results = Reference([Member(Predictor(network), strand_pair=PAIR)], x, rc=True, shifts=(3, 0, -2)).altered(y)[0]
    for by, got in zip((3, 0, -2), results, strict=True):
        moved = shift(y[None], by).astype(np.float32)
        forward = np.asarray(network(moved))[0]
        reverse = np.asarray(network(np.ascontiguousarray(reverse_complement(moved))))[0][::-1][:, PAIR]
        assert close(got, (forward + reverse) / 2)


def test_bfloat16_gives_what_a_plain_pass_in_bfloat16_gives(uncompiled):
    network = make_network(NETWORKS["as published"], dtype="float32")
    predictor = Predictor(network)
    x = random_window(1024)
    y = changed(x, 512)
    got = Reference([Member(predictor)], x, precision="mixed_bfloat16").altered(y)[0][0]
    expected = predictor.predict(y[None], precision="mixed_bfloat16")[0]
    exact = predictor.predict(y[None])[0]
    noise = np.abs(expected - exact).max()
    assert noise > 1e-4 and np.abs(got - expected).max() < 0.1 * noise


def test_tracks_crop_and_the_bytes_that_are_held(uncompiled):
    network = make_network(NETWORKS["as published"], dtype="float32")
    predictor = Predictor(network)
    x = random_window(1024)
    reference = Reference([Member(predictor, tracks=[2, 0])], x, crop=100)
    assert reference.nbytes == 1024 * 4
    y = changed(x, 512)
    assert close(reference.altered(y)[0][0], predictor.predict(y[None], tracks=[2, 0], crop=100)[0])
    # 8 channels at 128 positions leave the stem. Of 512 bins of 2 bp, 312 remain; with a kernel of 3 they read bins
    # 99 to 413 of the level of 512 (6 channels), which come from 49 to 207 and so 48 to 208 of the level of 256.
    assert reference.nbytes == 1024 * 4 + 4 * (128 * 8 + 314 * 6 + 160 * 8)
    reference.coverage()
    assert reference.nbytes == 1024 * 4 + 4 * (128 * 8 + 314 * 6 + 160 * 8) + 4 * 312 * 2
    with pytest.raises(ValueError, match="read-only"):
        reference.coverage()[0][:] = 0


def test_an_adapter_may_leave_the_base_at_any_unit(uncompiled):
    network = make_network(NETWORKS["as published"], dtype="float32")
    plain, x = Predictor(network), random_window(1024)
    y = changed(x, 512)
    expected = plain.predict(y[None], crop=100)[0]
    for unit in range(len(network.units) + 1):
        predictor = Predictor(network)
        predictor.first_unit = unit
        assert close(Reference([Member(predictor)], x, crop=100).altered(y)[0][0], expected)


def test_a_network_without_a_global_unit_is_run_in_full(uncompiled, stems):
    network = make_network(make_params(CONV_DNA, TOWER, CONV_NAC, seq_length=512), dtype="float32")
    predictor, x = Predictor(network), random_window(512)
    reference = Reference([Member(predictor)], x)
    for y in (x, changed(x, 200), changed(x, 256, 256)):
        assert close(reference.altered(y)[0][0], np.asarray(network(y[None].astype(np.float32)))[0])
    # No state of a stem: the sequence, and the coverage that answers for the equal one.
    assert reference.nbytes == 2 * 512 * 4 + reference.coverage()[0].nbytes and not stems["tiles"]


def test_only_the_bins_that_are_asked_for(uncompiled):
    network = make_network(NETWORKS["as published"], dtype="float32")
    member = Member(Predictor(network), strand_pair=PAIR)
    x = random_window(1024)
    y = changed(x, 512)
    whole, options = Reference([member], x, rc=True), {"rc": True, "bins": [250, 3, 505, 4, 0]}
    some = Reference([member], x, **options)
    assert close(some.coverage()[0], whole.coverage()[0][:, options["bins"]])
    assert close(some.altered(y)[0], whole.altered(y)[0][:, options["bins"]])
    with pytest.raises(InputError, match="bin 506 does not exist: there are bins 0 to 505"):
        Reference([member], x, bins=[506])
    with pytest.raises(InputError, match="one or more indices of bins"):
        Reference([member], x, bins=[])


def test_differences_are_stretches_in_order():
    x = np.zeros((2000, 4), dtype=bool)
    y = x.copy()
    assert differences(x, y) == []
    y[[3, 4, 200, 1000, 1999], [0, 1, 2, 3, 0]] = True
    assert differences(x, y) == [(3, 201), (1000, 1001), (1999, 2000)]


def test_every_reached_position_is_in_a_tile_and_tiles_lie_in_the_window(uncompiled):
    network = make_network(NETWORKS["odd length"], dtype="float32")
    predictor = Predictor(network)
    layout, stem = network.layout, network.layout.stem
    splicer = Splicer(predictor, layout, stem, "float32")
    random = np.random.default_rng(7)
    for _ in range(200):
        start = int(random.integers(0, 1021))
        end = min(1021, start + int(random.integers(1, 300)))
        tiles = splicer.plan([(start, end)])
        if tiles is None:
            continue
        covered = {at for tile, _ in tiles for at in range(tile.start, tile.end)}
        out = layout.reached(0, stem, splice.Span(start, end, 1021))[-1].out
        assert set(range(out.start, out.end)) <= covered
        assert all(tile.size == like.size for tile, like in tiles)


def test_bad_sequences_are_refused(members):
    x = random_window(1024)
    with pytest.raises(InputError, match=r"shape \(1, 1024, 4\), expected \(seq_length, 4\)"):
        Reference(members[:1], x[None])
    reference = Reference(members[:1], x)
    with pytest.raises(InputError, match=r"expected \(windows, 1024, 4\)"):
        reference.altered(x[:512])
    with pytest.raises(InputError, match="strand pairs"):
        Reference([Member(members[0].predictor)], x, rc=True)
