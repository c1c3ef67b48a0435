"""Explanations against finite differences, plain predictions and arithmetic written out, on small float64 networks."""

import numpy as np
import pytest
from explain_cases import NAMES, dna, make_model, make_tracks, smooth_params

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.interpret.attribution import Members, centred, gated
from kipoi_borzoi.interpret.edits import Edit, base_edits, blocks
from kipoi_borzoi.interpret.explainer import Explainer
from kipoi_borzoi.interpret.methods import Method, explain, predictions
from kipoi_borzoi.interpret.passes import Pass, make_passes
from kipoi_borzoi.interpret.quantity import LogSum, Quantity
from kipoi_borzoi.sequence import reverse_complement, shift
from kipoi_borzoi.tracks import unsquash
from kipoi_borzoi.variants.columns import Contrast, Term, make_table

pytestmark = pytest.mark.usefixtures("uncompiled")

CONTRAST = Contrast("change", (Term("treated+", 1.0), Term("control+", -1.0)))


def contrast_quantity(table, bins, source=(0, 0)):
    """log of treated+ less log of control+."""
    terms = []
    for sign, name, number in ((1.0, "treated+", source[0]), (-1.0, "control+", source[1])):
        tracks = table.ensembles[number].tracks
        column = tracks.identifiers.index(name)
        terms.append(LogSum(number, sign, bins, [column], [1.0], tracks.select([name]), 0.3))
    return Quantity(tuple(terms))


def plainly(model, x, bins, one=Pass(), names=("treated+", "control+"), number=0):  # noqa: B008
    """The same contrast from a prediction of all tracks of one network, written out."""
    coverage = model.predictors[number].predict(one.there(x)[None])[0]
    if one.reverse:
        coverage = coverage[::-1][:, model.tracks.strand_pair]
    linear = unsquash(coverage, model.tracks, model.transform, dtype=np.float64)
    logs = [np.log2(0.3 + linear[bins, NAMES.index(name)].sum()) for name in names]
    return logs[0] - logs[1]


@pytest.fixture(scope="module")
def model():
    return make_model(seeds=(1, 2))


@pytest.fixture(scope="module")
def smooth():
    return make_model(params=smooth_params())


def test_gradients_equal_finite_differences_in_every_pass(model):
    passes = (Pass(0, False), Pass(3, True))
    table = make_table({"m": model}, contrasts=[CONTRAST])
    explainer, bins = Explainer(table, passes), [0, 1, 5, 9]
    assert (explainer.replicates, explainer.members) == (2, 4)
    random = np.random.default_rng(4)
    x = random.uniform(0, 1, (128, 4))  # not one-hot: ties in max pooling have no derivative
    found = list(explainer.gradients(x, contrast_quantity(table, bins)))
    step = 1e-5
    for (one, number), (value, gradient) in zip([(p, n) for p in passes for n in (0, 1)], found, strict=True):
        assert value == pytest.approx(plainly(model, x, bins, one, number=number), rel=1e-9)
        scale = np.abs(gradient).max()
        for place in ((65, 3),) if number else ((127, 2),):
            up, down = x.copy(), x.copy()
            up[place] += step
            down[place] -= step
            slope = (plainly(model, up, bins, one, number=number) - plainly(model, down, bins, one, number=number)) / (
                2 * step
            )
            assert gradient[place] == pytest.approx(slope, rel=1e-4, abs=1e-6 * scale)
    assert not found[2][1][-3:].any() and found[0][1][-3:].any()  # shifted right by 3, the last bases leave the window


def test_contrasts_between_models_are_differences_of_their_gradients():
    tuned, base = (make_model(seeds=(seed,), params=smooth_params()) for seed in (5, 6))
    contrast = Contrast("tuned-base", (Term("tuned:both", 1.0), Term("base:both", -1.0)))
    table = make_table({"tuned": tuned, "base": base}, contrasts=[contrast], separate=True)
    explainer = Explainer(table, make_passes())
    x = dna(64, 1)

    def one(number, sign):
        return LogSum(number, sign, [3, 4], [0], [1.0], table.ensembles[number].tracks, 0.3)

    ((value, both),) = explainer.gradients(x, Quantity((one(0, 1.0), one(1, -1.0))))
    ((first, up),) = explainer.gradients(x, Quantity((one(0, 1.0),)))
    ((second, down),) = explainer.gradients(x, Quantity((one(1, 1.0),)))
    assert value == pytest.approx(first - second)
    np.testing.assert_allclose(both, up - down, atol=1e-12)
    values, _ = explainer.effects(x, [Quantity((one(0, 1.0), one(1, -1.0)))], [])
    assert values[0, 0] == pytest.approx(value, rel=1e-9)


def test_effects_of_edits_equal_plain_predictions(model):
    passes = (Pass(0, False), Pass(-2, True))
    table = make_table({"m": model}, contrasts=[CONTRAST])
    explainer, bins, x = Explainer(table, passes), [2, 3], dna(128, 2)
    edits = [Edit(50, dna(12, 5)), Edit(0, np.zeros((4, 4), np.float32))]
    ticks = []
    values, effects = explainer.effects(x, [contrast_quantity(table, bins)], edits, lambda: ticks.append(1))
    assert values.shape == (1, 4) and effects.shape == (2, 1, 4) and len(ticks) == 2 * 2
    members = [(one, number) for one in passes for number in (0, 1)]
    for column, (one, number) in enumerate(members):
        before = plainly(model, x, bins, one, number=number)
        assert values[0, column] == pytest.approx(before, rel=1e-9)
        for row, edit in enumerate(edits):
            after = plainly(model, edit.applied(x), bins, one, number=number)
            assert effects[row, 0, column] == pytest.approx(after - before, abs=1e-9)


def test_mutagenesis_is_the_mean_effect_of_the_other_bases(smooth):
    table = make_table({"m": smooth}, contrasts=[CONTRAST])
    explainer, bins, x, span = Explainer(table, make_passes()), [30, 31, 40], dna(64, 3), (28, 36)
    x[33] = 0  # N
    result = explain(explainer, x, contrast_quantity(table, bins), span, Method("ism"))
    assert predictions(explainer, x, span, Method("ism")) == 3 * 7
    before = plainly(smooth, x, bins)
    for row, position in enumerate(range(*span)):
        if position == 33:
            assert not result.hypothetical[row].any() and result.contributions[row] == 0
            continue
        effects = []
        for base in range(4):
            mutant = x.copy()
            mutant[position] = np.eye(4)[base]
            effects.append(plainly(smooth, mutant, bins) - before)
        np.testing.assert_allclose(result.hypothetical[row], np.array(effects) - np.mean(effects), atol=1e-6)
        assert result.contributions[row] == pytest.approx(-np.mean(effects), abs=1e-6)
    assert result.value == pytest.approx(before) and np.isnan(result.sd).all() and result.members == 1


def test_gradients_are_mutagenesis_in_the_linear_limit(smooth):
    """Mixing a little of a mutant into the sequence changes the quantity by that much of the mutant's first-order effect."""
    table = make_table({"m": smooth}, contrasts=[CONTRAST])
    explainer, bins, x, span = Explainer(table, make_passes()), [30, 31, 40], dna(64, 3).astype(np.float64), (24, 34)
    quantity = contrast_quantity(table, bins)
    slow = explain(explainer, x, quantity, span, Method("input_x_gradient"))
    share = 1e-5
    edits = [
        (position, base, Edit(position, (1 - share) * x[position : position + 1] + share * edit.bases))
        for position, base, edit in base_edits(x, *span)
    ]
    _, effects = explainer.effects(x, [quantity], [edit for *_, edit in edits])
    scores = np.zeros((10, 4))
    for (position, base, _), effect in zip(edits, effects[:, 0, 0], strict=True):
        scores[position - 24, base] = effect / share
    largest = np.abs(slow.hypothetical).max()
    np.testing.assert_allclose(slow.hypothetical, centred(scores), atol=1e-4 * largest)
    assert slow.contributions == pytest.approx(gated(centred(scores), x[24:34]), abs=float(1e-4 * largest))


def test_mutagenesis_equals_centred_gradients_where_the_network_is_nearly_linear():
    model = make_model(params=smooth_params())
    kernel = model.predictors[0].network.units[0].conv.kernel
    kernel.assign(kernel * 1e-4)  # bases then move the activations by so little that only first order is left
    table = make_table({"m": model}, contrasts=[CONTRAST])
    explainer, x, span = Explainer(table, make_passes()), dna(64, 8).astype(np.float64), (28, 36)
    quantity = contrast_quantity(table, [30, 31, 32])
    ism = explain(explainer, x, quantity, span, Method("ism"))
    slow = explain(explainer, x, quantity, span, Method("input_x_gradient"))
    largest = np.abs(slow.hypothetical).max()
    assert largest > 0
    np.testing.assert_allclose(ism.hypothetical, slow.hypothetical, atol=1e-3 * largest)


def test_raw_gradients_are_neither_centred_nor_cut(smooth):
    table = make_table({"m": smooth}, contrasts=[CONTRAST])
    explainer, quantity, x = (
        Explainer(table, make_passes()),
        contrast_quantity(make_table({"m": smooth}, contrasts=[CONTRAST]), [9]),
        dna(64, 3),
    )
    ((_, gradient),) = explainer.gradients(x, quantity)
    raw = explain(explainer, x, quantity, (0, 64), Method("gradient"))
    np.testing.assert_allclose(raw.hypothetical, gradient, rtol=1e-6)
    plain = explain(explainer, x, quantity, (10, 20), Method())
    np.testing.assert_allclose(plain.hypothetical, centred(gradient)[10:20], atol=1e-7 * np.abs(gradient).max())
    np.testing.assert_allclose(
        plain.contributions, (x * centred(gradient)).sum(1)[10:20], atol=1e-7 * np.abs(gradient).max()
    )
    assert np.abs(plain.hypothetical.sum(1)).max() < 1e-6 * np.abs(gradient).max()


def test_smoothgrad_is_the_mean_over_noisy_copies_and_reproducible(smooth):
    table = make_table({"m": smooth}, contrasts=[CONTRAST])
    explainer, quantity, x = Explainer(table, make_passes()), contrast_quantity(table, [9, 10]), dna(64, 3)
    method = Method("smoothgrad", samples=3, noise=0.05, seed=11)
    got = explain(explainer, x, quantity, (0, 64), method, salt=7)
    random = np.random.default_rng([11, 7])
    noisy = [x + random.normal(0, 0.05, x.shape).astype(np.float32) for _ in range(3)]
    gradients = [next(explainer.gradients(part, quantity))[1] for part in noisy]
    np.testing.assert_allclose(got.hypothetical, centred(np.mean(gradients, axis=0)), atol=1e-7)
    assert got.value == pytest.approx(plainly(smooth, x, [9, 10]))
    again, other = (explain(explainer, x, quantity, (0, 64), method, salt=salt) for salt in (7, 8))
    assert (again.hypothetical == got.hypothetical).all() and not (other.hypothetical == got.hypothetical).all()


@pytest.mark.parametrize("name", ["ism", "shuffle"])
def test_stretches_carry_minus_their_mean_effect(smooth, name):
    table = make_table({"m": smooth}, contrasts=[CONTRAST])
    explainer, bins, x, span = Explainer(table, make_passes()), [30, 31], dna(64, 3), (20, 40)
    method = Method(name, block=8, stride=8, shuffles=2, seed=3)
    result = explain(explainer, x, contrast_quantity(table, bins), span, method)
    before, random = plainly(smooth, x, bins), np.random.default_rng([3, 0])
    expected, count = np.zeros(20), np.zeros(20)
    for start in (20, 28, 32):  # the last ends with the span
        effects = []
        for _ in range(2 if name == "shuffle" else 1):
            mutant = x.copy()
            mutant[start : start + 8] = mutant[start : start + 8][random.permutation(8)] if name == "shuffle" else 0
            effects.append(plainly(smooth, mutant, bins) - before)
        expected[start - 20 : start - 12] -= np.mean(effects) / 8
        count[start - 20 : start - 12] += 1
    np.testing.assert_allclose(result.contributions, expected / count, atol=1e-6)
    assert (result.hypothetical[~result.sequence] == 0).all()


def test_ensembles_give_mean_and_standard_deviation(model):
    table = make_table({"m": model}, contrasts=[CONTRAST])
    explainer, x = Explainer(table, make_passes(rc=True)), dna(128, 2)
    quantity = contrast_quantity(table, [4, 5])
    members = list(explainer.gradients(x, quantity))
    result = explain(explainer, x, quantity, (40, 90))
    each = np.array([gated(centred(gradient[40:90]), x[40:90]) for _, gradient in members])
    scale = np.abs(each).max()
    np.testing.assert_allclose(result.contributions, each.mean(0), atol=1e-6 * scale)
    np.testing.assert_allclose(result.sd, each.std(0, ddof=1), atol=1e-6 * scale)
    values = [value for value, _ in members]
    assert result.value == pytest.approx(np.mean(values)) and result.value_sd == pytest.approx(np.std(values, ddof=1))
    assert result.members == 4


def test_passes_are_undone():
    x = np.random.default_rng(0).normal(size=(10, 4))
    for one in make_passes(True, [0, 2, -3]):
        seen = shift(x, one.shift)
        assert (one.there(x) == (reverse_complement(seen) if one.reverse else seen)).all()
        kept = slice(0, 8) if one.shift == 2 else slice(3, 10) if one.shift == -3 else slice(0, 10)
        assert (one.back(one.there(x))[kept] == x[kept]).all()
    with pytest.raises(InputError, match="shifts is"):
        make_passes(shifts=[1, 1])
    with pytest.raises(InputError, match="shifts is"):
        make_passes(shifts=[])


def test_sums_over_members_lose_no_digits():
    sequence = np.eye(4)[[0, 1]]
    members, random = Members(sequence), np.random.default_rng(0)
    scores = random.normal(1e6, 1e-3, (50, 2, 4))
    for score in scores:
        members.add(1.0, score)
    chosen = scores[:, [0, 1], [0, 1]]
    np.testing.assert_allclose(members.finished().sd, chosen.std(0, ddof=1), rtol=1e-4)


def test_blocks_cover_the_span():
    assert list(blocks(0, 10, 4, 4)) == [(0, 4), (4, 8), (6, 10)]
    assert list(blocks(5, 8, 10, 2)) == [(5, 8)]
    assert list(blocks(0, 4, 2, 1)) == [(0, 2), (1, 3), (2, 4)]
    for size, stride in ((0, 1), (2, 3), (2, 0)):
        with pytest.raises(InputError, match="expected sizes"):
            list(blocks(0, 4, size, stride))


def test_bad_arguments_are_named(model):
    table = make_table({"m": model}, contrasts=[CONTRAST])
    for settings, message in (
        ({"name": "deeplift"}, "method is 'deeplift'; known: input_x_gradient"),
        ({"name": "shuffle"}, "shuffle of stretches of 1 bp"),
        ({"samples": 0}, "samples is 0"),
        ({"noise": float("nan")}, "noise is nan"),
        ({"block": 3, "stride": 4}, "blocks of 3 bp every 4 bp"),
    ):
        with pytest.raises(InputError, match=message):
            Method(**settings)
    with pytest.raises(InputError, match="no A, C, G or T"):
        explain(Explainer(table, make_passes()), np.zeros((128, 4), np.float32), contrast_quantity(table, [1]), (0, 9))
    with pytest.raises(InputError, match="does not lie in the window"):
        Edit(120, dna(10)).applied(dna(128))
    with pytest.raises(InputError, match="precision 'half'"):
        Explainer(table, make_passes(), "half")
    pair = {"one": model, "two": make_model(seeds=(3,))}
    contrast = Contrast("c", (Term("one:both", 1.0), Term("two:both", -1.0)))
    with pytest.raises(InputError, match="different numbers of networks: one 2, two 1"):
        Explainer(make_table(pair, contrasts=[contrast], separate=True), make_passes())
    assert make_tracks().pair_rows().tolist() == [1, 0, 3, 2, 4]
